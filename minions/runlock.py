"""One process at a time works on a run: a lock file that the kernel frees when its owner dies."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

POLL_S = 0.2

RunLock = Callable[[str], AbstractAsyncContextManager[None]]
"""Holds the lock of a fingerprint: by files here, or by the database that several machines share
(`minions.store.postgres`)."""


def file_locks(folder: Path) -> RunLock:
    """Locks for the processes of one machine."""
    return functools.partial(run_lock, folder)


@contextlib.asynccontextmanager
async def run_lock(folder: Path, fingerprint: str) -> AsyncIterator[None]:
    """Hold the lock of `fingerprint`, waiting while another process (or task) has it.

    `flock` locks belong to the open file: they end with the process, also by kill -9, so that a
    crashed run can be taken up at once."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f"{fingerprint[:32]}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not _try_lock(descriptor):  # noqa: ASYNC110  # the kernel sends no event for this
            await asyncio.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
