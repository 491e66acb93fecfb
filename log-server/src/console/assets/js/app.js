// The frame around the views: navigation, status, theme, keys.

import { html, render, useEffect, useState } from "../vendor/htm-preact-3.1.1.js";
import { useResource } from "./api.js";
import { duration } from "./format.js";
import { go, href, useRoute } from "./router.js";
import { Dialog, Toasts, useKeys, walkRows } from "./ui.js";
import { Broker } from "./views/broker.js";
import { Client, Clients } from "./views/clients.js";
import { Group } from "./views/group.js";
import { Groups } from "./views/groups.js";
import { Overview } from "./views/overview.js";
import { Topic } from "./views/topic.js";
import { Topics } from "./views/topics.js";

const PLACES = [
  { name: "overview", title: "Overview", key: "o", icon: "M3 17l5-6 4 3 6-8 3 4" },
  { name: "topics", title: "Topics", key: "t", icon: "M3 7c6-4 12 4 18 0M3 12c6-4 12 4 18 0M3 17c6-4 12 4 18 0" },
  { name: "groups", title: "Groups", key: "g", icon: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zm8 0a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM3 19c0-3 2-5 5-5s5 2 5 5M13 19c0-3 1-5 3-5s5 2 5 5" },
  { name: "clients", title: "Clients", key: "c", icon: "M4 5h16v10H4zM9 19h6M12 15v4" },
  { name: "broker", title: "Broker", key: "b", icon: "M4 5h16v5H4zM4 14h16v5H4zM8 7.5h.01M8 16.5h.01" },
];

function View({ route }) {
  const [name, item, part] = route.parts;
  switch (name ?? "overview") {
    case "overview":
      return html`<${Overview} />`;
    case "topics":
      return item == null ? html`<${Topics} route=${route} />` : html`<${Topic} key=${item} name=${item} tab=${part} route=${route} />`;
    case "groups":
      return item == null ? html`<${Groups} route=${route} />` : html`<${Group} key=${item} name=${item} route=${route} />`;
    case "clients":
      return item == null ? html`<${Clients} route=${route} />` : html`<${Client} key=${item} id=${item} />`;
    case "broker":
      return html`<${Broker} route=${route} />`;
    default:
      return html`<h1>There is nothing here</h1><p><a href="#/">To the overview</a></p>`;
  }
}

function Status() {
  const { data, error } = useResource("healthz", { every: 5000 });
  const status = error ? "unreachable" : data?.status ?? "…";
  const kind = { ok: "good", degraded: "warn", stopping: "warn", unreachable: "bad" }[status] ?? "";
  const title = data && `version ${data.version}, cluster ${data.cluster_id}, up ${duration(data.uptime_ms)}`;
  return html`<a class=${`status ${kind}`} href="#/broker" title=${title}><i></i><span role="status">${status}</span></a>`;
}

function ThemeButton() {
  const change = () => {
    const root = document.documentElement;
    const isDark = (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    root.dataset.theme = isDark ? "light" : "dark";
    try {
      localStorage.setItem("stratalog.theme", root.dataset.theme);
    } catch {
      // It holds until the page is loaded again.
    }
    dispatchEvent(new Event("themechange"));
  };
  return html`<button class="quiet icon" onClick=${change} aria-label="Light or dark" title="Light or dark (D)" data-theme-button>
    <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 3a9 9 0 1 0 9 9 7 7 0 0 1-9-9z" /></svg>
  </button>`;
}

const KEYS = [
  ["o, t, g, c, b", "overview, topics, groups, clients, broker"],
  ["/", "search"],
  ["j, k", "next and previous row; Enter opens it"],
  ["n", "new topic"],
  ["p", "produce a record to this topic"],
  ["1 … 4", "partitions, records, live, settings of this topic"],
  ["[ and ]", "older and newer records"],
  ["Space", "pause and go on, in the live view"],
  ["d", "light or dark"],
  ["Esc", "close"],
];

function Help({ onClose }) {
  return html`<${Dialog} title="Keys" onClose=${onClose}>
    <dl class="keys">${KEYS.map(([keys, what]) => html`<div><dt>${keys}</dt><dd>${what}</dd></div>`)}</dl>
  <//>`;
}

function App() {
  const route = useRoute();
  const [isHelping, setHelping] = useState(false);
  const place = PLACES.find(({ name }) => name === (route.parts[0] ?? "overview"));
  useEffect(() => {
    document.title = [route.parts[1] ?? place?.title, "Stratalog"].filter(Boolean).join(" · ");
    scrollTo(0, 0);
  }, [route.parts.join("/")]);
  useKeys({
    ...Object.fromEntries(PLACES.map(({ name, key }) => [key, () => go([name])])),
    "/": () => document.querySelector("[data-search]")?.focus(),
    "?": () => setHelping(true),
    d: () => document.querySelector("[data-theme-button]").click(),
    j: () => walkRows(1),
    k: () => walkRows(-1),
  });
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.querySelector("main").focus(); }}>To the content</a>
    <aside>
      <a class="brand" href="#/"><img src="console/icon.svg" alt="" width="26" height="26" /><b>Stratalog</b></a>
      <nav aria-label="Places">
        ${PLACES.map(({ name, title, key, icon }) => html`<a
          href=${href([name])}
          class=${place?.name === name ? "here" : ""}
          aria-current=${place?.name === name ? "page" : undefined}
          title=${`${title} (${key})`}
          ><svg viewBox="0 0 24 24" aria-hidden="true"><path d=${icon} /></svg><span>${title}</span></a>`)}
      </nav>
      <div class="foot">
        <${Status} />
        <button class="quiet icon" onClick=${() => setHelping(true)} aria-label="Keys" title="Keys (?)">?</button>
        <${ThemeButton} />
      </div>
    </aside>
    <main id="main" tabindex="-1"><${View} route=${route} /></main>
    ${isHelping && html`<${Help} onClose=${() => setHelping(false)} />`}
    <${Toasts} />
  `;
}

render(html`<${App} />`, document.getElementById("app"));
