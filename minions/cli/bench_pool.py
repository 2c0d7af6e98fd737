"""`minions bench pool`: what spreading work over many workers costs."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer
from rich.table import Table

from minions.cli.common import JsonOption, err, out
from workers.ray.bench import PoolFigures, measure


def pool(
    service_ms: Annotated[
        int, typer.Option(min=1, help="Fixed time that a job takes in its slot.")
    ] = 300,
    slots: Annotated[int, typer.Option(min=1, max=64, help="Jobs at once per worker.")] = 8,
    jobs_per_worker: Annotated[int, typer.Option(min=1, help="More is steadier.")] = 320,
    as_json: JsonOption = False,
) -> None:
    """Measure the Ray pool on this machine, with 1, 2, 4 and 8 workers that only wait.

    Efficiency is throughput per worker against that of one worker alone. Starts a cluster of its
    own on loopback and stops it; takes about a minute."""
    err.print("[dim]starting a cluster of 8 workers on loopback ...[/]")
    figures = asyncio.run(
        measure(service_s=service_ms / 1000, n_slots=slots, jobs_per_worker=jobs_per_worker)
    )
    if as_json:
        typer.echo(json.dumps(as_facts(figures), indent=2))
    else:
        out.print(_table(figures))


def as_facts(figures: PoolFigures) -> dict[str, Any]:
    """The figures as JSON values."""
    return {
        "efficiency": {str(f.n_workers): round(figures.efficiency(f), 4) for f in figures.sizes},
        "jobs_per_s": {str(f.n_workers): round(f.jobs_per_s, 2) for f in figures.sizes},
        "driver_ms_per_job_by_size": {
            str(f.n_workers): round(f.driver_ms_per_job, 3) for f in figures.sizes
        },
        "n_jobs": sum(f.n_jobs for f in figures.sizes),
        "lost": sum(f.lost for f in figures.sizes),
        "doubled": sum(f.doubled for f in figures.sizes),
        "driver_ms_per_job": round(figures.driver_ms_per_job, 3),
        "service_s": figures.service_s,
        "slots": figures.n_slots,
    }


def _table(figures: PoolFigures) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("workers", "jobs", "jobs/s", "efficiency", "lost", "doubled"):
        table.add_column(heading, justify="right")
    for size in figures.sizes:
        table.add_row(
            f"{size.n_workers}",
            f"{size.n_jobs}",
            f"{size.jobs_per_s:.1f}",
            f"{figures.efficiency(size):.1%}",
            f"{size.lost}",
            f"{size.doubled}",
        )
    table.caption = f"driver: {figures.driver_ms_per_job:.2f} ms of CPU per job"
    return table
