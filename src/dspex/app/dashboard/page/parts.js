// Small parts that views are made of. Whatever the server tells becomes text, never HTML.

import { html, useEffect, useRef } from "./vendor/htm-preact.js";
import { store } from "./store.js";

export { html };

export function seconds(value) {
  if (value == null) return "–";
  if (value < 0.0995) return `${Math.round(value * 1000)} ms`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 99.5) return `${Math.round(value)} s`;
  return value < 5970 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;
}

export function ago(at) {
  return seconds(Math.max(0, store.snapshot.at - at));
}

// The last name of an actor that stands deep in the tree.
export function shortPath(path) {
  const rooms = path.replace(/^App\//, "").split("/");
  return rooms.length < 3 ? rooms.join("/") : rooms[rooms.length - 1];
}

export function dollars(value) {
  if (value == null) return "unknown";
  const number = Number(value);
  if (number === 0) return "$0";
  return `$${number >= 0.995 ? number.toFixed(2) : number.toPrecision(2).replace(/e.*/, "")}`;
}

// What calls cost that may be paid twice; recordings of older releases do not have it.
export function price(told) {
  if (told.twice == null) return "";
  if (!told.unpriced) return ` (${dollars(told.twice)})`;
  return told.unpriced === told.again ? " (price unknown)" : ` (${dollars(told.twice)} and more)`;
}

export function money(value) {
  if (value == null) return "unknown";
  const number = Number(value);
  if (number !== 0 && number < 0.0001) return "< $0.0001";
  return number === 0 ? "$0" : number < 1 ? `$${number.toFixed(4)}` : `$${number.toFixed(2)}`;
}

export function count(value) {
  return value == null ? "–" : Number(value).toLocaleString("en");
}

export function bytes(value) {
  return value < 1e4 ? `${value} B` : value < 1e7 ? `${Math.round(value / 1024)} KiB` : `${Math.round(value / 1048576)} MiB`;
}

export function Figure({ name, value, tone, title }) {
  return html`<div class="figure ${tone ?? ""}" title=${title}><dt>${name}</dt><dd>${value}</dd></div>`;
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

// What may be wider than the screen is reached by the keyboard, too.
export function Scroll({ label, children }) {
  return html`<div class="scroll" role="region" aria-label=${label} tabindex="0">${children}</div>`;
}

export function Meter({ value, most, label, tone }) {
  const share = most ? Math.min(100, Math.max(0, (100 * value) / most)) : 0;
  return html`<div class="meter ${tone ?? ""}" role="meter" aria-label=${label} aria-valuemin="0"
    aria-valuemax=${most} aria-valuenow=${value}><i style=${{ width: `${share}%` }}></i></div>`;
}

export function Act({ children, onClick, label, tone }) {
  const can = store.about.acts;
  const why = can ? label : "open the address with the token to do this";
  return html`<button class="act ${tone ?? ""}" disabled=${!can} title=${why} aria-label=${label} onClick=${onClick}>
    ${children}</button>`;
}

// --- a request as a bar -----------------------------------------------------------------------------------

const FINE = new Set(["ok", "cancelled", "resent"]);

function pieces(request, now) {
  const found = [];
  const lanes = [];
  for (const step of request.steps) {
    const end = step.end ?? Math.max(now, step.at);
    let lane = lanes.findIndex((until) => until <= step.at + 0.0005);
    if (lane < 0) lane = lanes.length;
    lanes[lane] = end;
    const put = (kind, from, to, told) => {
      if (to > from || kind === "wire") found.push({ kind, from, to, lane, told });
    };
    if (step.name.startsWith("retrieve")) put(step.error ? "bad" : "search", step.at, end, step.name);
    else if (!step.name.startsWith("lm ")) put(step.error ? "bad" : "tool", step.at, end, step.name);
    else if (step.cached) put("cached", step.at, end, `${step.name}: from the cache (${step.cached})`);
    else {
      let from = step.at;
      let before = "queue";
      for (const each of step.attempts ?? []) {
        const at = each.at ?? from;
        put(before, from, at, before === "queue" ? `${step.name}: waited for a place` : `${step.name}: waited to try again`);
        const kind = each.outcome === "ok" ? "ok" : FINE.has(each.outcome) ? "lost" : "bad";
        const status = each.status ? ` ${each.status}` : "";
        put(kind, at, at + each.for, `${step.name}: ${each.outcome}${status} after ${seconds(each.for)}`);
        from = at + each.for;
        before = "wait";
      }
      if (step.wire != null) {
        put(before, from, step.wire, `${step.name}: waited`);
        put("wire", step.wire, end, `${step.name}: on the wire`);
      } else if (step.end == null || !step.attempts) put(before, from, end, `${step.name}: waits`);
    }
  }
  return { found, lanes: Math.max(1, lanes.length) };
}

export function Bar({ request, span }) {
  const now = request.end ?? store.snapshot.at;
  const { found, lanes } = pieces(request, now);
  const shown = Math.min(lanes, 4);
  const scale = 100 / Math.max(span, 0.001);
  const place = (each) => ({
    left: `${Math.max(0, (each.from - request.at) * scale)}%`,
    width: `${Math.max(0.4, (each.to - each.from) * scale)}%`,
    top: `${(each.lane * 100) / shown}%`,
    height: `${100 / shown}%`,
  });
  const told = found.map((each) => each.told).join("; ") || "not begun";
  const whole = { width: `${Math.min(100, (now - request.at) * scale)}%` };
  return html`<div class="bar" role="img" aria-label=${told}><u style=${whole}></u>
    ${found.filter((each) => each.lane < 4).map((each) => html`<i class=${each.kind} title=${each.told} style=${place(each)}></i>`)}
  </div>`;
}

export function Legend() {
  const kinds = [
    ["queue", "waits for a place"], ["wire", "on the wire"], ["ok", "answered"], ["bad", "failed"],
    ["wait", "waits to try again"], ["lost", "not used"], ["search", "retrieval"], ["tool", "tool"], ["cached", "cache"],
  ];
  return html`<ul class="legend">${kinds.map(([kind, told]) => html`<li><i class=${kind}></i>${told}</li>`)}</ul>`;
}

// --- charts -------------------------------------------------------------------------------------------------

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function Chart({ data, series, label, height = 150, x, theme }) {
  const box = useRef(null);
  const plot = useRef(null);
  useEffect(() => {
    const axis = { stroke: colour("dim"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 }, font: "12px system-ui" };
    const made = new uPlot({
      width: Math.max(200, box.current.clientWidth), height,
      scales: { x: { time: false }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 1) * 1.1 || 1] } },
      legend: { show: false }, cursor: { show: false },
      axes: [{ ...axis, values: x, space: 100 }, { ...axis, size: 46 }],
      series: [{}, ...series.map((each) => ({ label: each.label, stroke: colour(each.colour), width: 2, fill: each.fill ? colour(each.fill) : undefined, dash: each.dash, points: { show: false } }))],
      bands: series.flatMap((each, place) => (each.band ? [{ series: [place + 2, place + 1], fill: colour("band") }] : [])),
    }, data, box.current);
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: Math.max(200, box.current?.clientWidth ?? 200), height }));
    watch.observe(box.current);
    return () => { watch.disconnect(); made.destroy(); };
  }, [theme]);
  useEffect(() => plot.current?.setData(data));
  return html`<figure class="chart"><div ref=${box} role="img" aria-label=${label}></div>
    <figcaption>${series.filter((each) => each.label).map((each) => html`<span><b style=${{ background: `var(--${each.colour})` }}></b>${each.label}</span>`)}</figcaption></figure>`;
}
