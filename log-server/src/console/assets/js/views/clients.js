// Clients that push their own metrics: who they are, and the few numbers that tell most. One of them, with all.

import { html, useState } from "../../vendor/htm-preact-3.1.1.js";
import { path, useResource } from "../api.js";
import { ago, count, duration, plural, short } from "../format.js";
import { go, href, refine } from "../router.js";
import { Badge, Empty, Pager, Problem, Search, Tile, linkRow, usePages } from "../ui.js";

// What the columns show: the first of these that a client has. Names are Kafka's; the Java client's and librdkafka's differ here and there.
const COLUMNS = [
  { title: "Request", label: "request", of: largest, format: duration, names: ["org.apache.kafka.producer.request.latency.avg", "org.apache.kafka.producer.node.request.latency.avg", "org.apache.kafka.consumer.node.request.latency.avg"] },
  { title: "Behind", label: "behind", of: largest, format: short, names: ["org.apache.kafka.consumer.fetch.manager.records.lag.max"] },
  { title: "Connections", label: "connections", of: largest, format: count, names: ["org.apache.kafka.producer.connection.count", "org.apache.kafka.consumer.connection.count", "org.apache.kafka.producer.connection.creation.total", "org.apache.kafka.consumer.connection.creation.total"] },
];
const SHOWN = COLUMNS.flatMap((column) => column.names).join(",");

function largest(values) {
  return values.length === 0 ? null : Math.max(...values);
}

function value(client, { names, of, format }) {
  for (const name of names) {
    const found = of(client.metrics.filter((metric) => metric.name === name && metric.value != null).map((metric) => metric.value));
    if (found != null) return format(found);
  }
  return "–";
}

function State({ client }) {
  if (client.connected && !client.terminating) return html`<${Badge} kind="good">connected<//>`;
  return html`<${Badge} title="It is shown for a little longer">gone<//>`;
}

export function Clients({ route }) {
  const search = route.query.get("search") ?? "";
  const pages = usePages(search);
  const { data, error, isLoading, reload } = useResource(path(["clients"], { search, metrics: SHOWN, limit: 50, after: pages.after }), { every: 5000 });
  return html`
    <header class="page">
      <h1>Clients <small>${data ? count(data.total) : ""}</small></h1>
      <${Search} label="Search clients" value=${search} onChange=${(text) => refine(["clients"], { search: text })} />
    </header>
    <${Problem} error=${error} retry=${reload} />
    ${data && (data.clients.length === 0
      ? html`<${Empty} title=${search ? "No client is like that" : "No clients yet"}>Clients that push their own metrics (KIP-714) come here as soon as they connect; what they push is up to subscriptions.<//>`
      : html`<div class="card flush"><table class=${isLoading ? "stale" : ""}>
        <thead><tr><th>Client</th><th>Library</th><th>From</th><th>State</th><th>Last push</th>${COLUMNS.map(({ title }) => html`<th class="num">${title}</th>`)}</tr></thead>
        <tbody>${data.clients.map((client) => html`<tr key=${client.client_instance_id} ...${linkRow(() => go(["clients", client.client_instance_id]))}>
          <td class="name"><a href=${href(["clients", client.client_instance_id])}>${client.client_id || "(no name)"}</a></td>
          <td>${client.software} <span class="faint">${client.software_version}</span></td>
          <td data-label="from">${client.address}</td>
          <td><${State} client=${client} /></td>
          <td data-label="last push">${client.last_push == null ? html`<span class="faint">${client.requested.length === 0 ? "nothing is wanted" : "none yet"}</span>` : ago(client.last_push)}</td>
          ${COLUMNS.map((column) => html`<td class="num" data-label=${column.label}>${value(client, column)}</td>`)}
        </tr>`)}</tbody>
      </table></div>`)}
    <${Pager} pages=${pages} data=${data} unit=${plural(data?.total ?? 0, "client")} />
  `;
}

export function Client({ id }) {
  const [text, setText] = useState("");
  const { data: client, error, reload } = useResource(path(["clients", id]), { every: 5000 });
  if (error?.status === 404) return html`<h1>${id}</h1><${Problem} error=${error} /><p><a href="#/clients">All clients</a></p>`;
  const wanted = (metric) => `${metric.name} ${Object.values(metric.attributes).join(" ")}`.toLowerCase().includes(text.toLowerCase());
  return html`
    <header class="page">
      <h1 class="name"><a class="up" href="#/clients">Clients /</a> ${client?.client_id || id}</h1>
      <${Search} label="Search metrics" value=${text} onChange=${setText} />
    </header>
    <${Problem} error=${error} retry=${reload} />
    ${client && html`<section class="tiles small">
        <${Tile} label="State" value=${html`<${State} client=${client} />`} hint=${client.address} />
        <${Tile} label="Library" value=${client.software} hint=${client.software_version} />
        <${Tile} label="Last push" value=${client.last_push == null ? "–" : ago(client.last_push)} hint=${`every ${duration(client.interval_ms)}`} />
        <${Tile} label="Series" value=${count(client.series)} hint=${client.left_out > 0 ? `${count(client.left_out)} left out` : client.requested.join(", ")} />
      </section>
      ${Object.keys(client.labels).length > 0 && html`<p class="faint">${Object.entries(client.labels).map(([name, said]) => `${name}: ${said}`).join(", ")}</p>`}
      ${client.metrics.length === 0 ? html`<p class="faint">It has pushed nothing.</p>` : html`<div class="card flush"><table>
        <thead><tr><th>Metric</th><th>Of</th><th class="num">Value</th></tr></thead>
        <tbody>${client.metrics.filter(wanted).map((metric) => html`<tr key=${metric.name + JSON.stringify(metric.attributes)}>
          <td class="name">${metric.name}</td>
          <td data-label="of"><span class="faint">${Object.entries(metric.attributes).map(([name, said]) => `${name}=${said}`).join(", ")}</span></td>
          <td class="num" data-label="value">${metric.value == null ? "–" : short(metric.value)}</td>
        </tr>`)}</tbody>
      </table></div>`}`}
  `;
}
