/** One page of a document as plain text, with a span marked in it. */

import { h } from "./dom.js";

/**
 * `page` is the service's {page, text, start, end}; `span` is {start, end} in the document's
 * characters, or null. Gives {element, mark}, mark being null when nothing is marked.
 */
export function drawText(page, span) {
  const characters = [...page.text];
  const from = clamp((span?.start ?? 0) - page.start, characters.length);
  const to = clamp((span?.end ?? 0) - page.start, characters.length);
  const cut = (start, end) => characters.slice(start, end).join("");
  const mark = from < to ? h("mark", {}, cut(from, to)) : null;
  const text = mark ? [cut(0, from), mark, cut(to)] : [page.text];
  const element = h("div", { class: "text-page", role: "document", tabindex: "-1" }, text);
  return { element, mark };
}

function clamp(value, most) {
  return Math.min(Math.max(0, value), most);
}
