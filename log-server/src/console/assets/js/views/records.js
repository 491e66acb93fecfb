// The records of a topic: the newest, from an offset, from a time, or those that a search finds. Where one looks stands in the address.

import { html, useEffect, useLayoutEffect, useMemo, useState } from "../../vendor/htm-preact-3.1.1.js";
import { get, lines, path } from "../api.js";
import { count, inputTime, plural, time, timeLong } from "../format.js";
import { refine } from "../router.js";
import { preview, textOf } from "../record.js";
import { Empty, Problem, linkRow, useKeys } from "../ui.js";
import { RecordDetail } from "./record.js";

const PAGE = 100;
// More partitions than these are looked at one by one.
const TOGETHER_MAX = 24;

export function Records({ name, partitions, route, onProduce }) {
  const query = Object.fromEntries(route.query);
  if (partitions == null) return null;
  return html`<${Browser} key=${partitions <= TOGETHER_MAX} name=${name} partitions=${partitions} query=${query} onProduce=${onProduce} />`;
}

function Browser({ name, partitions, query, onProduce }) {
  const canAll = partitions <= TOGETHER_MAX && partitions > 1;
  const where = {
    partition: query.partition ?? (canAll ? "all" : "0"),
    from: query.from ?? (query.offset != null ? "offset" : query.time != null ? "time" : "newest"),
    offset: query.offset ?? "",
    time: query.time ?? "",
    by: query.by ?? "text",
    find: query.find ?? "",
  };
  const change = (changes) => {
    const next = { ...where, ...changes };
    if (next.from === "offset" && next.partition === "all") next.partition = "0";
    refine(["topics", name, "records"], {
      partition: next.partition,
      from: next.from,
      offset: next.from === "offset" ? next.offset : null,
      time: next.from === "time" ? next.time : null,
      by: next.find ? next.by : null,
      find: next.find,
    });
  };
  const found = useRecords(name, partitions, where);
  const [selected, setSelected] = useState(null);
  useEffect(() => setSelected(null), [found.key]);
  const open = (record) => setSelected(record);
  const move = (offset) => change({ from: "offset", offset: String(offset) });
  const { older, newer } = found;
  useKeys({ "[": () => older != null && move(older), "]": () => newer != null && move(newer), Escape: () => setSelected(null) });
  return html`
    <${Where} where=${where} change=${change} partitions=${partitions} canAll=${canAll} range=${found.range} />
    <${Problem} error=${found.error} retry=${found.reload} />
    ${found.looked != null && html`<p class="faint" role="status">
      ${found.isLoading ? "Looking: " : "Looked at "}${plural(found.looked, "record")}, ${count(found.records.length)} found${found.isFull ? ` (the first ${PAGE})` : ""}.
      ${found.isLoading && html` <button class="quiet" onClick=${found.stop}>Stop</button>`}
    </p>`}
    <div class=${`split ${selected ? "open" : ""}`}>
      <div>
        ${found.records.length === 0 && !found.isLoading && !found.error
          ? html`<${Empty} title="No records here">${where.find ? "Nothing that was looked at is like that." : "Look elsewhere, or produce one with P."}<//>`
          : html`<${List} records=${found.records} selected=${selected} onOpen=${open} isStale=${found.isLoading && found.looked == null} />`}
        ${(older != null || newer != null) && html`<nav class="pager" aria-label="Older and newer">
          <button disabled=${older == null} onClick=${() => move(older)} title="Older ([)">‹ Older</button>
          <span>${found.range}</span>
          <button disabled=${newer == null} onClick=${() => move(newer)} title="Newer (])">Newer ›</button>
        </nav>`}
      </div>
      ${selected && html`<${RecordDetail} topic=${name} record=${selected} onClose=${() => setSelected(null)} onProduce=${onProduce} />`}
    </div>
  `;
}

function Where({ where, change, partitions, canAll, range }) {
  const [draft, setDraft] = useState(where);
  // Before anybody can write into a field that is about to change.
  useLayoutEffect(() => setDraft(where), [where.partition, where.from, where.offset, where.time, where.find, where.by]);
  const set = (field) => (event) => setDraft({ ...draft, [field]: event.target.value });
  const submit = (event) => {
    event.preventDefault();
    change({ ...draft, time: draft.time && new Date(draft.time).toISOString() });
  };
  return html`<form class="bar" onSubmit=${submit} aria-label="Where to look">
    <label>partition ${partitions <= 200
      ? html`<select name="partition" value=${where.partition} onChange=${(event) => change({ partition: event.target.value })}>
          ${canAll && html`<option value="all">all</option>`}
          ${Array.from({ length: partitions }, (_, n) => html`<option value=${n}>${n}</option>`)}
        </select>`
      : html`<input type="number" name="partition" min="0" max=${partitions - 1} value=${draft.partition} onInput=${set("partition")} />`}</label>
    <div class="segments" role="group" aria-label="From">
      ${[["newest", "Newest"], ["offset", "Offset"], ["time", "Time"]].map(([id, text]) => html`<button type="button" aria-pressed=${draft.from === id} onClick=${() => (id === "newest" ? change({ from: id }) : setDraft({ ...draft, from: id, offset: draft.offset || "0" }))}>${text}</button>`)}
    </div>
    ${draft.from === "offset" && html`<input type="text" inputmode="numeric" pattern="-?[0-9]+|earliest|latest" aria-label="Offset" name="offset" value=${draft.offset} onInput=${set("offset")} placeholder="offset" title=${range} size="12" />`}
    ${draft.from === "time" && html`<input type="datetime-local" step="1" aria-label="Time" name="time" value=${draft.time && inputTime(new Date(draft.time))} onInput=${set("time")} required />`}
    <select aria-label="Search by" value=${draft.by} onChange=${set("by")}>
      <option value="text">text anywhere</option><option value="key">key is</option><option value="pointer">JSON pointer</option>
    </select>
    <input type="search" class="search" data-search aria-label="Find records" name="find" placeholder=${draft.by === "pointer" ? '/item = "tea"' : draft.by === "key" ? "the whole key" : "text in key, value or headers"} value=${draft.find} onInput=${set("find")} />
    <button class="primary">Look</button>
  </form>`;
}

function List({ records, selected, onOpen, isStale }) {
  const isSame = (a, b) => a && b && a.partition === b.partition && a.offset === b.offset;
  return html`<div class="card flush"><table class=${`records ${isStale ? "stale" : ""}`}>
    <thead><tr><th>Time</th><th class="num" title="Partition">P</th><th class="num">Offset</th><th>Key</th><th>Value</th></tr></thead>
    <tbody>${records.map((record) => html`<tr
      key=${`${record.partition}:${record.offset}`}
      ...${linkRow(() => onOpen(record))}
      onFocus=${() => selected && onOpen(record)}
      aria-current=${isSame(record, selected) ? "true" : undefined}
    >
      <td class="when" title=${timeLong(record.timestamp)}>${time(record.timestamp)}</td>
      <td class="num faint">${record.partition}</td>
      <td class="num">${record.offset}</td>
      <td class="key"><${Preview} record=${record} field="key" /></td>
      <td class="payload"><${Preview} record=${record} field="value" /></td>
    </tr>`)}</tbody>
  </table></div>`;
}

export function Preview({ record, field }) {
  const { text, kind } = preview(record, field);
  return html`<code class=${kind}>${kind === "empty" ? "empty" : text}</code>`;
}

// What is found where one looks.
function useRecords(name, partitions, where) {
  const [state, setState] = useState({ records: [], isLoading: true });
  const [turn, setTurn] = useState(0);
  const key = JSON.stringify(where);
  useEffect(() => {
    const abort = new AbortController();
    const say = (changes) => !abort.signal.aborted && setState((before) => ({ ...before, ...changes }));
    setState((before) => ({ ...before, key, isLoading: true, error: null, stop: () => { abort.abort(); setState((last) => ({ ...last, isLoading: false })); } }));
    const work = where.find ? search(name, where, say, abort.signal) : look(name, partitions, where, abort.signal).then(say);
    work.catch((error) => error.name !== "AbortError" && say({ error, records: [], older: null, newer: null, looked: null })).finally(() => say({ isLoading: false }));
    return () => abort.abort();
  }, [name, partitions, key, turn]);
  return useMemo(() => ({ ...state, reload: () => setTurn((n) => n + 1) }), [state]);
}

const read = (name, partition, query, signal) => get(path(["topics", name, "partitions", partition, "records"], query), signal);

async function look(name, partitions, where, signal) {
  if (where.partition === "all") return lookTogether(name, partitions, where, signal);
  const { from, partition } = where;
  const start = from === "newest" ? { offset: `-${PAGE}` } : from === "time" ? { time: where.time } : { offset: where.offset || "0" };
  const answer = await read(name, partition, { ...start, limit: PAGE }, signal);
  const records = answer.records.map((record) => ({ partition: Number(partition), ...record }));
  if (from === "newest") records.reverse();
  const offsets = records.map((record) => record.offset);
  const first = offsets.length ? Math.min(...offsets) : answer.next_offset;
  const isAtEnd = answer.next_offset >= answer.last_stable_offset;
  return {
    records,
    looked: null,
    range: `${count(answer.log_start_offset)} to ${count(answer.high_watermark)}`,
    older: first > answer.log_start_offset ? Math.max(answer.log_start_offset, first - PAGE) : null,
    newer: isAtEnd || from === "newest" ? null : answer.next_offset,
  };
}

async function lookTogether(name, partitions, where, signal) {
  const each = Math.max(5, Math.ceil(PAGE / partitions));
  const isNewest = where.from !== "time";
  const start = isNewest ? { offset: `-${each}` } : { time: where.time };
  const answers = await Promise.all(Array.from({ length: partitions }, async (_, partition) => {
    const answer = await read(name, partition, { ...start, limit: each }, signal);
    // Times need not rise with offsets: behind the first record of the time there may be older ones.
    const isWanted = (record) => isNewest || record.timestamp >= Date.parse(where.time);
    return answer.records.filter(isWanted).map((record) => ({ partition, ...record }));
  }));
  const sign = isNewest ? -1 : 1;
  const records = answers.flat().sort((a, b) => sign * (a.timestamp - b.timestamp || a.offset - b.offset)).slice(0, PAGE);
  return { records, looked: null, older: null, newer: null, range: null };
}

// Keys and pointers are looked for by the broker, text is looked for here.
async function search(name, where, say, signal) {
  const partition = where.partition === "all" ? null : where.partition;
  const start = where.from === "offset" ? { offset: where.offset || "0" } : where.from === "time" ? { time: where.time } : { offset: "earliest" };
  const filter = { key: { key: where.find }, pointer: pointerOf(where.find), text: {} }[where.by];
  const address = path(["topics", name, "follow"], { ...start, partitions: partition, until: "end", format: "ndjson", ...filter });
  const words = where.by === "text" ? where.find.toLowerCase() : null;
  const records = [];
  let looked = 0;
  let said = 0;
  say({ records: [], looked: 0, isFull: false, older: null, newer: null });
  for await (const line of lines(address, signal)) {
    if (line.problem) throw new Error(line.problem.detail);
    if (line.offset == null) continue;
    looked += 1;
    if (words === null || contains(line, words)) records.push(line);
    const isFull = records.length >= PAGE;
    if (isFull || performance.now() - said > 150) {
      said = performance.now();
      say({ records: [...records], looked, isFull });
    }
    if (isFull) break;
  }
  say({ records, looked, isFull: records.length >= PAGE });
}

const pointerOf = (text) => {
  const [pointer, ...rest] = text.split("=");
  return { pointer: pointer.trim(), equals: rest.join("=").trim() };
};

function contains(record, words) {
  const has = (text) => text != null && text.toLowerCase().includes(words);
  const headers = (record.headers ?? []).some((header) => has(header.name) || has(header.value));
  return has(textOf(record, "value")) || has(textOf(record, "key")) || headers;
}
