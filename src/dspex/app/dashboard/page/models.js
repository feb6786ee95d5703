// Models: how much may be in flight, what stands in the way, how long answers take, and what they cost.

import { store } from "./store.js";
import { Chart, count, dollars, Empty, Figure, html, Meter, seconds } from "./parts.js";

export function Models({ snapshot, theme }) {
  const models = Object.entries(snapshot.models);
  if (!models.length) return html`<${Empty}>No model has been asked yet.<//>`;
  return html`<div class="cards">${models.map(([name, row]) => html`<${Model} key=${name} name=${name} row=${row} theme=${theme} now=${snapshot.at}/>`)}</div>`;
}

function Model({ name, row, theme, now }) {
  const past = store.history[name];
  const faults = [
    !row.up && "its client is being restarted", row.breaker && row.breaker !== "closed" && `breaker ${row.breaker.replace("_", " ")}${row.probe_in ? `, next try in ${row.probe_in} s` : ""}`,
    row.key_error && `the key is refused: ${row.key_error}`, row.paused > 0 && `the provider asked to wait ${row.paused} s`,
    row.limit < row.most && `the limit was learned: ${row.limit} of ${row.most}`,
  ].filter(Boolean);
  const when = (_, marks) => marks.map((each) => (each > now - 1 ? "now" : `−${Math.round(now - each)} s`));
  const outcomes = Object.entries(row.outcomes ?? {}).sort(([, one], [, other]) => other - one);
  return html`<article class="card"><h2>${row.lm} <small>${name}</small></h2>
    ${faults.length > 0 && html`<ul class="faults">${faults.map((each) => html`<li>${each}</li>`)}</ul>`}
    ${row.limit != null && html`<p class="row"><span>${row.in_flight} of ${row.limit} in flight${row.waiting ? `, ${row.waiting} waiting` : ""}</span>
      <${Meter} value=${row.in_flight} most=${row.limit} tone=${row.waiting ? "warn" : ""} label="in flight at ${row.lm}"/></p>`}
    ${(row.buckets ?? []).map(([kind, level, capacity, period]) => html`<p class="row" key=${kind}><span>${count(level)} of ${count(capacity)} ${kind} a ${{ 60: "minute", 3600: "hour", 86400: "day" }[period] ?? `${period} s`}</span>
      <${Meter} value=${level} most=${capacity} tone=${level < capacity / 10 ? "bad" : ""} label="${kind} left at ${row.lm}"/></p>`)}
    <dl class="figures small">
      <${Figure} name="half within" value=${seconds(row.times?.p50)}/><${Figure} name="95 %" value=${seconds(row.times?.p95)}/><${Figure} name="99 %" value=${seconds(row.times?.p99)}/>
      <${Figure} name="first token" value=${seconds(row.first?.p50)} title="half of them within"/><${Figure} name="its 95 %" value=${seconds(row.first?.p95)}/><${Figure} name="its 99 %" value=${seconds(row.first?.p99)}/>
      <${Figure} name="retries" value=${count(row.retries ?? 0)} tone=${row.retries ? "warn" : ""} title="attempts after a failed one"/><${Figure} name="resent" value=${count(row.resent ?? 0)} title="sent again over a fresh socket, at once"/>
      <${Figure} name="hedged" value=${count(row.hedged ?? 0)} title="attempts that another one overtook"/><${Figure} name="per minute" value=${row.per_minute == null ? "–" : dollars(row.per_minute)} title="US dollars"/>
      ${row.breaker && html`<${Figure} name="breaker" value=${row.breaker.replace("_", " ")} tone=${row.breaker === "closed" ? "" : "bad"} title="closed lets calls through"/>`}
    </dl>
    ${outcomes.length > 0 && html`<p>${outcomes.map(([outcome, number]) => html`<span class="chip ${outcome === "ok" ? "ok" : outcome === "cancelled" || outcome === "resent" ? "" : "bad"}">${outcome} ${count(number)}</span>`)}</p>`}
    ${past && past.at.length > 1 && html`<${Chart} theme=${theme} label="in flight and limit of ${row.lm} over time" x=${when}
      data=${[past.at, past.limit, past.flight]} series=${[{ label: "limit", colour: "warn", dash: [6, 4] }, { label: "in flight", colour: "accent", fill: "band" }]}/>
      <${Chart} theme=${theme} height=${120} label="seconds of answers of ${row.lm} over time" x=${when} data=${[past.at, past.p95, past.p50, past.first]}
        series=${[{ label: "seconds: 95 %", colour: "warn" }, { label: "half within", colour: "accent" }, { label: "first token, half within", colour: "ok", dash: [6, 4] }]}/>
      ${past.cost.some((each) => each != null) && html`<${Chart} theme=${theme} height=${100} label="dollars a minute of ${row.lm} over time" x=${when} data=${[past.at, past.cost]} series=${[{ label: "dollars a minute", colour: "accent", fill: "band" }]}/>`}`}</article>`;
}
