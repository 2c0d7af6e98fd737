"""`minions audit`: what the shadow audit found, and whether its alarm can be believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.table import Table

from minions.app import open_app
from minions.audit import expectations, read_audits, rows_file
from minions.cli.common import JsonOption, StateOption, out
from minions.drift import MEAN_RUN, TOLERANCE, Audited, Drift, Simulated, simulate, watch
from minions.profiles import read_calibration
from minions.question import as_number
from minions.receipt import audit_spend_usd
from minions.render import usd
from minions.settings import Settings, load_settings

MAX_SHOWN = 10
SIMULATED_AGREEMENT = (1.0, 0.9, 0.8, 0.6)
N_SERIES = 300
TYPICAL = tuple(step / 100 for step in range(50, 100, 5))
"""Stated chances that the simulation draws from while nothing was audited."""


def audit(
    as_json: JsonOption = False,
    simulation: Annotated[
        bool, typer.Option("--simulate", help="How often the alarm is false, how soon a true one.")
    ] = False,
    state_dir: StateOption = None,
) -> None:
    """How often the cloud agrees with answers that were kept local, and whether that has changed.

    The service audits a share of them: setting audit_rate. Each one's cost is in the ledger."""
    settings = load_settings(state_dir=state_dir)
    calibration = read_calibration(settings.calibration) if settings.calibration else None
    rows = read_audits(rows_file(settings.state_dir))
    answers = list(expectations(rows, calibration))
    drift = watch(answers)
    series = _simulated(answers) if simulation else []
    spent = asyncio.run(_spent(settings))
    if as_json:
        typer.echo(json.dumps(_figures(settings, drift, rows, spent, series), indent=2))
    else:
        _show(settings, drift, rows, spent, series)


async def _spent(settings: Settings) -> Decimal | None:
    async with open_app(settings) as app:
        return audit_spend_usd(await app.store.ledger())


def _simulated(answers: Sequence[Audited]) -> list[Simulated]:
    stated = [one.expected for one in answers] or TYPICAL
    return [simulate(stated, agreement=a, n_series=N_SERIES) for a in SIMULATED_AGREEMENT]


def _figures(
    settings: Settings,
    drift: Drift,
    rows: Sequence[dict[str, Any]],
    spent: Decimal | None,
    series: Sequence[Simulated],
) -> dict[str, Any]:
    return {
        "audit_rate": settings.audit_rate,
        "rows": str(rows_file(settings.state_dir)),
        "n_rows": len(rows),
        "audit_usd": as_number(spent),
        "alarm": drift.alarm,
        "drift": asdict(drift),
        "disagreed": [row["trace_id"] for row in rows if not row["correct"]],
        "simulated": [asdict(one) for one in series],
    }


def _show(
    settings: Settings,
    drift: Drift,
    rows: Sequence[dict[str, Any]],
    spent: Decimal | None,
    series: Sequence[Simulated],
) -> None:
    style = "bold red" if drift.alarm else "bold"
    out.print(f"[{style}]{drift.text()}[/]")
    out.print(f"[dim]audit_rate {settings.audit_rate:g}, paid for audits {usd(spent)}[/]")
    lost = [row for row in rows if not row["correct"]]
    if lost:
        table = Table("the cloud disagreed", "stated", box=None, header_style="dim")
        for row in lost[-MAX_SHOWN:]:
            table.add_row(f"minions trace {row['trace_id']}", f"{row['p_correct']:.0%}")
        out.print(table)
    if series:
        out.print(_simulation_table(series))


def _simulation_table(series: Sequence[Simulated]) -> Table:
    title = (
        f"simulated: {N_SERIES} series each; {TOLERANCE:.0%} below the stated chances is no drift; "
        f"a false alarm comes on average after {MEAN_RUN:,} audits or later"
    )
    columns = ("true agreement", "alarm within", "share of series", "after")
    table = Table(*columns, box=None, header_style="dim", title=title, title_justify="left")
    for one in series:
        delay = "" if one.median_delay is None else f"{one.median_delay:.0f} audits"
        share = f"{one.agreement:.0%} of the tolerated"
        table.add_row(share, f"{one.n_answers} audits", f"{one.alarms:.1%}", delay)
    return table
