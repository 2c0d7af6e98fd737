"""The questions that this process works on: started, followed, cancelled, drained."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from typing import Annotated

import structlog
from fastapi import Depends, Request

from minions.app import App
from minions.chat.turn import ChatReply
from minions.errors import MinionsError, NotFound, Stopping, TooMany
from minions.event_json import ending, event_json
from minions.eventlog import EventLog
from minions.events import Event, Observer
from minions.question import Reply
from minions.store.model import RunRecord
from minions.store.rules import UNFINISHED
from minions.telemetry.metrics import Meters
from minions.telemetry.tracing import NoSink, SpanSink

LEAVE_GRACE_S = 2.0
"""Who left a stream may come back so long, as browsers do after a lost connection, before the work
for that question is cancelled."""
RETRY_AFTER_S = 5.0
END_AFTER_S = 0.01
"""Who waits for an answer gets it first; what is told of its end can come so much later."""
MAX_UPLOADS = 8

Work = asyncio.Task[Reply | ChatReply | None]
log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class Office:
    """The app and the questions that are being worked on in this process."""

    app: App
    events: EventLog
    meters: Meters = field(default_factory=Meters)
    spans: SpanSink = field(default_factory=NoSink)
    uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_UPLOADS))
    """Files that are in memory at the same time."""
    tasks: dict[str, Work] = field(default_factory=dict)
    """By run id: waiting for their turn or running."""
    draining: bool = False
    """No question is taken any more."""
    n_running: int = 0
    n_entering: int = 0
    """Questions that were let in and have no task yet."""
    _turns: asyncio.Semaphore = field(init=False)
    _background: set[str] = field(default_factory=set, init=False)
    _followers: Counter[str] = field(default_factory=Counter, init=False)
    _given_up: set[str] = field(default_factory=set, init=False)
    _leaving: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _endings: dict[str, asyncio.Task[None]] = field(default_factory=dict, init=False)
    """By run id: what is still to be told of a run whose work is over."""

    def __post_init__(self) -> None:
        self._turns = asyncio.Semaphore(self.app.settings.max_running)
        self.meters.watch(
            "minions_questions_waiting",
            "Questions accepted and waiting for their turn.",
            lambda: len(self.tasks) - self.n_running,
        )
        self.meters.watch(
            "minions_questions_running",
            "Questions that are worked on.",
            lambda: self.n_running,
        )

    @contextlib.contextmanager
    def room(self) -> Generator[None, None, None]:
        """Room for one question more, held while it is accepted. Raises TooMany and Stopping."""
        if self.draining:
            raise Stopping("The service is stopping and takes no questions. Ask again soon.")
        limit = self.app.settings.max_questions
        if len(self.tasks) + self.n_entering >= limit:
            raise TooMany(
                f"The service holds {limit} questions, which is all it may (max_questions). "
                "Ask again later.",
                retry_after_s=RETRY_AFTER_S,
            )
        self.n_entering += 1
        try:
            yield
        finally:
            self.n_entering -= 1

    def start(self, record: RunRecord, *, background: bool = False, is_new: bool = False) -> Work:
        """Work on a run, once however often it is asked for. With `background` it goes on though
        nobody follows it any more; a new one was never worked on anywhere."""
        if background:
            self._background.add(record.run_id)
        task = self.tasks.get(record.run_id)
        if task is None:
            self.events.expect(record.run_id, is_new=is_new)
            task = asyncio.create_task(self._work(record))
            self.tasks[record.run_id] = task
            task.add_done_callback(lambda done: self._forget(record.run_id, done))
        return task

    @contextlib.asynccontextmanager
    async def attending(self, run_id: str) -> AsyncGenerator[None, None]:
        """The task that runs this block is the work on a chat: it is cancelled, drained and counted
        like that on a question."""
        task: Work | None = asyncio.current_task()
        if task is not None:
            self.tasks[run_id] = task
        try:
            yield
        finally:
            self.tasks.pop(run_id, None)
            self._given_up.discard(run_id)
            await self._measure(await self.app.store.get_run(run_id))

    async def resume(self) -> int:
        """Take up every run that an earlier process left unfinished; returns how many."""
        runs = await self.app.store.unfinished_runs()
        for run in runs:
            self.start(run, background=True)
        return len(runs)

    async def cancel(self, run_id: str) -> None:
        """Give a run up. When this returns, its local and cloud work has stopped."""
        task = self.tasks.get(run_id)
        if task is None:
            run = await self.app.store.get_run(run_id)
            if run.status in UNFINISHED:
                await self.app.desk.cancel(run_id)
            return
        self._given_up.add(run_id)
        task.cancel()
        await asyncio.wait({task})
        if run_id in self._endings:
            await asyncio.wait({self._endings[run_id]})

    @contextlib.asynccontextmanager
    async def followed(self, run_id: str) -> AsyncGenerator[None, None]:
        """Somebody waits for this run. When the last one leaves before its end, it is cancelled,
        unless it was asked for in the background."""
        self._followers[run_id] += 1
        try:
            yield
        finally:
            self._followers[run_id] -= 1
            if self._is_abandoned(run_id):
                leaving = asyncio.create_task(self._leave(run_id))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)

    async def drain(self, grace_s: float) -> None:
        """Take no more questions, and let the running ones end within `grace_s` seconds. What is
        unfinished then stays so in the store: the next process takes it up."""
        self.draining = True
        if self.tasks:
            log.info("draining", questions=len(self.tasks), grace_s=grace_s)
            await asyncio.wait(set(self.tasks.values()), timeout=grace_s)
        stopped = [*self.tasks.values(), *self._leaving]
        for task in stopped:
            task.cancel()
        await asyncio.gather(*stopped, return_exceptions=True)
        await asyncio.gather(*self._endings.values(), return_exceptions=True)

    async def _work(self, record: RunRecord) -> Reply | None:
        run_id = record.run_id
        await self.events.open(run_id)
        try:
            with structlog.contextvars.bound_contextvars(question_id=run_id):
                return await self._in_turn(record)
        finally:
            self._endings[run_id] = asyncio.create_task(self._end(run_id))

    async def _in_turn(self, record: RunRecord) -> Reply | None:
        self.events.add(record.run_id, "status", {"status": "queued"})
        async with self._turns:
            self.n_running += 1
            try:
                self.events.add(record.run_id, "status", {"status": "running"})
                return await self.app.desk.resume(record, self._observer(record.run_id))
            except MinionsError as error:
                log.warning("question failed", code=error.code)
                raise
            finally:
                self.n_running -= 1

    def _observer(self, run_id: str) -> Observer:
        def observe(event: Event) -> None:
            self.events.add(run_id, *event_json(event))

        return observe

    async def _end(self, run_id: str) -> None:
        """Soon after the answer, which need not wait for it: tell who follows, and count."""
        try:
            await asyncio.sleep(END_AFTER_S)
            await self._tell_end(run_id)
        finally:
            self._given_up.discard(run_id)
            del self._endings[run_id]

    async def _tell_end(self, run_id: str) -> None:
        """Tell how it ended; one that was only stopped has not ended, and will go on."""
        if run_id in self._given_up:
            await self._mark_cancelled(run_id)
        run = await self.app.store.get_run(run_id)
        if run.status not in UNFINISHED:
            for kind, data in ending(run):
                self.events.add(run_id, kind, data)
        await self.events.close(run_id)
        if run.status not in UNFINISHED:
            await self._measure(run)

    async def _mark_cancelled(self, run_id: str) -> None:
        run = await self.app.store.get_run(run_id)
        if run.status in UNFINISHED:
            await self.app.desk.cancel(run_id)

    async def _measure(self, run: RunRecord) -> None:
        self.meters.question_ended(run, await self.app.store.ledger(run.run_id))
        log.info("question ended", question_id=run.run_id, status=run.status.value)
        with contextlib.suppress(NotFound):  # cancelled before it had a trace
            self.spans.export(await self.app.store.get_trace(run.run_id), run.status.value)

    def _forget(self, run_id: str, task: Work) -> None:
        del self.tasks[run_id]
        self._background.discard(run_id)
        if run_id not in self._endings:  # stopped before it began
            self.events.drop(run_id)
        if not task.cancelled():
            task.exception()  # its outcome is in the store; here it is only marked as seen

    def _is_abandoned(self, run_id: str) -> bool:
        if self._followers[run_id] > 0:
            return False
        del self._followers[run_id]
        return run_id in self.tasks and run_id not in self._background and not self.draining

    async def _leave(self, run_id: str) -> None:
        await asyncio.sleep(LEAVE_GRACE_S)
        if self._is_abandoned(run_id):
            log.info("cancelled: its client left", question_id=run_id)
            await self.cancel(run_id)


def office_of(request: Request) -> Office:
    """The office of the service that got this request."""
    office: Office = request.app.state.office
    return office


OfficeOf = Annotated[Office, Depends(office_of)]
"""A parameter of this type is the service's office."""
