"""`InlinePool`: one engine in one thread of this process, many concurrent runs.

The engine thread owns the engine and all bookkeeping; the event loops talk to it through an inbox
of commands, and it answers through each loop's `call_soon_threadsafe`. So nothing here is locked
but the engine's tokenizer, which callers use while the thread may be replacing a crashed engine.

One turn of the thread: take commands, build the engine if there is none, hand out jobs, step the
engine, deliver what ended.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from workers.chat import ChatDelta, ChatJob, ChatResult
from workers.errors import EngineUnavailable
from workers.jobs import Job, JobResult, JobStatus
from workers.outputs import (
    Outputs,
    require_unique_ids,
    result_of_chat,
    results_of,
    until_all_ended,
)
from workers.seams import Engine, EngineInfo, Outcome, TextSink, Tokenizer, Work

MAX_CRASHES = 2
"""Crashes of the engine with a job in it after which that job is failed."""

MAX_CRASHES_IN_A_ROW = 8
"""Crashes without any result in between after which the engine counts as broken and all jobs that
are there are failed: else every job of a long run would load the model twice for nothing."""


@dataclass(kw_only=True, slots=True, eq=False)
class _Run:
    """One call of `run()` or `chat()`. Belongs to the engine thread, but for `outputs`."""

    loop: asyncio.AbstractEventLoop
    outputs: asyncio.Queue[Outcome | ChatDelta]
    groups: deque[deque[Work]]
    """Waiting jobs by chunk, in the order in which the chunks first appear."""
    started_at: float
    next_deadline: float | None
    """Earliest deadline of the jobs at the start, on the monotonic clock."""
    abandoned: bool = False


@dataclass(kw_only=True, slots=True)
class _Flight:
    """A job inside the engine, or on its way back into it after a crash."""

    run: _Run
    job: Work
    crashes: int = 0
    has_spoken: bool = False
    """Whether pieces of its answer were handed on, which can't be taken back."""


@dataclass(slots=True)
class _FairQueue:
    """Runs that have waiting jobs, served in turn, one chunk of jobs at a time."""

    runs: deque[_Run] = field(default_factory=deque)

    def __bool__(self) -> bool:
        return bool(self.runs)

    def add(self, run: _Run) -> None:
        if run.groups:
            self.runs.append(run)

    def next_group(self, max_jobs: int) -> list[_Flight]:
        """Take the next jobs, all of one chunk. Raises IndexError when nothing waits."""
        run = self.runs.popleft()
        group = run.groups[0]
        taken = [group.popleft() for _ in range(min(len(group), max_jobs))]
        if group:
            self.runs.appendleft(run)  # the rest of this chunk comes before another run's turn
            return [_Flight(run=run, job=job) for job in taken]
        run.groups.popleft()
        self.add(run)
        return [_Flight(run=run, job=job) for job in taken]

    def take_late(self, now: float) -> list[_Flight]:
        """Take all waiting jobs whose deadline has passed."""
        late = []
        for run in list(self.runs):
            if run.next_deadline is not None and now >= run.next_deadline:
                late += self._take_late_of(run, now)
        return late

    def _take_late_of(self, run: _Run, now: float) -> list[_Flight]:
        waiting = [job for group in run.groups for job in group]
        keep = [job for job in waiting if not _is_late(run, job, now)]
        late = [job for job in waiting if _is_late(run, job, now)]
        self.remove(run)
        run.groups = _by_chunk(keep)
        run.next_deadline = _earliest_deadline(keep, run.started_at)
        self.add(run)
        return [_Flight(run=run, job=job) for job in late]

    def remove(self, run: _Run) -> list[Work]:
        """Forget a run; returns the jobs that were still waiting."""
        if run in self.runs:
            self.runs.remove(run)
        waiting = [job for group in run.groups for job in group]
        run.groups = deque()
        return waiting


class InlinePool:
    """`WorkerPool` over one engine in a thread of its own.

    The engine is built in that thread by `engine_factory`, at once; `await ready()` waits for it.
    When the engine crashes, it is closed and built anew, and the jobs that were in it run again,
    one at a time, so that a job that kills the engine takes no other with it; a job in two crashes
    is failed. The tokens of a crashed attempt are unknown and not in any usage.
    """

    def __init__(
        self, engine_factory: Callable[[], Engine], *, max_in_engine: int | None = None
    ) -> None:
        """`max_in_engine`: no more jobs are handed out while so many are in the engine (default:
        twice its slots). A chunk's jobs go in together, so fewer than twice as many may be there.
        """
        if max_in_engine is not None and max_in_engine < 1:
            raise ValueError(f"max_in_engine is {max_in_engine}, must be at least 1")
        self._factory = engine_factory
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._inbox_lock = threading.Lock()
        self._closed = False
        self._started: Future[EngineInfo] = Future()
        self._started.set_running_or_notify_cancel()  # a waiter that is cancelled leaves it alone
        self._engine_lock = threading.Lock()
        self._engine: Engine | None = None
        self._tokenizer = _CurrentTokenizer(self._hold_engine)
        # From here on only the engine thread touches these.
        self._stopping = False
        self._max_in_engine = max_in_engine or 0
        self._waiting = _FairQueue()
        self._suspects: deque[_Flight] = deque()
        self._flights: dict[str, _Flight] = {}
        self._to_cancel: list[str] = []
        self._crashes_in_a_row = 0
        self._tickets = itertools.count()
        self._thread = threading.Thread(target=self._serve, name="minions-engine", daemon=True)
        self._thread.start()

    @property
    def info(self) -> EngineInfo:
        """Blocks until the engine is built (use `await ready()` in an event loop); raises what
        building it raised."""
        return self._started.result()

    @property
    def tokenizer(self) -> Tokenizer:
        """Good for the pool's whole life, across crashes; safe in any thread."""
        return self._tokenizer

    def prompt_overhead_tokens(self, task: str) -> int:
        with self._hold_engine() as engine:
            return engine.prompt_overhead_tokens(task)

    async def ready(self) -> EngineInfo:
        """Wait until the engine is built; raises what building it raised."""
        return await asyncio.wrap_future(self._started)

    def run(self, jobs: Sequence[Job]) -> AsyncGenerator[JobResult, None]:
        """Yield one result per job, in completion order; see `WorkerPool.run`.

        Deadlines count from the first iteration. Raises ValueError at once when two jobs have the
        same id, EngineUnavailable when the pool is closed. A `break` leaves the iterator to the
        garbage collector: use `contextlib.aclosing` to free the engine at that very moment.
        """
        require_unique_ids(jobs)
        return results_of(self._outputs(list(jobs)))

    async def chat(self, job: ChatJob, on_text: TextSink | None = None) -> ChatResult:
        """See `WorkerPool.chat`. Raises EngineUnavailable when the pool is closed."""
        return await result_of_chat(self._outputs([job]), on_text)

    async def close(self) -> None:
        """Stop the thread and free the engine; unfinished jobs end FAILED. Safe to call twice."""
        with self._inbox_lock:
            if not self._closed:
                self._closed = True
                self._inbox.put(self._stop)
        await asyncio.to_thread(self._thread.join)

    async def _outputs(self, jobs: Sequence[Work]) -> Outputs:
        """All that comes of `jobs`, until each has its outcome."""
        await self.ready()
        now = time.monotonic()
        run = _Run(
            loop=asyncio.get_running_loop(),
            outputs=asyncio.Queue(),
            groups=_by_chunk(jobs),
            started_at=now,
            next_deadline=_earliest_deadline(jobs, now),
        )
        self._send(partial(self._waiting.add, run))
        try:
            async for output in until_all_ended(run.outputs, len(jobs)):
                yield output
        finally:
            self._inbox.put(partial(self._abandon, run))

    def _send(self, command: Callable[[], None]) -> None:
        with self._inbox_lock:
            if self._closed:
                raise EngineUnavailable("the worker pool is closed: build a new one")
            self._inbox.put(command)

    @contextmanager
    def _hold_engine(self) -> Iterator[Engine]:
        """The engine, which is neither closed nor replaced meanwhile."""
        self._started.result()
        with self._engine_lock:
            if self._engine is None:
                raise EngineUnavailable("the worker pool has no engine: it was closed or broke")
            yield self._engine

    # Everything below runs in the engine thread.

    def _serve(self) -> None:
        try:
            if self._build_first_engine():
                while not self._stopping:
                    self._take_commands()
                    if self._has_work():
                        self._turn()
        finally:
            self._wind_up()

    def _build_first_engine(self) -> bool:
        try:
            self._engine = self._factory()
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the waiters
            self._started.set_exception(error)
            return False
        info = self._engine.info
        self._max_in_engine = self._max_in_engine or 2 * info.n_slots
        self._started.set_result(info)
        return True

    def _has_work(self) -> bool:
        return bool(self._flights or self._suspects or self._waiting)

    def _take_commands(self) -> None:
        """Run the commands that are there; wait for one when there is nothing else to do."""
        if not self._has_work():
            self._inbox.get()()
        while not self._inbox.empty():
            self._inbox.get()()

    def _stop(self) -> None:
        self._stopping = True

    def _abandon(self, run: _Run) -> None:
        """Nobody reads this run's results any more (often since all were delivered)."""
        run.abandoned = True
        self._waiting.remove(run)
        self._suspects = deque(flight for flight in self._suspects if flight.run is not run)
        self._to_cancel += [t for t, flight in self._flights.items() if flight.run is run]

    def _turn(self) -> None:
        self._fail_late()
        engine = self._engine or self._replace_engine()
        if engine is None:
            return
        try:
            self._hand_out(engine)
            ended = engine.step()
        except Exception as error:  # noqa: BLE001 - an engine is a plug-in: its jobs must still end
            self._recover(error)
            return
        for output in ended:
            self._land(output)
        if self._flights and engine.n_pending == 0:
            self._fail(self._take_flights(), "the engine gave no result for this job; retry it")

    def _fail_late(self) -> None:
        """Fail jobs whose deadline passed outside the engine (inside, the engine does)."""
        now = time.monotonic()
        late = self._waiting.take_late(now)
        late += [flight for flight in self._suspects if _is_late(flight.run, flight.job, now)]
        self._suspects = deque(flight for flight in self._suspects if flight not in late)
        self._fail(late, "the deadline passed before the job's turn came; give it more time")

    def _hand_out(self, engine: Engine) -> None:
        for ticket in self._to_cancel:
            engine.cancel(ticket)
        self._to_cancel = []
        if any(flight.crashes for flight in self._flights.values()):
            return  # a job that was in a crash runs alone
        if self._suspects:
            self._submit(engine, self._suspects.popleft())
            return
        while self._waiting and len(self._flights) < self._max_in_engine:
            for flight in self._waiting.next_group(self._max_in_engine):
                self._submit(engine, flight)

    def _submit(self, engine: Engine, flight: _Flight) -> None:
        """Submit under a ticket: job ids are unique only within their run."""
        ticket = str(next(self._tickets))
        self._flights[ticket] = flight
        job, run = flight.job, flight.run
        left_s = job.deadline_s
        if left_s is not None:
            left_s = max(left_s - (time.monotonic() - run.started_at), 0.0)
        engine.submit(replace(job, job_id=ticket, deadline_s=left_s))

    def _land(self, output: Outcome | ChatDelta) -> None:
        flight = self._flights.get(output.job_id)
        if flight is None:
            return  # an engine that doubles a result must not double it here
        if isinstance(output, ChatDelta):
            flight.has_spoken = True
            self._send_back(flight, replace(output, job_id=flight.job.job_id))
            return
        del self._flights[output.job_id]
        self._crashes_in_a_row = 0
        self._deliver(flight, output)

    def _deliver(self, flight: _Flight, outcome: Outcome) -> None:
        elapsed_s = time.monotonic() - flight.run.started_at
        self._send_back(flight, replace(outcome, job_id=flight.job.job_id, elapsed_s=elapsed_s))

    def _send_back(self, flight: _Flight, output: Outcome | ChatDelta) -> None:
        run = flight.run
        if run.abandoned:
            return
        try:
            run.loop.call_soon_threadsafe(run.outputs.put_nowait, output)
        except RuntimeError:  # its event loop is closed: nobody is left to tell
            self._abandon(run)

    def _fail(self, flights: Iterable[_Flight], error: str) -> None:
        for flight in flights:
            self._deliver(flight, _failed(flight.job, error))

    def _take_flights(self) -> list[_Flight]:
        flights, self._flights = list(self._flights.values()), {}
        return flights

    def _recover(self, error: Exception) -> None:
        """Give the jobs that were in the crash another chance, each alone, in a new engine."""
        self._crashes_in_a_row += 1
        crashed = [replace(flight, crashes=flight.crashes + 1) for flight in self._take_flights()]
        spoken = [flight for flight in crashed if flight.has_spoken]
        silent = [flight for flight in crashed if not flight.has_spoken]
        guilty = [flight for flight in silent if flight.crashes >= MAX_CRASHES]
        self._suspects.extend(flight for flight in silent if flight.crashes < MAX_CRASHES)
        self._suspects = deque(flight for flight in self._suspects if not flight.run.abandoned)
        self._to_cancel = []
        self._fail(spoken, f"the engine crashed while the answer was written: {error}. Ask again")
        self._fail(guilty, f"the engine crashed {MAX_CRASHES} times in this job: {error}")
        if self._crashes_in_a_row >= MAX_CRASHES_IN_A_ROW:
            self._fail_everything(
                f"the engine crashed {self._crashes_in_a_row} times in a row: {error}. "
                "The model or this machine is at fault, not the job: run `minions doctor`"
            )
            self._crashes_in_a_row = 0
        self._replace_engine()

    def _replace_engine(self) -> Engine | None:
        """Close the engine and build another; None, and all jobs failed, when that fails."""
        with self._engine_lock:
            self._close_engine()
            try:
                self._engine = self._factory()
            except Exception as error:  # noqa: BLE001 - the factory is a plug-in as well
                self._fail_everything(f"the engine crashed and can't be started again: {error}")
        return self._engine

    def _close_engine(self) -> None:
        engine, self._engine = self._engine, None
        if engine is None:
            return
        try:
            engine.close()
        except Exception:  # noqa: BLE001 - it has crashed or is done with: there is no more to lose
            return

    def _fail_everything(self, error: str) -> None:
        waiting = [
            _Flight(run=run, job=job)
            for run in list(self._waiting.runs)
            for job in self._waiting.remove(run)
        ]
        suspects, self._suspects = list(self._suspects), deque()
        self._fail([*self._take_flights(), *suspects, *waiting], error)

    def _wind_up(self) -> None:
        with self._inbox_lock:
            self._closed = True
        while not self._inbox.empty():
            self._inbox.get()()
        self._fail_everything("the worker pool was closed before this job ended")
        with self._engine_lock:
            self._close_engine()


class _CurrentTokenizer:
    """The tokenizer of whichever engine the pool has now."""

    def __init__(self, hold_engine: Callable[[], AbstractContextManager[Engine]]) -> None:
        self._hold_engine = hold_engine

    def encode(self, text: str) -> list[int]:
        with self._hold_engine() as engine:
            return engine.tokenizer.encode(text)

    def count(self, text: str) -> int:
        with self._hold_engine() as engine:
            return engine.tokenizer.count(text)


def _failed(job: Work, error: str) -> Outcome:
    if isinstance(job, ChatJob):
        return ChatResult(job_id=job.job_id, status=JobStatus.FAILED, error=error)
    return JobResult(job_id=job.job_id, chunk_id=job.chunk_id, status=JobStatus.FAILED, error=error)


def _by_chunk(jobs: Iterable[Work]) -> deque[deque[Work]]:
    """Groups of jobs that belong together; a chat is a group of its own."""
    groups: dict[str, deque[Work]] = {}
    for job in jobs:
        key = job.job_id if isinstance(job, ChatJob) else job.chunk_id
        groups.setdefault(key, deque()).append(job)
    return deque(groups.values())


def _earliest_deadline(jobs: Iterable[Work], started_at: float) -> float | None:
    deadlines = [started_at + job.deadline_s for job in jobs if job.deadline_s is not None]
    return min(deadlines, default=None)


def _is_late(run: _Run, job: Work, now: float) -> bool:
    return job.deadline_s is not None and now >= run.started_at + job.deadline_s
