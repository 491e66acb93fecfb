// Settings with where they come from and what they mean; those that can be changed are changed in place.

import { html, useState } from "../../vendor/htm-preact-3.1.1.js";
import { path, send, useResource } from "../api.js";
import { meaning } from "../format.js";
import { Badge, Dialog, Empty, Field, Form, Problem, Search, Unseen, toast } from "../ui.js";

const SOURCES = {
  topic: "set for this topic",
  broker: "set while it runs",
  cluster: "set while it runs, for all brokers",
  static: "from file, environment or flag",
  group: "set for this group",
  default: "default",
};

export function Configs({ parts, own }) {
  const [search, setSearch] = useState("");
  const [isOwn, setOwn] = useState(false);
  const [edited, setEdited] = useState(null);
  const { data, error, reload } = useResource(path(parts));
  const words = search.toLowerCase();
  const shown = data?.configs.filter((config) => {
    const isFound = `${config.name} ${config.meaning}`.toLowerCase().includes(words);
    return isFound && (!isOwn || config.source !== "default");
  });
  return html`
    <div class="bar">
      <${Search} label="Search settings" placeholder="Search names and meanings" value=${search} onChange=${setSearch} />
      <label class="check"><input type="checkbox" checked=${isOwn} onChange=${(event) => setOwn(event.target.checked)} /> only what was set</label>
    </div>
    <${Problem} error=${error} retry=${reload} />
    ${shown && (shown.length === 0
      ? html`<${Empty} title="Nothing">No setting is like that.<//>`
      : html`<div class="card flush"><table class="configs">
        <thead><tr><th>Setting</th><th>Value</th><th>Source</th><th><${Unseen}>Change<//></th></tr></thead>
        <tbody>${shown.map((config) => html`<tr key=${config.name}>
          <td class="name"><code>${config.name}</code><p class="faint"><${Prose} text=${config.meaning} /></p></td>
          <td data-label="value"><code>${config.value ?? "–"}</code>${meaning(config.name, config.value) && html` <span class="faint">${meaning(config.name, config.value)}</span>`}</td>
          <td><${Badge} kind=${config.source === "default" ? "" : "good"} title=${synonyms(config)}>${SOURCES[config.source] ?? config.source}<//></td>
          <td class="num">${!config.read_only && html`<button class="quiet" onClick=${() => setEdited(config)} aria-label=${`Change ${config.name}`}>Change</button>`}</td>
        </tr>`)}</tbody>
      </table></div>`)}
    ${edited && html`<${Edit} parts=${parts} config=${edited} own=${own} onClose=${() => setEdited(null)} onDone=${() => { setEdited(null); reload(); }} />`}
  `;
}

// A meaning with the words in backticks set as code.
const Prose = ({ text }) => text.split("`").map((part, place) => (place % 2 ? html`<code>${part}</code>` : part));

const synonyms = (config) =>
  (config.synonyms ?? []).map((one) => `${one.name} = ${one.value} (${SOURCES[one.source] ?? one.source})`).join("\n");

function Edit({ parts, config, own, onClose, onDone }) {
  const [value, setValue] = useState(config.value ?? "");
  const change = (body) => send("PATCH", path(parts), body);
  const isOwn = config.source === own || config.source === "broker" || config.source === "cluster";
  const reset = async () => {
    try {
      await change({ delete: [config.name] });
      toast(`${config.name} is back to its default`);
      onDone();
    } catch (error) {
      toast(error.message, "bad");
    }
  };
  return html`<${Dialog} title=${config.name} onClose=${onClose}>
    <p><${Prose} text=${config.meaning} /></p>
    <${Form} action="Set" onSubmit=${() => change({ set: { [config.name]: value } })} onDone=${() => { toast(`${config.name} is set`, "good"); onDone(); }}>
      <${Field} label=${`Value (${config.type})`} hint=${meaning(config.name, value)}><input data-first value=${value} onInput=${(event) => setValue(event.target.value)} /><//>
    <//>
    ${isOwn && html`<button class="quiet" onClick=${reset}>Back to the default</button>`}
  <//>`;
}
