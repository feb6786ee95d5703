// A recording of an App, played back: the live page's views over the snapshots that lie in this file.

import { Component, html, render } from "./vendor/htm-preact.js";
import { store, take } from "./store.js";
import { Summary, VIEWS } from "./views.js";

const SPEEDS = [0.25, 0.5, 1, 2, 5, 10, 60];

function clock(value) {
  const whole = Math.floor(value), two = (number) => String(number).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

class Replay extends Component {
  constructor(props) {
    super(props);
    this.frames = props.data.frames; // [time, "snapshot" or "delta", what]
    this.place = -1;
    this.state = { view: "now", at: 0, speed: 1, playing: true, theme: "" };
    this.go(0);
  }

  componentDidMount() {
    addEventListener("keydown", (event) => this.key(event));
    addEventListener("hashchange", () => this.setState({ view: this.wanted() }));
    let last = performance.now();
    setInterval(() => {
      const now = performance.now(), passed = (now - last) / 1000;
      last = now;
      if (!this.state.playing) return;
      const at = Math.min(this.props.data.length, this.state.at + passed * this.state.speed);
      this.show(at, at < this.props.data.length);
    }, 100);
  }

  wanted() {
    const name = location.hash.replace(/^#\/?/, "");
    return VIEWS.some(([key]) => key === name) ? name : "now";
  }

  // The last frame at or before a moment; from the last whole snapshot before it, unless it lies ahead of this one.
  go(at) {
    let low = 0, high = this.frames.length;
    while (low < high) { const middle = (low + high) >> 1; if (this.frames[middle][0] <= at) low = middle + 1; else high = middle; }
    const wanted = Math.max(0, low - 1);
    if (wanted === this.place) return;
    let whole = wanted;
    while (this.frames[whole][1] !== "snapshot") whole -= 1;
    const begin = whole <= this.place && this.place < wanted ? this.place + 1 : whole;
    for (let each = begin; each <= wanted; each += 1) take(this.frames[each][1], this.frames[each][2]);
    this.place = wanted;
  }

  show(at, playing = this.state.playing) {
    this.go(at);
    this.setState({ at, playing });
  }

  jump(by) {
    this.show(Math.min(this.props.data.length, Math.max(0, this.state.at + by)));
  }

  turn() {
    const { at, playing } = this.state, { length } = this.props.data;
    this.show(!playing && at >= length ? 0 : at, !playing);
  }

  faster(by) {
    const place = SPEEDS.indexOf(this.state.speed) + by;
    this.setState({ speed: SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, place))] });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|TEXTAREA|SELECT/.test(event.target.tagName)) return;
    const place = Number(event.key) - 1;
    if (VIEWS[place]) this.choose(VIEWS[place][0]);
    else if (event.key === "p" || (event.key === " " && event.target.tagName !== "BUTTON")) { event.preventDefault(); this.turn(); }
    else if (event.key === "[") this.jump(-10);
    else if (event.key === "]") this.jump(10);
    else if (event.key === "+") this.faster(1);
    else if (event.key === "-") this.faster(-1);
  }

  choose(view) {
    location.hash = `#/${view}`;
    this.setState({ view });
  }

  dark() {
    return this.state.theme ? this.state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  shade() {
    const theme = this.dark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    this.setState({ theme });
  }

  render({ data }, { view, at, speed, playing }) {
    const [, title, View] = VIEWS.find(([key]) => key === view);
    const theme = this.dark() ? "dark" : "light";
    return html`<header>
        <div class="brand"><strong>dspex</strong> <span>recording of ${data.title}</span><button class="theme" aria-label="light or dark" title="light or dark" onClick=${() => this.shade()}>◐</button></div>
        <div class="player" role="group" aria-label="player"><button aria-label="10 seconds back" onClick=${() => this.jump(-10)}>−10 s</button>
          <button onClick=${() => this.turn()}>${playing ? "pause" : "play"}</button><button aria-label="10 seconds on" onClick=${() => this.jump(10)}>+10 s</button>
          <input type="range" min="0" max=${data.length} step="0.1" value=${at} aria-label="moment" aria-valuetext=${clock(at)} onInput=${(event) => this.show(Number(event.target.value))}/>
          <output>${clock(at)} of ${clock(data.length)}</output>
          <button aria-label="slower" onClick=${() => this.faster(-1)}>−</button><output aria-label="speed">${speed}×</output><button aria-label="faster" onClick=${() => this.faster(1)}>+</button></div>
        <${Summary} app=${store.snapshot.app} toll=${store.snapshot.toll}/>
        <nav aria-label="views"><ol>${VIEWS.map(([key, name], place) => html`<li><a href="#/${key}" title="key ${place + 1}" aria-current=${key === view ? "page" : undefined}>${name}</a></li>`)}</ol></nav>
      </header>
      <main id="main" tabindex="-1"><h1>${title}</h1>${data.note && html`<p class="made">${data.note}</p>`}
        <${View} key=${view} snapshot=${store.snapshot} theme=${theme} recorded=${true}/></main>`;
  }
}

store.state = "recorded";
const data = JSON.parse(document.getElementById("data").textContent);
render(html`<${Replay} data=${data}/>`, document.body);
