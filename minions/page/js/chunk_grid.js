/** The chunks of a reading, a cell each: which were answered, abstained, failed, were cached. */

import { fill, h } from "./dom.js";
import { count, counted } from "./format.js";

/** What a cell can be. Where a chunk has several jobs, the state further down is shown. */
const STATES = {
  waiting: "waiting",
  skipped: "not read",
  abstained: "read, no answer there",
  cached: "known from an earlier reading",
  failed: "failed",
  answered: "answered",
};
const WEIGHT = Object.keys(STATES);
const STEPS = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10 };

export class ChunkGrid {
  #cells = new Map();
  #rows = h("div", { class: "rows" });
  #caption = h("p", { class: "caption" });
  #legend = h("ul", { class: "legend" });
  #onOpen;
  #nameOf;

  /** `nameOf(documentId)` names a document; `onOpen(chunk, cell)` is called for a chosen cell. */
  constructor({ nameOf, onOpen }) {
    this.#nameOf = nameOf;
    this.#onOpen = onOpen;
    this.#rows.addEventListener("keydown", (event) => this.#onKey(event));
    const foot = h("div", { class: "grid-foot" }, this.#caption, this.#legend);
    this.element = h("div", { class: "grid" }, this.#rows, foot);
  }

  get size() {
    return this.#cells.size;
  }

  /** Chunks that are going to be read; those that are known already keep their state. */
  expect(chunks) {
    for (const chunk of chunks) {
      if (!this.#cells.has(chunk.chunk_id)) this.#add(chunk);
    }
    this.#layOut();
    this.#count();
  }

  /** A job of this chunk has ended. */
  mark(chunkId, state) {
    const cell = this.#cells.get(chunkId);
    if (!cell || WEIGHT.indexOf(state) <= WEIGHT.indexOf(cell.state)) return;
    cell.state = state;
    cell.button.dataset.state = state;
    cell.button.setAttribute("aria-label", this.#words(cell));
    this.#count();
  }

  /** Nothing is read any more: what still waited is not going to be read. */
  settle() {
    for (const [chunkId, cell] of this.#cells) {
      if (cell.state === "waiting") this.mark(chunkId, "skipped");
    }
  }

  /** Ring the chunks that the answer's citations stand in. */
  cite(citations) {
    for (const cell of this.#cells.values()) {
      const { document_id, start, end } = cell.chunk;
      const holds = (c) => c.document_id === document_id && c.start < end && c.end > start;
      cell.button.classList.toggle("cited", citations.some(holds));
    }
  }

  #add(chunk) {
    const cell = { chunk, state: "waiting" };
    cell.button = h("button", {
      type: "button",
      class: "cell",
      "data-state": "waiting",
      tabindex: this.#cells.size ? "-1" : "0",
      onclick: () => this.#onOpen(chunk, cell.button),
      onfocus: () => this.#describe(cell),
      onblur: () => this.#describe(null),
      onmouseenter: () => this.#describe(cell),
      onmouseleave: () => this.#describe(null),
    });
    cell.button.setAttribute("aria-label", this.#words(cell));
    this.#cells.set(chunk.chunk_id, cell);
  }

  /** Cells in reading order, a row of them per document. */
  #layOut() {
    const rows = new Map();
    for (const cell of this.#cells.values()) {
      const id = cell.chunk.document_id;
      rows.set(id, [...(rows.get(id) ?? []), cell]);
    }
    const many = rows.size > 1;
    fill(
      this.#rows,
      [...rows].map(([id, cells]) => this.#row(id, cells, many)),
    );
  }

  #row(documentId, cells, named) {
    const sorted = cells.toSorted((a, b) => a.chunk.start - b.chunk.start);
    const name = this.#nameOf(documentId);
    const label = `Chunks of ${name}; arrow keys move, Enter opens the page`;
    return h(
      "div",
      { class: "row" },
      named ? h("p", { class: "row-name" }, name) : null,
      h(
        "div",
        { class: "cells", role: "group", "aria-label": label },
        sorted.map((c) => c.button),
      ),
    );
  }

  #words({ chunk, state }) {
    return `Page ${chunk.page}: ${STATES[state]}`;
  }

  #describe(cell) {
    this.#caption.textContent = cell ? this.#sentence(cell) : "";
  }

  #sentence(cell) {
    const { document_id, start, end } = cell.chunk;
    const size = counted(end - start, "character");
    return `${this.#nameOf(document_id)}, page ${cell.chunk.page}: ${STATES[cell.state]} (${size})`;
  }

  #count() {
    const counts = Object.fromEntries(WEIGHT.map((state) => [state, 0]));
    for (const { state } of this.#cells.values()) counts[state] += 1;
    const shown = WEIGHT.filter((state) => counts[state]).toReversed();
    fill(
      this.#legend,
      shown.map((state) => legendItem(state, counts[state])),
    );
  }

  #onKey(event) {
    if (!(event.key in STEPS) && event.key !== "Home" && event.key !== "End") return;
    const buttons = [...this.#rows.querySelectorAll(".cell")];
    const at = buttons.indexOf(document.activeElement);
    if (at < 0) return;
    event.preventDefault();
    const last = buttons.length - 1;
    const jumps = { Home: 0, End: last };
    const to = jumps[event.key] ?? Math.min(Math.max(0, at + STEPS[event.key]), last);
    buttons[at].tabIndex = -1;
    buttons[to].tabIndex = 0;
    buttons[to].focus();
  }
}

function legendItem(state, number) {
  const sample = h("span", { class: "cell sample", "data-state": state, "aria-hidden": "true" });
  return h("li", {}, sample, `${count(number)} ${STATES[state]}`);
}
