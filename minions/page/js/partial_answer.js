/**
 * The cloud streams JSON. While it is still being written, this reads the answer out of it.
 */

const OPENING = /"answer"\s*:\s*"/;
const ESCAPES = { n: "\n", t: "\t", r: "", b: "", f: "", '"': '"', "\\": "\\", "/": "/" };
const TOKEN = /\\u([0-9a-fA-F]{4})|\\(["\\/bfnrt])|([^"\\])|(["\\])/gs;

/** The answer as far as it has come; null while none has begun. */
export function partialAnswer(json) {
  const opening = OPENING.exec(json);
  if (!opening) return null;
  let answer = "";
  for (const token of json.slice(opening.index + opening[0].length).matchAll(TOKEN)) {
    const [, code, escape, plain, stop] = token;
    if (stop !== undefined) break;
    answer += plain ?? (code ? String.fromCharCode(parseInt(code, 16)) : ESCAPES[escape]);
  }
  return answer;
}
