"""`LanedEngine`: several engines of one kind behind the seam of one, each in a thread of its own.

A small model gains little from more threads: they wait for each other several times in every layer.
It gains all there is from more contexts, each computing other chunks on a core of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Final

from workers.chat import ChatDelta
from workers.errors import EngineCrashed, WorkerError
from workers.jobs import Job
from workers.seams import Engine, EngineInfo, Interruptible, Outcome, Tokenizer, Work

_STEP_WAIT_S: Final = 0.02
"""How long a step waits for the lanes; the pool takes new commands between steps."""
_REMEMBERED_CHUNKS: Final = 100_000

Outputs = list[Outcome | ChatDelta]
Command = Callable[[Engine], None]


class _Lane:
    """One engine and the thread that owns it from now on."""

    def __init__(
        self, engine: Engine, number: int, report: Callable[[Outputs | str], None]
    ) -> None:
        self.engine = engine
        self.n_pending = 0
        """Jobs given to the lane and not yet returned by `LanedEngine.step`."""
        self._commands: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._report = report
        self._thread = threading.Thread(target=self._work, name=f"lane {number}", daemon=True)
        self._thread.start()

    def submit(self, job: Work) -> None:
        self.n_pending += 1
        self._commands.put(lambda engine: engine.submit(job))

    def cancel(self, job_id: str) -> None:
        self._commands.put(lambda engine: engine.cancel(job_id))
        if isinstance(self.engine, Interruptible):
            self.engine.interrupt()

    def close(self) -> None:
        """End the thread after the batch it is in; it frees the engine."""
        self._commands.put(None)
        self._thread.join()

    def _work(self) -> None:
        with contextlib.closing(self.engine) as engine:
            try:
                while self._obey(engine):
                    if outputs := engine.step():
                        self._report(outputs)
            except Exception as error:  # noqa: BLE001 - whatever it is, its jobs must not wait for ever
                known = isinstance(error, WorkerError)
                self._report(str(error) if known else f"{type(error).__name__}: {error}")

    def _obey(self, engine: Engine) -> bool:
        """Take the commands that are there, or wait for one; False when the lane is closed."""
        while engine.n_pending == 0 or not self._commands.empty():
            command = self._commands.get()
            if command is None:
                return False
            command(engine)
        return True


class LanedEngine:
    """`workers.seams.Engine` over `n_lanes` engines that `build` makes.

    A chunk keeps its lane, where it was read already when further questions come. When the engine
    of one lane crashes, so does this one."""

    def __init__(self, build: Callable[[], Engine], n_lanes: int) -> None:
        """Raises what `build` raises, and ValueError for no lanes."""
        if n_lanes < 1:
            raise ValueError(f"n_lanes is {n_lanes}, must be at least 1")
        self._outbox: queue.SimpleQueue[tuple[int, Outputs | str]] = queue.SimpleQueue()
        self._lanes: list[_Lane] = []
        self._homes: OrderedDict[Hashable, int] = OrderedDict()
        self._where: dict[str, Counter[int]] = {}
        """Lanes of the pending jobs, by their id."""
        self._dead: str | None = None
        try:
            for number in range(n_lanes):
                self._lanes.append(self._lane(build(), number))
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> EngineInfo:
        info = self._lanes[0].engine.info
        return dataclasses.replace(info, n_slots=info.n_slots * len(self._lanes))

    @property
    def tokenizer(self) -> Tokenizer:
        return self._lanes[0].engine.tokenizer

    @property
    def n_pending(self) -> int:
        return sum(lane.n_pending for lane in self._lanes)

    def prompt_overhead_tokens(self, task: str) -> int:
        return self._lanes[0].engine.prompt_overhead_tokens(task)

    def submit(self, job: Work) -> None:
        number = self._home_of(job)
        self._where.setdefault(job.job_id, Counter())[number] += 1
        self._lanes[number].submit(job)

    def cancel(self, job_id: str) -> None:
        for number in self._where.get(job_id, ()):
            self._lanes[number].cancel(job_id)

    def step(self) -> Outputs:
        """What the lanes have done since the last call; waits a moment when that is nothing.

        Raises EngineCrashed when one of them crashed."""
        outputs: Outputs = []
        for number, said in self._said():
            if isinstance(said, str):
                self._dead = said
            else:
                outputs += said
                self._note(number, said)
        if self._dead and not outputs:
            raise EngineCrashed(self._dead)
        return outputs

    def close(self) -> None:
        """End all lanes. Safe to call twice."""
        self._dead = self._dead or "the engine was closed: build a new one"
        for lane in self._lanes:
            lane.close()

    def _lane(self, engine: Engine, number: int) -> _Lane:
        return _Lane(engine, number, lambda said: self._outbox.put((number, said)))

    def _said(self) -> Iterator[tuple[int, Outputs | str]]:
        wait_s = _STEP_WAIT_S if self.n_pending and not self._dead else 0.0
        with contextlib.suppress(queue.Empty):
            yield self._outbox.get(timeout=wait_s) if wait_s else self._outbox.get_nowait()
            while True:
                yield self._outbox.get_nowait()

    def _note(self, number: int, outputs: Outputs) -> None:
        """Take the jobs that ended off the books."""
        for output in outputs:
            if isinstance(output, ChatDelta):
                continue
            self._lanes[number].n_pending -= 1
            lanes = self._where[output.job_id]
            lanes[number] -= 1
            if not lanes.total():
                del self._where[output.job_id]

    def _home_of(self, job: Work) -> int:
        """The lane of a job's chunk; for a new one, that with the fewest jobs, in turn."""
        key = hash((job.chunk_id, job.chunk_text)) if isinstance(job, Job) else job.job_id
        if key not in self._homes:
            turn = len(self._homes) % len(self._lanes)
            order = [*range(turn, len(self._lanes)), *range(turn)]
            self._homes[key] = min(order, key=lambda number: self._lanes[number].n_pending)
            if len(self._homes) > _REMEMBERED_CHUNKS:
                self._homes.popitem(last=False)
        self._homes.move_to_end(key)
        return self._homes[key]
