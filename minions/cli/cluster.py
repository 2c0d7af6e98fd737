"""`minions cluster ...` and `minions worker join`: this machine as part of a cluster."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from minions.cli.common import JsonOption, StateOption, err, out
from minions.errors import BadRequest
from minions.settings import Settings, load_settings
from workers.cluster import DEFAULT_PORT, NodePlan, make_token, start_command
from workers.cluster_cards import card_rows
from workers.cluster_node import (
    NodeReport,
    own_address,
    report_of,
    running_here,
    start_here,
    stop_here,
)
from workers.machine import probe_machine
from workers.ray.environment import is_loopback

cluster = typer.Typer(no_args_is_help=True, help="Several machines as one pool of workers.")
worker = typer.Typer(no_args_is_help=True, help="This machine as a worker of a cluster.")

TokenOption = Annotated[
    Path | None, typer.Option("--token-file", help="The cluster's token; default: state folder.")
]
NameOption = Annotated[str | None, typer.Option(help="What people call this machine.")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=0, max=64, help="Default: one per GPU, else one on the CPU."),
]
ForegroundOption = Annotated[
    bool, typer.Option("--foreground", help="Stay until stopped, as a systemd unit wants it.")
]
PortsOption = Annotated[
    bool, typer.Option("--fixed-ports", help="Ports that a firewall can be opened for (see guide).")
]


@cluster.command()
def up(
    host: Annotated[
        str, typer.Option(help="This machine's address in your network; others join there.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1024, max=65535)] = DEFAULT_PORT,
    workers: WorkersOption = None,
    name: NameOption = None,
    token_file: TokenOption = None,
    foreground: ForegroundOption = False,
    fixed_ports: PortsOption = False,
    state_dir: StateOption = None,
) -> None:
    """Make this machine the head of a cluster. Its token is made here, once."""
    settings = load_settings(state_dir=state_dir)
    token = token_file or default_token_file(settings)
    if host in ("0.0.0.0", "::"):
        raise BadRequest(
            f"{host} is every network that this machine is in, the internet perhaps included: give "
            "--host the address that the other machines shall use, e.g. 192.168.1.10."
        )
    make_token(token)
    n_gpus = _usable_gpus(settings)
    plan = NodePlan(
        head=f"{host}:{port}",
        host=host,
        name=name or socket.gethostname(),
        n_gpus=n_gpus,
        n_workers=max(n_gpus, 1) if workers is None else workers,
        token_file=token,
        is_head=True,
        temp_dir=Path(f"/tmp/minions-ray-{os.getuid()}"),
        fixed_ports=fixed_ports,
    )
    _run(plan, settings, foreground)
    out.print(f"[green]up:[/] head {plan.head}, {_workers_text(plan)}")
    out.print(f"  its token: {token} (copy it to each machine, and show it to nobody)")
    if not is_loopback(host):
        out.print(f"  on each other machine:  minions worker join {plan.head} --token-file FILE")
    out.print("  then here:  minions serve --pool ray")


@cluster.command()
def down(state_dir: StateOption = None) -> None:
    """End this machine's part in the cluster, head or worker. Jobs go on elsewhere."""
    settings = load_settings(state_dir=state_dir)
    node = stop_here(node_folder(settings))
    if node is None:
        out.print("nothing to end: no node of a cluster runs here")
        return
    out.print(f"[green]down:[/] {escape(node.name)} ({'head' if node.is_head else 'worker'})")


@cluster.command()
def status(
    head: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Default: the cluster joined here.")
    ] = None,
    token_file: TokenOption = None,
    as_json: JsonOption = False,
    state_dir: StateOption = None,
) -> None:
    """Show the machines of the cluster, also those that are gone, and why."""
    settings = load_settings(state_dir=state_dir)
    here = running_here(node_folder(settings))
    asked = head or (here.head if here else None)
    if asked is None:
        raise BadRequest(
            "No cluster runs here. Start one with `minions cluster up`, join one with `minions "
            "worker join HEAD`, or name one: --head HOST:PORT."
        )
    nodes = report_of(asked, token_file or default_token_file(settings))
    if as_json:
        typer.echo(json.dumps({"head": asked, "nodes": [asdict(node) for node in nodes]}, indent=2))
        return
    out.print(_node_table(nodes))


@cluster.command()
def cards(
    ram_gb: Annotated[int, typer.Option(min=1, help="Free main memory of the machine.")] = 24,
    as_json: JsonOption = False,
) -> None:
    """Say what a card of 8, 12, 16 or 24 GB can run, by the formulas that engines use."""
    rows = card_rows(ram_gb)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    typer.echo(f"{'card':>5}  {'model':<13}{'runs in':<10}{'KV tokens':>10}{'chunks at once':>16}")
    for row in rows:
        typer.echo(
            f"{row.card_gb:>2} GB  {row.model:<13}{row.fit.value:<10}"
            f"{row.context_tokens:>10,}{row.n_chunks:>16}"
        )


@worker.command()
def join(
    head: Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="The cluster's head.")],
    host: Annotated[
        str | None, typer.Option(help="This machine's own address; default: towards the head.")
    ] = None,
    workers: WorkersOption = None,
    name: NameOption = None,
    token_file: TokenOption = None,
    foreground: ForegroundOption = False,
    fixed_ports: PortsOption = False,
    state_dir: StateOption = None,
) -> None:
    """Lend this machine to a cluster. It may sleep, leave and come back at any time."""
    settings = load_settings(state_dir=state_dir)
    address = head if ":" in head else f"{head}:{DEFAULT_PORT}"
    n_gpus = _usable_gpus(settings)
    plan = NodePlan(
        head=address,
        host=host or own_address(address),
        name=name or socket.gethostname(),
        n_gpus=n_gpus,
        n_workers=max(n_gpus, 1) if workers is None else workers,
        token_file=token_file or default_token_file(settings),
        fixed_ports=fixed_ports,
    )
    _run(plan, settings, foreground)
    out.print(f"[green]joined[/] {address} as {escape(plan.name)}, {_workers_text(plan)}")


def node_folder(settings: Settings) -> Path:
    """Where this machine's node is noted."""
    return settings.state_dir / "cluster"


def default_token_file(settings: Settings) -> Path:
    """Where the cluster's token is kept unless said otherwise."""
    return node_folder(settings) / "token"


def _usable_gpus(settings: Settings) -> int:
    """Cards that this machine's llama.cpp can use."""
    machine = probe_machine(settings.models_dir)
    return len(machine.gpus) if machine.gpu_offload else 0


def _run(plan: NodePlan, settings: Settings, foreground: bool) -> None:
    if foreground:
        command = start_command(plan)
        err.print(f"[dim]{escape(plan.name)}: node of {plan.head}; ends when it is stopped[/]")
        os.execvp(command[0], command)
    err.print("[dim]starting Ray ...[/]")
    start_here(plan, node_folder(settings))


def _workers_text(plan: NodePlan) -> str:
    workers = "1 worker" if plan.n_workers == 1 else f"{plan.n_workers} workers"
    if not plan.n_gpus:
        return f"{workers} on the CPU"
    return f"{workers} on {plan.n_gpus} GPU{'s' if plan.n_gpus > 1 else ''}"


def _node_table(nodes: list[NodeReport]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("machine", "address", "", "workers", "GPUs", "state"):
        table.add_column(heading)
    for node in sorted(nodes, key=lambda node: (not node.alive, node.name)):
        state = "[green]there[/]" if node.alive else f"[red]gone[/] {escape(node.why_gone[:60])}"
        role = "head" if node.is_head else ""
        table.add_row(
            escape(node.name), node.address, role, str(node.n_workers), str(node.n_gpus), state
        )
    return table
