/** The documents: dropped, read, listed, chosen for the next question, deleted. */

import { call, listOf } from "./api.js";
import { byId, fill, h, prose, show } from "./dom.js";
import { bytes, counted } from "./format.js";
import { opens } from "./viewer.js";

export class Documents {
  #all = new Map();
  #chosen = new Set();
  #arriving = new Map();
  #list = byId("documents");
  #viewer;
  #announce;
  #onChange;

  /** `onChange()` is called when documents, or those that are chosen, change. */
  constructor({ viewer, announce, onChange }) {
    this.#viewer = viewer;
    this.#announce = announce;
    this.#onChange = onChange;
    this.#takeDrops();
    byId("choose").addEventListener("click", () => byId("files").click());
    byId("files").addEventListener("change", (event) => this.#takeChosenFiles(event.target));
  }

  async load() {
    const known = await listOf("/v1/documents", { order: "asc" });
    for (const document of known) this.#all.set(document.id, document);
    const newest = known.at(-1);
    if (newest) this.#chosen.add(newest.id);
    this.#changed();
  }

  find(id) {
    return this.#all.get(id) ?? null;
  }

  nameOf(id) {
    return this.find(id)?.name ?? "a deleted document";
  }

  /** Those that the next question is about. */
  get chosen() {
    return [...this.#all.values()].filter(({ id }) => this.#chosen.has(id));
  }

  get isEmpty() {
    return this.#all.size === 0 && this.#arriving.size === 0;
  }

  /** Choose exactly these, as far as they still exist. */
  choose(ids) {
    const known = ids.filter((id) => this.#all.has(id));
    if (known.length === 0) return;
    this.#chosen = new Set(known);
    this.#changed();
  }

  /** Upload files, one after the other; each that is read is chosen. */
  async add(files) {
    const arrivals = [...files].map((file) => this.#announceArrival(file));
    if (arrivals.length && this.#all.size) this.#chosen.clear();
    this.#changed();
    for (const arrival of arrivals) await this.#upload(arrival);
  }

  #announceArrival(file) {
    const arrival = { id: crypto.randomUUID(), file, error: null };
    this.#arriving.set(arrival.id, arrival);
    return arrival;
  }

  async #upload(arrival) {
    const form = new FormData();
    form.append("file", arrival.file, arrival.file.name);
    try {
      const document = await call("POST", "/v1/documents", { form });
      this.#arriving.delete(arrival.id);
      this.#all.set(document.id, document);
      this.#chosen.add(document.id);
      this.#announce(`${document.name} was read: ${counted(document.pages, "page")}.`);
    } catch (error) {
      arrival.error = error.message;
      this.#announce(`${arrival.file.name} could not be read: ${error.message}`);
    }
    this.#changed();
  }

  async #delete(document) {
    const question = `Delete ${document.name}, with its text and all that was read of it?`;
    if (!confirm(question)) return;
    try {
      await call("DELETE", `/v1/documents/${document.id}`);
    } catch (error) {
      this.#announce(error.message, { trouble: true });
      return;
    }
    this.#all.delete(document.id);
    this.#chosen.delete(document.id);
    this.#viewer.forget(document.id);
    this.#announce(`${document.name} was deleted.`);
    this.#changed();
    byId("choose").focus();
  }

  #dismiss(arrival) {
    this.#arriving.delete(arrival.id);
    this.#changed();
    byId("choose").focus();
  }

  #changed() {
    const known = [...this.#all.values()].map((document) => this.#item(document));
    const arriving = [...this.#arriving.values()].map((arrival) => this.#arrivingItem(arrival));
    fill(this.#list, known, arriving);
    show(byId("no-documents"), this.isEmpty);
    this.#onChange();
  }

  #item(document) {
    const { id, name, pages, characters, warnings } = document;
    const toggle = (event) => this.#toggle(id, event.target.checked);
    const box = h("input", { type: "checkbox", id: `ask-${id}`, onchange: toggle });
    box.checked = this.#chosen.has(id);
    const size = `${counted(pages, "page")} · ${counted(characters, "character")}`;
    return h(
      "li",
      { class: "document" },
      box,
      h(
        "div",
        {},
        h("label", { for: `ask-${id}`, title: name }, name),
        h(
          "p",
          { class: "quiet" },
          size,
          " · ",
          opens(this.#viewer, document, 1, null, { class: "link" }, "open"),
        ),
        warnings.map((warning) => h("p", { class: "warning" }, prose(warning))),
      ),
      h(
        "button",
        {
          type: "button",
          class: "icon",
          "aria-label": `Delete ${name}`,
          onclick: () => this.#delete(document),
        },
        "×",
      ),
    );
  }

  #arrivingItem(arrival) {
    const { file, error } = arrival;
    const label = `Dismiss the message about ${file.name}`;
    const dismiss = { type: "button", class: "icon", "aria-label": label };
    return h(
      "li",
      { class: `document ${error ? "refused" : "arriving"}` },
      h("span", { class: "spinner", "aria-hidden": "true" }),
      h(
        "div",
        {},
        h("p", { class: "name", title: file.name }, file.name),
        error
          ? h("p", { class: "trouble" }, prose(error))
          : h("p", { class: "quiet" }, `${bytes(file.size)}, being read…`),
      ),
      error ? h("button", { ...dismiss, onclick: () => this.#dismiss(arrival) }, "×") : null,
    );
  }

  #toggle(id, chosen) {
    if (chosen) this.#chosen.add(id);
    else this.#chosen.delete(id);
    this.#onChange();
  }

  #takeChosenFiles(input) {
    this.add(input.files);
    input.value = "";
  }

  /** Files may be dropped anywhere on the page. */
  #takeDrops() {
    const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
    const over = (is) => document.body.classList.toggle("dropping", is);
    addEventListener("dragover", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      over(true);
    });
    addEventListener("dragleave", (event) => event.relatedTarget === null && over(false));
    addEventListener("drop", (event) => {
      over(false);
      if (!holdsFiles(event)) return;
      event.preventDefault();
      this.add(event.dataTransfer.files);
    });
  }
}
