// All groups, with how far they are behind as the broker saw it a few seconds ago.

import { html } from "../../vendor/htm-preact-3.1.1.js";
import { path, useResource } from "../api.js";
import { count, duration, plural } from "../format.js";
import { go, href, refine } from "../router.js";
import { Badge, Empty, Pager, Problem, Search, linkRow, usePages } from "../ui.js";

export const STATES = { Stable: "good", Empty: "", PreparingRebalance: "warn", CompletingRebalance: "warn", Assigning: "warn", Reconciling: "warn", Dead: "bad" };

export function Groups({ route }) {
  const search = route.query.get("search") ?? "";
  const state = route.query.get("state") ?? "";
  const pages = usePages(`${search} ${state}`);
  const { data, error, isLoading, reload } = useResource(path(["groups"], { search, state, limit: 50, after: pages.after }), { every: 5000 });
  const lags = useResource(path(["stats", "groups"], { limit: 1000 }), { every: 5000 });
  const lagOf = new Map((lags.data?.groups ?? []).map((lag) => [lag.group, lag]));
  const change = (query) => refine(["groups"], { search, state, ...query });
  return html`
    <header class="page">
      <h1>Groups <small>${data ? count(data.total) : ""}</small></h1>
      <${Search} label="Search groups" value=${search} onChange=${(text) => change({ search: text })} />
      <select aria-label="State" value=${state} onChange=${(event) => change({ state: event.target.value })}>
        <option value="">all states</option>${Object.keys(STATES).map((each) => html`<option>${each}</option>`)}
      </select>
    </header>
    <${Problem} error=${error} retry=${reload} />
    ${data?.incomplete && html`<div class="problem warn">Part of the groups' log is still being read: some groups are missing.</div>`}
    ${data && (data.groups.length === 0
      ? html`<${Empty} title=${search || state ? "No group is like that" : "No groups yet"}>A group is there as soon as a consumer joins it or commits an offset.<//>`
      : html`<div class="card flush"><table class=${isLoading ? "stale" : ""}>
        <thead><tr><th>Group</th><th>State</th><th>Protocol</th><th class="num">Behind</th><th class="num">In time</th></tr></thead>
        <tbody>${data.groups.map((group) => {
          const lag = lagOf.get(group.group);
          return html`<tr key=${group.group} ...${linkRow(() => go(["groups", group.group]))}>
            <td class="name"><a href=${href(["groups", group.group])}>${group.group}</a></td>
            <td><${Badge} kind=${STATES[group.state]}>${group.state}<//></td>
            <td>${group.type}${group.protocol_type && group.protocol_type !== group.type ? html` <span class="faint">${group.protocol_type}</span>` : ""}</td>
            <td class="num" data-label="behind">${lag ? count(lag.records) : "–"}</td>
            <td class="num" data-label="in time">${lag ? duration(lag.time_ms) : "–"}</td>
          </tr>`;
        })}</tbody>
      </table></div>`)}
    <${Pager} pages=${pages} data=${data} unit=${plural(data?.total ?? 0, "group")} />
  `;
}
