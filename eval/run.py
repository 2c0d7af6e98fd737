"""Answer labelled questions with several strategies side by side: a run, begun or gone on with.

A run is a folder (`eval.rows`). Going on with it needs the same dataset, models and options, so
that its rows can be compared; items and strategies may be added.
"""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eval.items import items_digest
from eval.judge_trust import find_standing
from eval.plan import Plan, Progress, RunResult
from eval.rows import (
    ERROR,
    MANIFEST,
    ROWS,
    Manifest,
    Row,
    drop_cut_line,
    read_manifest,
    read_rows,
    write_manifest,
    write_rows,
)
from eval.runner import Runner
from minions.app import App
from minions.cloud_prompt import cloud_prompt
from minions.errors import BadRequest
from minions.strategies.supervisor import supervisor_version
from workers import worker_prompt


async def run_plan(
    app: App, plan: Plan, folder: Path, observe: Callable[[Progress], None]
) -> RunResult:
    """Answer what `folder` does not hold yet. Errors of one item end that item, not the run.

    Raises BadRequest when `folder` holds another run, or when a strategy needs a cloud and there is
    none; and what loading the worker raises."""
    _check_cloud(app, plan)
    manifest = _open_manifest(app, plan, folder)
    rows = _earlier_rows(folder, plan)
    if any(strategy.needs_worker for strategy in plan.strategies):
        await app.pools.open()  # a model that can't be loaded is no item's fault
    runner = Runner(
        app=app, plan=plan, folder=folder, manifest=manifest, observe=observe, rows=rows
    )
    stopped = await runner.run()
    return RunResult(folder=folder, manifest=manifest, rows=tuple(runner.rows), stopped=stopped)


def _check_cloud(app: App, plan: Plan) -> None:
    needing = [strategy.label for strategy in plan.strategies if strategy.needs_cloud]
    needing += ["--judge"] if plan.judge else []
    if needing and app.desk.client is None:
        raise BadRequest(
            f"{', '.join(needing)}: this needs a cloud, and none is set up. Give --cloud-url (such "
            "as that of `minions cloud-sim`), or a key in OPENAI_API_KEY."
        )


def _open_manifest(app: App, plan: Plan, folder: Path) -> Manifest:
    """The run's manifest: the one that is there, with what this process adds, or a new one."""
    manifest = _manifest(app, plan)
    if (folder / MANIFEST).is_file():
        manifest = _continued(read_manifest(folder), manifest, folder)
    write_manifest(folder, manifest)
    return manifest


def _manifest(app: App, plan: Plan) -> Manifest:
    card, items = plan.dataset.card, plan.dataset.items
    return Manifest(
        dataset=card.name,
        source=card.source,
        licence=card.licence,
        strategies=tuple(strategy.spec for strategy in plan.strategies),
        worker=app.settings.model,
        cloud=app.desk.terms.model,
        price_snapshot=app.desk.terms.prices.snapshot_id,
        seed=plan.seed,
        limit=plan.limit,
        n_items=len(items),
        kinds=dict(Counter(item.kind for item in items)),
        items_sha256=items_digest(items),
        created_at=datetime.now(UTC).isoformat(),
        versions={
            "python": platform.python_version(),
            "worker_prompt": worker_prompt().version,
            "cloud_prompt": cloud_prompt().version,
            "supervisor_prompts": supervisor_version(),
            "calibration": _digest(str(app.desk.calibration)),
            "relevance": _digest(str(app.desk.relevance)),
        },
        judge=plan.judge,
        judge_standing=_standing(app, plan),
    )


def _standing(app: App, plan: Plan) -> dict[str, Any] | None:
    found = find_standing(plan.judge, app.settings.state_dir) if plan.judge else None
    return found.to_json() if found else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _continued(old: Manifest, new: Manifest, folder: Path) -> Manifest:
    """The old run with the new one's strategies and items added. Raises BadRequest where they are
    of different things: their rows could not be compared."""
    for name in ("dataset", "worker", "cloud", "seed", "judge", "versions"):
        ours, theirs = getattr(new, name), getattr(old, name)
        if ours != theirs:
            raise BadRequest(
                f"{folder} holds a run with {name} {theirs!r}, and this one has {ours!r}. "
                "Give another --out, or the same options."
            )
    kept = {spec.label: spec for spec in old.strategies}
    for spec in new.strategies:
        if kept.setdefault(spec.label, spec).options != spec.options:
            raise BadRequest(
                f"{folder} holds rows of `{spec.label}` with other options. Give another --out."
            )
    return replace(new, strategies=tuple(kept.values()), created_at=old.created_at)


def _earlier_rows(folder: Path, plan: Plan) -> list[Row]:
    """The rows that are there; without errors where they are to be tried again. Raises BadRequest
    for rows of other items."""
    path = folder / ROWS
    drop_cut_line(path)
    rows = read_rows(path, missing_ok=True)
    known = {item.item_id for item in plan.dataset.items}
    strange = next((row.item_id for row in rows if row.item_id not in known), None)
    if strange is not None:
        raise BadRequest(
            f"{folder} has a row of {strange!r}, which is not among the items that were asked for. "
            "Give at least its --limit and --documents, or another --out."
        )
    if plan.retry_errors:
        rows = [row for row in rows if row.outcome != ERROR]
        write_rows(path, rows)
    return rows
