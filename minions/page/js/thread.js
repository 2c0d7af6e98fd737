/** The questions, oldest first, each in its card; restored from the service on loading. */

import { call, listOf } from "./api.js";
import { byId, show } from "./dom.js";
import { QuestionCard } from "./question_card.js";

const SHOWN = 20;
const UNFINISHED = new Set(["queued", "running"]);

export class Thread {
  #place = byId("thread");
  #last = null; // the newest run
  #deps;

  constructor({ viewer, documents, announce, onEnd }) {
    this.#deps = {
      viewer,
      documents,
      announce,
      onEnd,
      onBuy: (run, rung) => this.#buy(run, rung),
      onAgain: (run) => this.ask(bodyOf(run)),
    };
  }

  async load() {
    const newest = await listOf("/v1/questions", { most: SHOWN });
    for (const run of newest.toReversed()) this.#add(run);
    if (newest.length) this.#deps.documents.choose(newest[0].question.documents);
    this.#place.lastElementChild?.scrollIntoView({ block: "start" });
  }

  /**
   * Ask, and show the question at the end. One about the same documents as the last goes on from
   * that: the service takes along what it leans on. Raises ServiceError when it isn't accepted.
   */
  async ask(body) {
    const last = this.#last;
    const goesOn = last && !("follows" in body) && sameDocuments(last, body);
    if (goesOn) body = { ...body, follows: last.id };
    this.#open(await call("POST", "/v1/questions", { json: { ...body, background: true } }));
  }

  get isEmpty() {
    return this.#place.childElementCount === 0;
  }

  async #buy(run, rung) {
    this.#open(await call("POST", `/v1/questions/${run.id}/buy`, { json: { rung } }));
  }

  #open(run) {
    document.getElementById(`q-${run.id}`)?.remove(); // the same run, taken up again
    const card = this.#add(run);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    card.element.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
  }

  #add(run) {
    const card = new QuestionCard(run, this.#deps);
    this.#place.append(card.element);
    this.#last = run;
    show(byId("welcome"), false);
    if (UNFINISHED.has(run.status)) card.follow();
    else card.showEnded();
    return card;
  }
}

/** What was asked, as a body to ask it with again. */
function bodyOf({ question }) {
  const kept = ["documents", "strategy", "privacy", "max_cost_usd", "target", "redact"];
  kept.push("stop_early", "value_usd", "alpha", "max_latency_s", "effort", "follows");
  const given = kept.filter((name) => question[name] !== null && question[name] !== undefined);
  const options = Object.fromEntries(given.map((name) => [name, question[name]]));
  return { follows: null, ...options, question: question.asked ?? question.question };
}

function sameDocuments({ question }, { documents }) {
  return question.documents.length > 0 && question.documents.join() === documents.join();
}
