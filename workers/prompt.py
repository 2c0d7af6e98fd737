"""The worker's prompt: loaded from its file once, with the version that traces carry."""

from __future__ import annotations

import functools
import hashlib
import tomllib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPrompt:
    """The parts of the worker's prompt, in the order in which they are read."""

    instructions: str
    """System or developer message; a model's chat template may drop it."""
    before_chunk: str
    """User message up to the chunk."""
    between: str
    """User message between the chunk and the task."""
    after_task: str
    """User message after the task."""
    prefill: str
    """Start of the final channel that every answer begins with; decoding goes on from there."""
    version: str
    """First 12 hex digits of the file's SHA-256."""


@functools.cache
def worker_prompt() -> WorkerPrompt:
    """Load `prompts/worker.toml`. Raises KeyError when a part or a placeholder is missing."""
    raw = resources.files("workers").joinpath("prompts/worker.toml").read_bytes()
    parts = tomllib.loads(raw.decode())
    before_chunk, found, rest = parts["user"].partition("{chunk}")
    between, found_too, after_task = rest.partition("{task}")
    if not (found and found_too):
        raise KeyError("prompts/worker.toml: `user` must hold {chunk} and then {task}")
    return WorkerPrompt(
        instructions=parts["instructions"].strip(),
        before_chunk=before_chunk,
        between=between,
        after_task=after_task,
        prefill=parts["prefill"],
        version=hashlib.sha256(raw).hexdigest()[:12],
    )
