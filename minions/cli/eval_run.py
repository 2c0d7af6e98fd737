"""`minions eval run`: answer labelled questions, say what it scored and cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from minions.app import open_app
from minions.cli.common import (
    CloudOption,
    CloudUrlOption,
    JsonOption,
    ModelOption,
    StateOption,
    dollars,
    err,
    out,
    run_resumable,
)
from minions.cli.eval_progress import tell_progress
from minions.cli.eval_report import figures_json
from minions.cli.run_options import (
    BudgetOption,
    CacheOption,
    DataOption,
    DatasetArgument,
    DocumentsOption,
    FolderOption,
    JudgeOption,
    LimitOption,
    ParallelOption,
    RetryOption,
    SeedOption,
    StrategiesOption,
)
from minions.cli.wishes import CalibrationOption, EffortOption, PrivacyOption
from minions.question import Options
from minions.settings import Settings, load_settings
from router import Rung
from workers import Effort

if TYPE_CHECKING:
    from eval.plan import Plan, RunResult


def run(
    dataset: DatasetArgument,
    data: DataOption = None,
    strategy: StrategiesOption = None,
    documents: DocumentsOption = None,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    folder: FolderOption = Path("eval-run"),
    parallel: ParallelOption = 1,
    budget_usd: BudgetOption = None,
    cache: CacheOption = True,
    retry_errors: RetryOption = False,
    judge: JudgeOption = None,
    privacy: PrivacyOption = Rung.DOCUMENT,
    effort: EffortOption = Effort.NONE,
    calibration: CalibrationOption = None,
    as_json: JsonOption = False,
    model: ModelOption = None,
    cloud: CloudOption = None,
    cloud_url: CloudUrlOption = None,
    state_dir: StateOption = None,
) -> None:
    """Answer a dataset's questions with several strategies side by side.

    Stopped in the middle (Ctrl-C, crash, kill), the same command goes on where it was: no item is
    answered twice and no cloud call is paid twice.
    """
    from eval.datasets.registry import load_dataset  # numpy and the like take a second to load
    from eval.plan import Plan
    from eval.strategies import parse_strategies

    settings = load_settings(
        model=model,
        cloud_model=cloud,
        cloud_url=cloud_url,
        state_dir=state_dir,
        calibration=calibration,
    )
    common = Options(privacy=privacy, effort=effort, target=settings.target, redact=settings.redact)
    plan = Plan(
        dataset=load_dataset(dataset, data, n_documents=documents, limit=limit, seed=seed),
        strategies=parse_strategies(strategy or ["local"], common),
        seed=seed,
        limit=limit,
        parallel=parallel,
        budget_usd=dollars("--budget-usd", budget_usd),
        use_cache=cache,
        retry_errors=retry_errors,
        judge=judge,
    )
    _show(run_resumable(_run(settings, plan, folder)), as_json)


async def _run(settings: Settings, plan: Plan, folder: Path) -> RunResult:
    from eval.run import run_plan

    async with open_app(settings) as app:
        return await run_plan(app, plan, folder, tell_progress)


def _show(result: RunResult, as_json: bool) -> None:
    if result.stopped is not None:
        left = result.n_missing
        err.print(f"[yellow]stopped[/] with {left} rows to go: {escape(result.stopped)}")
    found: dict[str, Any] = {"run": str(result.folder), "stopped": result.stopped}
    if not result.rows:
        out.print("No row yet." if not as_json else json.dumps(found))
        return
    from eval.report.figures import run_figures
    from eval.report.terminal import report_table
    from eval.rows import read_run

    figures = run_figures(read_run(result.folder))
    if as_json:
        typer.echo(json.dumps(found | figures_json(figures), indent=2, ensure_ascii=False))
    else:
        out.print(report_table(figures))
