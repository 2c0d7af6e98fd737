/** How a question is to be answered: kept between visits, sent only where it was set. */

import { byId } from "./dom.js";
import { percent } from "./format.js";

const KEPT = "minions-options";
const NAMES = ["strategy", "privacy", "target", "max_cost_usd", "redact", "stop_early"];

export class OptionsForm {
  #form = byId("options");
  #target = byId("option-target");
  #defaults = this.#values();

  constructor() {
    this.#restore();
    this.#form.addEventListener("input", () => this.#changed());
    this.#form.addEventListener("submit", (event) => this.#done(event));
    byId("options-reset").addEventListener("click", () => this.#reset());
    this.#show();
  }

  /** The part of a question's body that says how. */
  read() {
    const values = this.#values();
    const { strategy, privacy, redact, stop_early, max_cost_usd: cap, target } = values;
    const options = { strategy, privacy, redact, stop_early };
    if (cap !== "") options.max_cost_usd = cap;
    if (target !== this.#defaults.target) options.target = Number(target);
    return options;
  }

  /** Null, or why these options can't be asked with. */
  get trouble() {
    return this.#form.checkValidity()
      ? null
      : "The cap on the price is a number of dollars, 0 or more.";
  }

  #values() {
    return Object.fromEntries(NAMES.map((name) => [name, valueOf(this.#form.elements[name])]));
  }

  #restore() {
    const kept = JSON.parse(localStorage.getItem(KEPT) ?? "{}");
    for (const name of NAMES) if (name in kept) setValue(this.#form.elements[name], kept[name]);
  }

  #changed() {
    localStorage.setItem(KEPT, JSON.stringify(this.#values()));
    this.#show();
  }

  #done(event) {
    event.preventDefault();
    this.#form.hidePopover();
  }

  #reset() {
    for (const name of NAMES) setValue(this.#form.elements[name], this.#defaults[name]);
    localStorage.removeItem(KEPT);
    this.#show();
  }

  #show() {
    byId("option-target-value").textContent = percent(Number(this.#target.value));
    const values = this.#values();
    const set = NAMES.filter((name) => values[name] !== this.#defaults[name]).length;
    byId("options-summary").textContent = set ? `Options (${set} set)` : "Options";
  }
}

function valueOf(control) {
  return control.type === "checkbox" ? control.checked : control.value;
}

function setValue(control, value) {
  if (control.type === "checkbox") control.checked = value === true;
  else control.value = String(value);
}
