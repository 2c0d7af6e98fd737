"""What a benchmark measures, and the clean process that each competitor is measured in."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, NoReturn, ParamSpec, TypeVar

import psutil

from workers.errors import EngineCrashed

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

    Arguments and result must be picklable; what it raises is raised here. The process ends with
    this call, however that ends, and with this process. Raises EngineCrashed when it dies."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(theirs, function, args, kwargs), daemon=True)
    child.start()
    theirs.close()
    try:
        succeeded, value = ours.recv()
    except EOFError:
        child.join()
        raise EngineCrashed(
            f"the process of {function.__name__} died with status {child.exitcode}: was there "
            "too little memory?"
        ) from None
    finally:
        child.kill()
        child.join()
        ours.close()
    if succeeded:
        result: R = value
        return result
    raise value


def _report(
    result: Connection, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """The child: whether `function` succeeded, and what it returned or raised."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's, who ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = (True, function(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the parent's to tell
        outcome = (False, error)
    result.send(outcome)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Let a SIGTERM end the block as Ctrl-C does: with all that it started ended too."""

    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What the figures must be read with."""

    n_threads: int
    n_cores: int = field(default_factory=lambda: psutil.cpu_count() or 1)
    load: float = field(default_factory=lambda: psutil.getloadavg()[0])
    """Average over the minute before; where others want more than the cores that are left, compare
    CPU-seconds, not wall time."""
