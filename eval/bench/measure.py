"""What a benchmark measures, and the clean process that each competitor is measured in."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import psutil

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What one competitor took for one workload."""

    wall_s: float
    cpu_s: float
    """Of all threads, in user and kernel mode."""
    prefill_tokens: int
    """Prompt tokens that were computed."""
    output_tokens: int
    peak_rss_bytes: int
    """Most main memory the process ever had, loading included."""


@dataclass(slots=True)
class Stopwatch:
    """Wall and CPU time of a stretch of this process's work."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


@contextmanager
def timed() -> Iterator[Stopwatch]:
    """Fill a stopwatch when the block ends."""
    watch = Stopwatch()
    wall, cpu = time.perf_counter(), time.process_time()
    yield watch
    watch.wall_s, watch.cpu_s = time.perf_counter() - wall, time.process_time() - cpu


def own_peak_rss_bytes() -> int:
    """Of this process, since it began (Linux counts KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_own_process(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function of a module in a fresh process, so that nobody inherits another's memory.

    Arguments and result must be picklable; what it raises is raised here."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What the figures must be read with."""

    n_threads: int
    n_cores: int = field(default_factory=lambda: psutil.cpu_count() or 1)
    load: float = field(default_factory=lambda: psutil.getloadavg()[0])
    """Average over the minute before; where others want more than the cores that are left, compare
    CPU-seconds, not wall time."""
