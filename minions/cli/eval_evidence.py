"""`minions eval evidence`: is gold evidence kept within a token budget, on recorded runs?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from eval.datasets.minions_runs import load_replays
from eval.evidence import EvidenceScore, fit_profile, left_out_profiles, score_replays
from minions.cli.common import JsonOption, err, out
from minions.evidence.relevance import DEFAULT_PROFILE, save_profile

DECIMALS = 4


def evidence(
    fit: Annotated[
        Path, typer.Option(help="Folder of recorded runs to fit the relevance score on.")
    ],
    score: Annotated[
        Path, typer.Option(help="Folder to score. The same folder: cross-validated by company.")
    ],
    save: Annotated[
        Path | None, typer.Option(help="Write the profile fitted on all of --fit here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Share of questions whose gold evidence is kept within a token budget, by a relevance score
    that never saw the scored companies."""
    fitted_on = load_replays(fit)
    scored = fitted_on if score.resolve() == fit.resolve() else load_replays(score)
    fitted = score_replays(scored, left_out_profiles(fitted_on))
    shipped = score_replays(scored, lambda _: DEFAULT_PROFILE)
    if save is not None:
        save_profile(fit_profile(fitted_on), save)
        err.print(f"[dim]profile written to {save}[/]")
    if as_json:
        typer.echo(json.dumps({**_rounded(fitted), "default_profile": _rounded(shipped)}, indent=2))
    else:
        out.print(_table(fitted, shipped))


def _rounded(score: EvidenceScore) -> dict[str, object]:
    return {name: _round(value) for name, value in asdict(score).items()}


def _round(value: object) -> object:
    if isinstance(value, dict):
        return {key: _round(inner) for key, inner in value.items()}
    return round(value, DECIMALS) if isinstance(value, float) else value


def _table(fitted: EvidenceScore, shipped: EvidenceScore) -> Table:
    table = Table(box=None, padding=(0, 2), title="evidence", title_justify="left")
    table.add_column("figure", style="dim")
    table.add_column("fitted", justify="right")
    table.add_column("default", justify="right")
    for name, ours in _rounded(fitted).items():
        theirs = _rounded(shipped)[name]
        if isinstance(ours, dict) and isinstance(theirs, dict):
            for budget in ours:
                row = f"{name} in {budget} tokens"
                table.add_row(row, str(ours[budget]), str(theirs[budget]))
        else:
            table.add_row(name, str(ours), str(theirs))
    return table
