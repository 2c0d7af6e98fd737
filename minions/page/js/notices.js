/** What the page says beside its contents: to screen readers softly, about trouble to everybody. */

import { byId, h, prose } from "./dom.js";

/** Say something to those who listen; with `trouble`, show it to all until it is dismissed. */
export function announce(text, { trouble = false } = {}) {
  if (trouble) notice(text);
  else byId("live").textContent = text;
}

function notice(text) {
  const dismiss = {
    type: "button",
    class: "icon",
    "aria-label": "Dismiss",
    onclick: () => box.remove(),
  };
  const box = h("div", { class: "notice" }, h("p", {}, prose(text)), h("button", dismiss, "×"));
  for (const other of byId("notices").children) {
    if (other.textContent === box.textContent) other.remove();
  }
  byId("notices").append(box);
}
