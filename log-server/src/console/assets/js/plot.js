// A plot over time: uPlot with the colours of the theme, as wide as its place.

import { html, useEffect, useRef } from "../vendor/htm-preact-3.1.1.js";
import { clock } from "./format.js";

// A colour of the theme as a canvas understands it: an element is asked, because the value may be two, for light and for dark.
function color(name) {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function options(latest, width) {
  const { series, format, height, sync, floor, steps } = latest.current;
  const ink = color("--ink-faint");
  const grid = { stroke: color("--line"), width: 1 };
  const axis = { stroke: ink, grid, ticks: { ...grid, size: 4 }, font: "11px system-ui, sans-serif" };
  return {
    width,
    height,
    padding: [10, 8, 0, 0],
    cursor: { points: { size: 6 }, ...(sync ? { sync: { key: sync } } : {}), drag: { x: false, y: false } },
    legend: { live: true },
    scales: {
      // So much time, whether there are values for all of it or not.
      x: { range: (_, first, last) => (latest.current.span && last != null ? [last - latest.current.span, last] : [first, last]) },
      y: { range: (_, low, high) => [0, Math.max(floor, high == null ? 0 : high * 1.12)] },
    },
    axes: [
      { ...axis, size: 28, space: 64, values: [[60, "{HH}:{mm}"], [1, "{HH}:{mm}:{ss}"]] },
      { ...axis, size: 72, space: 34, ...(steps ? { incrs: steps } : {}), values: (_, ticks) => ticks.map((tick) => format(tick)) },
    ],
    series: [
      { value: (_, at) => (at == null ? "" : clock(at * 1000)) },
      ...series.map((one) => ({
        label: one.label,
        stroke: color(one.color),
        fill: one.fill ? color(one.fill) : undefined,
        width: 1.5,
        dash: one.dash,
        spanGaps: false,
        points: { show: false },
        value: (_, value) => (value == null ? "–" : format(value)),
      })),
    ],
  };
}

// The legend tells the last values while nobody points at others.
function showLatest(plot) {
  // A plot draws, and empties its legend, when the present work is done.
  requestAnimationFrame(() => {
    const isPointed = plot.cursor.left != null && plot.cursor.left >= 0;
    if (!isPointed && plot.data[0].length > 0) plot.setLegend({ idx: plot.data[0].length - 1 });
  });
}

// Where the lines of an axis of bytes stand: 1, 2, 4, 8 … KiB.
export const BYTE_STEPS = Array.from({ length: 40 }, (_, n) => 2 ** n);
// The same of times in milliseconds: what clocks are divided by.
export const TIME_STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 144e5, 216e5, 432e5, 864e5, 1728e5, 432e6, 864e6];

export function Plot({ title, x, series, format, height = 190, sync, floor = 1, steps, span }) {
  const place = useRef();
  const plot = useRef(null);
  const latest = useRef({});
  latest.current = { series, format, height, sync, floor, steps, span, data: [x, ...series.map((one) => one.values)] };
  useEffect(() => {
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(latest, place.current.clientWidth), latest.current.data, place.current);
      showLatest(plot.current);
    };
    draw();
    const resize = new ResizeObserver(() => plot.current.setSize({ width: place.current.clientWidth, height }));
    resize.observe(place.current);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    addEventListener("themechange", draw);
    return () => {
      resize.disconnect();
      dark.removeEventListener("change", draw);
      removeEventListener("themechange", draw);
      plot.current.destroy();
    };
  }, [series.length, height]);
  useEffect(() => {
    plot.current.setData(latest.current.data);
    showLatest(plot.current);
  }, [x]);
  return html`<figure class="plot">
    <figcaption>${title}</figcaption>
    <div ref=${place} role="img" aria-label=${title}></div>
  </figure>`;
}
