/** Money over time, question by question: what was paid, what the cloud alone would have cost. */

import { call } from "./api.js";
import { byId, fill, h, s } from "./dom.js";
import { counted, percent, usd } from "./format.js";

const [WIDTH, HEIGHT, EDGE] = [240, 72, 4];

export async function showSavings() {
  const savings = await call("GET", "/v1/savings");
  const known = savings.questions.filter((q) => q.cloud_usd !== null).toReversed();
  const summary = savings.n_compared ? `saved ${usd(savings.saved_usd)}` : "nothing yet";
  byId("savings-summary").textContent = summary;
  const empty = h("p", { class: "quiet" }, "Each answered question is added here.");
  fill(byId("savings"), savings.n_compared ? [chart(known), figures(savings)] : empty);
}

function figures(savings) {
  const rows = [
    ["paid", usd(savings.cloud_usd)],
    ["the cloud alone", usd(savings.cloud_only_usd)],
    ["saved", `${usd(savings.saved_usd)} (${percent(savings.savings_ratio)})`],
    ["questions", counted(savings.n_compared, "compared", "compared")],
  ];
  if (savings.n_unknown) rows.push(["left out", `${savings.n_unknown}: an amount is unknown`]);
  return h(
    "dl",
    {},
    rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
  );
}

function chart(questions) {
  const alone = cumulated(questions.map((q) => q.cloud_only_usd ?? 0));
  const paid = cumulated(questions.map((q) => q.cloud_usd));
  const most = Math.max(alone.at(-1), paid.at(-1), Number.MIN_VALUE);
  const sums = `paid ${usd(paid.at(-1))}, the cloud alone ${usd(alone.at(-1))}`;
  const label = `Over ${counted(questions.length, "question")}: ${sums}`;
  const [upper, lower] = [points(alone, most), points(paid, most)];
  return h(
    "figure",
    {},
    s(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
      s("polygon", { class: "saved-area", points: [...upper, ...lower.toReversed()].join(" ") }),
      s("polyline", { class: "alone-line", points: upper.join(" ") }),
      s("polyline", { class: "paid-line", points: lower.join(" ") }),
    ),
    h(
      "figcaption",
      {},
      h("span", { class: "key-alone" }, "the cloud alone"),
      h("span", { class: "key-paid" }, "paid"),
    ),
  );
}

/** Running sums, from 0. */
function cumulated(amounts) {
  let sum = 0;
  return [0, ...amounts.map((amount) => (sum += amount))];
}

function points(sums, most) {
  const step = (WIDTH - 2 * EDGE) / (sums.length - 1);
  return sums.map((sum, i) => {
    const y = HEIGHT - EDGE - (sum / most) * (HEIGHT - 2 * EDGE);
    return `${(EDGE + i * step).toFixed(1)},${y.toFixed(1)}`;
  });
}
