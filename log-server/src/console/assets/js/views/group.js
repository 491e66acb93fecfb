// One group: its members, how far it is behind, now and over time, and where it may be sent instead.

import { html, useMemo, useState } from "../../vendor/htm-preact-3.1.1.js";
import { path, send, useResource } from "../api.js";
import { count, duration, inputTime, plural, short } from "../format.js";
import { Plot, TIME_STEPS } from "../plot.js";
import { go, href } from "../router.js";
import { Badge, Dialog, Field, Form, Problem, Tile, Unseen, toast } from "../ui.js";
import { STATES } from "./groups.js";

// More rows than these are cut off; those that are furthest behind stay.
const ROWS_MAX = 500;

export function Group({ name }) {
  const { data: group, error, reload } = useResource(path(["groups", name]), { every: 3000 });
  // A record is read for each partition that is behind: not as often as the rest.
  const lag = useResource(path(["groups", name, "lag"]), { every: 10000 });
  const [dialog, setDialog] = useState(null);
  if (error?.status === 404) return html`<h1>${name}</h1><${Problem} error=${error} /><p><a href="#/groups">All groups</a></p>`;
  const close = () => {
    setDialog(null);
    reload();
    lag.reload();
  };
  return html`
    <header class="page">
      <h1 class="name"><a class="up" href="#/groups">Groups /</a> ${name}</h1>
      <div class="actions">
        <button class="primary" onClick=${() => setDialog("reset")}>Reset offsets</button>
        <button class="danger" onClick=${() => setDialog("delete")}>Delete</button>
      </div>
    </header>
    <${Problem} error=${error} retry=${reload} />
    ${group && html`<section class="tiles small">
      <${Tile} label="State" value=${html`<${Badge} kind=${STATES[group.state]}>${group.state}<//>`} hint=${[group.type, group.assignor].filter(Boolean).join(", ")} />
      <${Tile} label="Members" value=${count(group.members.length)} />
      <${Tile} label="Behind" value=${lag.data ? short(lag.data.records) : "–"} hint="records" kind=${lag.data?.records > 0 ? "warn" : ""} />
      <${Tile} label="In time" value=${lag.data ? duration(lag.data.time_ms) : "–"} hint="age of the first record not read" />
    </section>`}
    <${History} name=${name} />
    <${Lag} lag=${lag} />
    ${group && html`<${Members} members=${group.members} />`}
    ${dialog === "reset" && html`<${Reset} name=${name} topics=${[...new Set(lag.data?.partitions.map((one) => one.topic) ?? [])]} onClose=${close} />`}
    ${dialog === "delete" && html`<${Dialog} title="Delete group" onClose=${close}>
      <${Form} danger action="Delete" onSubmit=${() => send("DELETE", path(["groups", name]))} onDone=${() => { toast(`${name} is gone`); go(["groups"]); }}>
        <p>What <b>${name}</b> has committed is forgotten. A group with members cannot be deleted.</p>
      <//>
    <//>`}
  `;
}

function History({ name }) {
  const { data } = useResource(path(["stats", "groups", name]), { every: 5000 });
  const [x, records, times] = useMemo(() => {
    const points = data?.points ?? [];
    return [points.map((point) => point.at / 1000), points.map((point) => point.records), points.map((point) => point.time_ms)];
  }, [data]);
  if (data && x.length === 0) return html`<p class="faint">No plot: nobody has looked yet, or the group is not among the first ${count(data.groups_max)} by name, whose lag is remembered.</p>`;
  if (x.length < 2) return null;
  return html`<section class="plots">
    <${Plot} title="Records behind" sync=${name} x=${x} format=${short} floor=${10} height=${150} series=${[{ label: "records", values: records, color: "--out", fill: "--out-faint" }]} />
    <${Plot} title="Time behind" sync=${name} x=${x} format=${duration} floor=${1000} steps=${TIME_STEPS} height=${150} series=${[{ label: "time", values: times, color: "--third", fill: "--third-faint" }]} />
  </section>`;
}

function Lag({ lag: { data, error } }) {
  const [isBehind, setBehind] = useState(false);
  if (!data) return html`<${Problem} error=${error} />`;
  const rows = data.partitions.filter((one) => !isBehind || one.records !== 0);
  const shown = rows.length <= ROWS_MAX ? rows : rows.toSorted((a, b) => b.records - a.records).slice(0, ROWS_MAX);
  return html`
    <header class="section"><h2>Offsets</h2>
      <label class="check"><input type="checkbox" checked=${isBehind} onChange=${(event) => setBehind(event.target.checked)} /> only where it is behind</label></header>
    ${data.partitions.length === 0 ? html`<p class="faint">It has committed nothing.</p>` : html`<div class="card flush"><table>
      <thead><tr><th>Topic</th><th class="num">Partition</th><th class="num">Committed</th><th class="num">Log</th><th class="num">Behind</th><th class="num">In time</th><th><${Unseen}>Read<//></th></tr></thead>
      <tbody>${shown.map((one) => html`<tr key=${`${one.topic}:${one.partition}`}>
        <td class="name"><a href=${href(["topics", one.topic])}>${one.topic}</a></td>
        <td class="num" data-label="partition">${one.partition}</td>
        <td class="num" data-label="committed">${count(one.committed)}</td>
        <td class="num faint" data-label="log">${count(one.log_start_offset)} – ${count(one.log_end_offset)}</td>
        <td class="num" data-label="behind">${count(one.records)}</td>
        <td class="num" data-label="in time">${duration(one.time_ms)}</td>
        <td class="num"><a href=${href(["topics", one.topic, "records"], { partition: one.partition, from: "offset", offset: one.committed })}>records</a></td>
      </tr>`)}</tbody>
    </table></div>`}
    ${rows.length > ROWS_MAX && html`<p class="faint">${plural(rows.length - ROWS_MAX, "partition")} more, less far behind.</p>`}
  `;
}

function Members({ members }) {
  if (members.length === 0) return html`<header class="section"><h2>Members</h2></header><p class="faint">Nobody reads for it now.</p>`;
  return html`<header class="section"><h2>Members</h2></header>
    <div class="card flush"><table>
      <thead><tr><th>Client</th><th>From</th><th>Member</th><th>Reads</th></tr></thead>
      <tbody>${members.map((member) => html`<tr key=${member.member_id}>
        <td class="name">${member.client_id}${member.instance_id && html` <${Badge} title="group.instance.id">${member.instance_id}<//>`}</td>
        <td data-label="from">${member.client_host}</td>
        <td><code class="small">${member.member_id}</code></td>
        <td>${member.assigned.length === 0 ? html`<span class="faint">nothing</span>` : member.assigned.map(({ topic, partitions }) => html`<div>${topic} <span class="faint">${ranges(partitions)}</span></div>`)}</td>
      </tr>`)}</tbody>
    </table></div>`;
}

// 0, 1, 2, 5 becomes 0–2, 5.
export function ranges(numbers) {
  const out = [];
  for (const n of numbers.toSorted((a, b) => a - b)) {
    const last = out.at(-1);
    if (last && last[1] === n - 1) last[1] = n;
    else out.push([n, n]);
  }
  return out.map(([from, to]) => (from === to ? from : `${from}–${to}`)).join(", ");
}

const TARGETS = [["earliest", "the first record"], ["latest", "the end"], ["time", "a time"], ["offset", "an offset"], ["shift", "so many records from where it stands"]];

function Reset({ name, topics, onClose }) {
  const [draft, setDraft] = useState({ to: "earliest", time: inputTime(Date.now() - 3600000), number: "0", topic: "" });
  const [plan, setPlan] = useState(null);
  const set = (field) => (event) => {
    setPlan(null);
    setDraft({ ...draft, [field]: event.target.value });
  };
  const ask = (isDry) => {
    const { to, time, number, topic } = draft;
    const target = { time: { time: time && new Date(time).toISOString() }, offset: { offset: Number(number) }, shift: { shift: Number(number) } }[to] ?? to;
    const chosen = topic === "" ? {} : { topics: [{ topic }] };
    return send("POST", path(["groups", name, "offsets"]), { to: target, ...chosen, dry_run: isDry });
  };
  const moved = plan?.partitions.filter((one) => one.before !== one.after).length ?? 0;
  return html`<${Dialog} wide title=${`Reset offsets of ${name}`} onClose=${onClose}>
    <${Form} action=${plan ? `Reset ${plural(plan.partitions.length, "partition")}` : "Show what it would do"} danger=${plan != null} onSubmit=${() => ask(plan == null)} onDone=${(answer) => {
      if (plan == null) return setPlan(answer);
      toast("the offsets are reset", "good");
      return onClose();
    }}>
      <div class="bar wrap">
        <${Field} label="To"><select data-first name="to" value=${draft.to} onChange=${set("to")}>${TARGETS.map(([id, text]) => html`<option value=${id}>${text}</option>`)}</select><//>
        ${draft.to === "time" && html`<${Field} label="Time"><input type="datetime-local" step="1" required value=${draft.time} onInput=${set("time")} /><//>`}
        ${(draft.to === "offset" || draft.to === "shift") && html`<${Field} label=${draft.to === "shift" ? "Records (negative: back)" : "Offset"}><input type="number" name="number" required value=${draft.number} onInput=${set("number")} /><//>`}
        <${Field} label="Topic"><input name="topic" list="reset-topics" placeholder="all that it has committed" value=${draft.topic} onInput=${set("topic")} /><//>
        <datalist id="reset-topics">${topics.map((topic) => html`<option value=${topic} />`)}</datalist>
      </div>
      ${plan && html`<div class="card flush plan" tabindex="0" role="region" aria-label="What it would do"><table>
        <thead><tr><th>Topic</th><th class="num">Partition</th><th class="num">Now</th><th class="num">Then</th><th class="num">Change</th></tr></thead>
        <tbody>${plan.partitions.slice(0, ROWS_MAX).map((one) => html`<tr key=${`${one.topic}:${one.partition}`}>
          <td>${one.topic}</td><td class="num">${one.partition}</td><td class="num">${count(one.before)}</td>
          <td class="num">${one.error ? html`<${Badge} kind="bad">${one.error.detail ?? one.error}<//>` : count(one.after)}</td>
          <td class="num faint">${one.before == null || one.after == null ? "" : `${one.after >= one.before ? "+" : ""}${count(one.after - one.before)}`}</td>
        </tr>`)}</tbody>
      </table></div>
      <p class="faint" role="status">Nothing is changed yet: ${plural(moved, "offset")} would move.</p>`}
    <//>
  <//>`;
}
