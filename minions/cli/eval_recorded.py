"""`minions eval recorded`: what real models' recorded answers say of cost and accuracy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from eval.datasets.recorded_answers import FILE as ANSWERS
from eval.report.wording import number_interval, percent_interval, usd_interval
from minions.cli.common import JsonOption, err, out
from minions.cloud.prices import GenaiPrices
from minions.errors import NotFound

if TYPE_CHECKING:
    from eval.recorded import RecordedEvidence, Side
    from eval.recorded_pairs import PairFigures

RUNS = "runs.jsonl"
DECIMALS = 6
LEGEND = (
    "gold shown: share of the runs in which a quote of gold evidence was shown; where found: of "
    "those in which a worker had found it; * what the product sends"
)


def recorded(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUNS", help="Folder of recorded MinionS runs, of FinanceBench, or of both."
        ),
    ],
    seed: Annotated[int, typer.Option(help="Seed of the intervals' draws.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Our evidence packing beside MinionS as recorded, and what deferring would bring weak systems:
    real models' outputs, no model is called."""
    runs = _find(folder, RUNS, "minions_runs")
    answers = _find(folder, ANSWERS, "financebench")
    if runs is None and answers is None:
        raise NotFound(
            f"There is neither {RUNS} nor {ANSWERS} in {folder}, nor in its folders minions_runs "
            "and financebench. Give the folder of the recorded runs or answers."
        )
    evidence = None if runs is None else _evidence(runs, seed)
    pairs = [] if answers is None else _pairs(answers, seed)
    if as_json:
        figures = {"minions_runs": evidence and asdict(evidence), "pairs": list(map(asdict, pairs))}
        typer.echo(json.dumps(_rounded(figures), indent=2))
        return
    if evidence is not None:
        _show_evidence(evidence)
    if pairs:
        _show_pairs(pairs)


def _find(folder: Path, file: str, inside: str) -> Path | None:
    return next((each for each in (folder, folder / inside) if (each / file).is_file()), None)


def _evidence(folder: Path, seed: int) -> RecordedEvidence:
    from eval.recorded import compare, load_recorded

    err.print("[dim]ranking and packing the recorded worker answers, about two minutes[/]")
    return compare(load_recorded(folder), seed=seed)


def _pairs(folder: Path, seed: int) -> list[PairFigures]:
    from eval.recorded_pairs import all_pairs

    err.print("[dim]counting the filings' tokens and fitting the pairs, about a minute[/]")
    return all_pairs(folder, GenaiPrices(), seed=seed)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return round(value, DECIMALS) if isinstance(value, float) else value


def _show_evidence(found: RecordedEvidence) -> None:
    title = (
        f"{found.n_runs} recorded MinionS runs, {found.n_questions} questions, "
        f"{found.n_companies} companies; the same worker answers"
    )
    table = Table(box=None, collapse_padding=True, pad_edge=False, header_style="dim", title=title)
    for heading in ("shown", "gold shown", "where found", "$ reading", "$ whole"):
        table.add_column(heading, justify="left" if heading == "shown" else "right")
    table.add_row("as recorded", *_side_cells(found.recorded))
    for budget, side in found.ours.items():
        sent = "*" if int(budget) == found.default_budget else ""
        table.add_row(f"{budget} tokens{sent}", *_side_cells(side))
    out.print(table)
    out.print(f"[dim]{LEGEND}[/]")
    side = found.ours[str(found.default_budget)]
    out.print(
        f"reading costs {percent_interval(side.reading_of_recorded)} of the recorded, the whole "
        f"run {percent_interval(side.usd_of_recorded)}; planning "
        f"{usd_interval(found.planning_usd)} a question is the same on both sides"
    )
    projected = found.accuracy_projected[str(found.default_budget)]
    out.print(
        f"right as recorded: {percent_interval(found.accuracy_recorded)}; with gold shown "
        f"{percent_interval(found.accuracy_when_gold_shown)}, otherwise "
        f"{percent_interval(found.accuracy_otherwise)}; projected for ours "
        f"{percent_interval(projected)}"
    )
    out.print(f"[dim]{found.note}[/]")


def _side_cells(side: Side) -> Iterator[str]:
    yield _two_lines(percent_interval(side.gold_shown))
    yield _two_lines(percent_interval(side.gold_shown_where_found))
    yield _two_lines(usd_interval(side.reading_usd))
    yield _two_lines(usd_interval(side.usd))


def _two_lines(text: str) -> str:
    """The interval below its figure."""
    return text.replace(" (", "\n(")


def _show_pairs(pairs: Sequence[PairFigures]) -> None:
    title = (
        f"FinanceBench, {pairs[0].n} questions of {pairs[0].n_companies} companies, judged by "
        "people; the least certain weak answers go to the strong system, by text alone"
    )
    table = Table(box=None, padding=(0, 1), header_style="dim", title=title, title_justify="left")
    for heading in ("weak and strong", "right", "APGR", "half the gap", "by dollars"):
        table.add_column(heading, justify="left" if heading.startswith("weak") else "right")
    for pair in pairs:
        rights = percent_interval(pair.weak_accuracy), percent_interval(pair.strong_accuracy)
        table.add_row(
            f"{pair.weak}\n{pair.strong}",
            "\n".join(rights),
            _two_lines(number_interval(pair.apgr)),
            _two_lines(percent_interval(pair.cpt["0.5"])),
            _two_lines(percent_interval(pair.cpt_usd["0.5"])),
        )
    out.print(table)
    out.print(
        "[dim]half the gap: share of the strong calls, and of their dollars, that recovers it. "
        "Dollars are quoted from the filing's tokens, for weak systems that run at home; "
        f"{max(pair.n_quoted for pair in pairs)} questions have their filing.[/]"
    )
