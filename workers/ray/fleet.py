"""The seam below the pool: a `Fleet` runs workers somewhere and reports what happens to them.

The pool decides who does what; a fleet only carries work out and results back. What it promises:

- a worker that is up gives exactly one `Outcome` for each ticket it was sent, also for a cancelled
  one, until it is down; sending a ticket twice is the same as sending it once;
- results are reported at least once (a reply that was lost on the way is sent again);
- a worker that is up and well is heard of at least every `BEAT_S` seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from workers.chat import ChatDelta
from workers.seams import EngineInfo, Outcome, Work

BEAT_S = 1.0
"""Longest silence of a worker that is well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a worker runs."""

    node_id: str
    """Unique in the cluster, and new each time the node joins."""
    host: str
    """Name or address that a person knows it by."""
    device: str
    """`cpu`, or `gpu:0` with the card's number on its node."""
    card: str = ""
    """The card's name; empty on a CPU."""
    memory_bytes: int = 0
    """Of the card, or of the machine."""
    pid: int = 0
    """Process of the worker on its host."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerUp:
    """A worker has loaded its engine and waits for work."""

    worker_id: str
    place: Place
    info: EngineInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerDown:
    """A worker is gone for good; another may come in its place, under another id."""

    worker_id: str
    crashed: bool
    """Its process died. Else its machine is gone, or it was stopped on purpose."""
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerRefused:
    """No worker could be started at that place. It is tried again after a while."""

    place: Place
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """A sign of life, with what came of the work since the last one (often nothing)."""

    worker_id: str
    outputs: tuple[Outcome | ChatDelta, ...] = ()
    """Their `job_id`s are tickets."""
    n_given_up: int = 0
    """As in `Mail`: more than the last time means that this worker's engine is broken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetTrouble:
    """The fleet as a whole can't be reached just now; it goes on trying."""

    error: str


FleetEvent = WorkerUp | WorkerDown | WorkerRefused | Heard | FleetTrouble
Report = Callable[[FleetEvent], None]


@runtime_checkable
class Fleet(Protocol):
    """Workers somewhere. All methods are called in the event loop in which it was opened."""

    async def open(self, report: Report) -> None:
        """Start; `report` is called in this loop from now on, until `close`."""
        ...

    def send(self, worker_id: str, work: Sequence[Work]) -> None:
        """Hand jobs to a worker; their ids are tickets. Unknown workers are ignored: that they are
        down was reported."""
        ...

    def cancel(self, worker_id: str, tickets: Sequence[str]) -> None:
        """Ask that jobs end now; each still gives its one outcome."""
        ...

    async def encode(self, worker_id: str, text: str) -> list[int]:
        """Token ids of `text` by that worker's tokenizer. Raises EngineUnavailable."""
        ...

    async def overhead(self, worker_id: str, task: str) -> int:
        """`prompt_overhead_tokens` of that worker. Raises EngineUnavailable."""
        ...

    async def close(self) -> None:
        """Stop all workers and free what they hold."""
        ...
