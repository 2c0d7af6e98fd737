"""`minions doctor` and `minions pull`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from minions.cli.common import JsonOption, StateOption, err, out
from minions.settings import Settings, config_path, load_settings
from workers.machine import (
    Machine,
    Verdict,
    plans_here,
    probe_machine,
    prove_offload,
    what_can_run,
)

GIB = 1 << 30


def doctor(as_json: JsonOption = False, state_dir: StateOption = None) -> None:
    """Say what this machine can run, what is missing, and how to mend it."""
    settings = load_settings(state_dir=state_dir)
    machine = probe_machine(settings.models_dir)
    verdicts = what_can_run(machine)
    if as_json:
        typer.echo(json.dumps(_doctor_json(machine, verdicts, settings), indent=2, default=str))
        return
    out.print(_machine_table(machine, settings))
    out.print(_verdict_table(verdicts))
    for plan in plans_here(machine).values() if machine.llama_version else ():
        out.print(f"  plan: {escape(plan)}")
    fixes = [verdict for verdict in verdicts if verdict.fix]
    for verdict in fixes:
        out.print(f"  [yellow]{verdict.model}[/]: {escape(str(verdict.fix))}")
    out.print()


def _doctor_json(machine: Machine, verdicts: list[Verdict], settings: Settings) -> dict[str, Any]:
    facts = asdict(machine)
    facts["cpu_flags"] = sorted(machine.cpu_flags)
    facts["models_present"] = sorted(machine.models_present)
    return {
        "machine": facts,
        "models": [asdict(verdict) for verdict in verdicts],
        "plans": plans_here(machine) if machine.llama_version else {},
        "cloud": {"set_up": settings.has_cloud, "model": settings.cloud_model},
    }


def _machine_table(machine: Machine, settings: Settings) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    grid.add_row("", "")
    grid.add_row(
        "  processor", f"{machine.n_physical_cores} cores, {machine.n_logical_cores} threads"
    )
    grid.add_row(
        "  memory",
        f"{machine.ram_available_bytes / GIB:.1f} of {machine.ram_total_bytes / GIB:.1f} GiB free",
    )
    gpus = [f"{g.name} ({g.free_bytes / GIB:.1f} GiB free)" for g in machine.gpus]
    grid.add_row("  gpu", ", ".join(gpus) or "none found")
    offload = "can use a GPU" if machine.gpu_offload else "built for the CPU only"
    version = machine.llama_version or "missing"
    grid.add_row("  llama.cpp", f"llama-cpp-python {version}, {offload}")
    if machine.gpu_offload:
        grid.add_row("  offload", escape(prove_offload(machine.models_dir)))
    grid.add_row("  disk", f"{machine.disk_free_bytes / GIB:.0f} GiB free for {machine.models_dir}")
    where = settings.cloud_base_url if settings.has_cloud else "not set up: the ladder stays local"
    grid.add_row("  cloud", f"{where} (prices of {settings.cloud_model})")
    grid.add_row("  settings", f"{config_path()} and MINIONS_* variables")
    return grid


def _verdict_table(verdicts: list[Verdict]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("model", "here", "fits", "why"):
        table.add_column(heading)
    for verdict in verdicts:
        here = "[green]yes[/]" if verdict.present else "no"
        table.add_row(verdict.model, here, verdict.fit.value, escape(verdict.reason))
    return table


def pull(
    name: Annotated[str, typer.Argument(help="gpt-oss-20b or gpt-oss-120b.")],
    state_dir: StateOption = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Another hub than huggingface.co, e.g. a mirror.")
    ] = None,
) -> None:
    """Fetch a model. A cut download goes on where it stopped; the SHA-256 is checked."""
    from workers.pull import PullPhase, PullProgress  # brings the hub's client: only for this
    from workers.pull import pull as pull_files

    settings = load_settings(state_dir=state_dir)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err,
    )
    tasks: dict[tuple[str, PullPhase], TaskID] = {}

    def show(progress: PullProgress) -> None:
        key = (progress.file, progress.phase)
        if key not in tasks:
            verb = "fetching" if progress.phase is PullPhase.DOWNLOAD else "checking"
            label = f"{verb} {progress.file}"
            tasks[key] = bar.add_task(label, total=progress.total_bytes)
        bar.update(tasks[key], completed=progress.done_bytes)

    with bar:
        path = pull_files(name, settings.models_dir, show, endpoint=endpoint)
    out.print(f"[green]ready:[/] {path}  (minions ask --model {name} ...)")
