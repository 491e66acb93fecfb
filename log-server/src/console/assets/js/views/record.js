// One record: value, key and headers as text, JSON or bytes, and how to read on from it.

import { html, useMemo, useState } from "../../vendor/htm-preact-3.1.1.js";
import { path, useResource } from "../api.js";
import { ago, bytes, count, endpoint, timeLong } from "../format.js";
import { Json, isJson, prettyText } from "../json.js";
import { bytesOf, hexDump, snippets, textOf } from "../record.js";
import { Badge, Copy } from "../ui.js";

export function RecordDetail({ topic, record, onClose, onProduce }) {
  const [part, setPart] = useState("value");
  const headers = record.headers ?? [];
  return html`<section class="detail card" aria-label=${`Record ${record.offset} of partition ${record.partition}`}>
    <header>
      <h2>${record.partition}<span class="faint">:</span>${count(record.offset)}</h2>
      <span class="faint" title=${timeLong(record.timestamp)}>${record.timestamp >= 0 ? ago(record.timestamp) : "no time"}</span>
      <button class="quiet" onClick=${onClose} aria-label="Close" title="Close (Esc)">✕</button>
    </header>
    <div class="segments" role="group" aria-label="Part">
      ${[["value", "Value"], ["key", "Key"], ["headers", `Headers ${headers.length || ""}`], ["replay", "Replay"]].map(([id, text]) => html`<button aria-pressed=${part === id} onClick=${() => setPart(id)}>${text}</button>`)}
    </div>
    ${part === "value" && html`<${Content} key="value" record=${record} field="value" />`}
    ${part === "key" && html`<${Content} key="key" record=${record} field="key" />`}
    ${part === "headers" && html`<${Headers} headers=${headers} />`}
    ${part === "replay" && html`<${Replay} topic=${topic} record=${record} />`}
    <footer>
      <dl class="facts">
        <div><dt>time</dt><dd>${timeLong(record.timestamp)}</dd></div>
        <div><dt>key</dt><dd>${sizeOf(record, "key")}</dd></div>
        <div><dt>value</dt><dd>${sizeOf(record, "value")}</dd></div>
      </dl>
      <button onClick=${() => onProduce(record)}>Produce one like it</button>
    </footer>
  </section>`;
}

function sizeOf(record, field) {
  const content = bytesOf(record, field);
  return content === null ? "null" : bytes(content.length);
}

// The views of bytes: JSON where they are JSON, text where they are text, bytes always.
function Content({ record, field }) {
  const text = useMemo(() => textOf(record, field), [record, field]);
  const canJson = useMemo(() => typeof text === "string" && isJson(text), [text]);
  const views = [canJson && ["json", "JSON"], typeof text === "string" && ["text", "Text"], ["hex", "Bytes"]].filter(Boolean);
  const [chosen, setChosen] = useState(null);
  if (text === null) return html`<p class="null big">null${field === "value" && html`<small>a tombstone: in a compacted topic it removes its key</small>`}</p>`;
  const view = views.some(([id]) => id === chosen) ? chosen : views[0][0];
  const shown = () => (view === "json" ? prettyText(text) : view === "text" ? text : hexDump(bytesOf(record, field)));
  return html`
    <div class="bar">
      ${views.map(([id, name]) => html`<button class="quiet" aria-pressed=${view === id} onClick=${() => setChosen(id)}>${name}</button>`)}
      <span class="grow"></span><${Copy} text=${shown} />
    </div>
    ${view === "json" ? html`<${Json} source=${text} />` : html`<pre class=${`code ${view}`} tabindex="0">${shown() || html`<span class="faint">empty</span>`}</pre>`}
  `;
}

function Headers({ headers }) {
  if (headers.length === 0) return html`<p class="faint">It has no headers.</p>`;
  return html`<table class="headers"><tbody>${headers.map((header) => html`<tr>
    <td><code>${header.name}</code></td>
    <td>${header.value_base64 != null ? html`<${Badge}>bytes<//> <code>${header.value_base64}</code>` : header.value === null ? html`<span class="null">null</span>` : html`<code>${header.value}</code>`}</td>
  </tr>`)}</tbody></table>`;
}

function Replay({ topic, record }) {
  const { data } = useResource(path(["cluster"]));
  const broker = data?.brokers?.[0];
  const [chosen, setChosen] = useState(0);
  const all = snippets({
    topic,
    partition: record.partition,
    offset: record.offset,
    http: new URL(".", location.href).href.split("#")[0],
    kafka: broker ? endpoint(broker) : "localhost:9092",
  });
  const [, text] = all[chosen];
  return html`
    <p class="faint">From this record on, with other means:</p>
    <div class="bar wrap">
      ${all.map(([name], place) => html`<button class="quiet" aria-pressed=${chosen === place} onClick=${() => setChosen(place)}>${name}</button>`)}
      <span class="grow"></span><${Copy} text=${text} />
    </div>
    <pre class="code" tabindex="0">${text}</pre>
  `;
}
