// Writes a record, or one like another.

import { html, useState } from "../../vendor/htm-preact-3.1.1.js";
import { path, send } from "../api.js";
import { isJson, prettyText } from "../json.js";
import { textOf } from "../record.js";
import { Dialog, Field, Form, toast } from "../ui.js";

// What the fields of the form begin with.
function draftOf(record) {
  const empty = { key: "", value: "", hasKey: false, isNull: false, partition: "", headers: [] };
  if (!record) return empty;
  const [key, value] = [textOf(record, "key"), textOf(record, "value")];
  return {
    ...empty,
    key: key ?? "",
    hasKey: key != null || record.key_base64 != null,
    keyBase64: record.key_base64,
    value: value == null ? "" : isJson(value) && value.length < 20000 ? prettyText(value) : value,
    isNull: value === null,
    valueBase64: record.value_base64,
    headers: (record.headers ?? []).map((header) => ({ ...header })),
  };
}

export function Produce({ topic, partitions, record, onClose }) {
  const [draft, setDraft] = useState(() => draftOf(record));
  const [sent, setSent] = useState([]);
  const set = (changes) => setDraft({ ...draft, ...changes });
  const produce = () => send("POST", path(["topics", topic, "records"]), { records: [recordOf(draft)] });
  const done = (answer) => {
    const [row] = answer.records;
    if (row.error) throw new Error(row.error.detail);
    setSent([row, ...sent].slice(0, 5));
    toast(`written: partition ${row.partition}, offset ${row.offset}`, "good");
  };
  return html`<${Dialog} wide title=${`Produce to ${topic}`} onClose=${onClose}>
    <${Form} action="Produce" onSubmit=${async () => done(await produce())}>
      ${draft.keyBase64 != null
        ? html`<${Field} label="Key"><input disabled value="the bytes of the other record" /><//>`
        : html`<${Field} label="Key" hint="empty: no key, any partition"><input name="key" value=${draft.key} onInput=${(event) => set({ key: event.target.value, hasKey: event.target.value !== "" })} /><//>`}
      ${draft.valueBase64 != null
        ? html`<${Field} label="Value"><input disabled value="the bytes of the other record" /><//>`
        : html`<${Field} label="Value" hint=${valueHint(draft)}><textarea data-first name="value" rows="9" spellcheck="false" disabled=${draft.isNull} value=${draft.value} onInput=${(event) => set({ value: event.target.value })}></textarea><//>`}
      <div class="bar wrap">
        <label class="check"><input type="checkbox" checked=${draft.isNull} onChange=${(event) => set({ isNull: event.target.checked, valueBase64: null })} /> null (a tombstone)</label>
        <label>partition <input type="number" name="partition" min="0" max=${(partitions ?? 1) - 1} placeholder="by key" value=${draft.partition} onInput=${(event) => set({ partition: event.target.value })} /></label>
        <button type="button" class="quiet" onClick=${() => set({ headers: [...draft.headers, { name: "", value: "" }] })}>Add a header</button>
      </div>
      ${draft.headers.map((header, place) => {
        const change = (changes) => set({ headers: draft.headers.map((each, at) => (at === place ? { ...each, ...changes } : each)) });
        return html`<div class="bar" key=${place}>
          <input aria-label="Header's name" placeholder="name" value=${header.name} onInput=${(event) => change({ name: event.target.value })} />
          <input class="grow" aria-label="Header's value" placeholder="value" disabled=${header.value_base64 != null} value=${header.value ?? "bytes"} onInput=${(event) => change({ value: event.target.value })} />
          <button type="button" class="quiet" aria-label="Remove the header" onClick=${() => set({ headers: draft.headers.filter((_, at) => at !== place) })}>✕</button>
        </div>`;
      })}
    <//>
    ${sent.length > 0 && html`<ul class="sent" aria-label="Written">${sent.map((row) => html`<li>partition ${row.partition}, offset ${row.offset}</li>`)}</ul>`}
  <//>`;
}

function valueHint({ value, isNull }) {
  if (isNull || value === "") return null;
  if (isJson(value)) return "JSON; it is stored as it stands here";
  return /^\s*[[{]/.test(value) ? "not valid JSON; it is stored as text" : "text";
}

function recordOf(draft) {
  const key = draft.keyBase64 != null ? { key_base64: draft.keyBase64 } : draft.hasKey ? { key: draft.key } : {};
  const value = draft.isNull ? { value: null } : draft.valueBase64 != null ? { value_base64: draft.valueBase64 } : { value: draft.value };
  const headers = draft.headers.filter((header) => header.name !== "");
  return {
    ...key,
    ...value,
    ...(draft.partition === "" ? {} : { partition: Number(draft.partition) }),
    ...(headers.length ? { headers } : {}),
  };
}
