// One topic: what it is, and its partitions, records, live tail and settings as tabs.

import { html, useState } from "../../vendor/htm-preact-3.1.1.js";
import { path, send, useResource } from "../api.js";
import { bytes, count, meaning, plural } from "../format.js";
import { go, href } from "../router.js";
import { Badge, Dialog, Durability, Field, Form, Pager, Problem, Tile, Unseen, toast, useKeys, usePages } from "../ui.js";
import { Configs } from "./configs.js";
import { Produce } from "./produce.js";
import { Records } from "./records.js";
import { Tail } from "./tail.js";

const TABS = [["partitions", "Partitions"], ["records", "Records"], ["live", "Live"], ["settings", "Settings"]];

export function Topic({ name, tab = "partitions", route }) {
  const { data: topic, error, reload } = useResource(path(["topics", name]), { every: 3000 });
  const [dialog, setDialog] = useState(null);
  const open = (what, props = {}) => setDialog({ what, ...props });
  useKeys({
    p: () => open("produce"),
    ...Object.fromEntries(TABS.map(([id], place) => [String(place + 1), () => go(["topics", name, id])])),
  });
  if (error?.status === 404) {
    return html`<h1>${name}</h1><${Problem} error=${error} /><p><a href="#/topics">All topics</a></p>`;
  }
  return html`
    <header class="page">
      <h1 class="name"><a class="up" href="#/topics" aria-label="All topics">Topics /</a> ${name}
        ${topic?.internal && html` <${Badge}>internal<//>`}</h1>
      <div class="actions">
        <button class="primary" onClick=${() => open("produce")} title="Produce a record (p)">Produce</button>
        <button onClick=${() => open("grow")}>Add partitions</button>
        <button class="danger" onClick=${() => open("delete")}>Delete</button>
      </div>
    </header>
    <${Problem} error=${error} retry=${reload} />
    ${topic && html`<section class="tiles small">
      <${Tile} label="Records" value=${count(topic.records)} />
      <${Tile} label="Size" value=${bytes(topic.size_bytes)} />
      <${Tile} label="Partitions" value=${count(topic.partitions)} kind=${topic.partitions_not_online ? "warn" : ""} hint=${topic.partitions_not_online ? `${topic.partitions_not_online} not online` : null} />
      <${Tile} label="acks=all" value=${html`<${Durability} mode=${topic.durability.mode} />`} hint=${topic.durability.meaning} />
      <${Retention} name=${name} />
    </section>`}
    <nav class="tabs" aria-label="Parts of the topic">
      ${TABS.map(([id, text], place) => html`<a href=${href(["topics", name, id])} class=${tab === id ? "here" : ""} aria-current=${tab === id ? "page" : undefined} title=${`${text} (${place + 1})`}>${text}</a>`)}
    </nav>
    ${tab === "partitions" && html`<${Partitions} name=${name} />`}
    ${tab === "records" && html`<${Records} name=${name} partitions=${topic?.partitions} route=${route} onProduce=${(record) => open("produce", { record })} />`}
    ${tab === "live" && html`<${Tail} name=${name} />`}
    ${tab === "settings" && html`<${Configs} parts=${["topics", name, "configs"]} own="topic" />`}
    ${dialog?.what === "produce" && html`<${Produce} topic=${name} partitions=${topic?.partitions} record=${dialog.record} onClose=${() => { setDialog(null); reload(); }} />`}
    ${dialog?.what === "grow" && html`<${Grow} topic=${topic} onClose=${() => { setDialog(null); reload(); }} />`}
    ${dialog?.what === "delete" && html`<${Delete} name=${name} onClose=${() => setDialog(null)} />`}
  `;
}

function Retention({ name }) {
  const { data } = useResource(path(["topics", name, "configs"]));
  const value = (key) => data?.configs.find((config) => config.name === key)?.value;
  const policy = value("cleanup.policy");
  const time = meaning("retention.ms", value("retention.ms"));
  const size = meaning("retention.bytes", value("retention.bytes"));
  return html`<${Tile} label="Kept" value=${policy === "compact" ? "last of each key" : time ?? "–"} hint=${data && [policy, size && size !== "no limit" ? `${size} a partition` : null].filter(Boolean).join(", ")} />`;
}

const CONDITIONS = { online: "good", latched: "warn", offline: "bad" };

function Partitions({ name }) {
  const pages = usePages(name);
  const { data, error, isLoading, reload } = useResource(
    path(["topics", name, "partitions"], { limit: 100, after: pages.after }),
    { every: 3000 },
  );
  return html`
    <${Problem} error=${error} retry=${reload} />
    ${data && html`<div class="card flush"><table class=${isLoading ? "stale" : ""}>
      <thead><tr><th class="num">Partition</th><th>State</th><th class="num">First offset</th><th class="num" title="Consumers read below it">High watermark</th><th class="num">Log end</th><th class="num">Size</th><th class="num">Epoch</th><th><${Unseen}>Read<//></th></tr></thead>
      <tbody>${data.partitions.map((one) => html`<tr key=${one.partition}>
        <td class="num name" data-label="partition">${one.partition}</td>
        <td><${Badge} kind=${CONDITIONS[one.condition]} title=${one.error}>${one.condition}<//></td>
        <td class="num" data-label="first offset">${count(one.log_start_offset)}</td>
        <td class="num" data-label="high watermark">${count(one.high_watermark)}</td>
        <td class="num" data-label="log end">${count(one.log_end_offset)}${one.log_end_offset > one.high_watermark && html` <span class="faint" title="Not on the disk yet">+${count(one.log_end_offset - one.high_watermark)}</span>`}</td>
        <td class="num" data-label="size">${bytes(one.size_bytes)}</td>
        <td class="num" data-label="epoch">${one.leader_epoch}</td>
        <td class="num"><a href=${href(["topics", name, "records"], { partition: one.partition })}>records</a></td>
      </tr>`)}</tbody>
    </table></div>`}
    <${Pager} pages=${pages} data=${data} unit=${plural(data?.total ?? 0, "partition")} />
  `;
}

function Grow({ topic, onClose }) {
  const [wanted, setWanted] = useState(String((topic?.partitions ?? 0) + 1));
  return html`<${Dialog} title="Add partitions" onClose=${onClose}>
    <${Form} action="Add" onSubmit=${() => send("POST", path(["topics", topic.name, "partitions"]), { count: Number(wanted) })} onDone=${() => { toast("added", "good"); onClose(); }}>
      <p>Keys may have another partition from then on, and partitions cannot be taken away.</p>
      <${Field} label="Partitions in all"><input type="number" data-first min=${topic.partitions + 1} max="10000" value=${wanted} onInput=${(event) => setWanted(event.target.value)} /><//>
    <//>
  <//>`;
}

function Delete({ name, onClose }) {
  const [text, setText] = useState("");
  const remove = async () => {
    if (text !== name) throw new Error("this is not the topic's name");
    return send("DELETE", path(["topics", name]));
  };
  return html`<${Dialog} title="Delete topic" onClose=${onClose}>
    <${Form} danger action="Delete for ever" onSubmit=${remove} onDone=${() => { toast(`${name} is gone`); onClose(); go(["topics"]); }}>
      <p>All records of <b>${name}</b> go, and what groups have committed of it.</p>
      <${Field} label="Write its name"><input data-first name="name" value=${text} onInput=${(event) => setText(event.target.value)} /><//>
    <//>
  <//>`;
}
