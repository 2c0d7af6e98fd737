/** What left this machine for one question, from the record that is written before it leaves. */

import { call } from "./api.js";
import { fill, h } from "./dom.js";
import { bytes, counted, when } from "./format.js";
import { opens } from "./viewer.js";

/** A disclosure; `loadNow` fetches its summary at once, else when it is opened. */
export function egress(questionId, { viewer, documents, loadNow }) {
  const summary = h("summary", {}, "What left this machine");
  const body = h("div", { class: "egress-body" });
  const element = h("details", { class: "egress" }, summary, body);
  let loaded = null;
  const load = () => (loaded ??= loadInto(questionId, summary, body, { viewer, documents }));
  element.addEventListener("toggle", () => element.open && load());
  if (loadNow) load();
  return element;
}

async function loadInto(questionId, summary, body, deps) {
  try {
    const report = await call("GET", `/v1/egress?question=${encodeURIComponent(questionId)}`);
    fill(summary, "What left this machine: ", h("b", {}, total(report)));
    fill(body, report.n_calls ? report.calls.map((c) => callView(c, deps)) : nothing());
  } catch (error) {
    fill(body, h("p", { class: "trouble" }, error.message));
  }
}

function total({ n_calls: calls, n_bytes: size }) {
  return calls ? `${bytes(size)} in ${counted(calls, "request")}` : "nothing";
}

function nothing() {
  return h("p", {}, "No byte of the question or its documents was sent anywhere.");
}

function callView(entry, deps) {
  return h(
    "article",
    {},
    h("p", {}, h("b", {}, bytes(entry.n_bytes)), ` to ${entry.destination}`),
    h(
      "p",
      { class: "quiet" },
      `${entry.purpose}, ${when(entry.at)}, SHA-256 ${entry.sha256.slice(0, 16)}…`,
    ),
    h(
      "ul",
      { class: "spans" },
      entry.pieces.map((piece) => h("li", {}, span(piece, deps))),
    ),
  );
}

function span(piece, { viewer, documents }) {
  const name = piece.document ?? "a deleted document";
  const words = `${name}, characters ${piece.start}–${piece.end}`;
  const known = documents.find(piece.document_id);
  return known ? opens(viewer, known, null, piece, { class: "link" }, words) : words;
}
