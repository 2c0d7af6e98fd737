"""`ChatDesk`: takes plain turns, and writes down what became of each."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from minions.asking import CHAT_KIND, Desk
from minions.chat.routing import Forecaster
from minions.chat.session import ChatSession
from minions.chat.turn import ChatReply, Turn, kept_json, kept_reply
from minions.errors import BadRequest, Cancelled, MinionsError, WorkerFailed
from minions.question import Question
from minions.store.model import RunRecord, RunStatus
from minions.trace import Trace
from router.chat_profile import ChatProfile
from workers import WorkerError


def nobody_listens(piece: str) -> None:
    """Hears the pieces of an answer that is not streamed."""


@dataclass(kw_only=True)
class ChatDesk:
    """Beside the desk of questions, whose store, models, budgets and cloud it shares."""

    desk: Desk
    profile: ChatProfile | None = None
    """Fitted forecasts (`minions eval routing --save`); None for the documented prior."""
    share: float | None = None
    """Of all questions, those that the cloud gets, in the profile's order; None for no share."""
    cloud_takes_stop: bool = True
    """Whether the cloud's API knows stop texts."""

    async def answer(self, turn: Turn, say: Callable[[str], None] = nobody_listens) -> ChatReply:
        """Accept a turn and answer it."""
        return await self.work(await self.accept(turn), turn, say)

    async def work(
        self, record: RunRecord, turn: Turn, say: Callable[[str], None] = nobody_listens
    ) -> ChatReply:
        """Answer an accepted turn. Outcome, ledger and trace are on disk when this returns or
        raises; a cancelled turn is recorded as such and not taken up again."""
        trace = Trace(run_id=record.run_id)
        with trace.step("turn", **record.question):
            pass
        try:
            async with self._outcome_recorded(record):
                session = await self._session(record, turn, trace, say)
                reply = await session.answer()
                await self.desk.store.update_run(
                    record.run_id, RunStatus.FINISHED, reply=kept_json(reply)
                )
                return reply
        finally:
            await self.desk.store.put_trace(record.run_id, trace.to_json())

    def _check(self, turn: Turn) -> None:
        if not turn.question.strip() and not turn.messages:
            raise BadRequest("There is no message to answer: give at least one.")
        if turn.options.alpha is not None:
            raise BadRequest("alpha needs documents: a plain chat has no labelled runs to go by.")
        if turn.stop and not self.cloud_takes_stop and turn.options.may_ask_cloud:
            raise BadRequest(
                "The Responses API of the cloud knows no stop texts. Leave out `stop`, use "
                "minions-local, or set cloud_api to chat."
            )

    async def accept(self, turn: Turn, run_id: str | None = None) -> RunRecord:
        """Put the turn on record. Under a given `run_id` it is the same turn however often it
        comes: one that was answered is returned as it is, any other is begun again, and what its
        cloud calls brought is not paid for anew. Raises BadRequest for one that can't be answered.
        """
        self._check(turn)
        record = await self.desk.store.open_run(self._record(turn, run_id))
        if record.status in (RunStatus.RUNNING, RunStatus.FINISHED):
            return record
        await self.desk.store.update_run(record.run_id, RunStatus.RUNNING)
        return await self.desk.store.get_run(record.run_id)

    async def kept(self, record: RunRecord) -> ChatReply:
        """The reply to a turn that was answered before."""
        if record.reply is None:
            raise ValueError(f"the turn {record.run_id} has no reply")
        return kept_reply(record.run_id, record.reply, await self.desk.store.ledger(record.run_id))

    def _record(self, turn: Turn, run_id: str | None) -> RunRecord:
        run_id = run_id or f"run_{uuid.uuid4().hex[:24]}"
        question = Question(text=turn.question, document_ids=(), options=turn.options)
        now = time.time()
        return RunRecord(
            run_id=run_id,
            fingerprint=f"{CHAT_KIND}_{run_id}",
            status=RunStatus.RUNNING,
            question={**question.to_json(), "kind": CHAT_KIND, "n_messages": len(turn.messages)},
            reply=None,
            error=None,
            created_at=now,
            updated_at=now,
            owner=turn.owner,
        )

    async def _session(
        self, record: RunRecord, turn: Turn, trace: Trace, say: Callable[[str], None]
    ) -> ChatSession:
        desk = self.desk
        day = desk.day if desk.budget_of is None else await desk.budget_of(turn.owner)
        if desk.client is not None and turn.options.may_ask_cloud:
            await day.open()
        return ChatSession(
            run_id=record.run_id,
            turn=turn,
            store=desk.store,
            open_pool=desk.open_pool,
            terms=desk.terms,
            client=desk.client if turn.options.may_ask_cloud else None,
            day=day,
            redactor=desk.redactor if turn.options.redact else None,
            forecaster=Forecaster(
                profile=self.profile,
                worker=desk.worker_name,
                cloud=desk.terms.model,
                share=self.share,
            ),
            trace=trace,
            say=say,
        )

    @contextlib.asynccontextmanager
    async def _outcome_recorded(self, record: RunRecord) -> AsyncIterator[None]:
        """Write a failure down as one; worker errors join the product's tree here."""
        try:
            yield
        except asyncio.CancelledError:
            await self._end(record, RunStatus.CANCELLED, Cancelled("The client left."))
            raise
        except WorkerError as error:
            failure = WorkerFailed(str(error))
            await self._end(record, RunStatus.FAILED, failure)
            raise failure from error
        except MinionsError as error:
            await self._end(record, RunStatus.FAILED, error)
            raise
        except Exception as error:  # a defect of ours: recorded as one, never swallowed
            defect = MinionsError(f"{type(error).__name__}: {error}")
            await self._end(record, RunStatus.FAILED, defect)
            raise

    async def _end(self, record: RunRecord, status: RunStatus, error: MinionsError) -> None:
        told = {"code": error.code, "message": str(error)}
        await self.desk.store.update_run(record.run_id, status, error=told)
