/** The answer of a question: a draft at first, then streamed, then final with its citations. */

import { fill, h, prose, show } from "./dom.js";
import { chance, percent } from "./format.js";
import { partialAnswer } from "./partial_answer.js";
import { opens } from "./viewer.js";

const NO_ANSWER = "The documents do not seem to answer this.";

export class Answer {
  #tag = h("p", { class: "tag" });
  #text = h("p", { class: "answer-text", dir: "auto" });
  #citations = h("ol", { class: "citations" });
  #streamed = "";
  #viewer;
  #documents;

  constructor({ viewer, documents }) {
    this.#viewer = viewer;
    this.#documents = documents;
    this.element = h("div", { class: "answer" }, this.#tag, this.#text, this.#citations);
    show(this.element, false);
  }

  /** What the answer would be by what has been read so far. */
  draft({ answer, citations, p_correct: p, coverage }) {
    const words = `Draft · ${percent(coverage)} read · P(correct) ${chance(p)}`;
    this.#put("draft", words, answer, citations);
  }

  /** A call to the cloud begins: what it streams is a new text. */
  restart() {
    this.#streamed = "";
  }

  /** A piece of what the cloud writes. */
  stream(piece) {
    this.#streamed += piece;
    const answer = partialAnswer(this.#streamed);
    if (answer) this.#put("streaming", "The cloud is writing", answer, []);
  }

  final(reply) {
    const warnings = reply.warnings.map((warning) => h("li", {}, prose(warning)));
    this.#put("final", finalWords(reply), reply.answer ?? NO_ANSWER, reply.citations);
    this.element.classList.toggle("abstained", reply.abstained);
    if (warnings.length) this.element.append(h("ul", { class: "warnings" }, warnings));
  }

  #put(kind, words, answer, citations) {
    show(this.element);
    this.element.dataset.kind = kind;
    fill(this.#tag, words);
    fill(this.#text, answer);
    fill(
      this.#citations,
      citations.map((c) => h("li", {}, this.#citation(c))),
    );
  }

  #citation(citation) {
    const { document_id: id, document: name, page, quote, table } = citation;
    const known = this.#documents.find(id);
    const content = [
      h("q", { dir: "auto" }, quote),
      table ? h("span", { class: "quiet" }, `${table.row} · ${table.column}`) : null,
      h("span", { class: "source" }, `${name}, page ${page}`, known ? "" : " (deleted)"),
    ];
    if (!known) return h("div", { class: "citation" }, content);
    const label = `Open ${name}, page ${page}, at the quote: ${quote}`;
    return opens(
      this.#viewer,
      known,
      page,
      citation,
      { class: "citation", "aria-label": label },
      content,
    );
  }
}

function finalWords(reply) {
  const read = `${percent(reply.coverage)} read`;
  const where =
    reply.rung === "local" ? "on this machine" : `with the cloud's help (${reply.rung})`;
  const outcome = reply.abstained ? "No answer" : "Answered";
  return `${outcome} ${where} · ${read} · P(correct) ${chance(reply.p_correct)}`;
}
