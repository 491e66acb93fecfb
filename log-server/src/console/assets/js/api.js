// Questions to the broker. Answers that are no success become errors with the problem's own words.

import { useCallback, useEffect, useRef, useState } from "../vendor/htm-preact-3.1.1.js";

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || problem.message || `the broker answered ${status}`);
    this.status = status;
    this.code = problem.code;
    this.problem = problem;
  }
}

export const path = (parts, query) => {
  const text = "v1/" + parts.map((part) => encodeURIComponent(part)).join("/");
  const given = Object.entries(query ?? {}).filter(([, value]) => value != null && value !== "");
  return given.length === 0 ? text : `${text}?${new URLSearchParams(given)}`;
};

async function answered(response) {
  const isJson = /json/.test(response.headers.get("content-type") ?? "");
  const body = isJson ? await response.json() : await response.text();
  if (!response.ok) throw new ApiError(response.status, isJson ? body : { detail: body || response.statusText });
  return body;
}

async function ask(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { detail: "the broker does not answer" });
  }
  return answered(response);
}

export const get = (address, signal) => ask(address, { signal, headers: { accept: "application/json" } });

export const send = (method, address, body) =>
  ask(address, {
    method,
    headers: { accept: "application/json", ...(body === undefined ? {} : { "content-type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });

// The lines of an NDJSON answer, as they come. Who wants no more of them ends the answer.
export async function* lines(address, signal) {
  const response = await fetch(address, { signal, headers: { accept: "application/x-ndjson" } });
  if (!response.ok) await answered(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      rest += value;
      const parts = rest.split("\n");
      rest = parts.pop();
      for (const part of parts) if (part.trim() !== "") yield JSON.parse(part);
    }
    if (rest.trim() !== "") yield JSON.parse(rest);
  } finally {
    reader.cancel().catch(() => {});
  }
}

// What an address answers, kept while it is asked again: { data, error, isLoading, reload }. With `every`, in so many
// milliseconds again, as long as the page can be seen.
export function useResource(address, { every } = {}) {
  const [state, setState] = useState({ address: null, data: null, error: null, isLoading: true });
  const [turn, setTurn] = useState(0);
  const latest = useRef(0);
  useEffect(() => {
    if (address == null) return undefined;
    const abort = new AbortController();
    let timer = 0;
    const mine = ++latest.current;
    const look = async () => {
      try {
        const data = document.hidden && every ? undefined : await get(address, abort.signal);
        if (mine === latest.current && data !== undefined) setState({ address, data, error: null, isLoading: false });
      } catch (error) {
        if (error.name === "AbortError") return;
        if (mine === latest.current) setState((before) => ({ ...before, error, isLoading: false }));
      }
      if (every && mine === latest.current) timer = setTimeout(look, every);
    };
    look();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [address, every, turn]);
  const reload = useCallback(() => setTurn((n) => n + 1), []);
  return { ...state, isLoading: state.isLoading || state.address !== address, reload };
}
