"""The simulation against a real pool: an engine of fixed service time, questions at drawn times.

The pool, its threads and its queues are real; the engine is `ScriptedEngine`, whose jobs each take
a set number of steps of a set length. How long a step really took on this machine is measured in
the same run, since sleeping takes longer than asked: what is checked is the queueing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.capacity import Asked, Card, Simulation
from workers import ChatDelta, Job
from workers.inline_pool import InlinePool
from workers.scripted import KeywordReader, ScriptedEngine
from workers.seams import Outcome

STEP_S = 0.005
STEPS = 8
SLOTS = 4
N_QUESTIONS = 40
CHUNKS = (3, 18)
"""Chunks of a question, drawn evenly."""
UTILISATION = 0.55
"""Work that comes in over what the engine could do if it kept its own time, which it does not."""


class TimedEngine(ScriptedEngine):
    """A scripted engine that knows how long its steps took."""

    def __init__(self) -> None:
        super().__init__(KeywordReader(steps=STEPS), n_slots=SLOTS, step_s=STEP_S)
        self.n_steps = 0
        self.stepping_s = 0.0
        self._ended_at: float | None = None

    def step(self) -> list[Outcome | ChatDelta]:
        """While work is there, the pool's own time between two steps belongs to the second."""
        began = self._ended_at or time.perf_counter()
        ended = super().step()
        now = time.perf_counter()
        self.n_steps += 1
        self.stepping_s += now - began
        self._ended_at = now if self.n_pending else None
        return ended

    @property
    def service_s(self) -> float:
        """Seconds that a job really took."""
        return STEPS * self.stepping_s / max(self.n_steps, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Measured and simulated latencies of the same questions."""

    n_questions: int
    n_jobs: int
    service_s: float
    """Of a job, as measured."""
    measured_s: dict[float, float]
    """Latency by quantile."""
    simulated_s: dict[float, float]
    measured_mean_s: float
    simulated_mean_s: float

    @property
    def ratio(self) -> float:
        """Simulated over measured mean latency: 1 is perfect."""
        return self.simulated_mean_s / self.measured_mean_s


async def check_pool(*, n_questions: int = N_QUESTIONS, seed: int = 0) -> Agreement:
    """Ask a real pool, and simulate the same arrivals with the service time that it had."""
    asked = draw_questions(n_questions, seed)
    engine = TimedEngine()
    pool = InlinePool(lambda: engine)
    try:
        await pool.ready()
        began = time.perf_counter()
        measured = await asyncio.gather(
            *(_ask(pool, number, one, began) for number, one in enumerate(asked))
        )
    finally:
        await pool.close()
    card = Card(name="scripted", prefill_tokens_per_s=1, decode_tokens_per_s=1, slots=SLOTS)
    service = [(engine.service_s, engine.service_s)]
    simulated = Simulation([card], service).serve(asked).latency_s
    return Agreement(
        n_questions=n_questions,
        n_jobs=sum(one.n_chunks for one in asked),
        service_s=engine.service_s,
        measured_s=_quantiles(measured),
        simulated_s=_quantiles(simulated),
        measured_mean_s=float(np.mean(measured)),
        simulated_mean_s=float(np.mean(simulated)),
    )


def draw_questions(n: int, seed: int) -> list[Asked]:
    """Questions at Poisson times, at `UTILISATION` of an engine that keeps its own time."""
    draw = random.Random(seed)
    gap_s = sum(CHUNKS) / 2 * STEPS * STEP_S / SLOTS / UTILISATION
    at, asked = 0.0, []
    for _ in range(n):
        asked.append(Asked(at_s=at, n_chunks=draw.randint(*CHUNKS), follow_up=False))
        at += draw.expovariate(1 / gap_s)
    return asked


async def _ask(pool: InlinePool, number: int, asked: Asked, began: float) -> float:
    """Seconds from when the question was due to its last result."""
    await asyncio.sleep(max(0.0, began + asked.at_s - time.perf_counter()))
    jobs = [
        Job(job_id=f"{number}.{n}", chunk_id=f"{number}.{n}", chunk_text="Text.", task="What?")
        for n in range(asked.n_chunks)
    ]
    async for _ in pool.run(jobs):
        pass
    return time.perf_counter() - began - asked.at_s


def _quantiles(latencies: Sequence[float]) -> dict[float, float]:
    return {q: float(np.quantile(latencies, q)) for q in (0.5, 0.9, 0.99)}
