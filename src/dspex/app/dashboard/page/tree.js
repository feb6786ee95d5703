// Supervisors and actors: who died, when, why, and who waited for it.

import { Component, useState } from "./vendor/htm-preact.js";
import { act, store } from "./store.js";
import { Act, ago, count, Empty, html, Meter, price, Scroll } from "./parts.js";

const FLASH = 2; // seconds
const RECENT = 60; // seconds after a restart in which a row is told whatever stands before it
const OLD = 1; // seconds that a message may wait before its row is told
const MOST = 200; // rows
const SHOWN = 4; // restarts, unless somebody asks for all

// Which rows are told: those that are looked for; else the first ones, and behind them those in trouble, with what is above them.
function chosen(tree, at, wanted) {
  const rows = Object.entries(tree).sort(([, one], [, other]) => one.order - other.order);
  const depths = {};
  for (const [path, row] of rows) depths[path] = row.parent in depths ? depths[row.parent] + 1 : 0;
  const words = wanted.trim().toLowerCase();
  const found = words ? rows.filter(([path]) => path.toLowerCase().includes(words)) : rows;
  const shown = new Set(found.slice(0, MOST).map(([path]) => path));
  if (!words && found.length > MOST) {
    for (const [path, row] of found.slice(MOST)) {
      if (shown.size >= 2 * MOST) break;
      const recent = row.restarted != null && at - row.restarted < RECENT;
      if (row.status === "running" && !recent && !(row.oldest != null && at - row.oldest > OLD)) continue;
      for (let each = path; each != null && !shown.has(each); each = tree[each]?.parent) shown.add(each);
    }
  }
  return { rows: found.filter(([path]) => shown.has(path)), hidden: found.length - shown.size, depths, all: rows.length };
}

export function Tree({ snapshot }) {
  const [wanted, setWanted] = useState("");
  const { rows, hidden, depths, all } = chosen(snapshot.tree, snapshot.at, wanted);
  return html`<${Restarts} deaths=${Object.values(snapshot.deaths)} at=${snapshot.at}/>
    <h2>Actors</h2>
    ${(all > 30 || wanted) && html`<p class="choose"><label>find <input type="search" value=${wanted} onInput=${(event) => setWanted(event.target.value)}/></label></p>`}
    ${rows.length === 0 && html`<${Empty}>No actor is called so.<//>`}
    <${Scroll} label="the supervision tree"><table class="tree"><caption class="hidden">the supervision tree</caption>
      <thead><tr><th>actor</th><th>restarts</th><th>mailbox</th><th>oldest</th><th>last exit</th><th class="note">says</th><th><span class="hidden">actions</span></th></tr></thead>
      <tbody>${rows.map(([path, row]) => html`<${Node} key=${path} path=${path} row=${row} depth=${depths[path]} acts=${store.about.acts} at=${snapshot.at}/>`)}</tbody></table><//>
    ${hidden > 0 && html`<p class="empty more">and ${count(hidden)} more${wanted ? "" : ", which are well"}</p>`}`;
}

// What people look for stands first: the newest restarts, above the tree.
function Restarts({ deaths, at }) {
  const [all, setAll] = useState(false);
  deaths.sort((one, other) => other.number - one.number);
  if (!deaths.length) return html`<h2>Restarts</h2><p class="empty">No actor has died since this page's memory began.</p>`;
  return html`<h2>Restarts <small>the newest first</small></h2><${Scroll} label="restarts"><table class="deaths"><thead><tr><th>when</th><th>who died</th><th>why</th><th>requests that waited for it</th><th>how they ended</th></tr></thead><tbody>
      ${deaths.slice(0, all ? deaths.length : SHOWN).map((each) => html`<tr key=${each.number} data-death=${each.path} class=${each.at != null && at - each.at < FLASH ? "flash" : ""}><td>${each.at == null ? "before anybody looked" : `${ago(each.at)} ago`}</td><td title=${each.path}><b>${each.path.replace(/^App\//, "")}</b></td><td>${each.reason}</td>
        <td>${each.at == null ? "unknown" : each.waited ? `${each.waited}: ${each.requests.join(", ")}${each.waited > each.requests.length ? ", …" : ""}` : "none"}</td><td>${each.waited ? ends(each) : ""}</td></tr>`)}</tbody></table><//>
    ${deaths.length > SHOWN && html`<p><button aria-expanded=${all} onClick=${() => setAll(!all)}>${all ? `the newest ${SHOWN} alone` : `all ${deaths.length}`}</button></p>`}`;
}

function ends(death) {
  const open = death.waited - death.answered - death.failed;
  return html`${death.answered > 0 && html`<span class="chip ok">${death.answered} answered</span>`}${death.failed > 0 && html`<span class="chip bad">${death.failed} failed</span>`}${open > 0 && html`<span class="chip warn">${open} under way</span>`}${death.again > 0 && html`<span class="chip warn">${death.again} may be paid twice${price(death)}</span>`}`;
}

// A row is drawn again when it has changed, or while it tells a time that passes: of a thousand rows few do.
class Node extends Component {
  shouldComponentUpdate(next) {
    const { row, depth, acts } = this.props;
    const passes = row.oldest != null || row.busy != null || row.restarted != null;
    return passes || next.row !== row || next.depth !== depth || next.acts !== acts;
  }

  render({ path, row, depth, at }) {
    return node(path, row, depth, at);
  }
}

function node(path, row, depth, at) {
  const flashes = row.restarted != null && at - row.restarted < FLASH;
  const supervised = row.parent != null && row.pid != null && row.label !== "dashboard";
  return html`<tr class="${row.status} ${flashes ? "flash" : ""}" data-path=${path}>
    <td title=${path} style=${{ paddingLeft: `${8 + depth * 16}px` }}><i class="dot"></i>${row.label}${row.status !== "running" ? html` <b class="chip bad">${row.status}</b>` : ""}${row.tasks ? html` <small>${count(row.tasks)} tasks</small>` : ""}</td>
    <td>${row.restarts ? html`<b class="chip warn" key=${row.restarts}>${row.restarts}×</b>${row.restarted != null && html` <small>${ago(row.restarted)} ago</small>`}` : ""}</td>
    <td class="mailbox">${row.most ? html`<${Meter} value=${row.mailbox} most=${Math.max(row.most, 1)} label="messages waiting at ${row.label}"/> <small>${row.mailbox} of ${row.most}</small>` : ""}</td>
    <td>${row.oldest != null ? ago(row.oldest) : ""}${row.busy != null ? html` <small>busy ${ago(row.busy)}</small>` : ""}</td>
    <td>${row.exit ?? ""}</td><td class="note" title=${row.note}>${row.note ?? ""}</td>
    <td class="acts">${supervised && store.about.acts && html`
      <${Act} label="restart ${row.label}" onClick=${() => act(`actors/${row.pid}/restart`)}>restart<//>
      ${row.status === "suspended" ? html`<${Act} label="resume ${row.label}" onClick=${() => act(`actors/${row.pid}/resume`)}>resume<//>` : !row.supervisor && html`<${Act} label="suspend ${row.label}" onClick=${() => act(`actors/${row.pid}/suspend`)}>suspend<//>`}`}</td></tr>`;
}
