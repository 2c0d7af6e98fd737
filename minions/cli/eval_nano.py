"""`minions eval nano`: how well the shipped model reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from eval.nano import Figures, cuad_figures, generated_figures
from minions.app import PoolKeeper, chunk_tokens
from minions.cli.common import JsonOption, ModelOption, StateOption, err, out, run_resumable
from minions.settings import Settings, load_settings

Report = dict[str, Figures]


def nano(
    cuad: Annotated[Path | None, typer.Option(help="Folder of the CUAD contracts.")] = None,
    contracts: Annotated[
        int | None, typer.Option(min=1, help="Only so many contracts, drawn with a fixed seed.")
    ] = None,
    documents: Annotated[int, typer.Option(min=1, help="Generated documents per set.")] = 60,
    as_json: JsonOption = False,
    model: ModelOption = None,
    state_dir: StateOption = None,
) -> None:
    """Read generated documents, and real contracts where their folder is given; print the figures.

    Contracts that nano was trained on are left out. Another model can be judged the same way with
    --model.
    """
    settings = load_settings(model=model, state_dir=state_dir)
    report = run_resumable(_report(settings, cuad, contracts, documents))
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        out.print(_table(report))


async def _report(
    settings: Settings, cuad: Path | None, n_contracts: int | None, n_documents: int
) -> Report:
    def tell(name: str, n_chunks: int) -> None:
        err.print(f"[dim]read {name}: {n_chunks} chunks, every clause question[/]")

    keeper = PoolKeeper(settings=settings)
    try:
        pool = await keeper.open()
        report = {
            "generated": await generated_figures(pool, n_documents, "standard"),
            "generated_hard": await generated_figures(pool, n_documents, "hard"),
        }
        if cuad is not None:
            size = chunk_tokens(settings)
            report["cuad"] = await cuad_figures(pool, cuad, n_contracts, size, tell)
    finally:
        await keeper.close()
    return report


def _table(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("set")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, figures in report.items():
        for figure, value in figures.items():
            shown = "-" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")
            table.add_row(name, figure, shown)
    return table
