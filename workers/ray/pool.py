"""`FleetPool`: the worker pool over a fleet, be it of this process or of a whole cluster.

One thread with an event loop of its own owns the schedule and the fleet; callers in other loops
talk to it through `call_soon_threadsafe`, and it answers the same way. `Schedule` decides, the
fleet carries, and this module only connects the two.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from workers.chat import ChatDelta, ChatJob, ChatResult
from workers.errors import EngineUnavailable
from workers.jobs import Job, JobResult
from workers.outputs import (
    Outputs,
    require_unique_ids,
    result_of_chat,
    results_of,
    until_all_ended,
)
from workers.ray.fleet import (
    Fleet,
    FleetEvent,
    FleetTrouble,
    Heard,
    Place,
    WorkerDown,
    WorkerRefused,
    WorkerUp,
)
from workers.ray.host import failed
from workers.ray.schedule import LEASE_S, Ending, Member, Run, Schedule, Ticket
from workers.seams import EngineInfo, Outcome, TextSink, Tokenizer, Work

TICK_S = 0.1
"""How often deadlines and leases are looked at."""
PATIENCE_S = 120.0
"""How long jobs wait while there is no worker at all: machines restart, laptops wake up."""
START_S = 120.0
"""How long the first worker may take to come up: a large model is read from a disk."""
REST_S = 60.0
"""How long a worker whose engine keeps crashing is given nothing."""
BROKEN = (
    "the engines of all workers keep crashing: the model or a machine is at fault, not the job. "
    "Run `minions doctor` on them"
)
ANSWER_S = 30.0
"""How long a worker may take to count tokens."""

T = TypeVar("T")


@dataclass(kw_only=True, slots=True, eq=False)
class _Caller:
    """Who waits for a run: its event loop, and the queue there."""

    loop: asyncio.AbstractEventLoop
    outputs: asyncio.Queue[Outcome | ChatDelta]
    run: Run | None = None
    """Set, in the dispatch thread, when its jobs are queued."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerStatus:
    """One worker as `minions cluster status` and `/v1/nodes` show it."""

    worker_id: str
    place: Place
    model: str
    n_slots: int
    n_held: int
    """Jobs that it has, waiting there or in work."""
    n_done: int
    """Jobs that it has returned."""
    jobs_per_s: float | None
    """While it was busy; None before its first job."""
    last_heard_s: float
    """Seconds since its last sign of life."""


class FleetPool:
    """`WorkerPool` over a `Fleet`; see the module's text.

    Workers must run the same model with the same prompt: the first one that comes up decides, and
    others are turned away. When there is no worker for `patience_s`, what waits is failed."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        tokenizer: Tokenizer | None = None,
        patience_s: float = PATIENCE_S,
        start_s: float = START_S,
        lease_s: float = LEASE_S,
    ) -> None:
        """`tokenizer`: the model's own, where it can be had here; else the workers are asked for
        every count."""
        self._fleet = fleet
        self._patience_s = patience_s
        self._start_s = start_s
        self._tokenizer = tokenizer or _RemoteTokenizer(self._encode)
        self._lock = threading.Lock()
        self._closed = False
        self._started: Future[EngineInfo] = Future()
        self._started.set_running_or_notify_cancel()  # a waiter that is cancelled leaves it alone
        self._loop = asyncio.new_event_loop()
        # From here on only the dispatch thread touches these.
        self._stopping = asyncio.Event()
        self._schedule = Schedule(lease_s=lease_s)
        self._callers: dict[Run, _Caller] = {}
        self._workers: dict[str, WorkerUp] = {}
        self._n_done: Counter[str] = Counter()
        self._n_given_up: Counter[str] = Counter()
        self._trouble: dict[str, str] = {}
        self._last_worker_at = time.monotonic()
        self._thread = threading.Thread(target=self._serve, name="minions-dispatch", daemon=True)
        self._thread.start()

    @property
    def info(self) -> EngineInfo:
        """Of the first worker that came up, but with the slots of all that are there. Blocks until
        then (use `await ready()` in an event loop); raises what kept them all from starting."""
        info = self._started.result()
        n_slots = sum(member.n_slots for member in list(self._schedule.members.values()))
        return replace(info, n_slots=n_slots or info.n_slots)

    @property
    def tokenizer(self) -> Tokenizer:
        """Good for the pool's whole life; safe in any thread but the pool's own."""
        return self._tokenizer

    def prompt_overhead_tokens(self, task: str) -> int:
        return self._ask(lambda worker_id: self._fleet.overhead(worker_id, task))

    async def ready(self) -> EngineInfo:
        """Wait until the first worker is there. Raises EngineUnavailable, with what was in the way,
        when none is within `start_s`."""
        return await asyncio.wrap_future(self._started)

    def run(self, jobs: Sequence[Job]) -> AsyncGenerator[JobResult, None]:
        """Yield one result per job, in completion order; see `WorkerPool.run`.

        Deadlines count from the first iteration. Raises ValueError at once when two jobs have the
        same id, EngineUnavailable when the pool is closed."""
        require_unique_ids(jobs)
        return results_of(self._outputs(list(jobs)))

    async def chat(self, job: ChatJob, on_text: TextSink | None = None) -> ChatResult:
        """See `WorkerPool.chat`. Raises EngineUnavailable when the pool is closed."""
        return await result_of_chat(self._outputs([job]), on_text)

    def snapshot(self) -> list[WorkerStatus]:
        """The workers that are there, with their queues, as seen from any thread: each row is true,
        though not all at the same instant."""
        now = time.monotonic()
        return [self._status(worker_id, up, now) for worker_id, up in list(self._workers.items())]

    async def statuses(self) -> list[WorkerStatus]:
        """The workers that are there, with their queues."""
        return await asyncio.wrap_future(self._in_dispatch(self._statuses()))

    async def troubles(self) -> list[str]:
        """What keeps workers from starting, as far as it is known."""
        return await asyncio.wrap_future(self._in_dispatch(self._troubles()))

    async def close(self) -> None:
        """Stop the workers and the thread; unfinished jobs end FAILED. Safe to call twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._stopping.set)
        await asyncio.to_thread(self._thread.join)

    # ---- in the caller's loop ----

    async def _outputs(self, jobs: Sequence[Work]) -> Outputs:
        """All that comes of `jobs`, until each has its outcome."""
        await self.ready()
        caller = _Caller(loop=asyncio.get_running_loop(), outputs=asyncio.Queue())
        self._tell(partial(self._begin, jobs, caller))
        try:
            async for output in until_all_ended(caller.outputs, len(jobs)):
                yield output
        finally:
            self._tell_if_open(partial(self._abandon, caller))

    def _tell(self, command: Callable[[], None]) -> None:
        with self._lock:
            if self._closed:
                raise EngineUnavailable("the worker pool is closed: build a new one")
            self._loop.call_soon_threadsafe(command)

    def _tell_if_open(self, command: Callable[[], None]) -> None:
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(command)

    def _in_dispatch(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._closed:
                work.close()
                raise EngineUnavailable("the worker pool is closed: build a new one")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _encode(self, text: str) -> list[int]:
        return self._ask(lambda worker_id: self._fleet.encode(worker_id, text))

    def _ask(self, question: Callable[[str], Coroutine[Any, Any, T]]) -> T:
        """A worker's answer, from any thread but the pool's own."""
        self._started.result()
        try:
            return self._in_dispatch(self._ask_some_worker(question)).result(2 * ANSWER_S)
        except CancelledError:
            raise EngineUnavailable("the worker pool was closed meanwhile") from None

    # ---- in the dispatch thread ----

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._dispatch())

    async def _dispatch(self) -> None:
        try:
            await self._fleet.open(self._on_event)
            began_at = self._last_worker_at = time.monotonic()
            while not await self._stops_within(TICK_S):
                self._tick(time.monotonic(), began_at)
        except Exception as error:  # noqa: BLE001 - a fleet is a plug-in: the waiters must know
            self._give_up(error)
        finally:
            await self._wind_up()

    async def _stops_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    def _tick(self, now: float, began_at: float) -> None:
        self._end(self._schedule.sweep(now))
        if any(not member.silent for member in self._schedule.members.values()):
            self._last_worker_at = now
        elif self._schedule.n_open and now - self._last_worker_at > self._patience_s:
            self._end(self._schedule.end_all(self._nobody(self._patience_s)))
        if not self._started.done() and now - began_at > self._start_s:
            self._started.set_exception(EngineUnavailable(self._nobody(self._start_s)))
        self._pump(now)

    def _nobody(self, seconds: float) -> str:
        why = "; ".join(self._trouble.values()) or "no machine of the cluster could be reached"
        return f"no worker for {seconds:g} s: {why}. See `minions cluster status`"

    def _give_up(self, error: Exception) -> None:
        self._trouble["fleet"] = str(error)
        if not self._started.done():
            self._started.set_exception(error)

    async def _wind_up(self) -> None:
        with self._lock:
            self._closed = True
        self._end(self._schedule.end_all("the worker pool was closed before this job ended"))
        if not self._started.done():
            self._started.set_exception(EngineUnavailable("the worker pool was closed"))
        await self._fleet.close()

    def _begin(self, jobs: Sequence[Work], caller: _Caller) -> None:
        now = time.monotonic()
        caller.run = self._schedule.add(jobs, now)
        self._callers[caller.run] = caller
        self._pump(now)

    def _abandon(self, caller: _Caller) -> None:
        """Nobody reads this run's results any more (often since all were delivered)."""
        if caller.run is None or self._callers.pop(caller.run, None) is None:
            return
        for worker_id, tickets in self._schedule.drop(caller.run).items():
            self._fleet.cancel(worker_id, tickets)
        self._pump(time.monotonic())

    def _on_event(self, event: FleetEvent) -> None:
        now = time.monotonic()
        match event:
            case Heard():
                self._hear(event, now)
            case WorkerUp():
                self._welcome(event, now)
            case WorkerDown():
                self._workers.pop(event.worker_id, None)
                self._end(
                    self._schedule.leave(event.worker_id, crashed=event.crashed, error=event.error)
                )
            case WorkerRefused():
                where = f"{event.place.host} {event.place.device}"
                self._trouble[where] = f"{where}: {event.error}"
            case FleetTrouble():
                self._trouble["fleet"] = event.error
        self._pump(now)

    def _welcome(self, event: WorkerUp, now: float) -> None:
        where = f"{event.place.host} {event.place.device}"
        if self._started.done():
            wrong = _difference(self._started.result(), event.info)
            if wrong:
                self._trouble[where] = f"{where}: {wrong}"
                return
        self._trouble.pop(where, None)
        self._trouble.pop("fleet", None)
        self._workers[event.worker_id] = event
        self._schedule.join(event.worker_id, event.info.n_slots, now)
        if not self._started.done():
            self._started.set_result(event.info)

    def _hear(self, event: Heard, now: float) -> None:
        self._schedule.hear(event.worker_id, now)
        for output in event.outputs:
            if isinstance(output, ChatDelta):
                self._pass_on(output)
            else:
                self._settle(event.worker_id, output, now)
        if event.n_given_up > self._n_given_up[event.worker_id]:
            self._n_given_up[event.worker_id] = event.n_given_up
            self._give_rest(event.worker_id, now)

    def _give_rest(self, worker_id: str, now: float) -> None:
        """Its engine crashes at whatever it is given. Others go on; without others all is failed,
        else each job of a long run would load the model twice for nothing."""
        self._end(self._schedule.rest(worker_id, now + REST_S))
        if all(member.rests(now) for member in self._schedule.members.values()):
            self._end(self._schedule.end_all(BROKEN))
            self._schedule.wake_all()

    def _pass_on(self, delta: ChatDelta) -> None:
        ticket = self._schedule.find(delta.job_id)
        if ticket is not None:
            ticket.has_spoken = True
            self._deliver(ticket, replace(delta, job_id=ticket.job.job_id))

    def _settle(self, worker_id: str, outcome: Outcome, now: float) -> None:
        settled = self._schedule.settle(worker_id, outcome.job_id, outcome, now)
        if settled is None:
            return
        self._n_done[worker_id] += 1
        for other in settled.others:
            self._fleet.cancel(other, [outcome.job_id])
        self._deliver_outcome(settled.ticket, outcome, now)

    def _end(self, endings: Sequence[Ending]) -> None:
        now = time.monotonic()
        for ending in endings:
            for worker_id in ending.ticket.leased_at:
                self._fleet.cancel(worker_id, [ending.ticket.number])
            self._deliver_outcome(ending.ticket, failed(ending.ticket.job, ending.error), now)

    def _deliver_outcome(self, ticket: Ticket, outcome: Outcome, now: float) -> None:
        own = replace(outcome, job_id=ticket.job.job_id, elapsed_s=now - ticket.run.started_at)
        self._deliver(ticket, own)

    def _deliver(self, ticket: Ticket, output: Outcome | ChatDelta) -> None:
        caller = self._callers.get(ticket.run)
        if caller is None:
            return
        try:
            caller.loop.call_soon_threadsafe(caller.outputs.put_nowait, output)
        except RuntimeError:  # its event loop is closed: nobody is left to tell
            self._loop.call_soon(self._abandon, caller)

    def _pump(self, now: float) -> None:
        """Hand out what can be handed out."""
        for worker_id in list(self._schedule.members):
            tickets = self._schedule.take(worker_id, now)
            if tickets:
                self._fleet.send(worker_id, [_addressed(ticket, now) for ticket in tickets])

    async def _ask_some_worker(self, question: Callable[[str], Coroutine[Any, Any, T]]) -> T:
        """Ask workers in turn until one answers."""
        for worker_id, member in list(self._schedule.members.items()):
            if member.silent:
                continue
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await question(worker_id)
            except (EngineUnavailable, TimeoutError):
                continue
        raise EngineUnavailable("no worker is there to count tokens: see `minions cluster status`")

    async def _statuses(self) -> list[WorkerStatus]:
        return self.snapshot()

    def _status(self, worker_id: str, up: WorkerUp, now: float) -> WorkerStatus:
        member = self._schedule.members.get(worker_id) or Member(n_slots=0, last_heard=now)
        return WorkerStatus(
            worker_id=worker_id,
            place=up.place,
            model=up.info.model,
            n_slots=member.n_slots,
            n_held=len(member.held),
            n_done=self._n_done[worker_id],
            jobs_per_s=member.pace.jobs_per_s,
            last_heard_s=now - member.last_heard,
        )

    async def _troubles(self) -> list[str]:
        return list(self._trouble.values())


class _RemoteTokenizer:
    """Asks a worker for every count: right for any model, and slow."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self._encode = encode

    def encode(self, text: str) -> list[int]:
        return self._encode(text)

    def count(self, text: str) -> int:
        return len(self.encode(text))


def worker_facts(status: WorkerStatus) -> dict[str, Any]:
    """A worker as the faces show it."""
    return {
        "id": status.worker_id,
        "object": "node",
        "name": status.place.host,
        "worker": status.model,
        "state": "loaded",
        "device": status.place.device,
        "card": status.place.card or None,
        "memory_bytes": status.place.memory_bytes,
        "slots": status.n_slots,
        "queue": status.n_held,
        "jobs_done": status.n_done,
        "jobs_per_s": status.jobs_per_s,
        "last_seen_s": round(status.last_heard_s, 1),
    }


def _addressed(ticket: Ticket, now: float) -> Work:
    """The job under its ticket's number, with the seconds that are left to it."""
    left_s = ticket.left_s(now)
    return replace(
        ticket.job,
        job_id=ticket.number,
        deadline_s=None if left_s is None else max(left_s, 0.0),
    )


def _difference(expected: EngineInfo, found: EngineInfo) -> str | None:
    """Why results of two workers can't be mixed; None when they can."""
    for what in ("model", "model_sha256", "quantisation", "prompt_version"):
        ours, theirs = getattr(expected, what), getattr(found, what)
        if ours != theirs:
            return f"its {what} is {theirs}, that of the others {ours}: give all nodes the same"
    return None
