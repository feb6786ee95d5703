// The frame around the views: figures of the whole App, the views' names, keys, and the connection.

import { html, render, Component } from "./vendor/htm-preact.js";
import { follow, onChange, store, takeToken, useToken } from "./store.js";
import { Summary, VIEWS } from "./views.js";

const THEME = "dspex-theme";

class App extends Component {
  constructor() {
    super();
    this.state = { view: this.wanted(), theme: localStorage.getItem(THEME) ?? "" };
    this.applyTheme(this.state.theme);
  }

  componentDidMount() {
    onChange(() => this.setState({}));
    addEventListener("hashchange", () => { takeToken(); this.setState({ view: this.wanted() }); });
    addEventListener("keydown", (event) => this.key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.setState({}));
    follow();
    this.bring();
  }

  // On a phone the names of the views are wider than the screen.
  bring() {
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }

  // Whose focus went away with the view that had it goes on in the new one.
  componentDidUpdate(_, before) {
    if (before.view !== this.state.view) this.bring();
    if (before.view !== this.state.view && document.activeElement === document.body) document.getElementById("main").focus({ preventScroll: true });
  }

  wanted() {
    const name = location.hash.replace(/^#\/?/, "").split("/")[0];
    return VIEWS.some(([key]) => key === name) ? name : "now";
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|TEXTAREA|SELECT/.test(event.target.tagName)) return;
    const place = Number(event.key) - 1;
    if (VIEWS[place]) location.hash = `#/${VIEWS[place][0]}`;
  }

  applyTheme(theme) {
    document.documentElement.dataset.theme = theme;
  }

  turn() {
    const dark = this.dark();
    const theme = dark ? "light" : "dark";
    localStorage.setItem(THEME, theme);
    this.applyTheme(theme);
    this.setState({ theme });
  }

  dark() {
    return this.state.theme ? this.state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  render(_, { view }) {
    const View = VIEWS.find(([key]) => key === view)[2];
    const title = VIEWS.find(([key]) => key === view)[1];
    const theme = this.dark() ? "dark" : "light";
    return html`
      <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>to the content</a>
      <header>
        <div class="brand"><img src="icon.svg" alt="" width="24" height="24"/><strong>dspex</strong>
          <span class="link ${store.state}" role="status">${{ live: "live", connecting: "connecting", away: "the App does not answer", refused: "needs the token" }[store.state]}</span>
          <button class="theme" aria-label="light or dark" title="light or dark" onClick=${() => this.turn()}>◐</button></div>
        ${store.snapshot && html`<${Summary} app=${store.snapshot.app} toll=${store.snapshot.toll}/>`}
        <nav aria-label="views"><ol>${VIEWS.map(([key, name], place) => html`<li><a href="#/${key}" title="key ${place + 1}"
          aria-current=${key === view ? "page" : undefined}>${name}</a></li>`)}</ol></nav>
      </header>
      <main id="main" tabindex="-1"><h1>${title}</h1>
        ${store.error && html`<p class="error" role="alert">${store.error}</p>`}
        ${store.state === "refused" ? html`<${Door}/>` : store.snapshot ? html`<${View} key=${view} snapshot=${store.snapshot} theme=${theme}/>` : html`<p class="empty">Nothing has come yet.</p>`}
      </main>`;
  }
}

function Door() {
  const enter = (event) => { event.preventDefault(); useToken(new FormData(event.target).get("token")); };
  return html`<form class="door" onSubmit=${enter}><label>The token of this page
    <input name="token" type="password" autocomplete="off" required/></label><button>Look</button></form>`;
}

takeToken();
render(html`<${App}/>`, document.body);
