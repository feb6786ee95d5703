// Supervisors and actors: who died, when, why, and who waited for it.

import { act, store } from "./store.js";
import { Act, ago, count, html, Meter } from "./parts.js";

const FLASH = 2; // seconds

export function Tree({ snapshot }) {
  const rows = Object.entries(snapshot.tree).sort(([, one], [, other]) => one.order - other.order);
  const depth = (path) => (snapshot.tree[path]?.parent ? depth(snapshot.tree[path].parent) + 1 : 0);
  const deaths = Object.values(snapshot.deaths).sort((one, other) => other.number - one.number);
  return html`<div class="scroll"><table class="tree"><caption class="hidden">the supervision tree</caption>
      <thead><tr><th>actor</th><th>restarts</th><th>mailbox</th><th>oldest</th><th>last exit</th><th class="note">says</th><th><span class="hidden">actions</span></th></tr></thead>
      <tbody>${rows.map(([path, row]) => html`<${Node} key=${path} path=${path} row=${row} depth=${depth(path)} at=${snapshot.at}/>`)}</tbody></table></div>
    <h2>Restarts</h2>
    ${deaths.length === 0 ? html`<p class="empty">No actor has died since this page's memory began.</p>` : html`<div class="scroll"><table class="deaths"><thead><tr><th>when</th><th>who</th><th>why</th><th>requests that were at it</th></tr></thead><tbody>
      ${deaths.map((each) => html`<tr key=${each.number} data-death=${each.path}><td>${each.at == null ? "before anybody looked" : `${ago(each.at)} ago`}</td><td>${each.path}</td><td>${each.reason}</td>
        <td>${each.at == null ? "unknown" : each.waited ? `${each.waited}: ${each.requests.join(", ")}${each.waited > each.requests.length ? ", …" : ""}` : "none"}</td></tr>`)}</tbody></table></div>`}`;
}

function Node({ path, row, depth, at }) {
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
