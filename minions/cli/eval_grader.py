"""`minions eval grader`: how often the rule grader agrees with people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from eval.grader_agreement import figures, load_labelled
from minions.cli.common import JsonOption, out

DECIMALS = 4


def grader(
    score: Annotated[Path, typer.Option(help="Folder of recorded answers that people labelled.")],
    as_json: JsonOption = False,
) -> None:
    """Agreement of the rule grader with people's labels. Nothing is fitted."""
    found = figures(load_labelled(score))
    if as_json:
        typer.echo(json.dumps(_rounded(found), indent=2))
    else:
        out.print(_table(found))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, DECIMALS) if isinstance(value, float) else value


def _table(found: Mapping[str, Any]) -> Table:
    low, high = found["agreement_interval"]
    table = Table(box=None, padding=(0, 2))
    table.add_column("graded by", style="dim")
    table.add_column("agreement", justify="right")
    table.add_column("answers", justify="right")
    shown = f"{found['agreement']:.3f} ({low:.3f} to {high:.3f})"
    table.add_row("the rules", shown, str(found["n"]))
    for kind, of_kind in found["by_kind"].items():
        table.add_row(f"  {kind}", f"{of_kind['agreement']:.3f}", str(of_kind["n"]))
    for name, agreement in found["lesser"].items():
        table.add_row(name, f"{agreement:.3f}", str(found["n"]))
    return table
