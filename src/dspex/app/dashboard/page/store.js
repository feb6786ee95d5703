// The state of the page: the last snapshot, kept up to date by the changes that the server sends.

const TOKEN = "dspex-token";
const KEPT = 180; // seconds of a model's past that the page remembers while it is open

export const store = {
  snapshot: null,
  state: "connecting", // live, away, refused
  about: { looks: false, acts: false, capture: false },
  history: {},
  error: "",
};

const listeners = new Set();
let lastId = "";

export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function changed() {
  for (const each of listeners) each();
}

// What is behind the # never leaves the browser: it is taken out of the address, and sent in a header of ours alone.
export function takeToken() {
  const found = /^#token=(.+)$/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(TOKEN, decodeURIComponent(found[1]));
  history.replaceState(null, "", location.pathname + "#/now");
}

export function useToken(token) {
  sessionStorage.setItem(TOKEN, token.trim());
  location.reload();
}

function headers(more = {}) {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { authorization: `Bearer ${token}`, ...more } : more;
}

export async function get(path) {
  const answer = await fetch(`api/v1/${path}`, { headers: headers(), cache: "no-store" }).catch(() => { throw new Error("the App does not answer"); });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

export async function act(path, body = {}) {
  store.error = "";
  try {
    const answer = await fetch(`api/v1/${path}`, {
      method: "POST",
      headers: headers({ "content-type": "application/json" }),
      body: JSON.stringify(body),
    });
    if (!answer.ok) store.error = (await answer.json()).error;
  } catch {
    store.error = "the App does not answer";
  }
  changed();
}

export function apply(old, changes) {
  const next = { ...old };
  const copied = new Set();
  for (const [path, ...value] of changes) {
    let place = next;
    for (let depth = 0; depth < path.length - 1; depth++) {
      const here = path.slice(0, depth + 1).join("\u0000");
      if (!copied.has(here)) {
        place[path[depth]] = { ...place[path[depth]] };
        copied.add(here);
      }
      place = place[path[depth]];
    }
    const key = path[path.length - 1];
    if (value.length) place[key] = value[0];
    else delete place[key];
  }
  return next;
}

export function take(kind, data) {
  store.snapshot = kind === "snapshot" ? data : apply(store.snapshot, data);
  const at = store.snapshot.at;
  for (const [name, model] of Object.entries(store.snapshot.models)) {
    const past = (store.history[name] ??= { at: [], limit: [], flight: [], p50: [], p95: [], first: [], cost: [] });
    if (past.at.length && at < past.at[past.at.length - 1]) for (const each of Object.values(past)) each.length = 0;
    if (!past.at.length || at - past.at[past.at.length - 1] >= 1) {
      past.at.push(at);
      past.limit.push(model.limit ?? null);
      past.flight.push(model.in_flight ?? null);
      past.p50.push(model.times?.p50 ?? null);
      past.p95.push(model.times?.p95 ?? null);
      past.first.push(model.first?.p50 ?? null);
      past.cost.push(model.per_minute ?? null);
      if (past.at.length > KEPT) for (const each of Object.values(past)) each.shift();
    }
  }
}

// Server-sent events over fetch: EventSource cannot send the token.
async function listen() {
  const answer = await fetch("api/v1/events", {
    headers: headers(lastId ? { "last-event-id": lastId } : {}),
    cache: "no-store",
  });
  if (answer.status === 401) return "refused";
  if (!answer.ok) return "away";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return "away";
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const told = {};
      for (const line of event.split("\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) told[line.slice(0, colon)] = line.slice(colon + 2);
      }
      if (!told.data) continue;
      take(told.event, JSON.parse(told.data));
      lastId = told.id;
      store.state = "live";
    }
    changed();
  }
}

export async function follow() {
  for (;;) {
    try {
      store.about = await get("about");
      store.state = await listen();
    } catch {
      store.state = "away";
    }
    changed();
    if (store.state === "refused") return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
