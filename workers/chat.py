"""A conversation as work for an engine: plain chat, without a document.

A `ChatJob` goes in, exactly one `ChatResult` comes out; `ChatDelta`s before it are previews. Only
engines whose `EngineInfo.chats` is true take them: a model that merely extracts does not.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.jobs import Effort, JobStatus, Sampling, WorkerUsage


class Role(enum.StrEnum):
    """Who speaks. OpenAI's `developer` is `SYSTEM` here."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """The model wants a tool to be run, by the client: nothing is ever run here."""

    call_id: str
    name: str
    arguments: str
    """JSON as the model wrote it; it may be invalid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn."""

    role: Role
    content: str
    """Data, never control tokens; may be empty for an assistant that only calls tools."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant's turn."""
    tool_call_id: str | None = None
    """Of a tool's turn: the call that it answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A function that the client offers."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """JSON Schema of its arguments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatJob:
    """The next turn of a conversation."""

    job_id: str
    """Unique and idempotent: the same id is the same work."""
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    """`auto`, `none`, `required`, or the name of a tool."""
    effort: Effort = Effort.LOW
    max_analysis_tokens: int = 1024
    """Cap on reasoning; then the engine closes the analysis and asks for the answer."""
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    """Texts that end the answer; they are not part of it."""
    deadline_s: float | None = None
    """Seconds from submission after which the job is failed; None for no deadline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatDelta:
    """A piece of the answer as it is written: a preview only."""

    job_id: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatResult:
    """What became of one turn."""

    job_id: str
    status: JobStatus
    """ANSWERED or FAILED: a chat does not abstain."""
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    analysis: str = ""
    """The reasoning as written, for the trace."""
    finish_reason: str = "stop"
    """`stop`, `length` or `tool_calls`."""
    logprob: float | None = None
    """Mean log-probability of the answer's tokens, in nats; None where it can't be seen."""
    usage: WorkerUsage = field(default_factory=WorkerUsage)
    error: str | None = None
    """Set exactly when failed: what happened and whether a retry may help."""
    elapsed_s: float = 0.0
    """Seconds from submission to result."""


def cut_at_stop(text: str, stops: tuple[str, ...]) -> str:
    """`text` up to the first of `stops` in it."""
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
