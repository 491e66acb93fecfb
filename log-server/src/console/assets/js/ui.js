// What several views share: state boxes, pagers, dialogs, toasts, copying, keys.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm-preact-3.1.1.js";

export { html };

// The head of a column that needs no name for those who see it.
export const Unseen = ({ children }) => html`<span class="off-screen">${children}</span>`;

// An error with its words, and nothing while there is none.
export const Problem = ({ error, retry }) =>
  error && html`<div class="problem" role="alert">
    <span>${error.message}</span>
    ${retry && html`<button class="quiet" onClick=${retry}>Try again</button>`}
  </div>`;

export const Empty = ({ title, children }) => html`<div class="empty">
  <svg viewBox="0 0 64 40" aria-hidden="true"><path d="M4 10c9-6 18-6 28 0s19 6 28 0M4 21c9-6 18-6 28 0s19 6 28 0M4 32c9-6 18-6 28 0s19 6 28 0" /></svg>
  <h2>${title}</h2>
  <p>${children}</p>
</div>`;

export const Badge = ({ kind = "", title, children }) => html`<span class=${`badge ${kind}`} title=${title}>${children}</span>`;

export const DURABILITY = {
  on_disk: ["good", "on disk", "acks=all is answered when the records are on the disk"],
  relaxed: ["warn", "relaxed", "acks=all is answered before the records are on the disk"],
};

export function Durability({ mode, meaning }) {
  const [kind, text, why] = DURABILITY[mode] ?? ["", mode, ""];
  return html`<${Badge} kind=${kind} title=${meaning ?? why}>${text}<//>`;
}

// A number with its name; `hint` stands below.
export const Tile = ({ label, value, hint, kind, title }) => html`<div class=${`tile ${kind ?? ""}`} title=${title}>
  <div class="label">${label}</div>
  <div class="value">${value}</div>
  ${hint && html`<div class="hint">${hint}</div>`}
</div>`;

// A search field that speaks when its user pauses. "/" goes to it.
export function Search({ value, onChange, label, placeholder }) {
  const [text, setText] = useState(value);
  const said = useRef(value);
  useEffect(() => {
    if (value !== said.current) setText((said.current = value));
  }, [value]);
  useEffect(() => {
    if (text === said.current) return undefined;
    const timer = setTimeout(() => onChange((said.current = text)), 180);
    return () => clearTimeout(timer);
  }, [text]);
  return html`<input
    type="search"
    class="search"
    data-search
    aria-label=${label}
    placeholder=${placeholder ?? label}
    value=${text}
    onInput=${(event) => setText(event.target.value)}
  />`;
}

// "Before" and "after" for lists that the broker cuts into pages. It only tells where the next page begins, so the way back is kept here.
export function usePages(key) {
  const [state, setState] = useState({ key, trail: [null] });
  const trail = state.key === key ? state.trail : [null];
  return {
    after: trail[trail.length - 1],
    page: trail.length,
    forward: (next) => setState({ key, trail: [...trail, new URL(next, location.href).searchParams.get("after")] }),
    back: trail.length > 1 ? () => setState({ key, trail: trail.slice(0, -1) }) : null,
  };
}

export const Pager = ({ pages, data, unit }) => {
  if (!data || (!data.next && !pages.back)) return null;
  return html`<nav class="pager" aria-label="Pages">
    <button onClick=${pages.back} disabled=${!pages.back}>‹ Back</button>
    <span>page ${pages.page} of ${unit}</span>
    <button onClick=${() => pages.forward(data.next)} disabled=${!data.next}>More ›</button>
  </nav>`;
};

// Rows that lead somewhere: click, Enter, and j and k to walk.
export const linkRow = (go) => ({
  tabIndex: 0,
  class: "link",
  onClick: (event) => {
    if (!event.target.closest("a, button, input") && String(getSelection()) === "") go();
  },
  onKeyDown: (event) => {
    if (event.key === "Enter" && event.target === event.currentTarget) go();
  },
});

// A dialog of the browser's own: Escape closes it, the rest of the page is out of reach.
export function Dialog({ title, onClose, wide, children }) {
  const dialog = useRef();
  useLayoutEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    dialog.current.querySelector("[data-first]")?.focus();
    return () => before?.focus?.();
  }, []);
  return html`<dialog
    ref=${dialog}
    class=${wide ? "wide" : ""}
    aria-label=${title}
    onCancel=${(event) => {
      event.preventDefault();
      onClose();
    }}
    onMouseDown=${(event) => event.target === dialog.current && onClose()}
  >
    <div class="box">
      <header><h2>${title}</h2><button class="quiet" aria-label="Close" onClick=${onClose}>✕</button></header>
      ${children}
    </div>
  </dialog>`;
}

let toasts = () => {};

export function toast(text, kind = "") {
  toasts({ text, kind, id: Math.random() });
}

export function Toasts() {
  const [all, setAll] = useState([]);
  toasts = (one) => {
    setAll((before) => [...before.slice(-3), one]);
    setTimeout(() => setAll((before) => before.filter((each) => each.id !== one.id)), 5000);
  };
  return html`<div class="toasts" role="status">
    ${all.map((one) => html`<div key=${one.id} class=${`toast ${one.kind}`}>${one.text}</div>`)}
  </div>`;
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS there is no clipboard but this.
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "off-screen" });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast("copied");
}

export const Copy = ({ text, label = "Copy" }) =>
  html`<button class="quiet" onClick=${() => copy(typeof text === "function" ? text() : text)}>${label}</button>`;

// A form whose button waits for the answer, with the problem below.
export function Form({ onSubmit, action, children, danger, onDone }) {
  const [state, setState] = useState({ isBusy: false, error: null });
  const submit = async (event) => {
    event.preventDefault();
    setState({ isBusy: true, error: null });
    try {
      const result = await onSubmit();
      setState({ isBusy: false, error: null });
      onDone?.(result);
    } catch (error) {
      setState({ isBusy: false, error });
    }
  };
  return html`<form onSubmit=${submit} autocomplete="off">
    ${children}
    <${Problem} error=${state.error} />
    <footer><button class=${danger ? "danger" : "primary"} disabled=${state.isBusy}>${action}</button></footer>
  </form>`;
}

export const Field = ({ label, hint, children }) => html`<label class="field">
  <span>${label}</span>
  ${children}
  ${hint && html`<small>${hint}</small>`}
</label>`;

// Keys of a view, as long as it is shown: { n: () => … }. Not while somebody writes.
export function useKeys(keys) {
  const latest = useRef(keys);
  latest.current = keys;
  // At once with the view, so that no key falls between two.
  useLayoutEffect(() => {
    const pressed = (event) => {
      const isWriting = event.target.closest?.("input, textarea, select, dialog, [contenteditable]");
      if (isWriting || event.ctrlKey || event.metaKey || event.altKey) return;
      const action = latest.current[event.key];
      if (action) {
        event.preventDefault();
        action();
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

// j and k walk over the rows of the page's first table that has any.
export function walkRows(step) {
  const rows = [...document.querySelectorAll("main tr.link, main .row.link")];
  const at = rows.indexOf(document.activeElement);
  rows[at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + step))]?.focus();
}
