// Evaluations: two of them compared, failures first.

import { useEffect, useState } from "./vendor/htm-preact.js";
import { get } from "./store.js";
import { count, Empty, html, Meter, money, Scroll, seconds } from "./parts.js";

export function Evaluations({ snapshot, recorded }) {
  const found = Object.values(snapshot.evaluations);
  const ended = found.filter((each) => each.state === "ended");
  const [before, setBefore] = useState(null);
  const [after, setAfter] = useState(null);
  if (!found.length) return html`<${Empty}>Nothing has been evaluated: app.evaluate(…) does it.<//>`;
  const last = ended[ended.length - 1]?.id;
  const one = after ?? last;
  const own = found.find((each) => each.id === one)?.program; // compared with the one before of the same program, unless somebody chooses
  const earlier = ended.filter((each) => each.program === own && found.indexOf(each) < found.findIndex((other) => other.id === one));
  const other = before ?? earlier[earlier.length - 1]?.id;
  return html`<${Scroll} label="evaluations"><table><thead><tr><th>evaluation</th><th>program</th><th>score</th><th>95 %</th><th class="wide">rows</th><th>failed</th><th>cost</th><th>took</th><th>before</th><th>after</th></tr></thead><tbody>
    ${found.map((each) => html`<tr key=${each.id}><td>${each.id} <b class="chip ${each.state === "ended" ? "ok" : each.state === "failed" ? "bad" : "warn"}">${each.state}</b></td><td>${each.program}</td><td>${each.score == null ? "–" : each.score.toFixed(3)}</td>
      <td>${each.interval ? `${each.interval[0].toFixed(3)} to ${each.interval[1].toFixed(3)}` : "–"}</td><td class="mailbox"><${Meter} value=${each.done ?? 0} most=${each.total ?? 1} label="rows of ${each.id}"/> <small>${each.done ?? 0} of ${each.total ?? "?"}</small></td>
      <td>${each.failed ? html`<b class="chip bad">${each.failed}</b>` : "0"}</td><td>${money(each.cost)}</td><td>${seconds((each.end ?? snapshot.at) - each.at)}</td>
      <td><input type="radio" name="before" aria-label="compare from ${each.id}" checked=${other === each.id} onChange=${() => setBefore(each.id)}/></td>
      <td><input type="radio" name="after" aria-label="look at ${each.id}" checked=${one === each.id} onChange=${() => setAfter(each.id)}/></td></tr>`)}</tbody></table><//>
    ${!recorded && other && one && other !== one && html`<${Compared} key="${other} ${one}" before=${other} after=${one}/>`}
    ${!recorded && one && html`<${Rows} key=${one} id=${one}/>`}`;
}

function useTold(path) {
  const [told, setTold] = useState(null);
  useEffect(() => { get(path).then(setTold, (error) => setTold({ error: error.message })); }, [path]);
  return told;
}

function Compared({ before, after }) {
  const told = useTold(`evaluations/compare?before=${before}&after=${after}`);
  if (!told) return null;
  if (told.error) return html`<p class="error">${told.error}</p>`;
  return html`<h2>${before} → ${after} <small>what became worse first</small></h2><p class="verdict">${told.text}</p>
    <${Scroll} label="rows that changed"><table><thead><tr><th>row</th><th>before</th><th>after</th></tr></thead><tbody>${told.changed.slice(0, 100).map(([row, x, y]) => html`<tr key=${row}><td>${row}</td><td>${x ?? "failed"}</td><td><b class="chip ${(y ?? -1) > (x ?? -1) ? "ok" : "bad"}">${y ?? "failed"}</b></td></tr>`)}</tbody></table><//>`;
}

function Rows({ id }) {
  const told = useTold(`evaluations/${id}`);
  if (!told) return null;
  if (told.error) return html`<p class="error">${told.error}</p>`;
  return html`<h2>Rows of ${id}, failures first</h2><${Scroll} label="rows of ${id}"><table><thead><tr><th>row</th><th>score</th><th>why</th><th>took</th><th>cost</th><th>request</th></tr></thead><tbody>
    ${told.rows.slice(0, 200).map((row) => html`<tr key=${row.row}><td>${row.row}</td><td>${row.score == null ? html`<b class="chip bad">failed</b>` : html`<b class="chip ${row.score >= 1 ? "ok" : row.score > 0 ? "warn" : "bad"}">${row.score}</b>`}</td><td>${row.error ?? ""}${row.text && html` <span class="text">${row.text}</span>`}</td><td>${seconds(row.seconds)}</td><td>${money(row.cost)}</td><td>${row.request ?? ""}</td></tr>`)}</tbody></table><//>
    ${told.rows.length > 200 && html`<p class="empty">and ${count(told.rows.length - 200)} more</p>`}`;
}
