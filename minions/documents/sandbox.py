"""Runs `minions.documents.child` on one file: bounded, cancellable, and never left behind."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

from minions import errors
from minions.documents.protocol import OUT_OF_MEMORY, ReadRequest
from minions.documents.reading import Extract, ReadLimits
from minions.documents.sniff import Kind

_SOURCE_ROOT = Path(__file__).resolve().parents[2]
_ERRORS: dict[str, type[errors.MinionsError]] = {
    error.code: error
    for error in (
        errors.EncryptedDocument,
        errors.CorruptDocument,
        errors.UnsupportedDocument,
        errors.NoTextInDocument,
        errors.DocumentTooLarge,
    )
}
# How libraries in C say it when even the imports do not fit.
_NO_MEMORY = re.compile(rb"MemoryError|Cannot allocate memory|failed to map|bad_alloc")


async def read_in_child(kind: Kind, data: bytes, name: str, limits: ReadLimits) -> Extract:
    """Read `data` in a process of its own.

    Raises what the reader raised, `DocumentTimeout` when it needed more time or memory than
    `limits` gives, and `CorruptDocument` when it crashed. Cancelling kills the child.
    """
    request = ReadRequest(kind=kind, name=name, limits=limits)
    process = await _start()
    try:
        async with asyncio.timeout(limits.timeout_s):
            reply, stderr = await process.communicate(request.to_line() + data)
    except TimeoutError as error:
        raise _too_slow(name, limits) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise _died(process.returncode, stderr, name, limits)
    return _extract(json.loads(reply), name, limits)


async def _start() -> asyncio.subprocess.Process:
    """Start the child with an environment of its own: no key or token of ours reaches a parser."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # nothing is imported from the folder that the user happens to stand in
        "-m",
        "minions.documents.child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(_SOURCE_ROOT), "PYTHONUTF8": "1"},
    )


def _extract(reply: dict[str, Any], name: str, limits: ReadLimits) -> Extract:
    if "error" not in reply:
        return Extract(pages=tuple(reply["pages"]), warnings=tuple(reply["warnings"]))
    if reply["error"] == OUT_OF_MEMORY:
        raise _too_hungry(name, limits)
    raise _ERRORS[reply["error"]](reply["message"])


def _died(returncode: int, stderr: bytes, name: str, limits: ReadLimits) -> errors.MinionsError:
    if returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return _too_slow(name, limits)
    if returncode == -signal.SIGABRT or _NO_MEMORY.search(stderr):
        # pdfium aborts when an allocation fails
        return _too_hungry(name, limits)
    cause = _signal_name(-returncode) if returncode < 0 else _last_line(stderr)
    return errors.CorruptDocument(
        f"{name} made its reader crash ({cause}): it is damaged, or built to do that. "
        "Save it again from the program that made it."
    )


def _signal_name(number: int) -> str:
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def _too_slow(name: str, limits: ReadLimits) -> errors.DocumentTimeout:
    return errors.DocumentTimeout(
        f"{name} took longer than {limits.timeout_s:g} s to read, and reading was stopped. "
        "Split the file, or raise the limit (timeout_s)."
    )


def _too_hungry(name: str, limits: ReadLimits) -> errors.DocumentTimeout:
    return errors.DocumentTimeout(
        f"{name} needs more than {limits.memory_bytes / 1024**2:,.0f} MiB of memory to read, and "
        "reading was stopped. Split the file, or raise the limit (memory_bytes)."
    )
