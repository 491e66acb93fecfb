// What goes on now: throughput, latency, the busiest topics, the groups that are furthest behind.

import { html, useEffect, useMemo, useRef, useState } from "../../vendor/htm-preact-3.1.1.js";
import { get, path, useResource } from "../api.js";
import { bytes, count, duration, hours, micros, plural, rate, short } from "../format.js";
import { BYTE_STEPS, Plot } from "../plot.js";
import { href } from "../router.js";
import { Badge, Problem, Tile } from "../ui.js";

const ROWS_MAX = 900;

// The rows of the last quarter of an hour, and everything else as it is now. The first answer brings all rows, later ones what is new.
function useStats() {
  const [state, setState] = useState({ stats: null, rows: [], error: null });
  const rows = useRef([]);
  useEffect(() => {
    const abort = new AbortController();
    let timer = 0;
    const look = async () => {
      try {
        const last = rows.current.at(-1)?.[0];
        const stats = await get(path(["stats"], { since_ms: last }), abort.signal);
        rows.current = [...rows.current, ...stats.rows].slice(-ROWS_MAX);
        setState({ stats, rows: rows.current, error: null });
      } catch (error) {
        if (error.name === "AbortError") return;
        setState((before) => ({ ...before, error }));
      }
      timer = setTimeout(look, document.hidden ? 5000 : 1000);
    };
    look();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, []);
  return state;
}

const SPANS = [[120, "2 min"], [300, "5 min"], [900, "15 min"]];

export function Overview() {
  const { stats, rows, error } = useStats();
  const [span, setSpan] = useState(300);
  const lags = useResource(path(["stats", "groups"], { limit: 6 }), { every: 5000 });
  const column = useMemo(() => {
    const shown = rows.slice(-span);
    const places = Object.fromEntries((stats?.columns ?? []).map((name, place) => [name, place]));
    return (name) => shown.map((row) => row[places[name]]);
  }, [rows, span]);
  const x = useMemo(() => column("at_ms").map((at) => at / 1000), [column]);
  if (!stats) return html`<h1>Overview</h1><${Problem} error=${error} />`;
  const last = (name, back = 3) => recent(column(name).slice(-back));
  const { health } = stats;
  const isShort = health.space_is_short || (stats.disk_full_in_hours ?? Infinity) < 24;
  return html`
    <header class="page">
      <h1>Overview</h1>
      <div class="segments" role="group" aria-label="Time shown">
        ${SPANS.map(([seconds, text]) => html`<button aria-pressed=${span === seconds} onClick=${() => setSpan(seconds)}>${text}</button>`)}
      </div>
    </header>
    <${Problem} error=${error} />
    <${Trouble} health=${health} />
    <section class="tiles" aria-label="Now">
      <${Tile} label="In" value=${rate(last("received_bytes"))} hint=${`${short(last("received_records"))} records/s`} kind="in" />
      <${Tile} label="Out" value=${rate(last("sent_bytes"))} hint=${`${short(last("sent_records"))} records/s`} kind="out" />
      <${Tile} label="Produce p99" value=${micros(worst(column("produce_p99_us").slice(-10)))} hint=${`sync p99 ${micros(worst(column("sync_p99_us").slice(-10)))}`} title="The worst second of the last ten" />
      <${Tile} label="Requests" value=${`${short((last("requests") ?? 0) + (last("http_requests") ?? 0))}/s`} hint=${`${count(stats.kafka_connections)} Kafka, ${count(stats.http_connections)} HTTP connections`} />
      <${Tile} label="Disk free" value=${bytes(health.disk_available_bytes)} hint=${stats.disk_full_in_hours == null ? `of ${bytes(stats.disk_total_bytes)}, not filling` : `full in ${hours(stats.disk_full_in_hours)} like this`} kind=${isShort ? "warn" : ""} />
      <${Tile} label="Memory" value=${bytes(last("anonymous_bytes", 1))} hint=${`${(last("processors") ?? 0).toFixed(2)} processors`} title="Without mapped pages of logs, which the system takes back when it needs them" />
    </section>
    <section class="plots">
      <${Plot} title="Throughput" sync="overview" span=${span} x=${x} format=${rate} floor=${1024} steps=${BYTE_STEPS} series=${[
        { label: "in", values: column("received_bytes"), color: "--in", fill: "--in-faint" },
        { label: "out", values: column("sent_bytes"), color: "--out", fill: "--out-faint" },
      ]} />
      <${Plot} title="Latency" sync="overview" span=${span} x=${x} format=${micros} floor=${100} series=${[
        { label: "produce p99", values: column("produce_p99_us"), color: "--in" },
        { label: "produce p50", values: column("produce_p50_us"), color: "--in", dash: [4, 4] },
        { label: "fetch p99", values: column("fetch_p99_us"), color: "--out" },
        { label: "sync p99", values: column("sync_p99_us"), color: "--third" },
      ]} />
    </section>
    <section class="columns">
      <div class="card">
        <h2>Busiest topics</h2>
        <${Busiest} topics=${stats.busiest} />
      </div>
      <div class="card">
        <h2>Groups behind</h2>
        <${Behind} lags=${lags.data} />
      </div>
    </section>
  `;
}

const known = (values) => values.filter((value) => value != null);
const recent = (values) => (known(values).length ? known(values).reduce((a, b) => a + b, 0) / known(values).length : null);
const worst = (values) => (known(values).length ? Math.max(...known(values)) : null);

function Trouble({ health }) {
  const { latched, offline, uncleanable } = health.partitions;
  if (health.status === "ok") return null;
  const words = [
    latched > 0 && `${plural(latched, "partition refuses", "partitions refuse")} writes until the log is reopened`,
    offline > 0 && `${plural(offline, "partition is", "partitions are")} off-line`,
    uncleanable > 0 && `${plural(uncleanable, "partition", "partitions")} cannot be compacted and will grow`,
    health.log_directories_offline > 0 && `${plural(health.log_directories_offline, "data directory does", "data directories do")} not serve`,
    health.space_is_short && "space on the disk is short",
    health.status === "stopping" && "the broker is stopping",
  ].filter(Boolean);
  return html`<div class="problem warn" role="alert">${words.join("; ") || health.status}</div>`;
}

function Busiest({ topics }) {
  if (topics.length === 0) return html`<p class="faint">Nothing comes and nothing goes.</p>`;
  const most = Math.max(...topics.map((one) => one.received_bytes + one.sent_bytes));
  return html`<ul class="bars">
    ${topics.map((one) => html`<li key=${one.topic}>
      <a href=${href(["topics", one.topic])}>${one.topic}</a>
      <span class="bar" aria-hidden="true">
        <i class="in" style=${{ width: `${(100 * one.received_bytes) / most}%` }}></i><i class="out" style=${{ width: `${(100 * one.sent_bytes) / most}%` }}></i>
      </span>
      <span class="num"><span class="in-text">${rate(one.received_bytes)}</span> <span class="out-text">${rate(one.sent_bytes)}</span></span>
    </li>`)}
  </ul>`;
}

function Behind({ lags }) {
  if (!lags) return null;
  if (lags.total === 0) return html`<p class="faint">There are no groups.</p>`;
  return html`<ul class="bars">
    ${lags.groups.map((one) => html`<li key=${one.group}>
      <a href=${href(["groups", one.group])}>${one.group}</a>
      <${Badge} kind=${one.state === "Stable" ? "good" : ""}>${one.state}<//>
      <span class="num">${one.records === 0 ? html`<span class="faint">up to date</span>` : `${short(one.records)} records, ${duration(one.time_ms)}`}</span>
    </li>`)}
  </ul>`;
}
