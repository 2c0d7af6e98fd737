"""`minions bench ...`: how fast this machine works, measured."""

from __future__ import annotations

import typer

from minions.cli import bench_pool

bench = typer.Typer(no_args_is_help=True, help="Measure speed on this machine.")
bench.command()(bench_pool.pool)
