// The cache, retrievers, tools, programs, and budgets.

import { bytes, count, Empty, Figure, html, Meter, money, Scroll, seconds } from "./parts.js";

export function Stores({ snapshot }) {
  const { cache, retrievers, tools, programs, budgets } = snapshot;
  return html`<h2>Budgets</h2><${Scroll} label="budgets"><table><thead><tr><th>who pays</th><th>spent</th><th>set aside</th><th>budget</th><th class="wide">used</th><th>tokens</th><th>calls</th></tr></thead><tbody>
      ${Object.entries(budgets).map(([name, row]) => html`<tr key=${name}><td>${name}</td><td>${money(row.spent)}${row.unpriced ? html` <small>and ${row.unpriced} of unknown price</small>` : ""}</td><td>${money(row.reserved)}</td>
        <td>${row.usd != null ? money(row.usd) : row.tokens != null ? `${count(row.tokens)} tokens` : row.calls != null ? `${count(row.calls)} calls` : "none"}</td>
        <td class="mailbox">${row.usd != null && html`<${Meter} value=${Number(row.spent) + Number(row.reserved)} most=${Number(row.usd)} label="spent by ${name}"/>`}</td><td>${count(row.spent_tokens)}</td><td>${count(row.spent_calls)}</td></tr>`)}</tbody></table><//>
    <h2>Cache</h2>${cache ? html`<${Cache} cache=${cache}/>` : html`<${Empty}>This App has no cache.<//>`}
    <h2>Retrievers</h2><${Times} rows=${retrievers} label="times of retrievers" empty="Nothing has been searched yet."/>
    <h2>Tools <small>${tools.threads.busy} of ${tools.threads.limit} threads busy${tools.threads.late ? `, ${tools.threads.late} late` : ""}</small></h2>
    <${Times} rows=${tools.tools} label="times of tools" empty="No tool has been called yet."/>
    <h2>Programs</h2><${Times} rows=${programs} label="times of programs" empty="No request has ended yet."/>`;
}

function Cache({ cache }) {
  const hits = Object.values(cache.hits).reduce((one, other) => one + other, 0);
  const all = hits + cache.misses;
  return html`<dl class="figures small"><${Figure} name="answered" value=${all ? `${Math.round((100 * hits) / all)} %` : "–"}/>
    <${Figure} name="from memory" value=${count(cache.hits.memory)}/><${Figure} name="from disk" value=${count(cache.hits.disk)}/>
    <${Figure} name="from another's call" value=${count(cache.hits.coalesced)}/><${Figure} name="not there" value=${count(cache.misses)}/>
    <${Figure} name="kept" value="${count(cache.entries)} of ${count(cache.most)}"/><${Figure} name="size" value=${bytes(cache.bytes)}/>
    <${Figure} name="dropped" value=${count(cache.evicted)}/><${Figure} name="under way" value=${cache.flights}/></dl>`;
}

function Times({ rows, label, empty }) {
  const found = Object.entries(rows);
  if (!found.length) return html`<${Empty}>${empty}<//>`;
  return html`<${Scroll} label=${label}><table><thead><tr><th>name</th><th>times</th><th>failed</th><th>half within</th><th>95 %</th><th>99 %</th></tr></thead><tbody>
    ${found.map(([name, row]) => html`<tr key=${name}><td>${name}</td><td>${count(row.count)}</td><td>${row.failed ? html`<b class="chip bad">${count(row.failed)}</b>` : "0"}</td><td>${seconds(row.p50)}</td><td>${seconds(row.p95)}</td><td>${seconds(row.p99)}</td></tr>`)}</tbody></table><//>`;
}
