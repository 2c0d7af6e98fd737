"""`EngineHost`: one engine behind an inbox and an outbox, as it runs at the far end.

It knows no network. What it adds to `InlinePool` (which recovers from crashes of the engine and
keeps deadlines): each ticket is taken once however often it is sent, gives exactly one outcome,
also when cancelled, and outputs are kept until their arrival is confirmed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import aclosing
from functools import partial

from workers.chat import ChatDelta, ChatJob, ChatResult
from workers.inline_pool import MAX_CRASHES_IN_A_ROW, InlinePool
from workers.jobs import Job, JobResult, JobStatus
from workers.ray.wire import Batch, Mail, unpack
from workers.seams import Engine, EngineInfo, Outcome, Work

MAX_REMEMBERED = 20_000
"""Tickets of ended jobs that are remembered, to know a late copy of a message by."""
LINGER_S = 0.002
"""How long a reply waits for more to put into it: jobs often end together."""


class EngineHost:
    """Belongs to one event loop."""

    def __init__(self, build: Callable[[], Engine]) -> None:
        self._build = build
        self._n_builds = 0
        self._n_given_up = 0
        self._pool = InlinePool(self._build_counted)
        self._tasks: dict[str, asyncio.Task[Outcome]] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._outbox: deque[tuple[int, Outcome | ChatDelta]] = deque()
        self._number = 0
        self._filled = asyncio.Event()

    async def ready(self) -> EngineInfo:
        """Wait for the engine; raises what building it raised."""
        return await self._pool.ready()

    def submit(self, batch: Batch) -> None:
        """Start what was not started before."""
        for work in unpack(batch):
            if work.job_id not in self._seen:
                self._remember(work.job_id)
                self._start(work)

    def cancel(self, tickets: list[str]) -> None:
        """Each gives a FAILED outcome, unless it has ended already."""
        for ticket in tickets:
            task = self._tasks.get(ticket)
            if task is not None:
                task.cancel()

    async def collect(self, confirmed: int, wait_s: float) -> Mail:
        """All outputs after the one numbered `confirmed`; waits up to `wait_s` for the first."""
        while self._outbox and self._outbox[0][0] <= confirmed:
            self._outbox.popleft()
        if not self._outbox:
            self._filled.clear()
            await self._wait_for_output(wait_s)
        return Mail(
            number=self._number,
            outputs=tuple(output for _, output in self._outbox),
            n_given_up=self._n_given_up,
        )

    def encode(self, text: str) -> list[int]:
        return self._pool.tokenizer.encode(text)

    def overhead(self, task: str) -> int:
        return self._pool.prompt_overhead_tokens(task)

    async def close(self) -> None:
        """Stop everything. Outputs that nobody collected are lost."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pool.close()

    def _build_counted(self) -> Engine:
        """Every build but the first follows a crash."""
        if self._n_builds >= MAX_CRASHES_IN_A_ROW:
            self._n_builds = 0
            self._n_given_up += 1
        self._n_builds += 1
        return self._build()

    async def _wait_for_output(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._filled.wait()
        except TimeoutError:
            return
        await asyncio.sleep(LINGER_S)

    def _start(self, work: Work) -> None:
        task = asyncio.create_task(self._outcome(work))
        self._tasks[work.job_id] = task
        # Not inside the task: one that is cancelled before its first step never runs at all.
        task.add_done_callback(partial(self._end, work))

    def _end(self, work: Work, task: asyncio.Task[Outcome]) -> None:
        del self._tasks[work.job_id]
        if task.cancelled():
            self._put(failed(work, "cancelled by the caller"))
        elif (error := task.exception()) is not None:
            self._put(failed(work, f"{error}"))  # the pool closed, or has no engine any more
        else:
            self._put(task.result())

    async def _outcome(self, work: Work) -> Outcome:
        if isinstance(work, ChatJob):
            return await self._pool.chat(work, lambda text: self._speak(work.job_id, text))
        async with aclosing(self._pool.run([work])) as results:
            return await anext(results)

    def _speak(self, ticket: str, text: str) -> None:
        self._put(ChatDelta(job_id=ticket, text=text))

    def _put(self, output: Outcome | ChatDelta) -> None:
        if not isinstance(output, ChatDelta) and output.status is not JobStatus.FAILED:
            self._n_builds = 1  # it works: the crashes were not in a row
        self._number += 1
        self._outbox.append((self._number, output))
        self._filled.set()

    def _remember(self, ticket: str) -> None:
        self._seen[ticket] = None
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)


def failed(work: Work, error: str) -> Outcome:
    """The outcome of a job that has no result."""
    if isinstance(work, Job):
        return JobResult(
            job_id=work.job_id, chunk_id=work.chunk_id, status=JobStatus.FAILED, error=error
        )
    return ChatResult(job_id=work.job_id, status=JobStatus.FAILED, error=error)
