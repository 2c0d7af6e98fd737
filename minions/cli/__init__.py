"""The command line: thin over the composition root."""

from __future__ import annotations

import typer

from minions.cli import ask, audit, capacity, demo, machine, money, servers
from minions.cli.bench import bench
from minions.cli.cluster import cluster, worker
from minions.cli.common import errors_for_people
from minions.cli.evaluation import evaluation
from minions.cli.keys import keys

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Ask questions of long documents: your machine reads, the cloud is asked only when it "
    "earns its price.",
)
cli.command()(ask.ask)
cli.command()(ask.estimate)
cli.command()(ask.trace)
cli.command()(money.savings)
cli.command()(money.egress)
cli.command()(audit.audit)
cli.command()(capacity.plan_capacity)
cli.command()(machine.doctor)
cli.command()(machine.pull)
cli.command()(servers.serve)
cli.command("cloud-sim")(servers.cloud_sim)
cli.command()(demo.demo)
cli.add_typer(evaluation, name="eval")
cli.add_typer(keys, name="keys")
cli.add_typer(cluster, name="cluster")
cli.add_typer(worker, name="worker")
cli.add_typer(bench, name="bench")


def main() -> None:
    """Entry point of the `minions` command."""
    with errors_for_people():
        cli()
