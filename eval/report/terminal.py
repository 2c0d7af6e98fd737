"""A run's figures as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from eval.report.figures import RunFigures, StrategyFigures
from eval.report.page import warnings_of
from eval.report.wording import number_interval, percent, percent_interval, usd

HEADINGS = ("of cloud's", "$/question", "of cloud's", "$/right", "cited", "ECE", "abst", "err")


def report_table(figures: RunFigures) -> RenderableType:
    """What `minions eval report` and the end of `minions eval run` print."""
    manifest = figures.run.manifest
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("strategy", no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in figures.strategies:
        table.add_row(*_cells(figures, one))
    head = Text(
        f"{manifest.dataset}: {manifest.n_items} questions about {figures.n_clusters} documents; "
        f"worker {manifest.worker}, cloud {manifest.cloud}",
        style="bold",
    )
    notes = [Text(f"! {warning}", style="yellow") for warning in warnings_of(figures)]
    return Padding(Group(head, Text(""), table, Text(""), *_deferral(figures), *notes), (1, 1))


def _cells(figures: RunFigures, one: StrategyFigures) -> Iterator[str]:
    beside, stated = one.against_cloud, figures.reliability.get(one.label)
    yield one.label
    yield percent_interval(one.accuracy)
    yield percent(beside.accuracy.value) if beside else ""
    yield usd(one.usd_per_question.value)
    yield percent(beside.usd.value) if beside else ""
    yield usd(one.usd_per_correct.value)
    yield percent(one.citations.value) if one.n_citations else ""
    yield f"{stated.ece.value:.3f}" if stated else ""
    yield str(one.n_abstained)
    yield str(one.n_errors)


def _deferral(figures: RunFigures) -> Iterator[Text]:
    found = figures.deferral
    if found is None:
        yield Text(f"No deferral curve: {figures.no_deferral}.", style="dim")
        return
    calls, dollars = number_interval(found.apgr), number_interval(found.apgr_usd)
    yield Text(f"local to cloud, least certain first: APGR {calls} by calls, {dollars} by dollars")
    for share, spent in found.cpt_usd.items():
        asked = percent_interval(found.cpt[share])
        yield Text(
            f"  {share:.0%} of the gap: {asked} of the calls, {percent_interval(spent)} of the "
            "cloud's dollars",
            style="dim",
        )
