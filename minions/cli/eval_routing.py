"""`minions eval routing`: learn the chat router, and how well it orders questions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from minions.cli.common import JsonOption, err, out
from minions.errors import BadRequest

SHOWN = ("n", "router", "apgr", "apgr_interval", "cpt50", "cpt80", "cpt50_usd", "cpt80_usd")


def routing(
    fit: Annotated[
        Path, typer.Option(help="Folder of questions that two models answered, to learn from.")
    ],
    score: Annotated[
        Path | None,
        typer.Option(help="Folder to score. The same folder: cross-validated by question."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Write the profile here: of the pair of models with the most rows."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Learn when a plain question is worth the strong model: the part of the gap that is recovered
    over all shares of strong calls (APGR), and the calls and dollars that recover 50% and 80%."""
    if score is None and save is None:
        raise BadRequest("Nothing to do: give --score DIR, --save FILE or both.")
    from eval.routing import fit_and_score, fit_main_profile  # scikit-learn takes a second to load

    if save is not None:
        profile = fit_main_profile(fit)
        save.write_text(json.dumps(profile.to_json()), encoding="utf-8")
        err.print(f"[dim]profile {profile.fingerprint[:12]} written to {save}[/]")
    if score is None:
        return
    figures = fit_and_score(fit, score)
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        out.print(_table(figures))


def _table(figures: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2))
    table.add_column("figure", style="dim")
    for name in figures:
        table.add_column(name, justify="right")
    for row in SHOWN:
        table.add_row(row, *(_cell(each[row]) for each in figures.values()))
    for rival in ("random", "oracle"):
        apgrs = (_cell(each[rival]["apgr"]) for each in figures.values())
        table.add_row(f"{rival} apgr", *apgrs)
    return table


def _cell(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, list):
        return "-".join(f"{edge:.2f}" for edge in value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)
