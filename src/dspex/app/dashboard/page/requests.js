// Requests in flight, and those that were kept.

import { Component, useState } from "./vendor/htm-preact.js";
import { act, get, store } from "./store.js";
import { Act, ago, Bar, count, Empty, html, Legend, money, Scroll, seconds, shortPath } from "./parts.js";

export function Now({ snapshot }) {
  const [open, setOpen] = useState(null);
  const rows = Object.values(snapshot.requests).sort((one, other) => one.at - other.at);
  const span = Math.max(1, ...rows.map((row) => snapshot.at - row.at));
  return html`<${Legend}/>
    ${rows.length === 0 && html`<${Empty}>No request is running.<//>`}
    <ul class="requests">${rows.map((row) => html`<${Row} key=${row.id} row=${row} span=${span} open=${open === row.id} onOpen=${() => setOpen(open === row.id ? null : row.id)}/>`)}</ul>
    ${snapshot.app.hidden > 0 && html`<p class="empty">and ${count(snapshot.app.hidden)} younger ones</p>`}`;
}

const WHY = {
  failed: "ended in an error", killed: "a step or its process died, and was started again",
  waited: "an actor died while they were at it",
  retried: "an attempt failed, and another followed", repaired: "an answer was not written as it should be",
  slow: "took three times as long as others of its program",
};

export function Kept({ snapshot }) {
  const [open, setOpen] = useState(null);
  const [only, setOnly] = useState("");
  const groups = Object.entries(snapshot.kept).filter(([, rows]) => Object.keys(rows).length);
  if (!groups.length) return html`<${Empty}>No request has failed, been slow, been repaired or been tried again yet, and none was at an actor that died.<//>`;
  return html`<p class="choose" role="group" aria-label="reasons"><button aria-pressed=${!only} onClick=${() => setOnly("")}>all</button>
      ${groups.map(([why, rows]) => html`<button aria-pressed=${only === why} onClick=${() => setOnly(why)}>${why} ${Object.keys(rows).length}</button>`)}</p>
    <${Legend}/>
    ${groups.filter(([why]) => !only || only === why).map(([why, found]) => {
      const rows = Object.values(found).reverse();
      const span = Math.max(0.1, ...rows.map((row) => row.end - row.at));
      return html`<section key=${why}><h2>${why} <small>${WHY[why]}</small></h2><ul class="requests">
        ${rows.map((row) => html`<${Row} key=${row.id} row=${row} span=${span} open=${open === row.id} onOpen=${() => setOpen(open === row.id ? null : row.id)}/>`)}</ul></section>`;
    })}`;
}

// What has ended is drawn once: only requests in flight grow older.
class Row extends Component {
  shouldComponentUpdate(next) {
    const { row, span, open } = this.props;
    return open || next.open || next.row !== row || next.span !== span || row.end == null;
  }

  render({ row, span, open, onOpen }) {
    return line(row, span, open, onOpen);
  }
}

function line(row, span, open, onOpen) {
  const ended = row.end != null;
  const facts = [
    row.error, row.waited && `waited for ${row.waited.map(shortPath).join(", ")}`,
    row.restarts && `${row.restarts} step${row.restarts > 1 ? "s" : ""} restarted`, row.resubmitted && "started again", row.repairs && `${row.repairs} repaired`,
    row.cached && `${row.cached} cached`,
  ].filter(Boolean);
  return html`<li class="request ${row.state}">
    <button class="line" aria-expanded=${open} onClick=${onOpen}>
      <span class="id">${row.id}</span><span class="program">${row.program}</span>
      <span class="age">${ended ? seconds(row.end - row.at) : row.state === "waiting" ? `waits ${ago(row.at)}` : ago(row.at)}</span>
      <${Bar} request=${row} span=${span}/>
      <span class="facts" title=${facts.join(", ")}>${facts.join(", ")}</span>
    </button>
    ${open && html`<${Detail} row=${row}/>`}</li>`;
}

function Detail({ row }) {
  const [words, setWords] = useState(null);
  const ask = async () => {
    try { setWords(await get(`requests/${row.id}/conversation`)); } catch (error) { setWords({ error: error.message }); }
  };
  return html`<div class="detail">
    <p>${row.calls ?? 0} calls, ${count(row.tokens ?? 0)} tokens, ${money(row.cost)}${row.end == null ? `, ${seconds(row.deadline - store.snapshot.at)} left` : ""}
      ${row.waited && html`<br/>Died while it was there: ${row.waited.join(", ")}.`}
      ${row.text && html`<br/><span class="text">${row.text}</span>`}</p>
    <${Scroll} label="steps of ${row.id}"><table><caption class="hidden">steps</caption><thead><tr><th>step</th><th>began</th><th>took</th><th>attempts</th></tr></thead><tbody>
      ${row.more && html`<tr><td colspan="4">${row.more} steps before</td></tr>`}
      ${row.steps.map((step) => html`<tr><td>${step.name}${step.lm && html` <small>${step.lm}</small>`}</td><td>${seconds(step.at - row.at)}</td>
        <td>${step.end == null ? html`<em>runs</em>` : seconds(step.end - step.at)}</td>
        <td>${step.cached ? `cache: ${step.cached}` : ""}${(step.attempts ?? []).map((each) => html`<span class="chip ${each.outcome === "ok" ? "ok" : "bad"}" title=${each.text}>${each.outcome}${each.status ? ` ${each.status}` : ""} ${seconds(each.for)}</span>`)}
          ${step.wire != null && html`<span class="chip wire">on the wire ${ago(step.wire)}</span>`}${step.restarts && html`<span class="chip bad">restarted ${step.restarts}×</span>`}${step.error && html`<span class="chip bad">${step.error}</span>`}</td></tr>`)}
    </tbody></table><//>
    <p class="acts">${store.about.capture && html`<${Act} label="show the conversation of ${row.id}" onClick=${ask}>conversation<//>`}
      ${row.end == null && html`<${Act} tone="bad" label="cancel ${row.id}" onClick=${() => act(`requests/${row.id}/cancel`)}>cancel<//>`}</p>
    ${words && html`<${Words} words=${words}/>`}</div>`;
}

function Words({ words }) {
  if (words.error) return html`<p class="error">${words.error}</p>`;
  return words.calls.map((call) => html`<section class="words"><h3>${call.step}</h3>
    ${call.messages.map((each) => html`<p><b>${each.role}</b><span class="text">${each.text}</span></p>`)}
    ${call.answers.map((each) => html`<p class="answer"><b>answer</b><span class="text">${each}</span></p>`)}
    ${call.error && html`<p class="error">${call.error}</p>`}</section>`);
}
