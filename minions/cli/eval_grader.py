"""`minions eval grader`: how often the rule grader, and a judge, agree with people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from eval.grader_agreement import figures, load_labelled
from minions.app import open_app
from minions.cli.common import (
    CloudUrlOption,
    JsonOption,
    StateOption,
    err,
    out,
    run_resumable,
)
from minions.errors import BadRequest
from minions.settings import Settings, load_settings

if TYPE_CHECKING:
    from eval.judge_agreement import Judged

DECIMALS = 4


def grader(
    score: Annotated[Path, typer.Option(help="Folder of recorded answers that people labelled.")],
    judge: Annotated[
        str | None, typer.Option(help="Also this cloud model as judge; its calls are paid.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The judge sees only so many, drawn with --seed.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of that draw.")] = 0,
    as_json: JsonOption = False,
    cloud_url: CloudUrlOption = None,
    state_dir: StateOption = None,
) -> None:
    """Agreement of the rule grader, or of an LLM judge, with people's labels. Nothing is fitted."""
    found = figures(load_labelled(score))
    if judge is not None:
        settings = load_settings(cloud_url=cloud_url, state_dir=state_dir)
        found["judge"] = run_resumable(_judge(settings, judge, score, limit, seed))
    if as_json:
        typer.echo(json.dumps(_rounded(found), indent=2))
    else:
        out.print(_table(found))
        _tell_trust(found.get("judge"))


async def _judge(
    settings: Settings, model: str, folder: Path, limit: int | None, seed: int
) -> dict[str, Any]:
    """The judge's figures, which are kept for runs with this judge. Raises BadRequest without a
    cloud."""
    from eval.judge import Judge
    from eval.judge_agreement import judge_figures, judge_labelled, standing_of
    from eval.judge_trust import keep_standing

    n_done = 0

    def tell(judged: Judged, n: int) -> None:
        nonlocal n_done
        n_done += 1
        err.print(f"[dim]{n_done}/{n} {judged.verdict.verdict}[/]")

    async with open_app(settings) as app:
        if app.desk.client is None:
            raise BadRequest("--judge needs a cloud: give --cloud-url, or a key in OPENAI_API_KEY.")
        desk = replace(app.desk, budget_of=None, auditor=None)
        judged = await judge_labelled(Judge(desk=desk, model=model), folder, limit, seed, tell)
    found = judge_figures(judged)
    standing = standing_of(found)
    keep_standing(standing, settings.state_dir)
    return {**found, "trusted": standing.trusted, "why_not": standing.why_not}


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
    for heading in ("agreement", "kappa", "answers"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = f"{found['agreement']:.3f} ({low:.3f}–{high:.3f})"
    table.add_row("the rules", shown, f"{found['kappa']:.3f}", str(found["n"]))
    for kind, of_kind in found["by_kind"].items():
        table.add_row(f"  {kind}", f"{of_kind['agreement']:.3f}", "", str(of_kind["n"]))
    for name, agreement in found["lesser"].items():
        table.add_row(name, f"{agreement:.3f}", "", str(found["n"]))
    if "judge" in found:
        table.add_row(*_judge_cells(found["judge"]))
    return table


def _tell_trust(judge: Mapping[str, Any] | None) -> None:
    if judge is None:
        return
    cost = "unknown" if judge["usd"] is None else f"${judge['usd']:.4f}"
    out.print(f"\n{judge['n_unscored']} verdicts could not be read; all of them cost {cost}.")
    if judge["trusted"]:
        out.print("Runs with this judge will show what its verdicts come to.")
    else:
        out.print(f"[yellow]not trusted[/]: {escape(judge['why_not'])}.")


def _judge_cells(judge: Mapping[str, Any]) -> tuple[str, str, str, str]:
    share = "unknown" if judge["agreement"] is None else f"{judge['agreement']:.3f}"
    kappa = "unknown" if judge["kappa"] is None else f"{judge['kappa']:.3f}"
    if judge["kappa_interval"] is not None:
        low, high = judge["kappa_interval"]
        kappa += f" ({low:.3f}–{high:.3f})"
    return f"judge {judge['model']}", share, kappa, str(judge["n"])
