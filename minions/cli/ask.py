"""`minions ask`, `minions estimate`, `minions trace`."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import typer

from minions.app import App, chunk_tokens, cloud_terms, open_app
from minions.cli.common import (
    ChunkOption,
    CloudOption,
    CloudUrlOption,
    ClusterOption,
    FilesAndQuestion,
    JsonOption,
    ModelOption,
    PoolOption,
    StateOption,
    dollars,
    err,
    out,
    run_resumable,
    split_question,
)
from minions.cli.wishes import (
    AlphaOption,
    CalibrationOption,
    EffortOption,
    FreshOption,
    LatencyOption,
    MaxCostOption,
    PrivacyOption,
    RedactOption,
    RungOption,
    StopEarlyOption,
    StrategyOption,
    TargetOption,
    ValueOption,
)
from minions.documents import Document
from minions.estimate import Estimate
from minions.estimate import estimate as estimate_cost
from minions.question import WITHOUT_WORKERS, Options, Question, Reply, StrategyName
from minions.render import ProgressView, document_line, estimate_view, reply_view
from minions.settings import Settings, load_settings
from router import Rung
from workers import Effort

NANO_NOTE = (
    "the worker is nano, a demonstration model of a few megabytes; for real work: "
    "minions pull gpt-oss-20b, then --model gpt-oss-20b"
)


def ask(
    files_and_question: FilesAndQuestion,
    as_json: JsonOption = False,
    strategy: StrategyOption = StrategyName.LADDER,
    max_cost_usd: MaxCostOption = None,
    privacy: PrivacyOption = Rung.DOCUMENT,
    target: TargetOption = None,
    value_usd: ValueOption = None,
    alpha: AlphaOption = None,
    max_latency_s: LatencyOption = None,
    calibration: CalibrationOption = None,
    redact: RedactOption = None,
    stop_early: StopEarlyOption = False,
    rung: RungOption = None,
    effort: EffortOption = Effort.NONE,
    fresh: FreshOption = False,
    model: ModelOption = None,
    cloud: CloudOption = None,
    cloud_url: CloudUrlOption = None,
    chunk: ChunkOption = None,
    pool: PoolOption = None,
    cluster: ClusterOption = None,
    state_dir: StateOption = None,
) -> None:
    """Answer a question of one or more documents, with checked citations and a receipt.

    Stopped in the middle (Ctrl-C, crash, kill), the same command goes on where it was: nothing is
    read twice and no cloud call is paid twice.
    """
    settings = load_settings(
        model=model,
        cloud_model=cloud,
        cloud_url=cloud_url,
        chunk_tokens=chunk,
        pool=pool,
        cluster=cluster,
        state_dir=state_dir,
        target=target,
        redact=redact,
        calibration=calibration,
    )
    paths, text = split_question(files_and_question)
    if settings.model == "nano" and strategy not in WITHOUT_WORKERS:
        err.print(f"[dim]{NANO_NOTE}[/]")
    options = Options(
        strategy=strategy,
        privacy=privacy,
        max_cost_usd=dollars("--max-cost-usd", max_cost_usd),
        value_usd=dollars("--value-usd", value_usd),
        alpha=alpha,
        max_latency_s=max_latency_s,
        target=settings.target,
        redact=settings.redact,
        stop_early=stop_early,
        rung=rung,
        effort=effort,
        fresh=fresh,
    )
    reply = run_resumable(_ask(settings, paths, text, options))
    if as_json:
        typer.echo(json.dumps(reply.to_json(), indent=2, ensure_ascii=False))
    else:
        out.print(reply_view(reply))


async def _ask(settings: Settings, paths: list[Path], text: str, options: Options) -> Reply:
    async with open_app(settings) as app:
        documents = [await _read(app, path) for path in paths]
        ids = tuple(dict.fromkeys(document.document_id for document in documents))
        question = Question(text=text, document_ids=ids, options=options)
        with ProgressView(err).running() as view:
            return await app.desk.ask(question, view)


async def _read(app: App, path: Path) -> Document:
    began = time.monotonic()
    document = await app.add_file(path)
    err.print(f"[dim]{document_line(document, time.monotonic() - began)}[/]")
    return document


def estimate(
    files_and_question: FilesAndQuestion,
    as_json: JsonOption = False,
    model: ModelOption = None,
    cloud: CloudOption = None,
    chunk: ChunkOption = None,
    state_dir: StateOption = None,
) -> None:
    """Quote every rung of the ladder. No model is loaded and nothing is sent."""
    settings = load_settings(
        model=model, cloud_model=cloud, chunk_tokens=chunk, state_dir=state_dir
    )
    paths, text = split_question(files_and_question)

    async def quote() -> Estimate:
        async with open_app(settings) as app:
            documents = [await _read(app, path) for path in paths]
            terms = cloud_terms(settings)
            return estimate_cost(text, documents, terms, chunk_tokens(settings))

    result = asyncio.run(quote())
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2))
    else:
        out.print(estimate_view(result))


def trace(trace_id: str, state_dir: StateOption = None) -> None:
    """Print the trace of one question as JSON: every hop, job, decision and cloud call."""
    settings = load_settings(state_dir=state_dir)

    async def get() -> dict[str, Any]:
        async with open_app(settings) as app:
            return await app.store.get_trace(trace_id)

    typer.echo(json.dumps(asyncio.run(get()), indent=2, ensure_ascii=False))
