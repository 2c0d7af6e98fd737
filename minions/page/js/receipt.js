/** The receipt of one reply: what was paid, and what the cloud alone would have cost. */

import { h } from "./dom.js";
import { count, percent, seconds, usd } from "./format.js";

export function receipt(cost) {
  return h(
    "section",
    { class: "receipt" },
    h("h3", {}, "The receipt"),
    h("p", { class: "saved" }, ...savedWords(cost)),
    bars(cost),
    h(
      "dl",
      {},
      facts(cost).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
    ),
    h(
      "details",
      { class: "method" },
      h("summary", {}, "How it was worked out"),
      h("p", {}, method(cost)),
    ),
  );
}

function savedWords({ savings_ratio: ratio }) {
  if (ratio === null) return [h("b", {}, "–"), " saved: an amount is unknown"];
  if (ratio < 0)
    return [h("b", { class: "dearer" }, percent(-ratio)), " dearer than the cloud alone"];
  return [h("b", {}, percent(ratio)), " saved"];
}

/** Paid and cloud-only as two bars on one scale; left out when one is unknown. */
function bars({ cloud_usd: paid, cloud_only_usd: alone }) {
  if (paid === null || alone === null) return null;
  const most = Math.max(paid, alone, Number.MIN_VALUE);
  return h(
    "div",
    { class: "bars", "aria-hidden": "true" },
    h("span", { class: "paid", vars: { "--share": paid / most } }),
    h("span", { class: "alone", vars: { "--share": alone / most } }),
  );
}

function facts(cost) {
  const hidden = Object.values(cost.redacted ?? {}).reduce((sum, n) => sum + n, 0);
  return [
    ["paid to the cloud", usd(cost.cloud_usd)],
    ["the cloud alone", usd(cost.cloud_only_usd)],
    ["tokens read here", count(cost.local_tokens)],
    ["tokens in the cloud", count(cost.cloud_tokens)],
    ...(cost.local_s === null ? [] : [["reading time", seconds(cost.local_s)]]),
    ...(hidden ? [["hidden from the cloud", count(hidden)]] : []),
  ];
}

function method({ cloud_only_method: how, price_snapshot: prices }) {
  return `The cloud alone: ${how}. Prices: ${prices}.`;
}
