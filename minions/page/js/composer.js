/** Where a question is written and sent, with what reading it would cost the cloud alone. */

import { call } from "./api.js";
import { byId, fill, h, prose } from "./dom.js";
import { counted, usd } from "./format.js";

const PAUSE_MS = 400;
const ANY_QUESTION = "What does this document say?";

export class Composer {
  #form = byId("composer");
  #text = byId("question");
  #scope = byId("scope");
  #quote = byId("quote");
  #documents;
  #options;
  #onAsk;
  #timer = 0;
  #priced = "";

  /** `onAsk(body)` sends a question; it raises when the question isn't accepted. */
  constructor({ documents, options, onAsk }) {
    this.#documents = documents;
    this.#options = options;
    this.#onAsk = onAsk;
    this.#form.addEventListener("submit", (event) => this.#submit(event));
    this.#text.addEventListener("keydown", (event) => this.#onKey(event));
    addEventListener("keydown", (event) => this.#shortcut(event));
  }

  focus() {
    this.#text.focus();
  }

  /** Say which documents the next question is about, and what it would cost. */
  refresh() {
    const chosen = this.#documents.chosen;
    fill(this.#scope, scopeWords(chosen));
    this.#text.disabled = this.#documents.isEmpty;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#price(chosen), PAUSE_MS);
  }

  async #submit(event) {
    event.preventDefault();
    const trouble = this.#trouble();
    this.#say(trouble);
    if (trouble) return;
    const documents = this.#documents.chosen.map(({ id }) => id);
    const body = { question: this.#text.value.trim(), documents, ...this.#options.read() };
    this.#busy(true);
    try {
      await this.#onAsk(body);
      this.#text.value = "";
    } catch (error) {
      this.#say(error.message);
    } finally {
      this.#busy(false);
      this.#text.focus({ preventScroll: true });
    }
  }

  #trouble() {
    if (this.#documents.chosen.length === 0) return "Tick at least one document to ask about.";
    if (this.#text.value.trim() === "") return "Write a question first.";
    return this.#options.trouble;
  }

  #say(trouble) {
    fill(byId("composer-trouble"), prose(trouble ?? ""));
  }

  #busy(busy) {
    byId("ask").disabled = busy;
  }

  #onKey(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }

  #shortcut(event) {
    const writing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName ?? "");
    if (event.key !== "/" || writing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#text.focus();
  }

  async #price(chosen) {
    const documents = chosen.map(({ id }) => id);
    const key = documents.join();
    if (key === this.#priced) return;
    this.#priced = key;
    this.#quote.textContent = "";
    if (documents.length === 0) return;
    try {
      const estimate = await call("POST", "/v1/estimate", {
        json: { question: ANY_QUESTION, documents },
      });
      if (key === this.#priced) this.#quote.textContent = priceWords(estimate);
    } catch {
      this.#priced = ""; // a price is an extra here: without it, asking works all the same
    }
  }
}

function scopeWords(chosen) {
  if (chosen.length === 0) return "No document chosen";
  if (chosen.length === 1) return ["About ", h("b", {}, chosen[0].name)];
  const pages = chosen.reduce((sum, document) => sum + document.pages, 0);
  return ["About ", h("b", {}, counted(chosen.length, "document")), `, ${counted(pages, "page")}`];
}

function priceWords({ rungs }) {
  const whole = rungs.find(({ rung }) => rung === "document");
  return `the cloud alone would cost ${usd(whole?.expected_usd)}`;
}
