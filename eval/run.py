"""Answer labelled questions with several strategies side by side.

One row per item and strategy is written as soon as it is known. Every question is asked of the
product under an id of its own that follows from the run, the item and the strategy: a run that was
killed goes on with the very questions that were under way, and what they paid for is on disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from eval.answers import Scored, score_answer
from eval.citations import citation_correct
from eval.costs import BudgetReached, ItemCosts, item_costs, local_tokens, open_run_budget
from eval.datasets.registry import Dataset
from eval.items import Item, ItemDocument, items_digest
from eval.judge import OWNER, Judge
from eval.labelled import observed_outcomes, observed_signals
from eval.response_cache import CachedCloud
from eval.rows import (
    ABSTAINED,
    ANSWERED,
    ERROR,
    MANIFEST,
    ROWS,
    Manifest,
    Row,
    append_row,
    drop_cut_line,
    read_manifest,
    read_rows,
    write_manifest,
    write_rows,
    write_trace,
)
from eval.strategies import Strategy
from minions.app import App
from minions.asking import Desk
from minions.cloud_prompt import cloud_prompt
from minions.documents import Document
from minions.errors import BadRequest, MinionsError, NotFound
from minions.question import Question, as_number
from minions.store.model import RunRecord, RunStatus
from minions.strategies.supervisor import supervisor_version
from workers import worker_prompt

CACHE_FOLDER = "kept-responses"
"""In the state directory: shared by all runs of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run is to do."""

    dataset: Dataset
    strategies: tuple[Strategy, ...]
    seed: int = 0
    limit: int | None = None
    parallel: int = 1
    """Items at the same time; the strategies of one item come one after another."""
    budget_usd: Decimal | None = None
    """Hard cap on what this run pays, earlier processes of it included."""
    use_cache: bool = True
    """Take the cloud's answer to a request that some run of this state directory has paid for."""
    retry_errors: bool = False
    """Ask again what ended in an error."""
    judge: str | None = None
    """Cloud model that judges answers, beside the rules."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a run stands after a row."""

    row: Row
    n_done: int
    """Rows, those of earlier processes included."""
    n_total: int
    accuracy: dict[str, float]
    """Share of correct rows so far, by strategy."""
    paid_usd: float | None
    """By all rows so far; None when a price is unknown."""
    eta_s: float
    """Seconds left, at the pace of this process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """A run when its process ends."""

    folder: Path
    manifest: Manifest
    rows: tuple[Row, ...]
    stopped: str | None
    """Why it ended before the last item; None when it did not."""

    @property
    def n_missing(self) -> int:
        """Rows that the run still lacks, over all its strategies."""
        return self.manifest.n_items * len(self.manifest.strategies) - len(self.rows)


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
    runner = _Runner(
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
        },
        judge=plan.judge,
    )


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


@dataclass(kw_only=True)
class _Runner:
    """One process at work on a run."""

    app: App
    plan: Plan
    folder: Path
    manifest: Manifest
    observe: Callable[[Progress], None]
    rows: list[Row]
    _documents: dict[ItemDocument, Document] = field(default_factory=dict)
    _n_earlier: int = field(init=False)
    _began_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._n_earlier = len(self.rows)
        self._run_prefix = f"eval_{_digest(self.manifest.created_at)}_"

    async def run(self) -> str | None:
        """Work until all is done. Returns why it stopped before that, or None."""
        self._budget = await open_run_budget(
            self.app.desk, self.plan.budget_usd, owner=OWNER, prefix=self._run_prefix
        )
        client = self.app.desk.client
        if client is not None and self.plan.use_cache:
            folder = self.app.settings.state_dir / CACHE_FOLDER
            client = CachedCloud(client=client, folder=folder)
        # Keys' budgets and shadow audits are for the questions of people.
        self._desk: Desk = replace(
            self.app.desk, client=client, day=self._budget, budget_of=None, auditor=None
        )
        self._judge = None
        if self.plan.judge and client is not None:
            self._judge = Judge(desk=self._desk, model=self.plan.judge)
        waiting = self._waiting()
        async with asyncio.TaskGroup() as group:
            for _ in range(self.plan.parallel):
                group.create_task(self._work(waiting))
        return self._budget.stopped

    def _waiting(self) -> Iterator[tuple[Item, list[Strategy]]]:
        """Items with the strategies that have no row for them yet."""
        done = {(row.item_id, row.strategy) for row in self.rows}
        for item in self.plan.dataset.items:
            missing = [s for s in self.plan.strategies if (item.item_id, s.label) not in done]
            if missing:
                yield item, missing

    async def _work(self, waiting: Iterator[tuple[Item, list[Strategy]]]) -> None:
        for item, strategies in waiting:
            for strategy in strategies:
                if self._budget.stopped is not None:
                    return
                try:
                    row = await self._row(item, strategy)
                except BudgetReached:
                    return
                self._keep(row)

    def _keep(self, row: Row) -> None:
        append_row(self.folder / ROWS, row)
        self.rows.append(row)
        self.observe(self._progress(row))

    def _progress(self, row: Row) -> Progress:
        n_total = len(self.plan.dataset.items) * len(self.plan.strategies)
        n_done, n_new = len(self.rows), len(self.rows) - self._n_earlier
        pace_s = (time.monotonic() - self._began_s) / n_new
        paid = [each.paid_usd for each in self.rows]
        return Progress(
            row=row,
            n_done=n_done,
            n_total=n_total,
            accuracy={
                label: _accuracy(self.rows, label)
                for label in self.manifest.labels
                if any(each.strategy == label for each in self.rows)
            },
            paid_usd=None if None in paid else sum(usd for usd in paid if usd is not None),
            eta_s=pace_s * max(0, n_total - n_done),
        )

    async def _row(self, item: Item, strategy: Strategy) -> Row:
        """What became of one item under one strategy. Raises BudgetReached."""
        record: RunRecord | None = None
        try:
            documents = await self._documents_of(item)
            record = await self._accepted(item, strategy, documents)
            record = await self._ended(record)
        except MinionsError as error:
            return await self._error_row(item, strategy, record, f"{error.code}: {error}")
        if record.reply is None:
            failure = record.error or {"code": "unknown", "message": record.status.value}
            told = f"{failure['code']}: {failure['message']}"
            return await self._error_row(item, strategy, record, told)
        row = await self._answer_row(item, strategy, record.run_id, record.reply, documents)
        return row if self._judge is None else await self._judged(row, item, self._judge)

    async def _documents_of(self, item: Item) -> dict[str, Document]:
        """The item's documents as the product read them, by the names that its evidence uses."""
        for each in item.documents:
            if each not in self._documents:
                self._documents[each] = await self._read(each)
        return {each.name: self._documents[each] for each in item.documents}

    async def _read(self, document: ItemDocument) -> Document:
        if document.path is not None:
            return await self.app.add_file(document.path, OWNER)
        data = (document.text or "").encode()
        return await self.app.add_document(data, document.name, OWNER)

    async def _accepted(
        self, item: Item, strategy: Strategy, documents: dict[str, Document]
    ) -> RunRecord:
        """The question's run: the one that was begun, or a new one. A failed one is begun anew only
        where errors are to be tried again."""
        run_id = self._run_id(item, strategy)
        known = await self._known(run_id)
        n = 1
        while (again := await self._known(f"{run_id}-{n}")) is not None:
            known, n = again, n + 1
        if known is not None and not (self.plan.retry_errors and _has_failed(known)):
            return known
        ids = dict.fromkeys(document.document_id for document in documents.values())
        question = Question(text=item.asked, document_ids=tuple(ids), options=strategy.options)
        new_id = run_id if known is None else f"{run_id}-{n}"
        return await self._desk.accept(question, OWNER, new_id)

    async def _known(self, run_id: str) -> RunRecord | None:
        try:
            return await self.app.store.get_run(run_id)
        except NotFound:
            return None

    def _run_id(self, item: Item, strategy: Strategy) -> str:
        identity = json.dumps([item.item_id, strategy.label])
        return f"{self._run_prefix}{hashlib.sha256(identity.encode()).hexdigest()[:16]}"

    async def _ended(self, record: RunRecord) -> RunRecord:
        """The run after its work; a failure is raised as it happens, or was kept in the record."""
        if record.status in (RunStatus.QUEUED, RunStatus.RUNNING):
            await self._desk.resume(record)
            return await self.app.store.get_run(record.run_id)
        return record

    async def _answer_row(
        self,
        item: Item,
        strategy: Strategy,
        run_id: str,
        reply: dict[str, Any],
        documents: dict[str, Document],
    ) -> Row:
        trace = await self.app.store.get_trace(run_id)
        write_trace(self.folder, run_id, trace)
        answer = reply["answer"]
        cited = None
        if answer is not None:
            cited = citation_correct(reply["citations"], item.evidence, documents)
        outcomes = {}
        if strategy.labels_rungs:
            outcomes = observed_outcomes(reply, trace, lambda a: score_answer(item, a).correct)
        return replace(
            self._blank(item, strategy, ABSTAINED if answer is None else ANSWERED),
            **_scored(score_answer(item, answer)),
            **_costs(item_costs(await self._ledger(run_id), self._desk.terms.prices)),
            **observed_signals(trace),
            outcomes=outcomes,
            citation_correct=cited,
            p_correct=reply["p_correct"],
            rung=reply["rung"],
            cloud_only_usd=reply["cost"]["cloud_only_usd"],
            local_tokens=local_tokens(trace),
            latency_s=trace["elapsed_s"],
            answer=answer,
            trace_id=run_id,
        )

    async def _error_row(
        self, item: Item, strategy: Strategy, record: RunRecord | None, error: str
    ) -> Row:
        """What an error cost counts as well."""
        row = replace(self._blank(item, strategy, ERROR), error=error)
        if record is None:
            return replace(row, cloud_usd=0.0, paid_usd=0.0)
        costs = item_costs(await self._ledger(record.run_id), self._desk.terms.prices)
        row = replace(row, **_costs(costs), trace_id=record.run_id)
        try:
            trace = await self.app.store.get_trace(record.run_id)
        except NotFound:  # it never began
            return row
        write_trace(self.folder, record.run_id, trace)
        return replace(row, local_tokens=local_tokens(trace), latency_s=trace["elapsed_s"])

    async def _ledger(self, run_id: str) -> list[Any]:
        return await self.app.store.ledger(run_id)

    def _blank(self, item: Item, strategy: Strategy, outcome: str) -> Row:
        return Row(
            item_id=item.item_id,
            dataset=self.manifest.dataset,
            strategy=strategy.label,
            kind=item.kind,
            outcome=outcome,
            answerable=item.answerable,
            score=0.0,
            correct=False,
            question=item.question,
            gold_answers=item.gold_answers,
            document=item.document_name,
        )

    async def _judged(self, row: Row, item: Item, judge: Judge) -> Row:
        """The row with the judge's verdict. Abstentions, and answers to what has none, are judged
        by the rules alone: there is no gold answer to compare with."""
        if row.answer is None or not item.answerable:
            return row
        run_id = f"{row.trace_id}-judged"
        verdict = await judge.verdict(run_id, item.asked, item.gold_answers, row.answer)
        scores = row.scores
        if verdict.score is not None:
            scores = {**scores, "judge": verdict.score}
        return replace(row, scores=scores, judge=verdict.to_json())


def _has_failed(record: RunRecord) -> bool:
    return record.status in (RunStatus.FAILED, RunStatus.CANCELLED)


def _accuracy(rows: Sequence[Row], label: str) -> float:
    of_label = [row.correct for row in rows if row.strategy == label]
    return sum(of_label) / len(of_label)


def _scored(scored: Scored) -> dict[str, Any]:
    return {"score": scored.score, "correct": scored.correct, "scores": scored.scores}


def _costs(costs: ItemCosts) -> dict[str, Any]:
    return {
        "cloud_usd": as_number(costs.cloud_usd),
        "paid_usd": as_number(costs.paid_usd),
        "n_cached_calls": costs.n_cached_calls,
        "cloud_tokens": costs.cloud_tokens,
    }
