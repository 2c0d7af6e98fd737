/** One page of a PDF, drawn by pdf.js, with its text laid over it and a quote marked in it. */

import { h, setVariables } from "./dom.js";
import { locate } from "./quote.js";

const HOME = new URL("../pdfjs-6.5.438/", import.meta.url);
const DENSEST = 3;

let library = null;
let policy = null;

/** pdf.js and its worker: loaded once, at first need. */
function pdfjs() {
  library ??= load();
  library.catch(() => (library = null));
  return library;
}

async function load() {
  const api = await import("../pdfjs-6.5.438/pdf.min.mjs");
  const port = new Worker(trusted(new URL("pdf.worker.min.mjs", HOME).href), { type: "module" });
  return { api, worker: new api.PDFWorker({ port }) };
}

/** The address of the worker, in browsers that let only vouched-for addresses become scripts. */
function trusted(address) {
  if (!globalThis.trustedTypes) return address;
  policy ??= trustedTypes.createPolicy("minions-worker", {
    createScriptURL: (url) => (url.startsWith(HOME.href) ? url : ""),
  });
  return policy.createScriptURL(address);
}

/** An opened PDF. Raises what pdf.js raises when the bytes are no PDF that it can read. */
export async function openPdf(bytes) {
  const { api, worker } = await pdfjs();
  const task = api.getDocument({
    data: bytes,
    worker,
    cMapUrl: new URL("cmaps/", HOME).href,
    standardFontDataUrl: new URL("standard_fonts/", HOME).href,
    wasmUrl: new URL("wasm/", HOME).href,
    enableXfa: false,
  });
  return new OpenPdf(api, task, await task.promise);
}

export class OpenPdf {
  #api;
  #task;
  #pdf;

  constructor(api, task, pdf) {
    this.#api = api;
    this.#task = task;
    this.#pdf = pdf;
  }

  get pages() {
    return this.#pdf.numPages;
  }

  close() {
    return this.#task.destroy();
  }

  /**
   * Page `number` as an element `width` CSS pixels wide. `mark` is {quote, nearby}, or null.
   * Gives {element, mark}: the first marked element, or null when the quote isn't found there.
   */
  async draw(number, width, mark) {
    const page = await this.#pdf.getPage(number);
    const scale = width / page.getViewport({ scale: 1 }).width;
    const viewport = page.getViewport({ scale });
    const canvas = await drawn(page, viewport);
    const text = h("div", { class: "textLayer" });
    const element = h("div", { class: "pdf-page", role: "document", tabindex: "-1" }, canvas, text);
    setVariables(element, { "--total-scale-factor": scale });
    const first = await this.#layText(page, viewport, text, mark);
    return { element, mark: first };
  }

  async #layText(page, viewport, container, mark) {
    const textContentSource = await page.getTextContent();
    const layer = new this.#api.TextLayer({ textContentSource, container, viewport });
    await layer.render();
    return mark ? markQuote(layer.textDivs, layer.textContentItemsStr, mark) : null;
  }
}

async function drawn(page, viewport) {
  const density = Math.min(globalThis.devicePixelRatio || 1, DENSEST);
  const canvas = h("canvas", { "aria-hidden": "true" });
  canvas.width = Math.floor(viewport.width * density);
  canvas.height = Math.floor(viewport.height * density);
  canvas.style.width = `${Math.floor(viewport.width)}px`;
  canvas.style.height = `${Math.floor(viewport.height)}px`;
  const transform = density === 1 ? null : [density, 0, 0, density, 0, 0];
  await page.render({ canvas, viewport, transform }).promise;
  return canvas;
}

function markQuote(elements, strings, { quote, nearby }) {
  const place = locate(strings.join("\n"), quote, nearby);
  if (place === null) return null;
  const marks = [];
  let start = 0;
  strings.forEach((string, index) => {
    const from = Math.max(0, place.start - start);
    const to = Math.min(string.length, place.end - start);
    if (from < to) marks.push(markPart(elements[index], string, from, to));
    start += string.length + 1;
  });
  return marks[0] ?? null;
}

function markPart(element, string, from, to) {
  const mark = h("mark", {}, string.slice(from, to));
  element.replaceChildren(string.slice(0, from), mark, string.slice(to));
  return mark;
}
