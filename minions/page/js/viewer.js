/** The document viewer: a page of a PDF, or of a text, opened at a quote. */

import { bytesAt, call } from "./api.js";
import { byId, fill, h, show } from "./dom.js";
import { openPdf } from "./pdf_page.js";
import { sliceByCharacters } from "./quote.js";
import { drawText } from "./text_page.js";

const ZOOMS = [1, 1.25, 1.5, 2, 3];
const PDF = "application/pdf";
const NOT_FOUND_IN_DRAWING =
  "The quote could not be placed on the drawn page, so the page's text is shown with it.";

export class Viewer {
  #root = byId("viewer");
  #stage = byId("viewer-stage");
  #note = byId("viewer-note");
  #number = byId("viewer-number");
  #opener = null;
  #document = null;
  #page = 1;
  #span = null;
  #pdf = null;
  #zoom = 0;
  #asText = false;
  #turn = 0;
  #narrow = matchMedia("(max-width: 60rem)");

  constructor() {
    byId("viewer-close").addEventListener("click", () => this.close());
    byId("viewer-before").addEventListener("click", () => this.#goTo(this.#page - 1));
    byId("viewer-after").addEventListener("click", () => this.#goTo(this.#page + 1));
    byId("viewer-in").addEventListener("click", () => this.#zoomBy(1));
    byId("viewer-out").addEventListener("click", () => this.#zoomBy(-1));
    byId("viewer-text").addEventListener("click", () => this.#toggleText());
    this.#number.addEventListener("change", () => this.#goTo(Number(this.#number.value)));
    this.#root.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /**
   * Open a document ({id, name, media_type, pages}) at a page; `span` is {start, end} in the
   * document's characters, or null. Without a page, the one that the span begins on is looked up.
   * `opener` gets the focus back on closing.
   */
  async open(document, page, span, opener) {
    if (this.#document?.id !== document.id) await this.#change(document);
    this.#opener = opener;
    this.#span = span;
    this.#page = page ?? (await pageOf(document, span.start));
    keepingInPlace(opener, () => this.#reveal(document));
    await this.#draw();
    this.#root.focus({ preventScroll: true });
  }

  close() {
    keepingInPlace(this.#opener, () => this.#conceal());
    this.#opener.focus({ preventScroll: true });
  }

  get isOpen() {
    return !this.#root.hidden;
  }

  /** Close when the document shown is this one: it was deleted. */
  forget(documentId) {
    if (this.isOpen && this.#document?.id === documentId) this.close();
  }

  async #change(document) {
    const before = this.#pdf;
    this.#pdf = null;
    this.#document = document;
    this.#zoom = 0;
    this.#asText = document.media_type !== PDF;
    await before?.close();
  }

  #reveal(shown) {
    show(this.#root);
    document.body.classList.add("viewing");
    this.#silenceRest(this.#narrow.matches);
    byId("viewer-name").textContent = shown.name;
    byId("viewer-pages").textContent = `of ${shown.pages}`;
    this.#number.max = String(shown.pages);
    for (const id of ["viewer-text", "viewer-in", "viewer-out"]) {
      show(byId(id), shown.media_type === PDF);
    }
  }

  #conceal() {
    show(this.#root, false);
    document.body.classList.remove("viewing");
    this.#silenceRest(false);
  }

  /** On a narrow screen the viewer covers all the rest: the keyboard must not wander there. */
  #silenceRest(silent) {
    byId("library").inert = silent;
    byId("desk").inert = silent;
  }

  #onKey(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") this.close();
    else if (step && this.#zoom === 0 && event.target !== this.#number)
      this.#goTo(this.#page + step);
    else return;
    event.preventDefault();
  }

  #goTo(page) {
    this.#page = Math.min(Math.max(1, Math.trunc(page) || 1), this.#document.pages);
    this.#draw();
  }

  #zoomBy(step) {
    this.#zoom = Math.min(Math.max(0, this.#zoom + step), ZOOMS.length - 1);
    this.#draw();
  }

  #toggleText() {
    this.#asText = !this.#asText;
    this.#draw();
  }

  async #draw() {
    const turn = (this.#turn += 1);
    this.#controls();
    this.#stage.setAttribute("aria-busy", "true");
    try {
      const drawn = await this.#drawing();
      if (turn === this.#turn) this.#place(drawn);
    } catch (error) {
      if (turn === this.#turn) this.#place({ element: null, note: error.message });
    }
  }

  #controls() {
    this.#number.value = String(this.#page);
    byId("viewer-before").disabled = this.#page <= 1;
    byId("viewer-after").disabled = this.#page >= this.#document.pages;
    byId("viewer-in").disabled = this.#asText || this.#zoom === ZOOMS.length - 1;
    byId("viewer-out").disabled = this.#asText || this.#zoom === 0;
    byId("viewer-text").setAttribute("aria-pressed", String(this.#asText));
  }

  async #drawing() {
    const path = `/v1/documents/${this.#document.id}`;
    const page = await call("GET", `${path}/pages/${this.#page}`);
    if (this.#asText) return drawText(page, this.#span);
    try {
      this.#pdf ??= await openPdf(await bytesAt(`${path}/content`));
    } catch (error) {
      const note = `The PDF itself can't be shown (${error.message}); this is its text.`;
      return { ...drawText(page, this.#span), note };
    }
    return this.#drawPdf(page);
  }

  async #drawPdf(page) {
    const wanted = this.#markOn(page);
    const width = (this.#stage.clientWidth - 24) * ZOOMS[this.#zoom];
    const drawn = await this.#pdf.draw(this.#page, width, wanted);
    if (!wanted || drawn.mark) return drawn;
    return { ...drawText(page, this.#span), note: NOT_FOUND_IN_DRAWING };
  }

  /** What of the span stands on this page, and how far down; null when nothing does. */
  #markOn(page) {
    if (!this.#span) return null;
    const start = Math.max(0, this.#span.start - page.start);
    const quote = sliceByCharacters(page.text, start, this.#span.end - page.start);
    return quote.trim() ? { quote, nearby: start / (page.end - page.start) } : null;
  }

  #place({ element, mark = null, note = "" }) {
    this.#stage.removeAttribute("aria-busy");
    this.#note.textContent = note;
    show(this.#note, note !== "");
    fill(this.#stage, element);
    this.#stage.scrollTo(0, 0);
    if (mark) this.#centre(mark);
  }

  /** Within the stage only: `scrollIntoView` would move the page beside it as well. */
  #centre(mark) {
    const [stage, place] = [this.#stage.getBoundingClientRect(), mark.getBoundingClientRect()];
    const inSight = (start, end, low, high) => start >= low && end <= high;
    const top = place.top - stage.top - (stage.height - place.height) / 2;
    const aside = inSight(place.left, place.right, stage.left, stage.right);
    this.#stage.scrollBy({
      top,
      left: aside ? 0 : place.left - stage.left - 24,
      behavior: "instant",
    });
  }
}

/** Columns change their width, and so their length: what was looked at stays where it was. */
function keepingInPlace(element, change) {
  const before = element.getBoundingClientRect().top;
  change();
  scrollBy({ top: element.getBoundingClientRect().top - before, behavior: "instant" });
}

/** The page that holds a character, by halving: the service is asked a few times, not for all. */
async function pageOf(document, character) {
  let [low, high] = [1, document.pages];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const { end } = await call("GET", `/v1/documents/${document.id}/pages/${middle}`);
    if (character < end) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** A button that opens the viewer. */
export function opens(viewer, document, page, span, properties, ...content) {
  const onclick = (event) => viewer.open(document, page, span, event.currentTarget);
  return h("button", { type: "button", onclick, ...properties }, ...content);
}
