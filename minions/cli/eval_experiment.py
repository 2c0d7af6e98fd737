"""`minions eval experiment`: the project's own experiment, from documents to its page."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minions.app import chunk_tokens, open_app, price_book
from minions.cli.common import (
    CloudOption,
    CloudUrlOption,
    ModelOption,
    StateOption,
    dollars,
    err,
    out,
    run_resumable,
)
from minions.cli.eval_progress import tell_progress
from minions.cli.eval_report import figures_json
from minions.cloud.model import PriceBook
from minions.evidence.relevance import Profile, save_profile
from minions.question import Options
from minions.settings import Settings, load_settings

if TYPE_CHECKING:
    from eval.calibrate import CalibrationReport
    from eval.datasets.registry import Dataset
    from eval.experiment_plan import Experiment, Quote
    from eval.plan import Plan, RunResult

PROFILE, RELEVANCE = "profile.json", "relevance.json"
PAGE, FIGURES = "README.md", "figures.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ended:
    """Both runs, and the profiles between them."""

    learnt: CalibrationReport | str
    relevance: Profile | str
    tested: RunResult


def experiment(
    cuad: Annotated[Path, typer.Option(help="Folder of CUAD's contracts and questions.")],
    folder: Annotated[
        Path, typer.Option("--out", help="Runs go here; what is there is gone on with.")
    ] = Path("experiment-run"),
    docs: Annotated[
        Path | None, typer.Option(help="Also write the page, its pictures and figures here.")
    ] = None,
    paid: Annotated[
        bool, typer.Option("--paid", help="Ask the cloud as set, not the simulator: costs money.")
    ] = False,
    budget_usd: Annotated[
        str | None, typer.Option(help="Hard stop: what each of the two runs may pay in dollars.")
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say what the cloud would be paid at most.")
    ] = False,
    model: ModelOption = None,
    cloud: CloudOption = None,
    cloud_url: CloudUrlOption = None,
    state_dir: StateOption = None,
) -> None:
    """Generated documents and 30 contracts, all strategies side by side; in an hour on two cores.

    The cloud is a simulator on this machine unless --paid is given. Started again, it goes on.
    """
    from eval.experiment_plan import load_experiment

    settings = load_settings(
        model=model, cloud_model=cloud, cloud_url=cloud_url, state_dir=state_dir
    )
    chosen = load_experiment(cuad)
    found = run_resumable(_quote(settings, chosen))
    if estimate:
        _show_quote(found, settings)
        return
    cap = dollars("--budget-usd", budget_usd)
    with _cloud(settings, paid) as ready:
        ended = run_resumable(_run(ready, chosen, folder, cap))
    _show(ended, chosen, found, docs, prices=price_book(settings), simulated=not paid)


def _show_quote(found: Quote, settings: Settings) -> None:
    out.print(
        f"at most about ${found.usd:.2f} at the prices of {settings.cloud_model}: "
        f"{found.n_questions} questions, documents of {found.document_tokens:,} tokens"
    )


@contextlib.contextmanager
def _cloud(settings: Settings, paid: bool) -> Iterator[Settings]:
    """Settings of the cloud to ask; the simulator runs meanwhile."""
    if paid:
        yield settings
        return
    from minions.cloud.sim import SimPlan, running  # a server: only this command waits for it

    with running(SimPlan()) as url:
        yield settings.model_copy(update={"cloud_url": url, "cloud_api_key": None})


async def _quote(settings: Settings, chosen: Experiment) -> Quote:
    from eval.experiment_plan import quote

    async with open_app(settings) as app:
        return await quote(
            app, chosen, chunk_tokens(settings), lambda said: err.print(f"[dim]quoted {said}[/]")
        )


async def _run(settings: Settings, chosen: Experiment, folder: Path, cap: Decimal | None) -> _Ended:
    """Learn the chances on some documents, then compare the strategies on others."""
    from eval.experiment_plan import LEARN_STRATEGIES, SEED, STRATEGIES, learn, learn_relevance
    from eval.plan import Plan
    from eval.strategies import parse_strategies

    common = Options(target=settings.target, redact=settings.redact)

    def plan(dataset: Dataset, labels: tuple[str, ...]) -> Plan:
        return Plan(
            dataset=dataset,
            strategies=parse_strategies(labels, common),
            seed=SEED,
            budget_usd=cap,
        )

    await _answered(settings, plan(chosen.learn, LEARN_STRATEGIES), folder / "learn")
    learnt, relevance = learn([folder / "learn"]), learn_relevance([folder / "learn"])
    settings = _with_profiles(settings, learnt, relevance, folder)
    tested = await _answered(settings, plan(chosen.test, STRATEGIES), folder / "test")
    return _Ended(learnt=learnt, relevance=relevance, tested=tested)


def _with_profiles(
    settings: Settings, learnt: CalibrationReport | str, relevance: Profile | str, folder: Path
) -> Settings:
    """Settings with what was learned, kept in `folder`."""
    if not isinstance(learnt, str):
        profile = folder / PROFILE
        profile.write_text(json.dumps(learnt.calibration.to_json(), indent=1), encoding="utf-8")
        settings = settings.model_copy(update={"calibration": profile})
    if not isinstance(relevance, str):
        save_profile(relevance, folder / RELEVANCE)
        settings = settings.model_copy(update={"relevance_profile": folder / RELEVANCE})
    return settings


async def _answered(settings: Settings, plan: Plan, folder: Path) -> RunResult:
    from eval.run import run_plan

    async with open_app(settings) as app:
        return await run_plan(app, plan, folder, tell_progress)


def _show(
    ended: _Ended,
    chosen: Experiment,
    found: Quote,
    docs: Path | None,
    *,
    prices: PriceBook,
    simulated: bool,
) -> None:
    from eval.experiment_page import Account, experiment_page
    from eval.report.figures import run_figures
    from eval.report.pictures import write_pictures
    from eval.report.terminal import report_table
    from eval.rows import ROWS, read_manifest, read_run

    folder = ended.tested.folder
    figures = run_figures(read_run(folder))
    out.print(report_table(figures))
    if docs is None:
        return
    began = datetime.fromisoformat(read_manifest(folder.parent / "learn").created_at)
    last_row = datetime.fromtimestamp((folder / ROWS).stat().st_mtime, UTC)
    account = Account(
        experiment=chosen,
        learnt=ended.learnt,
        relevance=ended.relevance,
        quote=found,
        prices=prices,
        command="minions eval experiment --cuad DIR --docs eval/experiment",
        minutes=(last_row - began).total_seconds() / 60,
        made_on=last_row.date().isoformat(),
        simulated=simulated,
    )
    docs.mkdir(parents=True, exist_ok=True)
    (docs / PAGE).write_text(experiment_page(figures, account), encoding="utf-8")
    told = {**figures_json(figures), "run": "test", "worst": None}
    (docs / FIGURES).write_text(json.dumps(told, indent=1), encoding="utf-8")
    for path in write_pictures(figures, docs):
        err.print(f"[dim]wrote {path}[/]")
