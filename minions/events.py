"""Progress, as it happens: small facts that faces turn into bars, lines or server-sent events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from minions.documents.model import Chunk
from minions.evidence.model import Citation
from router import Rung
from workers.jobs import JobStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingStarted:
    """Jobs are about to run."""

    n_jobs: int
    n_resumed: int
    """Of these, results that were already in this run's journal."""
    n_cached: int = 0
    """Of these, results that an earlier run had for the very same work."""
    chunks: tuple[Chunk, ...] = ()
    """What the jobs read, in the order in which they are started."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEnded:
    """One job has its result."""

    chunk_id: str
    status: JobStatus
    cached: bool = False
    """It was there already: no model ran for it now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftChanged:
    """What the answer would be by what is read so far: shown early, never final."""

    answer: str
    citations: tuple[Citation, ...]
    p_correct: float
    coverage: float
    """Share of the documents' tokens that were read by then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RungChosen:
    """The router decided; `rung` is None when what is in hand is kept."""

    rung: Rung | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudDelta:
    """A streamed piece of the cloud's answer: a preview only."""

    text: str


Event = ReadingStarted | JobEnded | DraftChanged | RungChosen | CloudDelta
Observer = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """The observer of those who do not look."""
