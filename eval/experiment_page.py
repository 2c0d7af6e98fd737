"""The experiment's page: a Markdown file whose every figure comes from the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from eval.calibrate import CalibrationReport
from eval.experiment_plan import AIMED, GOAL_ACCURACY, GOAL_COST, Experiment, Quote
from eval.report.figures import REFERENCE, RunFigures, StrategyFigures, priced
from eval.report.page import warnings_of
from eval.report.wording import percent, percent_interval, usd
from eval.rows import Row
from minions.cloud.model import CloudUsage, PriceBook
from minions.evidence.relevance import Profile

TEMPLATE = "experiment.md.j2"
BUDGET_MARGIN = Decimal("1.25")
"""Over the quote: a call is reserved at its worst price, which is more than it comes to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """What the page tells beside the figures."""

    experiment: Experiment
    learnt: CalibrationReport | str
    """The router's profile, or why there is none."""
    relevance: Profile | str
    """What the rung `evidence` sends, or why nothing was learned of that."""
    quote: Quote
    prices: PriceBook
    command: str
    minutes: float
    """From the first question of the learning run to the last row of the test."""
    made_on: str
    simulated: bool
    """Whether the cloud was the simulator."""


def experiment_page(figures: RunFigures, account: Account) -> str:
    """The whole page."""
    environment = Environment(  # Markdown, not HTML: nothing is to be escaped
        autoescape=False, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    source = resources.files("eval").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(
        manifest=figures.run.manifest,
        labels=[one.label for one in figures.strategies],
        rows=list(_rows(figures)),
        kinds=list(_kinds(figures)),
        has_deferral=figures.deferral is not None,
        warnings=list(warnings_of(figures)),
        verdict=_verdict(figures),
        ladders=_ladders(figures),
        parts=list(_parts(figures)),
        aimed=AIMED,
        stated=_beside_on([row for row in figures.run.rows if row.answerable], AIMED),
        cached=_cached(figures, account.prices),
        worker_file=_worker_file(figures),
        goal_accuracy=percent(float(GOAL_ACCURACY)),
        goal_factor=f"{float(1 / GOAL_COST):.1f}",
        **_counts(account.experiment),
        **_told(account),
    )


def _counts(experiment: Experiment) -> dict[str, Any]:
    names = {item.document_name for item in experiment.test.items}
    n_generated = sum(name.startswith("generated-") for name in names)
    return {
        "n_questions": len(experiment.test.items),
        "n_documents": len(names),
        "n_generated": n_generated,
        "n_contracts": len(names) - n_generated,
        "n_held_out": experiment.n_held_out,
        "n_learn": len(experiment.learn.items),
        "n_learn_documents": len({item.document_name for item in experiment.learn.items}),
    }


def _told(account: Account) -> dict[str, Any]:
    found = account.quote
    return {
        "command": account.command,
        "minutes": f"{account.minutes:.0f}",
        "made_on": account.made_on,
        "simulated": account.simulated,
        "cloud_note": "'s prices, asked of the simulator" if account.simulated else "",
        "learnt": _learnt(account.learnt),
        "relevance": _relevance(account.relevance),
        "budget": str(math.ceil(found.usd * BUDGET_MARGIN)),
        "quote_text": (
            f"By `minions eval experiment --cuad DIR --estimate` the cloud is paid at most about "
            f"${found.usd:.2f} for it, at list prices: {found.n_questions} questions about "
            f"documents of {found.document_tokens:,} tokens, every rung of every question once. "
            "The budget is a hard stop; the same command with a larger one goes on."
        ),
    }


def _learnt(learnt: CalibrationReport | str) -> str:
    if isinstance(learnt, str):
        return f"No profile could be fitted ({learnt}), so the documented prior was used."
    fitted, prior = learnt.calibration.quality, learnt.prior
    rungs = ", ".join(f"`{known.rung}`" for known in learnt.calibration.rungs)
    return (
        f"The worker was right on {percent(learnt.accuracy)} of them. The profile that was fitted "
        f"on {fitted.n} of these (cross-validated by document: calibration error {fitted.ece:.3f}, "
        f"AUROC {_number(fitted.auroc)}; the prior's: {prior.ece:.3f}, {_number(prior.auroc)}) "
        f"knows the rungs {rungs or '(none)'}."
    )


def _relevance(relevance: Profile | str) -> str:
    if isinstance(relevance, str):
        return f"What the rung `evidence` sends was not learned ({relevance})."
    return f"What the rung `evidence` sends was learned there too: {relevance.source}."


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _rows(figures: RunFigures) -> Iterator[dict[str, str]]:
    for one in figures.strategies:
        beside = one.against_cloud
        yield {
            "label": one.label,
            "accuracy": percent_interval(one.accuracy),
            "of_cloud": percent_interval(beside.accuracy) if beside else "",
            "usd": usd(one.usd_per_question.value),
            "cost": _share(one),
            "score": f"{one.score.value:.3f}" if one.score.value is not None else "unknown",
            "citations": percent(one.citations.value) if one.n_citations else "",
            "errors": str(one.n_errors),
        }


def _share(one: StrategyFigures) -> str:
    """The cost as a share of the cloud's, and as a fraction where it is one."""
    if one.against_cloud is None:
        return ""
    share, factor = one.against_cloud.usd, one.against_cloud.times_cheaper
    if factor is None or factor < 2:
        return percent(share.value)
    return f"{percent_interval(share)}, 1/{factor:.1f}"


def _kinds(figures: RunFigures) -> Iterator[dict[str, Any]]:
    names = dict.fromkeys(each.kind for each in figures.kinds)
    for name in names:
        of_kind = {each.label: each for each in figures.kinds if each.kind == name}
        yield {
            "name": name,
            "n": max(each.n for each in of_kind.values()),
            "cells": [
                percent(of_kind[one.label].accuracy.value) if one.label in of_kind else ""
                for one in figures.strategies
            ],
        }


def _verdict(figures: RunFigures) -> str:
    """How the declared setting did, and how sure that is; then the other ladders."""
    ladders = {one.label: one for one in figures.strategies if one.label.startswith("ladder")}
    declared = ladders.pop(AIMED, None)
    lines = [_declared(declared)] if declared is not None else []
    others = "; ".join(_beside(one) for one in ladders.values())
    return " ".join([*lines, f"The other settings: {others}." if others else ""]).strip()


def _declared(one: StrategyFigures) -> str:
    beside = one.against_cloud
    reached = "Reached here, against this cloud" if _reaches(one) else "Not reached here"
    said = f"**{reached}:** {_beside(one)}."
    if beside is None or beside.accuracy.low is None or beside.usd.high is None:
        return said
    sure = beside.accuracy.low >= GOAL_ACCURACY and beside.usd.high <= GOAL_COST
    kept, cost = percent_interval(beside.accuracy), percent_interval(beside.usd)
    interval = f"Accuracy {kept} of the cloud's, cost {cost} of it"
    if sure:
        return f"{said} {interval}: the intervals lie within the goal."
    return (
        f"{said} {interval}: the intervals reach beyond the goal on its wrong side, so that "
        "another draw of documents could miss it."
    )


_PARTS: Mapping[str, Callable[[Row], bool]] = {
    "contracts": lambda row: not row.kind.startswith("generated"),
    "generated documents": lambda row: row.kind.startswith("generated"),
    "questions that have an answer": lambda row: row.answerable,
    "questions that have none": lambda row: not row.answerable,
}


LENGTHS = ((0, 5_000), (5_000, 15_000), (15_000, math.inf))
"""Tokens that the cloud is sent with the whole document, from and up to."""


def _parts(figures: RunFigures) -> Iterator[dict[str, Any]]:
    """Every ladder beside the cloud, on parts of the questions alone."""
    for what, belongs in _PARTS.items():
        chosen = [row for row in figures.run.rows if belongs(row)]
        yield _part(figures, what, chosen)
    sizes = {row.item_id: row.cloud_tokens or 0 for row in figures.run.of(REFERENCE)}
    for low, high in LENGTHS:
        within = {item_id for item_id, tokens in sizes.items() if low <= tokens < high}
        chosen = [row for row in figures.run.rows if row.item_id in within]
        yield _part(figures, _length_text(low, high), chosen)


def _length_text(low: float, high: float) -> str:
    return f"from {low:,} tokens" if math.isinf(high) else f"{low:,} to {high:,.0f} tokens"


def _part(figures: RunFigures, what: str, rows: Sequence[Row]) -> dict[str, Any]:
    n = len({row.item_id for row in rows})
    return {"name": what, "n": n, "cells": [_beside_on(rows, label) for label in _ladders(figures)]}


def _ladders(figures: RunFigures) -> list[str]:
    return [one.label for one in figures.strategies if one.label.startswith("ladder")]


def _beside_on(rows: Sequence[Row], label: str) -> str:
    """Accuracy and cost as shares of the cloud's."""
    ours, theirs = _sums(rows, label), _sums(rows, REFERENCE)
    if ours is None or theirs is None or 0 in theirs:
        return "unknown"
    kept, paid = ours[0] / theirs[0], ours[1] / theirs[1]
    return f"{percent(kept)} for {f'1/{1 / paid:.1f}' if paid else 'nothing'}"


def _sums(rows: Sequence[Row], label: str) -> tuple[int, float] | None:
    """(right answers, dollars) of a strategy; None where a price is unknown."""
    chosen = [row for row in rows if row.strategy == label]
    prices = priced(chosen)
    return None if prices is None else (sum(row.correct for row in chosen), sum(prices))


def _cached(figures: RunFigures, prices: PriceBook) -> str:
    """What the cloud would cost if later questions about a document met the prefix cache."""
    rows = figures.run.of(REFERENCE)
    declared = _sums(figures.run.rows, AIMED)
    paid = priced(rows)
    saved = [_saving(row, figures.run.manifest.cloud, prices) for row in _later(rows)]
    if paid is None or declared is None or not declared[1] or None in saved:
        return ""
    total = sum(paid) - sum(float(usd) for usd in saved if usd is not None)
    return (
        "No two prompts share a prefix that could be cached, as the question stands before the "
        "document. Were it the other way round, and every later question about a document came "
        f"within the cache's life, the cloud would cost {usd(total / len(rows))} a question, and "
        f"`{AIMED}` 1/{total / declared[1]:.1f} of that."
    )


def _later(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows that are not the first of their document."""
    seen: set[str | None] = set()
    for row in rows:
        if row.document in seen:
            yield row
        seen.add(row.document)


def _saving(row: Row, model: str, prices: PriceBook) -> Decimal | None:
    """Dollars that a cached document takes off a row's price; None when unknown."""
    n = ((row.outcomes or {}).get("document") or {}).get("prompt_tokens")
    if n is None:
        return None
    whole = prices.cost_usd(model, CloudUsage(prompt_tokens=n))
    cached = prices.cost_usd(model, CloudUsage(prompt_tokens=n, cached_tokens=_cacheable(n)))
    return None if whole is None or cached is None else whole - cached


def _cacheable(prompt_tokens: int) -> int:
    """From 1,024 tokens in steps of 128, without about 128 of question and frame at the end."""
    n = (prompt_tokens - 128) // 128 * 128
    return n if n >= 1024 else 0


def _worker_file(figures: RunFigures) -> str:
    """The beginning of the model file's SHA-256, where the rows have one."""
    keys = (row.worker for row in figures.run.rows if row.worker is not None)
    sha256 = next((key.get("model_sha256") for key in keys), None)
    return f" (SHA-256 {sha256[:12]}…)" if sha256 else ""


def _reaches(one: StrategyFigures) -> bool:
    beside = one.against_cloud
    if beside is None or beside.accuracy.value is None or beside.usd.value is None:
        return False
    return beside.accuracy.value >= GOAL_ACCURACY and beside.usd.value <= GOAL_COST


def _beside(one: StrategyFigures) -> str:
    beside = one.against_cloud
    if beside is None:
        return f"`{one.label}` has nothing to be compared with"
    kept = percent(beside.accuracy.value)
    if beside.usd.value == 0:
        return f"`{one.label}` kept {kept} for nothing"
    factor = beside.times_cheaper
    cost = "an unknown share" if factor is None else f"1/{factor:.1f}"
    return f"`{one.label}` kept {kept} for {cost} of the cost"
