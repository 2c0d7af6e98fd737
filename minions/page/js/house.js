/** The house: its machines, and the reports of its evaluations. */

import { bytesAt, hasKey, listOf } from "./api.js";
import { byId, fill, h, prose } from "./dom.js";
import { counted, when } from "./format.js";

const HEADINGS = new Set(["id", "object"]);

export async function showNodes() {
  const nodes = await listOf("/v1/nodes");
  byId("nodes-summary").textContent = counted(nodes.length, "machine");
  fill(
    byId("nodes"),
    h(
      "ul",
      { class: "house" },
      nodes.map((node) => h("li", {}, heading(node), facts(node))),
    ),
  );
}

export async function showEvals() {
  const evals = await listOf("/v1/evals");
  byId("evals-summary").textContent = evals.length ? counted(evals.length, "report") : "none yet";
  const empty = h(
    "p",
    { class: "quiet" },
    prose("Run `minions eval run` and its reports are listed here."),
  );
  const rows = evals.map((item) =>
    h("li", {}, heading(item), facts(about(item)), reportLink(item)),
  );
  fill(byId("evals"), evals.length ? h("ul", { class: "house" }, rows) : empty);
}

function heading(item) {
  return h("p", {}, h("b", {}, item.id), item.created_at ? ` ${when(item.created_at)}` : "");
}

/** What to show of an evaluation; one that can't be read has only an error. */
function about({ error, dataset, worker, cloud, n_items: questions, progress = [] }) {
  const done = progress.map(({ strategy, done }) => [strategy, `${done} of ${questions}`]);
  return { error, dataset, worker, cloud, ...Object.fromEntries(done) };
}

/** The plain values of an item, named as the service names them. */
function facts(item) {
  const plain = Object.entries(item).filter(
    ([name, value]) => !HEADINGS.has(name) && isPlain(value),
  );
  return h(
    "dl",
    {},
    plain.map(([name, value]) => [
      h("dt", {}, name.replaceAll("_", " ")),
      h("dd", {}, words(value)),
    ]),
  );
}

function isPlain(value) {
  return ["string", "number", "boolean"].includes(typeof value);
}

function words(value) {
  if (typeof value === "number" && !Number.isInteger(value)) return value.toFixed(3);
  return String(value);
}

/** A link can carry no key: with one, the report is fetched and saved instead of opened. */
function reportLink({ id }) {
  const path = `/v1/evals/${encodeURIComponent(id)}/report.html`;
  if (!hasKey())
    return h("a", { href: path, target: "_blank", rel: "noopener" }, "Open the report");
  const save = { type: "button", class: "link", onclick: () => download(path, `${id}.html`) };
  return h("button", save, "Save the report");
}

async function download(path, name) {
  const address = URL.createObjectURL(new Blob([await bytesAt(path)], { type: "text/html" }));
  h("a", { href: address, download: name }).click();
  URL.revokeObjectURL(address);
}
