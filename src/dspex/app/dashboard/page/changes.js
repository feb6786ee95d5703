// A candidate beside the program that was given: instructions word by word, demonstrations one by one.

import { Empty, html } from "./parts.js";

export function Changes({ changes, known = true }) {
  if (!known) return html`<${Empty}>Its words were not written down.<//>`;
  if (!changes.length) return html`<${Empty}>It changes nothing.<//>`;
  return changes.map((each) => html`<section class="change" key="${each.path} ${each.what}"><h3>${each.path} <small>${each.what}</small></h3>
    ${each.words && html`<p class="diff text">${each.words.map(([how, text]) => (how === "+" ? html`<ins>${text}</ins>` : how === "-" ? html`<del>${text}</del>` : text))}</p>`}
    ${each.demos && html`<ul class="demos">${each.demos.map(([how, text]) => html`<li class=${how === "+" ? "added" : how === "-" ? "gone" : ""}><b>${how === "+" ? "added" : how === "-" ? "gone" : "kept"}</b> <span class="text">${text}</span></li>`)}</ul>`}
    ${each.counts && html`<p>${[["added", "ok"], ["gone", "bad"], ["kept", ""]].filter(([how]) => each.counts[how]).map(([how, tone]) => html`<span class="chip ${tone}">${each.counts[how]} ${each.what === "demonstrations" ? "" : each.counts[how] === 1 ? "word " : "words "}${how}</span>`)}</p>`}
    ${each.left_out > 0 && html`<p class="empty">${each.left_out} more are left out.</p>`}</section>`);
}
