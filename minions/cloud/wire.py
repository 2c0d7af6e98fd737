"""What one HTTP exchange with a provider yields, and the shapes in which providers say it.

The two OpenAI APIs (`chat.py`, `responses.py`) are `Dialect`s: each turns a `CloudRequest` into a
`Reply`, noting on the way in `Observed` whatever the ledger must know even when it fails later.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import openai
from pydantic import BaseModel, ConfigDict, NonNegativeInt

from minions.cloud.model import CloudRequest, CloudUsage, Conversation, DeltaSink
from workers import Effort, ToolCall

LimitName = Literal["max_completion_tokens", "max_tokens", "max_output_tokens"]
"""The parameter that caps the output, by API and by the age of the server."""

_REASONING_MODEL = re.compile(r"(?:.*/)?(?:o\d|gpt-[5-9](?!.*-chat))")
_MAX_SHOWN_CHARS = 200
_Shape = TypeVar("_Shape", bound=BaseModel)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A complete, usable answer."""

    text: str
    finish_reason: str
    usage: CloudUsage
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(kw_only=True, slots=True)
class Observed:
    """Filled while an exchange runs; the ledger reads it however the exchange ends."""

    status_code: int | None = None
    request_id: str | None = None
    completion_id: str | None = None
    """The provider's id of the completion: a replayed one has the id that it had the first time."""
    usage: CloudUsage | None = None
    streaming: bool = False
    """Whether the head of a streamed reply has arrived."""
    limit_name: LimitName | None = None
    """Under which name the output cap was sent."""


class Dialect(Protocol):
    """One API of an OpenAI-compatible server."""

    async def exchange(
        self, request: CloudRequest, seen: Observed, on_delta: DeltaSink | None
    ) -> Reply:
        """Make one HTTP attempt. Raises openai.APIError, InvalidReply, FailedRun or
        CutStream."""
        ...

    def adapts_to(self, error: openai.BadRequestError, model: str, seen: Observed) -> bool:
        """Whether this 400 was about the form of the request, and the next one to `model` will be
        written otherwise."""
        ...


class InvalidReply(Exception):
    """2xx, and not what the API promises. A retry may help: proxies and loaded servers do that."""


class UnmeteredReply(InvalidReply):
    """A whole answer without usage. Not asked for again: it would be paid again, and be as mute."""


class FailedRun(Exception):
    """The provider says, inside a 2xx, that its own run failed."""


class CutStream(Exception):
    """The stream ended before the answer did."""


class Shape(BaseModel):
    """The part of a provider's JSON that is read here; anything else in it is left alone."""

    model_config = ConfigDict(from_attributes=True, extra="ignore")


class _CacheDetails(Shape):
    cached_tokens: NonNegativeInt | None = None


class _OutputDetails(Shape):
    reasoning_tokens: NonNegativeInt | None = None


class ChatUsage(Shape):
    """`usage` of chat completions."""

    prompt_tokens: NonNegativeInt
    completion_tokens: NonNegativeInt
    total_tokens: NonNegativeInt | None = None
    prompt_tokens_details: _CacheDetails | None = None
    completion_tokens_details: _OutputDetails | None = None

    def counted(self) -> CloudUsage:
        return _cloud_usage(
            prompt=self.prompt_tokens,
            output=self.completion_tokens,
            total=self.total_tokens,
            cache=self.prompt_tokens_details,
            details=self.completion_tokens_details,
        )


class ResponsesUsage(Shape):
    """`usage` of the Responses API: the same numbers under other names."""

    input_tokens: NonNegativeInt
    output_tokens: NonNegativeInt
    total_tokens: NonNegativeInt | None = None
    input_tokens_details: _CacheDetails | None = None
    output_tokens_details: _OutputDetails | None = None

    def counted(self) -> CloudUsage:
        return _cloud_usage(
            prompt=self.input_tokens,
            output=self.output_tokens,
            total=self.total_tokens,
            cache=self.input_tokens_details,
            details=self.output_tokens_details,
        )


def _cloud_usage(
    *,
    prompt: int,
    output: int,
    total: int | None,
    cache: _CacheDetails | None,
    details: _OutputDetails | None,
) -> CloudUsage:
    cached = (cache.cached_tokens if cache else None) or 0
    reasoning = (details.reasoning_tokens if details else None) or 0
    # xAI counts reasoning beside the completion; OpenAI, and CloudUsage, inside it.
    if reasoning and total == prompt + output + reasoning:
        output += reasoning
    return CloudUsage(
        prompt_tokens=prompt,
        cached_tokens=min(cached, prompt),
        completion_tokens=output,
        reasoning_tokens=min(reasoning, output),
    )


def sampling(request: CloudRequest) -> dict[str, float]:
    """`temperature`, where it was asked for and the model's family takes it."""
    if request.temperature is None or refuses_temperature(request.model):
        return {}
    return {"temperature": request.temperature}


def refuses_temperature(model: str) -> bool:
    """OpenAI's reasoning models answer 400 to the parameter; their `-chat` variants take it."""
    return _REASONING_MODEL.match(model.lower()) is not None


def effort_of(conversation: Conversation, model: str) -> Effort | None:
    """The reasoning effort that was asked for, where the model's family takes the parameter."""
    effort = conversation.effort
    return effort if effort not in (None, Effort.NONE) and refuses_temperature(model) else None


def require_usage(seen: Observed) -> CloudUsage:
    """The usage of a whole answer. Raises UnmeteredReply when the provider did not give one."""
    if seen.usage is None:
        raise UnmeteredReply(
            "the answer came without usage, so its price can't be known; use a server that reports "
            "usage (for streams: one that knows stream_options.include_usage)"
        )
    return seen.usage


def parsed(shape: type[_Shape], body: bytes) -> _Shape:
    """Read a JSON body. Raises InvalidReply, with the start of what came instead."""
    try:
        return shape.model_validate_json(body)
    except ValueError:
        shown = body[:_MAX_SHOWN_CHARS].decode(errors="replace")
        raise InvalidReply(f"the body is not the JSON that the API promises: {shown!r}") from None


async def shaped(
    stream: openai.AsyncStream[object], shape: type[_Shape]
) -> AsyncGenerator[_Shape, None]:
    """The stream's events as `shape`. Raises InvalidReply on one that is not JSON or not that."""
    media_type = stream.response.headers.get("content-type", "")
    if not media_type.startswith("text/event-stream"):
        raise InvalidReply(f"a stream was asked for, and {media_type or 'an untyped body'} came")
    try:
        async for event in stream:
            yield shape.model_validate(event)
    except ValueError as error:
        raise InvalidReply(f"an event is not what the API promises: {error}") from None
