// JSON as its author wrote it, indented and coloured. Never by way of JSON.parse and back, which would change large numbers.

import { html } from "../vendor/htm-preact-3.1.1.js";

export function isJson(text) {
  const first = text.trimStart()[0];
  if (first === undefined || !'{["-0123456789tfn'.includes(first)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[{}[\],:]/g;

// Deeper, a line begins no further in: nesting must not multiply the size of a text.
const DEPTH_MAX = 40;

// The text of a JSON document, indented: a list of [kind, text]. It ends early when it has `max` of them.
export function pretty(source, max = Infinity) {
  const out = [];
  const tokens = source.matchAll(TOKEN);
  const following = () => tokens.next().value?.[0];
  let depth = 0;
  const line = () => out.push(["space", `\n${"  ".repeat(Math.min(depth, DEPTH_MAX))}`]);
  let before;
  let token = following();
  while (token !== undefined && out.length < max) {
    const next = following();
    if (token === "{" || token === "[") {
      out.push(["mark", token]);
      const isEmpty = next === "}" || next === "]";
      if (!isEmpty) {
        depth += 1;
        line();
      }
    } else if (token === "}" || token === "]") {
      if (before !== "{" && before !== "[") {
        depth -= 1;
        line();
      }
      out.push(["mark", token]);
    } else if (token === ",") {
      out.push(["mark", ","]);
      line();
    } else if (token === ":") {
      out.push(["mark", ": "]);
    } else {
      const kind = token[0] === '"' ? (next === ":" ? "key" : "text") : /^[-\d]/.test(token) ? "number" : "word";
      out.push([kind, token]);
    }
    before = token;
    token = next;
  }
  return out;
}

export const prettyText = (source) => pretty(source).map(([, text]) => text).join("");

// More would make the browser slow; the copy has all of it.
const TOKENS_MAX = 20000;

export function Json({ source }) {
  const tokens = pretty(source, TOKENS_MAX + 1);
  return html`<pre class="code" tabindex="0">${tokens.slice(0, TOKENS_MAX).map(([kind, text]) => (kind === "mark" || kind === "space" ? text : html`<span class=${`json-${kind}`}>${text}</span>`))}${tokens.length > TOKENS_MAX && " …"}</pre>`;
}
