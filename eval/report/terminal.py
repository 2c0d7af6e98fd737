"""A run's figures as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from eval.report.figures import RunFigures, StrategyFigures
from eval.report.page import warnings_of
from eval.report.wording import counted, number_interval, percent, percent_interval, usd
from eval.statistics import Estimate

HEADINGS = (
    "right",
    "of the\ncloud's",
    "$ per\nask",
    "of the\ncloud's",
    "$ per\nright",
    "cites\nright",
    "ECE",
    "abst./\nerrors",
)


def report_table(figures: RunFigures) -> RenderableType:
    """What `minions eval report` and the end of `minions eval run` print."""
    manifest = figures.run.manifest
    table = Table(
        box=None, padding=(0, 1), header_style="dim", collapse_padding=True, pad_edge=False
    )
    table.add_column("strategy", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for one in figures.strategies:
        table.add_row(*_cells(figures, one))
    head = Text(
        f"{manifest.dataset}: {counted(manifest.n_items, 'question')} about "
        f"{counted(figures.n_clusters, 'document')}; "
        f"worker {manifest.worker}, cloud {manifest.cloud}",
        style="bold",
    )
    notes = [Text(f"! {warning}", style="yellow") for warning in warnings_of(figures)]
    if figures.judge is not None:
        notes.append(Text(figures.judge.told(), style="dim"))
    return Padding(Group(head, Text(""), table, Text(""), *_deferral(figures), *notes), (1, 0))


def _cells(figures: RunFigures, one: StrategyFigures) -> Iterator[str]:
    beside, stated = one.against_cloud, figures.reliability.get(one.label)
    yield one.label
    yield _two_lines(one.accuracy)
    yield _two_lines(beside.accuracy) if beside else ""
    yield usd(one.usd_per_question.value)
    yield _two_lines(beside.usd) if beside else ""
    yield usd(one.usd_per_correct.value)
    yield percent(one.citations.value) if one.n_citations else ""
    yield f"{stated.ece.value:.3f}" if stated else ""
    yield f"{one.n_abstained}/{one.n_errors}"


def _two_lines(share: Estimate) -> str:
    """The interval, in whole per cent, below its figure: the table fits a narrow terminal."""
    if share.low is None or share.high is None:
        return percent(share.value)
    return f"{percent(share.value)}\n{100 * share.low:.0f}–{100 * share.high:.0f}"


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
