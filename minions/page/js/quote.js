/**
 * Finds a quote in a page as a PDF viewer sees it. Two programs read the same PDF differently:
 * spaces, line breaks, hyphens and ligatures differ. So both sides are folded to letters and
 * digits, compared, and the place found is mapped back.
 */

const KEPT = /[\p{L}\p{N}]/u;
const ENDS = 24;

/** Letters and digits of a text, lower case, with the index in the text that each came from. */
export function fold(text) {
  const letters = [];
  const places = [];
  let index = 0;
  for (const character of text) {
    // By way of upper case, so that ß is ss, and a final sigma a sigma.
    for (const letter of character.normalize("NFKD").toUpperCase().toLowerCase()) {
      if (!KEPT.test(letter)) continue;
      letters.push(letter);
      for (let unit = 0; unit < letter.length; unit += 1) places.push(index);
    }
    index += character.length;
  }
  return { letters: letters.join(""), places };
}

/**
 * Where `quote` stands in `text`: {start, end}, half-open, in UTF-16 units; null when it doesn't.
 * `nearby` (0..1) says how far down the text it should be, and decides between several places.
 */
export function locate(text, quote, nearby = 0) {
  const page = fold(text);
  const wanted = fold(quote).letters;
  if (!wanted) return null;
  const found = nearest(page.letters, wanted, nearby) ?? byItsEnds(page.letters, wanted, nearby);
  return found && backToText(text, page.places, found);
}

function nearest(letters, wanted, nearby) {
  const aim = nearby * letters.length;
  let best = null;
  for (let at = letters.indexOf(wanted); at >= 0; at = letters.indexOf(wanted, at + 1)) {
    if (best === null || Math.abs(at - aim) < Math.abs(best.start - aim)) {
      best = { start: at, end: at + wanted.length };
    }
  }
  return best;
}

/** A long quote whose middle is read differently is still held by its first and last letters. */
function byItsEnds(letters, wanted, nearby) {
  if (wanted.length < 2 * ENDS) return null;
  const head = nearest(letters, wanted.slice(0, ENDS), nearby);
  if (head === null) return null;
  const tail = letters.indexOf(wanted.slice(-ENDS), head.end);
  const length = tail + ENDS - head.start;
  const likely = tail >= 0 && length < wanted.length * 1.5;
  return likely ? { start: head.start, end: tail + ENDS } : null;
}

function backToText(text, places, { start, end }) {
  const last = places[end - 1];
  const width = text.codePointAt(last) > 0xffff ? 2 : 1;
  return { start: places[start], end: last + width };
}

/**
 * The service counts characters as code points, JavaScript in UTF-16 units. A slice by code points.
 */
export function sliceByCharacters(text, start, end) {
  return [...text].slice(Math.max(0, start), Math.max(0, end)).join("");
}
