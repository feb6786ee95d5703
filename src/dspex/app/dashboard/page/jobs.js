// Optimizers at work: score by money, candidates, rows, the verdict, and the wheel.

import { useState } from "./vendor/htm-preact.js";
import { act } from "./store.js";
import { Act, Chart, count, Empty, html, money, Scroll } from "./parts.js";

export function Jobs({ snapshot, theme }) {
  const jobs = Object.values(snapshot.jobs).reverse();
  if (!jobs.length) return html`<${Empty}>No job has been started: app.compile(…) starts one.<//>`;
  return jobs.map((job) => html`<${Job} key=${job.id} job=${job} theme=${theme}/>`);
}

function score(value) {
  return value == null ? "–" : value.toFixed(3);
}

function Job({ job, theme }) {
  const [hint, setHint] = useState("");
  const over = ["finished", "failed", "cancelled"].includes(job.status);
  const told = (how, body) => act(`jobs/${encodeURIComponent(job.id)}/${how}`, body);
  const points = job.points;
  const data = [points.map((each) => Number(each[0])), points.map((each) => each[4]), points.map((each) => each[3]), points.map((each) => each[2])];
  const series = [{ colour: "line", band: true }, { colour: "line" }, { label: "best candidate's mean", colour: "accent" }];
  const sendHint = (event) => { event.preventDefault(); if (hint) told("steer", { hint }); setHint(""); };
  return html`<article class="card wide"><h2>${job.id} <small>${job.optimizer}</small> <b class="chip ${job.status === "finished" ? "ok" : job.status === "failed" ? "bad" : "warn"}">${job.status}</b></h2>
    <p>${money(job.spent)} and ${count(job.tokens)} tokens for ${count(job.evaluations)} evaluations${job.told.error ? html`; <b class="chip bad">${job.told.error}</b>` : ""}</p>
    ${job.verdict && html`<p class="verdict">${job.verdict}</p>`}
    ${!over && html`<div class="acts"><${Act} label="pause ${job.id}" onClick=${() => told("pause")}>pause<//><${Act} label="resume ${job.id}" onClick=${() => told("resume")}>resume<//><${Act} tone="bad" label="cancel ${job.id}" onClick=${() => told("cancel")}>cancel<//>
      <form onSubmit=${sendHint}><input aria-label="a hint for ${job.id}" placeholder="a hint to whoever writes candidates" value=${hint} onInput=${(event) => setHint(event.target.value)}/> <${Act} label="send the hint">hint<//></form></div>`}
    ${points.length > 1 && html`<${Chart} theme=${theme} label="score of the best candidate by dollars spent, with its 95 % interval" data=${data} series=${series} x=${(_, marks) => marks.map((each) => money(each))}/>`}
    <div class="two"><${Scroll} label="candidates of ${job.id}"><table><caption>candidates</caption><thead><tr><th>key</th><th>mean</th><th>95 %</th><th>rows</th><th>failed</th><th><span class="hidden">actions</span></th></tr></thead><tbody>
      ${job.candidates.map((each) => html`<tr key=${each.key}><td><code>${each.key.slice(0, 10)}</code></td><td>${score(each.mean)}</td><td>${each.low == null ? "–" : `${score(each.low)} to ${score(each.high)}`}</td><td>${each.rows}</td><td>${each.failed || ""}</td>
        <td>${!over && each.key !== "student" && html`<${Act} label="drop ${each.key.slice(0, 10)}" onClick=${() => told("steer", { drop: each.key })}>drop<//>`}</td></tr>`)}</tbody></table><//>
      <${Matrix} job=${job.id} matrix=${job.matrix}/></div></article>`;
}

export function Matrix({ job, matrix }) {
  const keys = Object.keys(matrix.scores);
  if (!keys.length) return null;
  return html`<${Scroll} label="rows and candidates of ${job}"><table class="matrix"><caption>rows and candidates: each square is a score</caption><thead><tr><th>candidate</th><th colspan=${matrix.rows.length}>rows ${matrix.rows[0]} to ${matrix.rows[matrix.rows.length - 1]}</th></tr></thead><tbody>
    ${keys.map((key) => html`<tr key=${key}><th scope="row"><code>${key.slice(0, 10)}</code></th>${matrix.scores[key].map((cell, place) => html`<td class=${cell == null ? "none" : cell === "failed" ? "bad" : "some"} style=${typeof cell === "number" ? { "--score": cell } : null}
      title="row ${matrix.rows[place]}: ${cell ?? "not run"}"></td>`)}</tr>`)}</tbody></table><//>`;
}
