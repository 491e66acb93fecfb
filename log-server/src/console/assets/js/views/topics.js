// All topics: searched and cut into pages by the broker, so that ten thousand are as quick as ten.

import { html, useState } from "../../vendor/htm-preact-3.1.1.js";
import { path, send, useResource } from "../api.js";
import { bytes, count, plural } from "../format.js";
import { go, href, refine } from "../router.js";
import { Badge, Dialog, Durability, Empty, Field, Form, Pager, Problem, Search, linkRow, toast, useKeys, usePages } from "../ui.js";

const PAGE = 50;

export function Topics({ route }) {
  const search = route.query.get("search") ?? "";
  const internal = route.query.get("internal") ?? "";
  const pages = usePages(`${search} ${internal}`);
  const { data, error, isLoading, reload } = useResource(
    path(["topics"], { search, internal, limit: PAGE, after: pages.after }),
    { every: 5000 },
  );
  const [isCreating, setCreating] = useState(false);
  useKeys({ n: () => setCreating(true) });
  const change = (query) => refine(["topics"], { search, internal, ...query });
  return html`
    <header class="page">
      <h1>Topics <small>${data ? count(data.total) : ""}</small></h1>
      <${Search} label="Search topics" value=${search} onChange=${(text) => change({ search: text })} />
      <label class="check"><input type="checkbox" checked=${internal === "true"} onChange=${(event) => change({ internal: event.target.checked ? "true" : "" })} /> internal</label>
      <button class="primary" onClick=${() => setCreating(true)} title="New topic (n)">New topic</button>
    </header>
    <${Problem} error=${error} retry=${reload} />
    ${data && (data.topics.length === 0
      ? html`<${Empty} title=${search ? "No topic has this in its name" : "No topics yet"}>${search ? "The search looks for the text anywhere in the name." : "Create one here, or let a client produce to one."}<//>`
      : html`<div class="card flush"><table class=${isLoading ? "stale" : ""}>
          <thead><tr><th>Topic</th><th class="num">Partitions</th><th class="num">Records</th><th class="num">Size</th><th>acks=all</th></tr></thead>
          <tbody>${data.topics.map((topic) => html`<${Row} key=${topic.id} topic=${topic} />`)}</tbody>
        </table></div>`)}
    <${Pager} pages=${pages} data=${data} unit=${plural(data?.total ?? 0, "topic")} />
    ${isCreating && html`<${NewTopic} onClose=${() => setCreating(false)} />`}
  `;
}

function Row({ topic }) {
  return html`<tr ...${linkRow(() => go(["topics", topic.name]))}>
    <td class="name"><a href=${href(["topics", topic.name])}>${topic.name}</a>
      ${topic.internal && html` <${Badge}>internal<//>`}
      ${topic.partitions_not_online > 0 && html` <${Badge} kind="bad">${plural(topic.partitions_not_online, "partition")} not online<//>`}</td>
    <td class="num" data-label="partitions">${count(topic.partitions)}</td>
    <td class="num" data-label="records">${count(topic.records)}</td>
    <td class="num" data-label="size">${bytes(topic.size_bytes)}</td>
    <td><${Durability} mode=${topic.durability} /></td>
  </tr>`;
}

const RETENTIONS = [["", "the broker's default"], ["3600000", "1 hour"], ["86400000", "1 day"], ["604800000", "7 days"], ["2592000000", "30 days"], ["-1", "for ever"]];

function NewTopic({ onClose }) {
  const [topic, setTopic] = useState({ name: "", partitions: "", retention: "", cleanup: "", flush: "" });
  const set = (field) => (event) => setTopic({ ...topic, [field]: event.target.value });
  const create = () => {
    const configs = {};
    if (topic.retention) configs["retention.ms"] = topic.retention;
    if (topic.cleanup) configs["cleanup.policy"] = topic.cleanup;
    if (topic.flush) configs["flush.messages"] = topic.flush;
    const partitions = topic.partitions ? { partitions: Number(topic.partitions) } : {};
    return send("POST", path(["topics"]), { name: topic.name, ...partitions, configs });
  };
  return html`<${Dialog} title="New topic" onClose=${onClose}>
    <${Form} action="Create" onSubmit=${create} onDone=${() => {
      onClose();
      toast(`${topic.name} is there`, "good");
      go(["topics", topic.name]);
    }}>
      <${Field} label="Name" hint="letters, digits, dots, dashes, underscores"><input required data-first name="name" pattern="[A-Za-z0-9._\\-]+" maxlength="249" value=${topic.name} onInput=${set("name")} /><//>
      <${Field} label="Partitions" hint="empty: as num.partitions says"><input type="number" name="partitions" min="1" max="10000" value=${topic.partitions} onInput=${set("partitions")} /><//>
      <${Field} label="Records are kept"><select value=${topic.retention} onChange=${set("retention")}>${RETENTIONS.map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select><//>
      <${Field} label="Old records"><select value=${topic.cleanup} onChange=${set("cleanup")}>
        <option value="">the broker's default</option><option value="delete">are deleted</option><option value="compact">are compacted: the last of each key stays</option></select><//>
      <${Field} label="acks=all is answered"><select value=${topic.flush} onChange=${set("flush")}>
        <option value="">the broker's default</option><option value="1">when the records are on the disk</option><option value="9223372036854775807">when they are in the log (faster, a power cut may lose them)</option></select><//>
    <//>
  <//>`;
}
