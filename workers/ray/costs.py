"""What work costs on which worker, estimated from what was seen. Pure.

One unit of work is the prefill of one token. A generated token counts as several, since a batch of
decode rows is bound by memory and not by arithmetic. The estimates only steer who gets what: a bad
one costs time, never a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.chat import ChatJob
from workers.jobs import WorkerUsage
from workers.seams import Work

OUTPUT_WEIGHT = 8.0
"""Units of a generated token: about the measured ratio of prefill to batched decode on consumer
cards."""
CHARS_PER_TOKEN = 4.0
FORGET_AFTER_S = 30.0
"""A worker's older half minute counts half: cards throttle, and people start games on them."""
HEDGE_RATIO = 1.25
"""A second worker must be expected to finish this much sooner than the first."""


@dataclass(kw_only=True, slots=True)
class Pace:
    """How fast one worker is: units of work and jobs per second in which it was busy."""

    units: float = 0.0
    n_jobs: float = 0.0
    busy_s: float = 0.0
    latency_s: float | None = None
    """Smoothed seconds from handing a job out to its result."""

    def note(self, *, units: float, busy_s: float, latency_s: float) -> None:
        """One job ended, `busy_s` after the one before."""
        if self.busy_s > FORGET_AFTER_S:
            self.units, self.n_jobs, self.busy_s = self.units / 2, self.n_jobs / 2, self.busy_s / 2
        self.units += units
        self.n_jobs += 1
        self.busy_s += busy_s
        known = self.latency_s
        self.latency_s = latency_s if known is None else known + 0.2 * (latency_s - known)

    @property
    def units_per_s(self) -> float | None:
        """None before anything was seen."""
        return self.units / self.busy_s if self.busy_s > 0 and self.units > 0 else None

    @property
    def jobs_per_s(self) -> float | None:
        return self.n_jobs / self.busy_s if self.busy_s > 0 else None


def spent_units(usage: WorkerUsage) -> float:
    """Units of a job that ended."""
    return usage.prefilled_tokens + OUTPUT_WEIGHT * usage.output_tokens


def reading_units(jobs: Sequence[Work]) -> float:
    """Units of reading the one chunk that `jobs` share. A chat holds no chunk."""
    first = next((job for job in jobs if not isinstance(job, ChatJob)), None)
    return len(first.chunk_text) / CHARS_PER_TOKEN if first else 0.0


def waits_for_home(*, n_ahead: int, reading: float, home: Pace, here: Pace) -> bool:
    """Whether a chunk had better wait for the worker that holds its KV than be read anew here.

    `n_ahead` jobs are before it at home; `reading` units would be spent here. Without figures of
    both nothing waits: an idle worker is a certain loss, a hit in a cache only a likely gain.
    """
    if home.jobs_per_s is None or here.units_per_s is None:
        return False
    return n_ahead / home.jobs_per_s < reading / here.units_per_s


def is_straggler(*, age_s: float, holder: Pace, here: Pace) -> bool:
    """Whether a job should be tried here too, though another has had it for `age_s` seconds.

    What is late by its holder's own measure is expected to take as long again as it took."""
    own_s = here.latency_s if here.latency_s is not None else holder.latency_s
    if own_s is None:
        return False
    expected_s = holder.latency_s if holder.latency_s is not None else own_s
    left_s = expected_s - age_s if age_s < expected_s else age_s
    return left_s > HEDGE_RATIO * own_s


def fair_room(*, n_slots: int, n_held: int, n_waiting: int, share: float) -> int:
    """How many more jobs a worker may take now.

    Its slots are always filled. Beyond them it queues as many again, so that no slot is empty while
    an answer travels; but no more than its `share` (0 to 1) of what is left, since at the end of a
    run jobs queued behind a slow worker are what everybody waits for.
    """
    ahead = min(n_slots, int(n_waiting * share))
    return max(n_slots + ahead - n_held, 0)
