"""One question's run from acceptance to reply: journal, lock, strategy, trace, outcome."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from minions.abilities import beyond_reading, check_abilities
from minions.audit import Auditor
from minions.budget import DayBudget
from minions.cloud.model import CloudClient
from minions.cloud_prompt import cloud_prompt
from minions.errors import BadRequest, Cancelled, MinionsError, NotFound, WorkerFailed
from minions.events import Observer, ignore_events
from minions.evidence.relevance import Profile
from minions.offers import CloudTerms
from minions.question import Question, Reply, StrategyName
from minions.redaction import PatternRedactor, Redactor
from minions.runlock import RunLock
from minions.store.model import LOCAL_OWNER, RunRecord, RunStatus, Store
from minions.store.rules import UNFINISHED
from minions.strategies.cloud import ask_cloud_only
from minions.strategies.ladder import answer_locally, climb
from minions.strategies.minion import ask_minion
from minions.strategies.minions import ask_minions
from minions.strategies.rag import ask_rag
from minions.strategies.session import Session
from minions.strategies.supervisor import supervisor_version
from minions.trace import Trace
from router import Calibration
from workers import WorkerError, WorkerPool, worker_prompt

STRATEGIES: Mapping[StrategyName, Callable[[Session, WorkerPool], Awaitable[Reply]]] = {
    StrategyName.LOCAL: answer_locally,
    StrategyName.LADDER: climb,
    StrategyName.MINION: ask_minion,
    StrategyName.MINIONS: ask_minions,
}
"""All that need workers; `cloud` and `rag` do not."""


CHAT_KIND = "chat"
"""Under `kind` in the record of a turn without documents (`minions.chat`)."""
INTERRUPTED_CHAT = (
    "The service ended while this chat was answered, and its client is gone with it. Ask again."
)


@dataclass(kw_only=True)
class Desk:
    """Takes questions. Everything concrete is handed in by the composition root."""

    store: Store
    worker_name: str
    """The worker as the user named it; part of a run's fingerprint."""
    open_pool: Callable[[], Awaitable[WorkerPool]]
    """Opens the pool at the first need: strategy `cloud` never loads a model."""
    terms: CloudTerms
    client: CloudClient | None
    chunk_tokens: int
    relevance: Profile
    """See `Session.relevance`."""
    calibration: Calibration | None = None
    """See `Session.calibration`."""
    locks: RunLock
    """One process at a time works on a run."""
    day: DayBudget = field(default_factory=DayBudget)
    """What all questions together may spend today."""
    budget_of: Callable[[str], Awaitable[DayBudget]] | None = None
    """What the questions of one owner may spend today, within `day`; None: `day` alone."""
    redactor: Redactor = field(default_factory=PatternRedactor)
    """For the questions that ask for redaction."""
    auditor: Auditor | None = None
    """Asks the cloud about a share of the answers that were kept local."""

    async def accept(
        self, question: Question, owner: str = LOCAL_OWNER, run_id: str | None = None
    ) -> RunRecord:
        """Put the question on disk, or find its unfinished run. After this a crash loses nothing.

        With a `run_id` the question is asked under that very id, once however often it comes.
        Raises NotFound for a document that the owner does not have, BeyondAbilities for a request
        that neither the workers nor a cloud model that may be asked can do, and BadRequest for
        options that contradict one another."""
        if run_id is not None and (asked := await self._asked(run_id)) is not None:
            return asked
        question.options.check()
        if not question.document_ids:
            raise BadRequest(
                "A question needs at least one document. What has none is asked as a chat: "
                "`/v1/chat/completions`, where the model minions-cloud asks the cloud at once."
            )
        documents = [await self.store.get_document(i, owner) for i in question.document_ids]
        check_abilities(question, documents, has_cloud=self.terms.reachable)
        now = time.time()
        record = RunRecord(
            run_id=run_id or f"run_{uuid.uuid4().hex[:24]}",
            fingerprint=self.fingerprint(question, owner, run_id),
            status=RunStatus.QUEUED,
            question=question.to_json(),
            reply=None,
            error=None,
            created_at=now,
            updated_at=now,
            owner=owner,
        )
        return await self.store.open_run(record)

    async def _asked(self, run_id: str) -> RunRecord | None:
        try:
            return await self.store.get_run(run_id)
        except NotFound:
            return None

    def fingerprint(
        self, question: Question, owner: str = LOCAL_OWNER, run_id: str | None = None
    ) -> str:
        """See `Question.fingerprint`. Nobody takes up another owner's run, and a run whose id the
        client chose is nobody else's."""
        return question.fingerprint(
            worker=self.worker_name,
            cloud=self.terms.model,
            destination=self.client.base_url if self.client else "",
            worker_prompt=worker_prompt().version,
            cloud_prompt=cloud_prompt().version,
            supervisor_prompts=supervisor_version(),
            chunk_tokens=str(self.chunk_tokens),
            relevance=str(self.relevance),
            calibration=str(self.calibration),
            owner=owner,
            run_id=run_id or "",
        )

    async def ask(self, question: Question, observe: Observer = ignore_events) -> Reply:
        """Accept a question and answer it."""
        return await self.work(await self.accept(question), observe)

    async def work(self, record: RunRecord, observe: Observer = ignore_events) -> Reply:
        """Answer an accepted question. The outcome and the trace are on disk when this returns or
        raises. When the task is cancelled the run stays unfinished, so that asking again goes on
        where it stopped."""
        async with self.locks(record.fingerprint):
            return await self._work(record, observe)

    async def resume(self, record: RunRecord, observe: Observer = ignore_events) -> Reply | None:
        """As `work`, unless the run has ended meanwhile: another process may have had its lock, or
        its user has cancelled it. None then."""
        async with self.locks(record.fingerprint):
            current = await self.store.get_run(record.run_id)
            if current.status not in UNFINISHED:
                return None
            if current.question.get("kind") == CHAT_KIND:
                await self._fail(record.run_id, Cancelled(INTERRUPTED_CHAT))
                return None
            return await self._work(current, observe)

    async def _work(self, record: RunRecord, observe: Observer) -> Reply:
        trace = Trace(run_id=record.run_id)
        async with self._outcome_recorded(record):
            try:
                session = await self._open_session(record, trace, observe)
                reply = await self._answer(session)
            finally:  # before the outcome: who finds a run ended finds its trace too
                await self.store.put_trace(record.run_id, trace.to_json())
            await self.store.update_run(record.run_id, RunStatus.FINISHED, reply=reply.to_json())
        if self.auditor is not None:
            self.auditor.consider(session, reply)
        return reply

    async def cancel(self, run_id: str) -> None:
        """Mark a run as given up: it is not resumed."""
        error = {"code": Cancelled.code, "message": "Cancelled by the user."}
        await self.store.update_run(run_id, RunStatus.CANCELLED, error=error)

    @contextlib.asynccontextmanager
    async def _outcome_recorded(self, record: RunRecord) -> AsyncIterator[None]:
        """Write a failure down as one; worker errors join the product's tree here."""
        await self.store.update_run(record.run_id, RunStatus.RUNNING)
        try:
            yield
        except asyncio.CancelledError:
            raise
        except WorkerError as error:
            failure = WorkerFailed(str(error))
            await self._fail(record.run_id, failure)
            raise failure from error
        except MinionsError as error:
            await self._fail(record.run_id, error)
            raise
        except Exception as error:  # a defect of ours: recorded as one, never swallowed
            await self._fail(record.run_id, MinionsError(f"{type(error).__name__}: {error}"))
            raise

    async def _fail(self, run_id: str, error: MinionsError) -> None:
        await self.store.update_run(
            run_id, RunStatus.FAILED, error={"code": error.code, "message": str(error)}
        )

    async def _open_session(self, record: RunRecord, trace: Trace, observe: Observer) -> Session:
        question = Question.from_json(record.question)
        day = self.day if self.budget_of is None else await self.budget_of(record.owner)
        return Session(
            run_id=record.run_id,
            question=question,
            documents={
                document_id: await self.store.get_document(document_id, record.owner)
                for document_id in question.document_ids
            },
            store=self.store,
            terms=self.terms,
            client=self.client,
            observe=observe,
            owner=record.owner,
            trace=trace,
            chunk_tokens=self.chunk_tokens,
            relevance=self.relevance,
            calibration=self.calibration,
            day=day,
            redactor=self.redactor if question.options.redact else None,
            warnings=self.auditor.warnings() if self.auditor else [],
        )

    async def _answer(self, session: Session) -> Reply:
        question, trace = session.question, session.trace
        with trace.step("question", **question.to_json()):
            pass
        if self.client is not None and question.options.may_ask_cloud:
            await session.day.open()
        if question.options.strategy is StrategyName.CLOUD:
            return await ask_cloud_only(session)
        if question.options.strategy is StrategyName.RAG:
            return await ask_rag(session)
        if question.options.strategy is StrategyName.LADDER:
            need = beyond_reading(question, list(session.documents.values()))
            if need is not None:
                return await ask_cloud_only(session, f"no worker can do this: {need.reason}")
        with trace.step("load worker", name=self.worker_name):
            pool = await self.open_pool()
        return await STRATEGIES[question.options.strategy](session, pool)
