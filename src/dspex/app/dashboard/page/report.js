// A report in one file: an evaluation, two of them compared, or a job. The data lies in the page; nothing is fetched.

import { render, useState } from "./vendor/htm-preact.js";
import { Chart, count, Empty, Figure, html, money, Scroll, seconds } from "./parts.js";
import { Changes } from "./changes.js";
import { Matrix } from "./jobs.js";

const STEP = 100; // rows that are shown at first, and more with each press

function score(value) {
  return value == null ? "–" : value.toFixed(3);
}

function signed(value) {
  return value == null ? "–" : `${value >= 0 ? "+" : "−"}${value && Math.abs(value) < 0.0005 ? Math.abs(value).toPrecision(1) : Math.abs(value).toFixed(3)}`;
}

function Frame({ title, made, children }) {
  const [dark, setDark] = useState(matchMedia("(prefers-color-scheme: dark)").matches);
  const turn = () => { document.documentElement.dataset.theme = dark ? "light" : "dark"; setDark(!dark); };
  return html`<header class="still"><div class="brand"><strong>dspex</strong> <span>${title}</span><button class="theme" aria-label="light or dark" title="light or dark" onClick=${turn}>◐</button></div><p class="made">${made}</p></header>
    <main id="main">${typeof children === "function" ? children(dark ? "dark" : "light") : children}</main>`;
}

// --- evaluations ------------------------------------------------------------------------------------------

function Evaluation({ data }) {
  return html`<${Frame} title="evaluation of ${data.program}" made=${data.made}>
    <h1>${data.score == null ? "No score" : `${score(data.score)}`}${data.low != null && html` <small>95 % ${score(data.low)} to ${score(data.high)}</small>`}</h1>
    <p class="verdict">${data.verdict}</p>
    <dl class="figures"><${Figure} name="rows" value=${count(data.rows)}/><${Figure} name="scored" value=${count(data.scored)}/>
      <${Figure} name="failed" value=${count(data.failed)} tone=${data.failed ? "bad" : ""}/><${Figure} name="not run" value=${count(data.not_run)} tone=${data.not_run ? "warn" : ""}/>
      <${Figure} name="cost" value=${money(data.cost)}/><${Figure} name="tokens in" value=${count(data.tokens[0])}/><${Figure} name="tokens out" value=${count(data.tokens[1])}/>
      <${Figure} name="half within" value=${seconds(data.latency[0])}/><${Figure} name="95 %" value=${seconds(data.latency[1])}/><${Figure} name="99 %" value=${seconds(data.latency[2])}/></dl>
    ${data.reasons.length > 0 && html`<p>${data.reasons.map(([name, number]) => html`<span class="chip bad">${name} ${count(number)}</span>`)}</p>`}
    ${data.comparison && html`<${Comparison} told=${data.comparison}/>`}
    ${data.scored > 0 && html`<${Histogram} bins=${data.bins}/>`}
    <${Rows} data=${data}/><//>`;
}

function Histogram({ bins }) {
  const most = Math.max(1, ...bins.map((each) => each.count));
  return html`<h2>Scores</h2><${Scroll} label="scores"><table class="bins"><caption class="hidden">rows by score</caption><tbody>
    ${bins.filter((each) => each.count).map((each) => html`<tr key=${each.name}><th scope="row">${each.name}</th><td class="wide"><div class="meter"><i style=${{ width: `${(100 * each.count) / most}%` }}></i></div></td><td>${count(each.count)}</td></tr>`)}</tbody></table><//>`;
}

function Comparison({ told }) {
  return html`<section class="card wide"><h2>Against the evaluation before: ${signed(told.difference)} <small>95 % ${signed(told.low)} to ${signed(told.high)}, p = ${told.p.toPrecision(2)}</small></h2>
    <p class="verdict">${told.verdict}</p>
    <dl class="figures small"><${Figure} name="before" value=${score(told.before)}/><${Figure} name="now" value=${score(told.after)}/><${Figure} name="better" value=${count(told.better)}/>
      <${Figure} name="worse" value=${count(told.worse)} tone=${told.worse ? "bad" : ""}/><${Figure} name="pairs" value=${count(told.pairs)}/><${Figure} name="failed in one" value=${count(told.excluded)}/></dl></section>`;
}

function Rows({ data }) {
  const [only, setOnly] = useState(data.comparison ? "changed" : "all");
  const [words, setWords] = useState("");
  const [most, setMost] = useState(STEP);
  const [open, setOpen] = useState(null);
  const kinds = [["all", () => true], ["failed", (row) => row.score == null], ["below 1", (row) => row.score != null && row.score < 1]];
  if (data.comparison) kinds.push(["changed", (row) => "before" in row], ["worse", (row) => "before" in row && (row.score ?? -1) < (row.before ?? -1)]);
  const kept = kinds.find(([name]) => name === only)[1];
  const wanted = words.toLowerCase();
  const found = data.table.filter((row) => kept(row) && (!wanted || [row.example, row.prediction, row.feedback, row.error].some((each) => each && each.toLowerCase().includes(wanted))));
  const compared = Boolean(data.comparison);
  return html`<h2>Rows, ${compared ? "what became worse first" : "failures first"}</h2>
    ${data.left_out > 0 && html`<p class="error">${data.left_why}</p>`}
    <p class="choose" role="group" aria-label="which rows">${kinds.map(([name, test]) => html`<button key=${name} aria-pressed=${only === name} onClick=${() => setOnly(name)}>${name} ${count(data.table.filter(test).length)}</button>`)}
      <input type="search" aria-label="words in rows" placeholder="words in rows" value=${words} onInput=${(event) => setWords(event.target.value)}/></p>
    ${found.length === 0 ? html`<${Empty}>No row is like that.<//>` : html`<${Scroll} label="rows"><table class="rows"><thead><tr><th>row</th>${compared && html`<th>before</th>`}<th>score</th><th>inputs</th><th>answer</th><th>took</th><th>cost</th></tr></thead><tbody>
      ${found.slice(0, most).map((row) => html`<${Row} key=${row.row} row=${row} compared=${compared} open=${open === row.row} onOpen=${() => setOpen(open === row.row ? null : row.row)}/>`)}</tbody></table><//>`}
    ${found.length > most && html`<p><button onClick=${() => setMost(most + STEP * 5)}>show more: ${count(found.length - most)} are left</button></p>`}`;
}

function Mark({ value }) {
  if (value == null) return html`<b class="chip bad">failed</b>`;
  return html`<b class="chip ${value >= 1 ? "ok" : value > 0 ? "warn" : "bad"}">${Number(value.toFixed(3))}</b>`;
}

function Row({ row, compared, open, onOpen }) {
  return html`<tr><td><button class="open" aria-expanded=${open} aria-label="row ${row.row}" onClick=${onOpen}>${row.row}</button></td>${compared && html`<td>${"before" in row ? html`<${Mark} value=${row.before}/>` : ""}</td>`}<td><${Mark} value=${row.score}/></td>
      <td class="short">${row.example}</td><td class="short">${row.error || row.prediction}</td><td>${seconds(row.seconds)}</td><td>${money(row.usd)}</td></tr>
    ${open && html`<tr class="opened"><td colspan=${compared ? 7 : 6}><dl class="whole"><dt>inputs and labels</dt><dd class="text">${row.example}</dd>
      ${row.before_prediction != null && html`<dt>answer before</dt><dd class="text">${row.before_prediction}</dd>`}
      ${row.prediction && html`<dt>answer</dt><dd class="text">${row.prediction}</dd>`}${row.error && html`<dt>error</dt><dd class="text">${row.error}</dd>`}
      ${row.feedback && html`<dt>feedback</dt><dd class="text">${row.feedback}</dd>`}<dt>calls</dt><dd>${row.calls ?? 0} calls, ${count(row.tokens)} tokens</dd></dl></td></tr>`}`;
}

// --- jobs -------------------------------------------------------------------------------------------------

function Job({ data }) {
  const [open, setOpen] = useState(data.handed_out ?? data.candidates[0]?.key);
  const points = data.points;
  const priced = points.length > 0 && Number(points[points.length - 1][0]) > 0; // else the rows that were run stand for money
  const marks = [points.map((each) => (priced ? Number(each[0]) : each[1])), points.map((each) => each[4]), points.map((each) => each[3]), points.map((each) => each[2])];
  const series = [{ colour: "line", band: true }, { colour: "line" }, { label: "best candidate's mean, with its 95 % interval", colour: "accent" }];
  const chosen = data.candidates.find((each) => each.key === open);
  return html`<${Frame} title="job ${data.id}" made=${data.made}>${(theme) => html`
    <h1>${data.verdict ? data.verdict.kind : data.status} <small>${data.optimizer} on ${data.program}</small></h1>
    ${data.verdict ? html`<p class="verdict">${data.verdict.text}</p>` : html`<p class="verdict">There is no verdict: the job is ${data.status}${data.error ? `: ${data.error}` : ""}.</p>`}
    <dl class="figures"><${Figure} name="spent" value=${data.unpriced && !Number(data.spent) ? "price unknown" : money(data.spent)}/><${Figure} name="tokens" value=${count(data.tokens)}/><${Figure} name="rows run" value=${count(data.evaluations)}/>
      <${Figure} name="failed" value=${count(data.failed)} tone=${data.failed ? "warn" : ""}/><${Figure} name="candidates" value=${count(data.candidates.length + data.left_out)}/>
      ${["learn", "choose", "hold"].map((name) => data.told[name] != null && html`<${Figure} key=${name} name="rows to ${name}" value=${count(data.told[name])}/>`)}</dl>
    ${points.length > 1 && html`<h2>Score by ${priced ? "money spent" : "rows run"}</h2><${Chart} theme=${theme} label=${`mean of the best candidate by ${priced ? "dollars spent" : "rows run"}, with its 95 % interval`} data=${marks} series=${series} height=${220} x=${(_, at) => at.map((each) => (priced ? money(each) : count(each)))}/>`}
    <h2>Candidates, the best mean first</h2>
    <${Scroll} label="candidates"><table class="candidates"><thead><tr><th>candidate</th><th>mean</th><th>95 %</th><th>rows</th><th>failed</th><th>what it changes</th></tr></thead><tbody>
      ${data.candidates.map((each) => html`<tr key=${each.key} class=${each.key === open ? "chosen" : ""}><td><button class="open" aria-expanded=${each.key === open} onClick=${() => setOnly(setOpen, each.key)}><code>${each.key.slice(0, 10)}</code></button>${each.key === data.handed_out ? html` <b class="chip ok">handed out</b>` : each.key === data.found ? html` <b class="chip warn">found</b>` : ""}</td>
        <td>${score(each.mean)}</td><td>${each.low == null ? "–" : `${score(each.low)} to ${score(each.high)}`}</td><td>${count(each.rows)}</td><td>${each.failed || ""}</td><td>${each.short}</td></tr>`)}</tbody></table><//>
    ${data.left_out > 0 && html`<p class="empty">${count(data.left_out)} more candidates, with lower means, are left out.</p>`}
    ${chosen && html`<h2>Candidate <code>${chosen.key.slice(0, 10)}</code> against the program that was given</h2><${Changes} changes=${chosen.changes} known=${chosen.known}/>`}
    <h2>Rows and candidates</h2><p class="empty">Each square is a score; red ones failed. The rows with the most failures and the lowest scores come first.${data.matrix.left_out ? ` ${count(data.matrix.left_out)} rows are left out.` : ""}</p>
    <${Matrix} job=${data.id} matrix=${data.matrix}/>`}<//>`;
}

function setOnly(setOpen, key) {
  setOpen((before) => (before === key ? null : key));
}

const data = JSON.parse(document.getElementById("data").textContent);
render(data.kind === "job" ? html`<${Job} data=${data}/>` : html`<${Evaluation} data=${data}/>`, document.body);
