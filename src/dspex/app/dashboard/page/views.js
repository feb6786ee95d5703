// The views by name, and the figures above them: what the live page and a recording share.

import { html } from "./vendor/htm-preact.js";
import { count, dollars, Figure, price, shortPath } from "./parts.js";
import { Now, Kept } from "./requests.js";
import { Tree } from "./tree.js";
import { Models } from "./models.js";
import { Stores } from "./stores.js";
import { Jobs } from "./jobs.js";
import { Evaluations } from "./evaluations.js";

export const VIEWS = [
  ["now", "Now", Now], ["tree", "Tree", Tree], ["models", "Models", Models], ["stores", "Cache & budgets", Stores],
  ["jobs", "Jobs", Jobs], ["evaluations", "Evaluations", Evaluations], ["kept", "Kept requests", Kept],
];

export function Summary({ app, toll }) {
  const down = app.down.length;
  return html`${app.note && html`<p class="about">${app.note}</p>`}<dl class="figures">
    <${Figure} name="running" value=${count(app.running)}/>
    <${Figure} name="waiting" value=${count(app.waiting)} tone=${app.waiting ? "warn" : ""}/>
    <${Figure} name="completed" value=${count(app.completed)}/>
    <${Figure} name="failed" value=${count(app.failed)} tone=${app.failed ? "bad" : ""}/>
    <${Figure} name="lost" value=${count(app.lost)} tone=${app.lost ? "bad" : ""} title="requests that were taken and never ended: none, whatever dies"/>
    <${Figure} name="per second" value=${app.per_second ?? "–"} title="requests that end"/>
    <${Figure} name="spent" value=${app.unpriced ? (Number(app.spent) ? `${dollars(app.spent)} + ?` : "unknown") : dollars(app.spent)} title=${app.unpriced ? `${count(app.unpriced)} calls of unknown price` : "US dollars"}/>
    <${Figure} name="per minute" value=${app.per_minute == null ? "–" : dollars(app.per_minute)} title="US dollars"/>
    <${Figure} name="actors down" value=${down} tone=${down ? "bad" : ""} title=${app.down.join(", ")}/>
  </dl>
  ${toll.deaths > 0 && html`<p class="toll ${app.lost || toll.failed ? "bad" : ""}">${tollText(toll, app.lost)}</p>`}`;
}

// Who died, who waited, what that cost, and whether anything was lost: one sentence above every view.
export function tollText(toll, lost) {
  const many = toll.deaths > 1;
  const kept = lost ? `${lost} requests were lost` : "nothing was lost";
  const died = `${named(toll)} died and ${many ? "were" : "was"} restarted`;
  if (!toll.waited) return `${died}; no request was at ${many ? "them" : "it"}; ${kept}`;
  const open = toll.waited - toll.answered - toll.failed;
  const ends = [`${count(toll.answered)} answered`, toll.failed && `${count(toll.failed)} failed`, open && `${count(open)} under way`];
  const again = toll.again ? `${count(toll.again)} call${toll.again > 1 ? "s" : ""} may be paid twice${price(toll)}` : "no call is paid twice";
  return `${died}; ${count(toll.waited)} request${toll.waited > 1 ? "s" : ""} waited for ${many ? "them" : "it"}: ${ends.filter(Boolean).join(", ")}; ${kept}; ${again}`;
}

// The three that died most often, by their last names; recordings of older releases have their number alone.
function named(toll) {
  const all = `${count(toll.deaths)} actor${toll.deaths > 1 ? "s" : ""}`;
  const who = Object.entries(toll.who ?? {}).sort(([, one], [, other]) => other - one);
  if (!who.length) return all;
  const names = who.slice(0, 3).map(([path, times]) => shortPath(path) + (times > 1 ? ` ${times}×` : ""));
  if (who.length > 3) names.push(`${count(who.length - 3)} more`);
  return names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}` : names[0];
}
