// Optimizers at work: score by money, candidates, rows, the verdict, and the wheel.

import { useEffect, useState } from "./vendor/htm-preact.js";
import { act, get, store } from "./store.js";
import { Changes } from "./changes.js";
import { Act, Chart, count, Empty, html, money, Scroll } from "./parts.js";

export function Jobs({ snapshot, theme, recorded }) {
  const jobs = Object.values(snapshot.jobs).reverse();
  const indexings = Object.values(snapshot.indexings ?? {}).reverse(); // an older recording has none
  if (!jobs.length && !indexings.length) return html`<${Empty}>No job has been started: app.compile(…) or app.index(…) starts one.<//>`;
  return [...jobs.map((job) => html`<${Job} key=${job.id} job=${job} theme=${theme} recorded=${recorded}/>`),
    ...indexings.map((job) => html`<${Indexing} key=${job.id} job=${job} recorded=${recorded}/>`)];
}

function tone(status) {
  return status === "finished" ? "ok" : status === "failed" ? "bad" : "warn";
}

function Holding({ job, tell }) {
  return html`${job.held ? html`<${Act} label="resume ${job.id}" onClick=${() => tell("resume")}>resume<//>` : html`<${Act} label="pause ${job.id}" onClick=${() => tell("pause")}>pause<//>`}<${Act} tone="bad" label="cancel ${job.id}" onClick=${() => tell("cancel")}>cancel<//>`;
}

// Passages on their way into an index.
function Indexing({ job, recorded }) {
  const over = ["finished", "failed", "cancelled"].includes(job.status);
  const tell = (how) => act(`jobs/${encodeURIComponent(job.id)}/${how}`);
  return html`<article class="card wide"><h2>${job.id} <small>into ${job.index}</small> <b class="chip ${tone(job.status)}">${job.status}</b></h2>
    <p>${job.report ?? `${count(job.read)} passages read: ${count(job.added)} added, ${count(job.unchanged)} unchanged, ${count(job.embedded)} embedded${job.bad ? `, ${count(job.bad)} left out` : ""}`}${job.error ? html`; <b class="chip bad">${job.error}</b>` : ""}</p>
    ${!over && !recorded && html`<div class="acts"><${Holding} job=${job} tell=${tell}/></div>`}</article>`;
}

function score(value) {
  return value == null ? "–" : value.toFixed(3);
}

function Job({ job, theme, recorded }) {
  const [open, setOpen] = useState(null);
  const over = ["finished", "failed", "cancelled"].includes(job.status);
  const told = (how, body) => act(`jobs/${encodeURIComponent(job.id)}/${how}`, body);
  const by = over || recorded ? [] : job.steered_by ?? [];
  const points = job.points;
  const priced = points.length > 0 && Number(points[points.length - 1][0]) > 0; // else the rows that were run stand for money
  const data = [points.map((each) => (priced ? Number(each[0]) : each[1])), points.map((each) => each[4]), points.map((each) => each[3]), points.map((each) => each[2])];
  const series = [{ colour: "line", band: true }, { colour: "line" }, { label: "best candidate's mean, with its 95 % interval", colour: "accent" }];
  const steered = job.told.steered;
  return html`<article class="card wide"><h2>${job.id} <small>${job.optimizer}</small> <b class="chip ${tone(job.status)}">${job.status}</b></h2>
    <p>${job.unpriced && !Number(job.spent) ? "unknown cost" : money(job.spent)}${job.unpriced && Number(job.spent) ? ` and ${count(job.unpriced)} calls of unknown price` : ""}, ${count(job.tokens)} tokens for ${count(job.evaluations)} evaluations${steered ? `; steered ${steered === 1 ? "once" : `${steered} times`}` : ""}${job.told.error ? html`; <b class="chip bad">${job.told.error}</b>` : ""}</p>
    ${job.verdict && html`<p class="verdict">${job.verdict}</p>`}
    ${!over && !recorded && html`<div class="acts"><${Holding} job=${job} tell=${told}/>
      ${by.includes("hint") && html`<${Hint} job=${job.id} tell=${(hint) => told("steer", { hint })}/>`}</div>
      <p class="empty">${by.length ? `It can be steered by ${by.map((each) => WORDS[each]).join(", ")}: each word is recorded, and counts after the plan under way.` : `${job.optimizer} has no use for hints or candidates: it can be paused and cancelled.`}</p>`}
    ${points.length > 1 && html`<${Chart} theme=${theme} label="score of the best candidate by ${priced ? "dollars spent" : "rows run"}, with its 95 % interval" data=${data} series=${series} x=${(_, marks) => marks.map((each) => (priced ? money(each) : `${count(each)} rows`))}/>`}
    <div class="two"><${Scroll} label="candidates of ${job.id}"><table class="candidates"><caption>candidates, the best mean first</caption><thead><tr><th>key</th><th>mean</th><th>95 %</th><th>rows</th><th>failed</th><th><span class="hidden">actions</span></th></tr></thead><tbody>
      ${job.candidates.map((each) => html`<tr key=${each.key} class=${each.key === open ? "chosen" : ""}><td>${recorded ? html`<code>${each.key.slice(0, 10)}</code>` : html`<button class="open" aria-expanded=${each.key === open} aria-label="candidate ${each.key.slice(0, 10)}" onClick=${() => setOpen(open === each.key ? null : each.key)}><code>${each.key.slice(0, 10)}</code></button>`}</td><td>${score(each.mean)}</td><td>${each.low == null ? "–" : `${score(each.low)} to ${score(each.high)}`}</td><td>${each.rows}</td><td>${each.failed || ""}</td>
        <td>${by.includes("drop") && each.key !== "student" && html`<${Act} label="drop ${each.key.slice(0, 10)}" onClick=${() => told("steer", { drop: each.key })}>drop<//>`}</td></tr>`)}</tbody></table><//>
      <${Matrix} job=${job.id} matrix=${job.matrix}/></div>
    ${open && html`<${Candidate} key=${open} job=${job.id} of=${open} adds=${by.includes("add")} tell=${(add) => told("steer", { add })}/>`}</article>`;
}

const WORDS = { hint: "a hint", add: "a candidate of yours (open one, and change its instructions)", drop: "dropping a candidate" };

function Hint({ job, tell }) {
  const [hint, setHint] = useState("");
  const send = (event) => { event.preventDefault(); if (hint.trim()) { tell(hint); setHint(""); } };
  return html`<form onSubmit=${send}><input aria-label="a hint for ${job}" placeholder="a hint to whoever writes candidates" value=${hint} onInput=${(event) => setHint(event.target.value)}/> <${Act} label="send the hint">hint<//></form>`;
}

// The words of a candidate are fetched when somebody opens it: they are whoever's who may act, like conversations.
function Candidate({ job, of, adds, tell }) {
  const [told, setTold] = useState(null);
  const short = of.slice(0, 10);
  useEffect(() => { get(`jobs/${encodeURIComponent(job)}/candidates/${of}`).then(setTold, (error) => setTold({ error: error.message })); }, [job, of]);
  return html`<section class="candidate" aria-label="candidate ${short}"><h2>Candidate <code>${short}</code> against the program that was given</h2>
    ${!told ? html`<${Empty}>…<//>` : told.error ? html`<p class="error">${told.error}</p>` : html`<${Changes} changes=${told.changes}/>
      ${!told.capture && told.changes.length > 0 && html`<p class="empty">The words themselves are shown with Dashboard(capture=True), and by dspex jobs show ${job} --candidate ${short}.</p>`}
      ${adds && store.about.acts && html`<${Adding} of=${of} instructions=${told.instructions} tell=${tell}/>`}`}</section>`;
}

function Adding({ of, instructions, tell }) {
  const paths = Object.keys(instructions);
  const [path, setPath] = useState(paths[0]);
  const [text, setText] = useState(instructions[paths[0]] ?? "");
  const choose = (event) => { setPath(event.target.value); setText(instructions[event.target.value]); };
  const send = (event) => { event.preventDefault(); if (text.trim()) tell({ base: of, instructions: { [path]: text } }); };
  if (!paths.length) return null;
  return html`<form class="adding" onSubmit=${send}><h3>Try it with other instructions</h3>
    ${paths.length > 1 && html`<label>predictor <select value=${path} onChange=${choose}>${paths.map((each) => html`<option value=${each}>${each}</option>`)}</select></label>`}
    <label>instructions of ${path}<textarea rows="5" value=${text} onInput=${(event) => setText(event.target.value)}></textarea></label>
    <${Act} label="add this candidate">add as a candidate<//></form>`;
}

export function Matrix({ job, matrix }) {
  const keys = Object.keys(matrix.scores);
  if (!keys.length) return null;
  return html`<${Scroll} label="rows and candidates of ${job}"><table class="matrix"><caption>rows and candidates: each square is a score</caption><thead><tr><th>candidate</th><th colspan=${matrix.rows.length}>rows ${matrix.rows[0]} to ${matrix.rows[matrix.rows.length - 1]}</th></tr></thead><tbody>
    ${keys.map((key) => html`<tr key=${key}><th scope="row"><code>${key.slice(0, 10)}</code></th>${matrix.scores[key].map((cell, place) => html`<td class=${cell == null ? "none" : cell === "failed" ? "bad" : "some"} style=${typeof cell === "number" ? { "--score": cell } : null}
      title="row ${matrix.rows[place]}: ${cell ?? "not run"}"></td>`)}</tr>`)}</tbody></table><//>`;
}
