// Where we are: the part of the address behind "#". Places can be linked to, and "back" works.

import { useEffect, useState } from "../vendor/htm-preact-3.1.1.js";

export function parse(hash) {
  const [where, query] = hash.replace(/^#\/?/, "").split("?");
  const parts = where.split("/").filter(Boolean).map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { parts, query: new URLSearchParams(query ?? "") };
}

export function href(parts, query) {
  const given = Object.entries(query ?? {}).filter(([, value]) => value != null && value !== "");
  const where = "#/" + parts.map(encodeURIComponent).join("/");
  return given.length === 0 ? where : `${where}?${new URLSearchParams(given)}`;
}

export const go = (parts, query) => {
  location.hash = href(parts, query);
};

// The same place with other parameters, without a step for "back".
export const refine = (parts, query) => {
  history.replaceState(null, "", href(parts, query));
  dispatchEvent(new HashChangeEvent("hashchange"));
};

export function useRoute() {
  const [route, setRoute] = useState(() => parse(location.hash));
  useEffect(() => {
    const changed = () => setRoute(parse(location.hash));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
