"""`minions eval ...`: answer labelled questions, say what it scored and cost."""

from __future__ import annotations

import enum
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from eval.datasets.cuad import load_cuad
from eval.items import Item
from eval.run import Row, Summary, run_items, summarise
from minions.app import open_app
from minions.cli.common import (
    CloudOption,
    CloudUrlOption,
    JsonOption,
    ModelOption,
    StateOption,
    err,
    out,
    run_resumable,
)
from minions.cli.eval_calibrate import calibrate, replay
from minions.cli.eval_evidence import evidence
from minions.cli.eval_grader import grader
from minions.cli.eval_nano import nano
from minions.cli.eval_retrieval import retrieval
from minions.cli.eval_routing import routing
from minions.question import Options, StrategyName
from minions.settings import Settings, load_settings

evaluation = typer.Typer(no_args_is_help=True, help="Measure accuracy and dollars.")


evaluation.command("calibrate")(calibrate)
evaluation.command("evidence")(evidence)
evaluation.command("grader")(grader)
evaluation.command("nano")(nano)
evaluation.command("replay")(replay)
evaluation.command("retrieval")(retrieval)
evaluation.command("routing")(routing)


class Dataset(enum.StrEnum):
    """What can be evaluated on."""

    CUAD = "cuad"


LOADERS = {Dataset.CUAD: load_cuad}


@evaluation.command("run")
def run(
    dataset: Annotated[Dataset, typer.Argument(help="Which labelled questions.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the dataset's files.")],
    strategy: Annotated[StrategyName, typer.Option(help="How to answer.")] = StrategyName.LOCAL,
    documents: Annotated[
        int | None, typer.Option(min=1, help="Only so many documents, drawn with --seed.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many items.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    rows: Annotated[Path, typer.Option("--out", help="Rows go here; resumes.")] = Path("run.jsonl"),
    as_json: JsonOption = False,
    model: ModelOption = None,
    cloud: CloudOption = None,
    cloud_url: CloudUrlOption = None,
    state_dir: StateOption = None,
) -> None:
    """Answer a dataset's questions with one strategy. Started again, it goes on where it was."""
    settings = load_settings(
        model=model, cloud_model=cloud, cloud_url=cloud_url, state_dir=state_dir
    )
    items = LOADERS[dataset](data, documents, seed)[:limit]
    options = Options(strategy=strategy, target=settings.target, redact=settings.redact)
    summary = run_resumable(_run(settings, items, options, rows))
    if as_json:
        typer.echo(json.dumps(asdict(summary), indent=2))
    else:
        out.print(_table(summary, strategy))


async def _run(settings: Settings, items: list[Item], options: Options, rows: Path) -> Summary:
    def tell(row: Row, n_done: int) -> None:
        err.print(f"[dim]{n_done}/{len(items)} {row.outcome} f1 {row.f1:.2f} {row.item_id}[/]")

    async with open_app(settings) as app:
        done = await run_items(app, items, options, rows, tell)
    return summarise(items, done)


def _table(summary: Summary, strategy: StrategyName) -> Table:
    table = Table(box=None, padding=(0, 2), title=f"strategy {strategy}", title_justify="left")
    table.add_column("figure", style="dim")
    table.add_column("value", justify="right")
    for name, value in asdict(summary).items():
        shown = "unknown" if value is None else value
        table.add_row(name, f"{shown:.4f}" if isinstance(shown, float) else str(shown))
    return table
