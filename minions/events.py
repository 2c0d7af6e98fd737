"""Progress, as it happens: small facts that faces turn into bars, lines or server-sent events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from router import Rung
from workers.jobs import JobStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingStarted:
    """Jobs are about to run."""

    n_jobs: int
    n_resumed: int
    """Of these, results that were already in the journal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEnded:
    """One job has its result."""

    chunk_id: str
    status: JobStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class RungChosen:
    """The router decided; `rung` is None when what is in hand is kept."""

    rung: Rung | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudDelta:
    """A streamed piece of the cloud's answer: a preview only."""

    text: str


Event = ReadingStarted | JobEnded | RungChosen | CloudDelta
Observer = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """The observer of those who do not look."""
