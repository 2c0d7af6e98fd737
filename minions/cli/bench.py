"""`minions bench ...`: how fast this machine works, measured."""

from __future__ import annotations

import typer

from minions.cli import bench_engine, bench_pool, bench_service

bench = typer.Typer(no_args_is_help=True, help="Measure speed on this machine.")
bench.command()(bench_pool.pool)
bench.command()(bench_engine.engine)
bench.command()(bench_engine.followup)
bench.command()(bench_engine.decode)
bench.command("gpt-oss-20b")(bench_engine.gpt_oss_20b)
bench.command()(bench_service.service)
