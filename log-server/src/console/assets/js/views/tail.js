// What comes now: server-sent events, the newest on top. A pause keeps what is shown; what comes meanwhile is counted and not kept.

import { html, useEffect, useRef, useState } from "../../vendor/htm-preact-3.1.1.js";
import { path } from "../api.js";
import { count, short, time, timeLong } from "../format.js";
import { Badge, Empty, Problem, linkRow, useKeys } from "../ui.js";
import { Preview } from "./records.js";
import { RecordDetail } from "./record.js";

const KEPT = 300;
// So often the page is drawn while records come.
const DRAW_MS = 120;

function useFollow(name, filter, isPaused) {
  const [shown, setShown] = useState({ records: [], total: 0, perSecond: 0, missed: 0, state: "connecting", error: null });
  const paused = useRef(isPaused);
  paused.current = isPaused;
  useEffect(() => {
    let [records, total, missed, state, error] = [[], 0, 0, "connecting", null];
    let [isNew, lastTotal, lastAt, perSecond] = [true, 0, performance.now(), 0];
    const source = new EventSource(path(["topics", name, "follow"], { offset: "latest", ...filter }));
    const say = (changes) => {
      ({ state = state, error = error } = changes);
      isNew = true;
    };
    source.onopen = () => say({ state: "live" });
    source.onerror = () => say({ state: source.readyState === EventSource.CLOSED ? "closed" : "connecting" });
    source.onmessage = (event) => {
      total += 1;
      if (paused.current) {
        missed += 1;
      } else {
        records = [JSON.parse(event.data), ...records.slice(0, KEPT - 1)];
      }
      isNew = true;
    };
    source.addEventListener("problem", (event) => {
      say({ state: "closed", error: new Error(JSON.parse(event.data).detail) });
      source.close();
    });
    source.addEventListener("end", () => {
      // The broker stops; the browser connects again by itself.
      say({ state: "connecting" });
    });
    const timer = setInterval(() => {
      const now = performance.now();
      if (now - lastAt > 1000) {
        const next = ((total - lastTotal) * 1000) / (now - lastAt);
        isNew ||= next !== perSecond;
        [perSecond, lastTotal, lastAt] = [next, total, now];
      }
      if (!isNew || document.hidden) return;
      isNew = false;
      if (!paused.current) missed = 0;
      setShown({ records, total, perSecond, missed, state, error });
    }, DRAW_MS);
    return () => {
      source.close();
      clearInterval(timer);
    };
  }, [name, JSON.stringify(filter)]);
  return shown;
}

export function Tail({ name }) {
  const [isPaused, setPaused] = useState(false);
  const [draft, setDraft] = useState({ key: "", pointer: "", equals: "" });
  const [filter, setFilter] = useState({});
  const [selected, setSelected] = useState(null);
  const { records, total, perSecond, missed, state, error } = useFollow(name, filter, isPaused);
  useKeys({ " ": () => setPaused(!isPaused), Escape: () => setSelected(null) });
  const set = (field) => (event) => setDraft({ ...draft, [field]: event.target.value });
  const submit = (event) => {
    event.preventDefault();
    const pointer = draft.pointer ? { pointer: draft.pointer, equals: draft.equals } : {};
    setFilter({ ...(draft.key ? { key: draft.key } : {}), ...pointer });
  };
  const kind = { live: "good", connecting: "warn", closed: "bad" }[state];
  return html`
    <form class="bar" onSubmit=${submit} aria-label="What to follow">
      <button type="button" class="primary" aria-pressed=${isPaused} onClick=${() => setPaused(!isPaused)} title="Space">${isPaused ? "Go on" : "Pause"}</button>
      <input data-search aria-label="Only this key" placeholder="only this key" value=${draft.key} onInput=${set("key")} />
      <input aria-label="JSON pointer" placeholder="/pointer" size="12" value=${draft.pointer} onInput=${set("pointer")} />
      <span>=</span>
      <input aria-label="Equals" placeholder='"value"' size="12" value=${draft.equals} onInput=${set("equals")} />
      <button>Filter</button>
      <span class="grow"></span>
      <span class="faint" role="status"><${Badge} kind=${kind}>${isPaused ? "paused" : state}<//> ${short(perSecond)}/s, ${count(total)} seen${isPaused && missed > 0 ? `, ${count(missed)} passed over` : ""}</span>
    </form>
    <${Problem} error=${error} />
    <div class=${`split ${selected ? "open" : ""}`}>
      <div>${records.length === 0
        ? html`<${Empty} title="Waiting for records">What is written to ${name} from now on comes here as soon as it is on the disk.<//>`
        : html`<div class="card flush"><table class="records live">
          <thead><tr><th>Time</th><th class="num">P</th><th class="num">Offset</th><th>Key</th><th>Value</th></tr></thead>
          <tbody>${records.map((record) => html`<tr key=${`${record.partition}:${record.offset}`} ...${linkRow(() => { setPaused(true); setSelected(record); })} aria-current=${record === selected ? "true" : undefined}>
            <td class="when" title=${timeLong(record.timestamp)}>${time(record.timestamp)}</td>
            <td class="num faint">${record.partition}</td><td class="num">${record.offset}</td>
            <td class="key"><${Preview} record=${record} field="key" /></td>
            <td class="payload"><${Preview} record=${record} field="value" /></td>
          </tr>`)}</tbody>
        </table></div>`}</div>
      ${selected && html`<${RecordDetail} topic=${name} record=${selected} onClose=${() => setSelected(null)} onProduce=${() => {}} />`}
    </div>
  `;
}
