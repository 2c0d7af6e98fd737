"""One record of every hop of one question, written also when it fails."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True, slots=True)
class Step:
    """One hop: what it was, when, and what it found."""

    name: str
    started_s: float
    """Since the trace began."""
    elapsed_s: float | None = None
    """None while it runs, or when the process died in it."""
    facts: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(kw_only=True, slots=True)
class Trace:
    """The hops of one run, in order."""

    run_id: str
    began_at: float = field(default_factory=time.time)
    """Unix time, seconds."""
    steps: list[Step] = field(default_factory=list)
    _origin: float = field(default_factory=time.perf_counter)

    @property
    def elapsed_s(self) -> float:
        """Since the trace began."""
        return time.perf_counter() - self._origin

    @contextlib.contextmanager
    def step(self, name: str, /, **facts: Any) -> Iterator[dict[str, Any]]:
        """Time a hop; add facts to the dictionary it yields. An error is noted and passed on."""
        start = time.perf_counter()
        step = Step(name=name, started_s=round(start - self._origin, 6), facts=dict(facts))
        self.steps.append(step)
        try:
            yield step.facts
        except BaseException as error:  # noted and raised again, cancellation included
            step.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            step.elapsed_s = round(time.perf_counter() - start, 6)

    @property
    def reading_s(self) -> float:
        """Seconds of all steps that ran jobs."""
        return sum(step.elapsed_s or 0.0 for step in self.steps if "jobs" in step.facts)

    def to_json(self) -> dict[str, Any]:
        return {
            "trace_id": self.run_id,
            "began_at": self.began_at,
            "elapsed_s": round(time.perf_counter() - self._origin, 6),
            "steps": [
                {
                    "name": step.name,
                    "started_s": step.started_s,
                    "elapsed_s": step.elapsed_s,
                    "facts": step.facts,
                    "error": step.error,
                }
                for step in self.steps
            ],
        }
