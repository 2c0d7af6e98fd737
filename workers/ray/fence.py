"""A card belongs to one worker process at a time, also when the last one died without a word.

The lock is the kernel's: it is free at the very moment when the process that held it is gone,
however it went. A driver may take a little longer to give the memory of a dead process back, so
a new worker also waits until the card has as much free memory as it needs.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from workers.errors import EngineUnavailable

WAIT_S: Final = 60.0
POLL_S: Final = 0.2
NOT_OPEN: Final = -1


class Fence:
    """The right to a device of this machine, held until `release` or the end of the process."""

    def __init__(self, folder: Path, device: str) -> None:
        """`folder` must be the same for all processes that may use the device: with containers, a
        folder of the machine that is mounted into each."""
        self.path = folder / f"device-{device.replace(':', '-')}.lock"
        self._fd = NOT_OPEN

    @property
    def held(self) -> bool:
        return self._fd != NOT_OPEN

    def acquire(self, wait_s: float = WAIT_S) -> None:
        """Wait for the device. Raises EngineUnavailable, naming the process that has it."""
        if self.held:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _within(wait_s, lambda: _try_lock(fd)):
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise EngineUnavailable(
                f"another process (pid {holder}) still has the device of {self.path.name} after "
                f"{wait_s:g} s: end it, or run one worker per card"
            )
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Let the next one in. Safe to call twice."""
        if self.held:
            os.close(self._fd)
            self._fd = NOT_OPEN


def wait_for_memory(
    free_bytes: Callable[[], int], needed_bytes: int, wait_s: float = WAIT_S
) -> None:
    """Wait until the device has so much free memory. Raises EngineUnavailable with the numbers."""
    if _within(wait_s, lambda: free_bytes() >= needed_bytes):
        return
    raise EngineUnavailable(
        f"the card has {free_bytes() / 1e9:.1f} GB free, {needed_bytes / 1e9:.1f} GB are needed: "
        "something else holds its memory (nvidia-smi shows what)"
    )


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _within(wait_s: float, done: Callable[[], bool]) -> bool:
    """Whether `done` becomes true in time; it is asked at least once."""
    deadline = time.monotonic() + wait_s
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True
