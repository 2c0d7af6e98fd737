/** The ladder of one reply: which rung answered and why, and what each other one would cost. */

import { h, prose } from "./dom.js";
import { chance, count, usd } from "./format.js";

export const RUNGS = [
  { name: "local", sees: "nothing" },
  { name: "evidence", sees: "quotes" },
  { name: "passages", sees: "passages" },
  { name: "document", sees: "everything" },
];

/** `onBuy(rung, button)` is called when a rung is bought. */
export function ladder(reply, { onBuy }) {
  const used = RUNGS.findIndex((rung) => rung.name === reply.rung);
  const offers = new Map(reply.offers.map((offer) => [offer.rung, offer]));
  const better = (offer) => offer?.closed === null && offer.p_correct > reply.p_correct;
  const next = RUNGS.findIndex(({ name }, i) => i > used && better(offers.get(name)));
  const rows = RUNGS.map((rung, i) =>
    row(rung, { used: i === used, below: i < used, next: i === next }, offers, reply, onBuy),
  );
  return h(
    "section",
    { class: "ladder" },
    h("h3", {}, "The ladder"),
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          HEADS.map(([text, kind]) => h("th", { scope: "col", class: kind }, text)),
        ),
      ),
      h("tbody", {}, rows),
    ),
    h("p", { class: "why" }, prose(why(reply))),
  );
}

const HEADS = [
  ["Rung", ""],
  ["The cloud sees", "sees"],
  ["Tokens", "number tokens"],
  ["Price", "number"],
  ["P(correct)", "number"],
  ["", "action"],
];

function row(rung, place, offers, reply, onBuy) {
  const offer = offers.get(rung.name);
  const p = place.used ? reply.p_correct : offer?.p_correct;
  const state = place.used ? "used" : place.below ? "below" : "above";
  return h(
    "tr",
    { "data-rung": rung.name, "data-state": state, "aria-current": place.used ? "true" : null },
    h("th", { scope: "row" }, h("span", { class: "dot", "aria-hidden": "true" }), rung.name),
    h("td", { class: "sees" }, rung.sees),
    isEmpty(offer) ? emptyCells(offer) : figures(rung, offer, p, action(rung, place, offer, onBuy)),
  );
}

function figures(rung, offer, p, end) {
  return [
    h("td", { class: "number tokens" }, rung.name === "local" ? "0" : tokens(offer)),
    h("td", { class: "number" }, rung.name === "local" ? "$0" : price(offer)),
    h("td", { class: "number" }, bar(p)),
    h("td", { class: "action" }, end),
  ];
}

/** A rung that has nothing to send has no price and no chance, only a reason. */
function isEmpty(offer) {
  return offer !== undefined && offer.closed !== null && offer.prompt_tokens === 0;
}

function emptyCells({ closed }) {
  return [h("td", { class: "tokens" }), h("td", { class: "closed", colspan: "3" }, prose(closed))];
}

function tokens(offer) {
  return offer ? count(offer.prompt_tokens) : "–";
}

function price(offer) {
  return offer ? usd(offer.expected_usd) : "–";
}

function bar(p) {
  const known = p !== null && p !== undefined;
  const meter = h("span", {
    class: "meter",
    "aria-hidden": "true",
    vars: { "--share": known ? p : 0 },
  });
  return h("span", { class: "chance" }, known ? meter : null, chance(p));
}

function action(rung, { used, below, next }, offer, onBuy) {
  if (used) return h("span", { class: "tag used" }, "answered");
  if (below || !offer) return null;
  if (offer.closed !== null) return h("span", { class: "closed" }, prose(offer.closed));
  const words = `Buy the rung ${rung.name} for about ${usd(offer.expected_usd)}`;
  const onclick = (event) => onBuy(rung.name, event.currentTarget);
  const kind = next ? "buy next" : "buy";
  return h(
    "button",
    { type: "button", class: kind, "aria-label": words, title: words, onclick },
    "Buy",
  );
}

function why(reply) {
  const calibrated =
    reply.p_correct_source === "prior" ? " P(correct) is an uncalibrated prior." : "";
  return `Why: ${reply.reason}.${calibrated}`;
}
