/** One question, from its asking to its receipt: what the page shows of a run. */

import { call, follow } from "./api.js";
import { Answer } from "./answer.js";
import { ChunkGrid } from "./chunk_grid.js";
import { fill, h, prose, show } from "./dom.js";
import { egress } from "./egress.js";
import { count, counted, usd, when } from "./format.js";
import { ladder } from "./ladder.js";
import { receipt } from "./receipt.js";

const RUNNING = new Set(["queued", "running"]);
const PHASES = { queued: "Waiting for its turn…", running: "Reading the documents…" };
const ENDS = {
  failed: "This question failed.",
  cancelled: "Cancelled. What was read is kept, and is not read again.",
  interrupted: "Interrupted: the service stopped while it worked on this.",
};
const LOST = "The connection is lost; what has been read is kept. Trying again…";

export class QuestionCard {
  #run;
  #deps;
  #answer;
  #grid;
  #ended = 0;
  #jobs = 0;
  #announced = 0;
  #phase = h("p", { class: "phase" });
  #bar = h("progress", { max: "1", value: "0", "aria-label": "Share of the jobs that have ended" });
  #cancel;
  #progress;
  #reading;
  #figures = h("div", { class: "figures" });
  #outcome = h("div", { class: "outcome" });
  #abort = new AbortController();

  /**
   * `deps`: viewer, documents, announce, onAsk(body, place) for asking again, onBuy(run, rung),
   * onEnd(card) when the run has ended in this page.
   */
  constructor(run, deps) {
    this.#run = run;
    this.#deps = deps;
    this.#answer = new Answer(deps);
    this.#grid = this.#newGrid();
    this.#build();
  }

  get run() {
    return this.#run;
  }

  /** Show a run that has ended, as the service keeps it. */
  showEnded() {
    const { status, reply, error } = this.#run;
    show(this.#progress, false);
    show(this.#reading);
    this.#reading.open = false;
    this.#reading.addEventListener("toggle", () => this.#replay(), { once: true });
    if (reply) this.#showReply(reply, { live: false });
    else this.#showEnd(status, error);
  }

  /** Follow a run while it works. */
  async follow() {
    try {
      for await (const event of follow(this.#run.id, this.#following())) this.#take(event);
    } catch (error) {
      this.#showEnd("failed", error);
    }
    if (!this.#abort.signal.aborted) await this.#settle();
  }

  /** Leave the run to itself: the card is going away. */
  leave() {
    this.#abort.abort();
  }

  #build() {
    const { id, created_at: at, question } = this.#run;
    const cancel = { type: "button", class: "quiet-button", onclick: () => this.#stop() };
    this.#cancel = h("button", cancel, "Cancel");
    this.#progress = h("div", { class: "progress" }, this.#phase, this.#cancel, this.#bar);
    this.#reading = h(
      "details",
      { class: "reading", open: true },
      h("summary", {}, "The reading"),
      this.#grid.element,
    );
    this.element = h(
      "article",
      { class: "card", id: `q-${id}`, "aria-labelledby": `t-${id}` },
      h(
        "header",
        {},
        h("h2", { id: `t-${id}`, tabindex: "-1", dir: "auto" }, question.asked ?? question.question),
        this.#before(question),
        h("p", { class: "quiet" }, this.#about(at)),
      ),
      this.#progress,
      this.#reading,
      this.#answer.element,
      this.#outcome,
      this.#figures,
    );
    show(this.#reading, false);
    this.#say(PHASES.queued);
  }

  #newGrid() {
    const { documents, viewer } = this.#deps;
    const onOpen = ({ document_id: id, page, start, end }, cell) => {
      const known = documents.find(id);
      if (known) viewer.open(known, page, { start, end }, cell);
    };
    return new ChunkGrid({ nameOf: (id) => documents.nameOf(id), onOpen });
  }

  #about(at) {
    const { documents: ids, strategy, rung } = this.#run.question;
    const names = ids.map((id) => this.#deps.documents.nameOf(id));
    const shown = names.length > 3 ? counted(names.length, "document") : names.join(", ");
    const bought = rung && rung !== "local" ? `bought: ${rung}` : strategy;
    return [shown, bought, when(at)].filter(Boolean).join(" · ");
  }

  /** Where the question leans on an earlier one: which. */
  #before({ asked, follows }) {
    if (!asked || !follows) return [];
    const heading = document.getElementById(`t-${follows}`);
    const link = heading && h("a", { href: `#q-${follows}`, dir: "auto" }, heading.textContent);
    return h("p", { class: "before" }, "Goes on from ", link ?? "an earlier question");
  }

  #following() {
    return { signal: this.#abort.signal, onLost: (lost) => this.#tellLost(lost) };
  }

  #tellLost(lost) {
    this.#phase.classList.toggle("lost", lost);
    if (lost) this.#say(LOST);
  }

  #take({ event, data }) {
    const takes = {
      status: () => data.status in PHASES && this.#say(PHASES[data.status]),
      reading: () => this.#startReading(data),
      job: () => this.#endJob(data),
      draft: () => this.#showDraft(data),
      rung: () => this.#showRung(data),
      cloud_delta: () => this.#answer.stream(data.text),
      reply: () => this.#showReply(data, { live: true }),
      error: () => this.#showEnd("failed", data),
    };
    takes[event]?.();
  }

  #startReading({ n_jobs: jobs, chunks }) {
    this.#jobs += jobs;
    show(this.#reading);
    this.#grid.expect(chunks);
    this.#tellReading();
  }

  #endJob({ chunk_id: chunk, status }) {
    this.#ended += 1;
    this.#grid.mark(chunk, status);
    this.#tellReading();
  }

  #tellReading() {
    const share = this.#jobs ? Math.min(1, this.#ended / this.#jobs) : 0;
    this.#bar.value = share;
    this.#say(`Reading on this machine: ${count(this.#ended)} of ${counted(this.#jobs, "job")}`);
    const quarter = Math.floor(share * 4);
    if (quarter > this.#announced) this.#deps.announce(`${quarter * 25}% of the reading is done.`);
    this.#announced = Math.max(this.#announced, quarter);
  }

  #showDraft(draft) {
    if (!this.#answer.element.dataset.kind) this.#deps.announce(`Draft answer: ${draft.answer}`);
    this.#answer.draft(draft);
    this.#grid.cite(draft.citations);
  }

  #showRung({ rung, reason }) {
    this.#answer.restart();
    if (rung) this.#say(`Asking the cloud, rung ${rung}: ${reason}`);
  }

  #showReply(reply, { live }) {
    show(this.#progress, false);
    this.#answer.final(reply);
    this.#grid.cite(reply.citations);
    this.#tellJobs(reply.jobs);
    const { viewer, documents, onBuy } = this.#deps;
    const buy = (rung, button) => this.#buy(rung, button, onBuy);
    const sent = egress(this.#run.id, { viewer, documents, loadNow: live });
    fill(this.#figures, ladder(reply, { onBuy: buy }), receipt(reply.cost), sent);
    if (live)
      this.#deps.announce(
        `Answer: ${reply.answer ?? "none found"}. Paid: ${usd(reply.cost.cloud_usd)}.`,
      );
  }

  #tellJobs({ answered, abstained, failed, skipped = 0 }) {
    const parts = [`${count(answered)} answered`, `${count(abstained)} abstained`];
    if (failed) parts.push(`${count(failed)} failed`);
    if (skipped) parts.push(`${count(skipped)} not needed`);
    show(this.#reading, answered + abstained + failed + skipped > 0);
    this.#grid.settle();
    this.#reading.firstChild.textContent = `The reading: ${parts.join(", ")}`;
  }

  #showEnd(status, error) {
    show(this.#progress, false);
    const text = error?.message ?? ENDS[status] ?? `This question is ${status}.`;
    const again = { type: "button", onclick: (event) => this.#again(event.currentTarget) };
    fill(
      this.#outcome,
      h(
        "div",
        { class: `end ${status}` },
        h("p", {}, prose(text)),
        h("button", again, "Ask again"),
      ),
    );
    this.#deps.announce(text);
  }

  /** The stream has ended: what the service keeps is the truth. */
  async #settle() {
    try {
      this.#run = await call("GET", `/v1/questions/${this.#run.id}`);
      const { status, reply, error } = this.#run;
      if (!reply && !RUNNING.has(status)) this.#showEnd(status, error);
    } catch (error) {
      this.#deps.announce(error.message, { trouble: true });
    }
    this.#deps.onEnd(this);
  }

  /** The reading of a run that ended before this page was opened, from its kept events. */
  async #replay() {
    try {
      for await (const { event, data } of follow(this.#run.id, { signal: this.#abort.signal })) {
        if (event === "reading") this.#grid.expect(data.chunks);
        if (event === "job") this.#grid.mark(data.chunk_id, data.status);
      }
      this.#grid.settle();
      if (this.#run.reply) this.#grid.cite(this.#run.reply.citations);
    } catch (error) {
      this.#deps.announce(error.message, { trouble: true });
    }
  }

  async #stop() {
    await this.#during(this.#cancel, () => call("POST", `/v1/questions/${this.#run.id}/cancel`));
  }

  async #buy(rung, button, onBuy) {
    await this.#during(button, () => onBuy(this.#run, rung));
  }

  async #again(button) {
    await this.#during(button, () => this.#deps.onAgain(this.#run));
  }

  /** A button can't be pressed twice, and what goes wrong is told. */
  async #during(button, work) {
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      this.#deps.announce(error.message, { trouble: true });
    } finally {
      button.disabled = false;
    }
  }

  #say(text) {
    fill(this.#phase, prose(text));
  }
}
