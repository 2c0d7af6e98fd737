"""`minions eval report`: a run's table, its page and its pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minions.cli.common import JsonOption, err, out

if TYPE_CHECKING:
    from eval.report.figures import RunFigures
    from eval.report.judged import JudgeFigures
    from eval.rows import Row

PAGE = "report.html"
DECIMALS = 6


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of `minions eval run`.")],
    target: Annotated[
        Path | None, typer.Option("--out", help="The page goes here; default: RUN/report.html.")
    ] = None,
    png: Annotated[
        bool, typer.Option("--png/--no-png", help="Also PNG files, beside the page (matplotlib).")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the intervals' draws.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """What a run scored and cost: a table here, and report.html, which opens alone."""
    from eval.report.figures import run_figures
    from eval.report.page import report_page
    from eval.report.terminal import report_table
    from eval.rows import read_run

    figures = run_figures(read_run(run), seed=seed)
    page = target or run / PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(report_page(figures), encoding="utf-8")
    pictures = _pictures(figures, page.parent) if png else []
    if as_json:
        typer.echo(json.dumps(figures_json(figures), indent=2, ensure_ascii=False))
    else:
        out.print(report_table(figures))
    for path in (page, *pictures):
        err.print(f"[dim]wrote {path}[/]")


def _pictures(figures: RunFigures, folder: Path) -> list[Path]:
    from eval.report.pictures import write_pictures

    return write_pictures(figures, folder)


def figures_json(figures: RunFigures) -> dict[str, Any]:
    """The figures without the rows themselves; of the curve, its points."""
    deferral = None
    if (found := figures.deferral) is not None:
        curve = found.curve
        deferral = {
            name: getattr(found, name)
            for name in ("n", "local_accuracy", "cloud_accuracy", "apgr_usd", "cpt", "cpt_usd")
        }
        deferral |= {
            "apgr": found.apgr,
            "n_calls": curve.n_calls.tolist(),
            "gain": curve.gain.tolist(),
            "usd": None if curve.usd is None else curve.usd.tolist(),
        }
    return {
        "run": str(figures.run.path),
        "manifest": asdict(figures.run.manifest),
        "n_documents": figures.n_clusters,
        "n_missing": figures.n_missing,
        "n_errors": figures.n_errors,
        "strategies": [_plain(asdict(each)) for each in figures.strategies],
        "kinds": [_plain(asdict(each)) for each in figures.kinds],
        "reliability": {k: _plain(asdict(each)) for k, each in figures.reliability.items()},
        "deferral": _plain(deferral) if deferral else None,
        "no_deferral": figures.no_deferral or None,
        "judge": _judge_json(figures.judge),
        "worst": [_worst_json(each.row, each.why) for each in figures.worst],
    }


def _judge_json(judge: JudgeFigures | None) -> Any:
    if judge is None:
        return None
    return {**_plain(asdict(judge)), "trusted": judge.why_not is None, "why_not": judge.why_not}


def _worst_json(row: Row, why: str) -> dict[str, Any]:
    return {"item_id": row.item_id, "strategy": row.strategy, "why": why, "trace_id": row.trace_id}


def _plain(value: Any) -> Any:
    """Rounded numbers, text keys, dataclasses as objects."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    return round(value, DECIMALS) if isinstance(value, float) else value
