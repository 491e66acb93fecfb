// The broker itself: where it is, its disk, its settings.

import { html } from "../../vendor/htm-preact-3.1.1.js";
import { path, useResource } from "../api.js";
import { bytes, count, duration, endpoint, hours, plural } from "../format.js";
import { Copy, Problem, Tile } from "../ui.js";
import { Configs } from "./configs.js";

export function Broker() {
  const cluster = useResource(path(["cluster"]), { every: 5000 });
  const stats = useResource(path(["stats"], { since_ms: 9e15 }), { every: 5000 });
  const disks = useResource(path(["log-directories"]), { every: 10000 });
  const { data } = cluster;
  const now = stats.data;
  const broker = data?.brokers[0];
  const kafka = broker && endpoint(broker);
  return html`
    <header class="page"><h1>Broker</h1>
      <div class="actions"><a class="button" href="metrics">/metrics</a><a class="button" href="openapi.json">/openapi.json</a></div></header>
    <${Problem} error=${cluster.error} retry=${cluster.reload} />
    <section class="tiles small">
      ${data && html`<${Tile} label="Kafka clients" value=${html`<code>${kafka}</code>`} hint=${html`node ${broker.node_id} <${Copy} text=${kafka} />`} />
      <${Tile} label="Version" value=${data.version} hint=${`cluster ${data.cluster_id}`} />
      <${Tile} label="Holds" value=${plural(data.topics, "topic")} hint=${`${plural(data.partitions, "partition")}, ${plural(data.groups, "group")}`} />`}
      ${now && html`<${Tile} label="Up" value=${duration(now.health.uptime_ms)} hint=${now.health.status} kind=${now.health.status === "ok" ? "" : "warn"} />
      <${Tile} label="Connections" value=${count(now.kafka_connections + now.http_connections)} hint=${`${count(now.kafka_connections)} Kafka, ${count(now.http_connections)} HTTP, ${count(now.waiting_fetches)} fetches wait`} />
      <${Tile} label="Memory maps" value=${count(now.memory_maps)} hint=${`of ${count(now.memory_maps_max)}`} />`}
    </section>
    ${(disks.data?.log_directories ?? []).map((disk) => html`<${Disk} key=${disk.path} disk=${disk} fullIn=${now?.disks?.find(({ path }) => path === disk.path)?.full_in_hours} />`)}
    <header class="section"><h2>Settings</h2></header>
    <${Configs} parts=${["configs"]} own="broker" />
  `;
}

function Disk({ disk, fullIn }) {
  if (disk.error) {
    return html`<div class="card disk"><header><code>${disk.path}</code><span class="faint">${plural(disk.partitions, "partition")} off-line</span></header>
      <${Problem} error=${{ message: disk.error }} /></div>`;
  }
  const other = disk.total_bytes - disk.available_bytes - disk.size_bytes;
  const share = (part) => ({ width: `${(100 * Math.max(0, part)) / disk.total_bytes}%` });
  return html`<div class="card disk">
    <header><code>${disk.path}</code><span class="faint">${bytes(disk.available_bytes)} of ${bytes(disk.total_bytes)} free${fullIn == null ? "" : `, full in ${hours(fullIn)} if it goes on like this`}</span></header>
    <div class="meter" role="img" aria-label=${`${bytes(disk.size_bytes)} are logs, ${bytes(other)} something else`}><i class="in" style=${share(disk.size_bytes)}></i><i class="other" style=${share(other)}></i></div>
    <p class="faint"><span class="in-text">■</span> ${bytes(disk.size_bytes)} in ${plural(disk.partitions, "partition")}, <span>■</span> ${bytes(other)} something else</p>
  </div>`;
}
