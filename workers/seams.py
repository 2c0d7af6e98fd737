"""The seams of a worker: `Tokenizer`, `Engine` and `WorkerPool`.

Every implementation passes the same contract tests (`tests/contract`). An `Engine` is synchronous
and belongs to one thread; a `WorkerPool` is asynchronous and may be called by many tasks at once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from workers.chat import ChatDelta, ChatJob, ChatResult
from workers.jobs import Effort, Job, JobResult

Work = Job | ChatJob
"""What an engine is given."""
Outcome = JobResult | ChatResult
"""What ends it: a `JobResult` for a `Job`, a `ChatResult` for a `ChatJob`, exactly one."""
TextSink = Callable[[str], None]
"""Receives the pieces of an answer as they are written."""


@runtime_checkable
class Tokenizer(Protocol):
    """Counts the tokens of ordinary text: nothing in it can become a control token."""

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` as data, without special tokens."""
        ...

    def count(self, text: str) -> int:
        """len(encode(text)), possibly faster."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What is known of an engine, for planning, traces and calibration keys."""

    engine: str
    """`llama.cpp`, `openai` or `scripted`."""
    model: str
    """The name a person would use: `nano`, `gpt-oss-20b`, a file's stem, a served model."""
    model_sha256: str | None
    """Hash of the weights' file; None where it can't be known (a server)."""
    quantisation: str
    """As the file states it, e.g. `MXFP4 MoE`; `unknown` for a server."""
    prompt_version: str
    """Hash of the worker prompt's files; part of every calibration key."""
    context_tokens: int
    """Longest prompt + output of a single job."""
    n_slots: int
    """Jobs decoded at the same time."""
    has_logits: bool
    """Whether results carry `margin` and `logprob`."""
    shares_prefixes: bool
    """Whether a chunk is prefilled once for all its jobs."""
    chats: bool = False
    """Whether it takes `ChatJob`s. A model that only extracts does not."""
    efforts: tuple[Effort, ...] = (Effort.NONE,)
    """Reasoning efforts that really change what the model does."""


@runtime_checkable
class Engine(Protocol):
    """Runs many jobs at once, a step at a time.

    The caller submits jobs, then calls `step()` until `n_pending` is 0. Every submitted job comes
    back from `step()` exactly once, whatever happens to it; the deltas of a chat come before its
    result, and joined they are the start of its text. Not thread-safe: one thread owns it.
    """

    @property
    def info(self) -> EngineInfo: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def n_pending(self) -> int:
        """Jobs submitted whose result has not been returned yet."""
        ...

    def prompt_overhead_tokens(self, task: str) -> int:
        """Tokens of a job's prompt beside its chunk: instructions, the task, the frame."""
        ...

    def submit(self, job: Work) -> None:
        """Queue a job. Never blocks and never raises for the job's own faults: those come back as
        a FAILED result; so does a `ChatJob` where `info.chats` is false."""
        ...

    def cancel(self, job_id: str) -> None:
        """Ask that a job end now. It still yields its one result (FAILED, or what it had by then);
        its slot is free after the next step. Unknown ids are ignored."""
        ...

    def step(self) -> list[Outcome | ChatDelta]:
        """Advance by one batch; return what ended or was written in it (often nothing).

        Raises `EngineCrashed` when the engine itself died: jobs in flight have then no result yet,
        and it is for the pool to retry or fail them."""
        ...

    def close(self) -> None:
        """Free the engine's memory. Safe to call twice."""
        ...


@runtime_checkable
class Interruptible(Protocol):
    """What an `Engine` may also be: one whose running step another thread can end early."""

    def interrupt(self) -> None:
        """Let the step that is running, or else the next one, end soon with its batch uncomputed.
        Safe from any thread."""
        ...


@runtime_checkable
class WorkerPool(Protocol):
    """Spreads jobs over engines. Law 1: every job exactly one result."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def prompt_overhead_tokens(self, task: str) -> int: ...

    def run(self, jobs: Sequence[Job]) -> AsyncGenerator[JobResult, None]:
        """Yield one result per job, in completion order.

        Jobs that share a chunk stay together. Closing the generator early (break, cancellation of
        the task) cancels what is unfinished. Several `run`s may be active at once; they are served
        fairly."""
        ...

    async def chat(self, job: ChatJob, on_text: TextSink | None = None) -> ChatResult:
        """The next turn of a conversation; failures are its status, not an exception.

        `on_text` is called in this task's event loop with the pieces of the answer; joined they are
        the start of the result's text. Cancelling the task frees the engine at its next step. Chats
        and runs take turns, so that neither waits for the other's end."""
        ...

    async def close(self) -> None: ...
