"""One process at work on an evaluation run: items in, a row for each item and strategy out.

One row is written as soon as it is known. Every question is asked of the product under an id of
its own that follows from the run, the item and the strategy: a run that was killed goes on with
the very questions that were under way, and what they paid for is on disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.answers import Scored, score_answer
from eval.citations import citation_correct
from eval.claims import gold_claims
from eval.costs import BudgetReached, ItemCosts, item_costs, local_tokens, open_run_budget
from eval.items import Item, ItemDocument
from eval.judge import OWNER, Judge
from eval.labelled import observed_outcomes, observed_signals
from eval.plan import Plan, Progress
from eval.response_cache import CachedCloud
from eval.rows import (
    ABSTAINED,
    ANSWERED,
    ERROR,
    ROWS,
    Manifest,
    Row,
    append_row,
    write_trace,
)
from eval.strategies import Strategy
from minions.app import App
from minions.asking import Desk
from minions.documents import Document
from minions.errors import MinionsError, NotFound
from minions.question import Question, as_number
from minions.store.model import LedgerEntry, RunRecord, RunStatus

CACHE_FOLDER = "kept-responses"
"""In the state directory: shared by all runs of it."""


@dataclass(kw_only=True)
class Runner:
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
        key = hashlib.sha256(self.manifest.created_at.encode()).hexdigest()[:12]
        self._run_prefix = f"eval_{key}_"

    async def run(self) -> str | None:
        """Work until all is done. Returns why it stopped before that, or None. Raises what is no
        item's fault, such as a judge without a price under a budget."""
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
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.plan.parallel):
                    group.create_task(self._work(waiting))
        except ExceptionGroup as failed:  # the first is what went wrong; the rest was cancelled
            raise failed.exceptions[0] from None
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
            gold_claims=_gold_claims(item, trace, documents),
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

    async def _ledger(self, run_id: str) -> list[LedgerEntry]:
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


def _gold_claims(
    item: Item, trace: dict[str, Any], documents: dict[str, Document]
) -> tuple[str, ...] | None:
    has_read = any("claims" in step["facts"] for step in trace["steps"])
    if not has_read or (item.answerable and not item.evidence):
        return None
    return gold_claims(trace, item.evidence, documents)


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
