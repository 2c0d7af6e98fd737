/** How a question is to be answered: kept between visits, sent only where it was set. */

import { byId } from "./dom.js";
import { percent } from "./format.js";

const KEPT = "minions-options";
const ALWAYS = ["strategy", "privacy", "redact", "stop_early", "effort", "fresh"];
/** Numbers, each with what it is called where it can't be read. Empty is not set. */
const NUMBERS = {
  max_cost_usd: "The cap on the price is a number of dollars, 0 or more.",
  value_usd: "What a right answer is worth is a number of dollars, 0 or more.",
  alpha: "The share to lose is a number between 0 and 1, such as 0.05.",
  max_latency_s: "The time to answer in is a number of seconds, up to 86,400.",
};
const NAMES = [...ALWAYS, "target", ...Object.keys(NUMBERS)];
const BEHIND = ["effort", "value_usd", "alpha", "max_latency_s", "fresh"];

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
    byId("more-options").open = this.#changedOf(BEHIND).length > 0;
  }

  /** The part of a question's body that says how. */
  read() {
    const values = this.#values();
    const options = Object.fromEntries(ALWAYS.map((name) => [name, values[name]]));
    for (const name of Object.keys(NUMBERS))
      if (values[name] !== "") options[name] = Number(values[name]);
    if (values.target !== this.#defaults.target) options.target = Number(values.target);
    return options;
  }

  /** Null, or why these options can't be asked with. */
  get trouble() {
    const wrong = Object.keys(NUMBERS).find((name) => !this.#form.elements[name].validity.valid);
    return wrong ? NUMBERS[wrong] : null;
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

  #changedOf(names) {
    const values = this.#values();
    return names.filter((name) => values[name] !== this.#defaults[name]);
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
    const set = this.#changedOf(NAMES).length;
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
