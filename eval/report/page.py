"""`report.html`: one page that opens alone, without network or script, light and dark.

Everything that a model, a document or a dataset wrote is escaped by the template; the charts are
XML, escaped when they are made. The page's own policy forbids whatever might slip through.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from eval.report.charts import colour, deferral_chart, frontier_chart, reliability_chart
from eval.report.figures import Deferral, RunFigures, StrategyFigures, WorstCase
from eval.report.wording import (
    counted,
    number_interval,
    percent,
    percent_interval,
    times_cheaper,
    usd,
)
from eval.rows import ABSTAINED, Row
from eval.statistics import Estimate

MAX_FACTS = 4_000
"""Characters of one step of a trace; the rest is in the run's folder, and the page says so."""
METHOD = {
    "intervals": "Questions of one document are drawn together, and all strategies on the same "
    "draws, so that comparisons are paired.",
    "counts": "Accuracy is over the questions reached; an error is no answer and counts as not "
    "right. Questions not reached are in no figure here but their own. Dollars are what the calls "
    "cost without the response cache. A price that is not known is unknown, not 0.",
    "deferral": "Local answers are sent to the cloud, the least certain first. APGR is the area "
    "under the share of the gap recovered (a coin has 0.5); the lines below say how much it takes "
    "to recover a share of the gap, at points that were really reached: nothing is interpolated "
    "over an accuracy that may fall.",
    "reliability": "Of the answers that were stated to be right with some chance, how many were? "
    "On the dashed line, just that many. Each point stands for about equally many answers.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One field of a table."""

    text: str
    range: str = ""
    """The interval, in small print."""
    bad: bool = False


def report_page(figures: RunFigures) -> str:
    """The whole page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(_file("page.html.j2"))
    return template.render(
        figures=figures,
        manifest=figures.run.manifest,
        method=METHOD,
        scope=f"{counted(figures.run.manifest.n_items, 'question')} about "
        f"{counted(figures.n_clusters, 'document')}",
        css=Markup(_file("page.css")),
        headlines=list(_headlines(figures)),
        warnings=list(warnings_of(figures)),
        frontier=_markup(frontier_chart(figures)),
        deferral_chart=_markup(deferral_chart(figures)),
        rows=list(_rows(figures)),
        deferral=list(_deferral_lines(figures.deferral)) if figures.deferral else None,
        reliability=list(_reliability(figures)),
        kinds=list(_kinds(figures)),
        judge=figures.judge.told() if figures.judge else None,
        worst=[_case(figures, case) for case in figures.worst],
    )


def warnings_of(figures: RunFigures) -> Iterator[str]:
    """What a reader must know before believing a figure."""
    for one in figures.strategies:
        if one.n_missing:
            yield (
                f"{one.label}: {one.n_missing} of {one.n_items} questions were not reached. Over "
                f"all of them its accuracy would lie between {percent(one.at_worst)} and "
                f"{percent(one.at_best)}."
            )
        if one.n_errors:
            yield f"{one.label}: {one.n_errors} of {one.n_done} questions ended in an error."
        if one.n_unpriced:
            yield f"{one.label}: the price of {one.n_unpriced} of {one.n_done} is unknown."
    if figures.n_clusters < 2:
        yield "All questions are about one document: no interval can be given for others."


def _file(name: str) -> str:
    return resources.files("eval.report").joinpath(name).read_text(encoding="utf-8")


def _markup(svg: str | None) -> Markup | None:
    return None if svg is None else Markup(svg)


def _headlines(figures: RunFigures) -> Iterator[dict[str, Any]]:
    """A card per ladder: none is picked, so none is the luckiest."""
    for index, one in enumerate(figures.strategies):
        beside = one.against_cloud
        if one.label.startswith("ladder") and beside is not None:
            yield {
                "label": one.label,
                "style": colour(index),
                "accuracy": percent(beside.accuracy.value),
                "accuracy_range": _range(beside.accuracy),
                "cost": times_cheaper(beside.usd),
                "n": beside.n,
            }


def _range(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" ({100 * estimate.low:.1f}–{100 * estimate.high:.1f}%)"


def _rows(figures: RunFigures) -> Iterator[dict[str, Any]]:
    for index, one in enumerate(figures.strategies):
        yield {"label": one.label, "style": colour(index), "cells": list(_cells(one))}


def _cells(one: StrategyFigures) -> Iterator[Cell]:
    beside = one.against_cloud
    yield _percent_cell(one.accuracy)
    yield _percent_cell(beside.accuracy) if beside else Cell(text="")
    yield _usd_cell(one.usd_per_question)
    yield _percent_cell(beside.usd) if beside else Cell(text="")
    yield _usd_cell(one.usd_per_correct)
    yield _percent_cell(one.citations) if one.n_citations else Cell(text="not judged")
    yield Cell(text="" if one.abstention_f1 is None else f"{one.abstention_f1:.3f}")
    yield Cell(text=str(one.n_abstained))
    yield Cell(text=str(one.n_errors), bad=bool(one.n_errors))
    yield Cell(text=str(one.n_missing), bad=bool(one.n_missing))


def _percent_cell(estimate: Estimate) -> Cell:
    if estimate.low is None or estimate.high is None:
        return Cell(text=percent(estimate.value))
    ends = f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}"
    return Cell(text=percent(estimate.value), range=ends)


def _usd_cell(estimate: Estimate) -> Cell:
    if estimate.low is None or estimate.high is None or not estimate.value:
        return Cell(text=usd(estimate.value))
    return Cell(text=usd(estimate.value), range=f"{usd(estimate.low)}–{usd(estimate.high)}")


def _deferral_lines(found: Deferral) -> Iterator[dict[str, str]]:
    yield {
        "name": "APGR",
        "calls": number_interval(found.apgr),
        "usd": number_interval(found.apgr_usd),
    }
    for share, calls in found.cpt.items():
        yield {
            "name": f"to recover {share:.0%} of the gap",
            "calls": f"{percent_interval(calls)} of the calls",
            "usd": f"{percent_interval(found.cpt_usd[share])} of the cloud’s dollars",
        }


def _reliability(figures: RunFigures) -> Iterator[dict[str, Any]]:
    for index, one in enumerate(figures.strategies):
        found = figures.reliability.get(one.label)
        if found is not None:
            yield {
                "label": one.label,
                "style": colour(index),
                "chart": _markup(reliability_chart(found, colour(index))),
                "ece": number_interval(found.ece),
                "n": found.n,
            }


def _kinds(figures: RunFigures) -> Iterator[dict[str, Any]]:
    for kind in figures.run.manifest.kinds:
        of_kind = [one for one in figures.kinds if one.kind == kind]
        yield {
            "name": kind,
            "n": figures.run.manifest.kinds[kind],
            "cells": [_kind_cell(one.accuracy, one.usd_per_question) for one in of_kind],
        }


def _kind_cell(accuracy: Estimate, dollars: Estimate) -> Cell:
    if accuracy.value is None:
        return Cell(text="")
    interval = _percent_cell(accuracy).range
    return Cell(text=percent(accuracy.value), range=f"{interval}\n{usd(dollars.value)}".lstrip())


def _case(figures: RunFigures, case: WorstCase) -> dict[str, Any]:
    labels = figures.run.manifest.labels
    return {
        "row": case.row,
        "why": case.why,
        "style": colour(labels.index(case.row.strategy)),
        "answer": answer_text(case.row),
        "gold": gold_text(case.row),
        "usd": usd(case.row.cloud_usd),
        "steps": list(_steps((figures.run.trace(case.row) or {}).get("steps", []))),
    }


def answer_text(row: Row) -> str:
    """The answer, or what there was instead."""
    if row.answer is not None:
        return row.answer
    return "“not in the document”" if row.outcome == ABSTAINED else "none"


def gold_text(row: Row) -> str:
    """The right answers."""
    return " | ".join(row.gold_answers) if row.answerable else "“not in the document”"


def _steps(steps: Sequence[dict[str, Any]]) -> Iterator[dict[str, str]]:
    for step in steps:
        elapsed, error = step.get("elapsed_s"), step.get("error")
        facts = json.dumps(step.get("facts") or {}, indent=1, ensure_ascii=False)
        cut = len(facts) - MAX_FACTS
        more = f"\n… {cut:,} more characters in the run's folder" if cut > 0 else ""
        yield {
            "name": str(step.get("name", "step")),
            "seconds": "" if elapsed is None else f"{elapsed:.2f} s",
            "facts": (f"error: {error}\n" if error else "") + facts[:MAX_FACTS] + more,
        }
