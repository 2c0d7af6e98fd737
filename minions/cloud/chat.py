"""The chat completions API, as OpenAI and nearly every compatible server speaks it."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import openai

from minions.cloud.model import CloudRequest, DeltaSink
from minions.cloud.wire import (
    ChatUsage,
    CutStream,
    InvalidReply,
    LimitName,
    Observed,
    Reply,
    Shape,
    effort_of,
    parsed,
    require_usage,
    sampling,
    shaped,
)
from workers import ToolCall
from workers.chat_wire import choice_body, message_body, tool_body

_CAPPED_REASONS = ("length", "content_filter")


class _Function(Shape):
    name: str | None = None
    arguments: str | None = None


class _Call(Shape):
    """A tool call, or a streamed piece of the call of that index."""

    index: int = 0
    id: str | None = None
    function: _Function = _Function()


class _Message(Shape):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return tuple(
            ToolCall(
                call_id=call.id or f"call_{index}",
                name=call.function.name or "",
                arguments=call.function.arguments or "",
            )
            for index, call in enumerate(self.tool_calls or ())
        )


class _Choice(Shape):
    message: _Message = _Message()
    delta: _Message | None = None
    finish_reason: str | None = None


class _Body(Shape):
    """A whole completion, or one chunk of a streamed one."""

    id: str | None = None
    choices: list[_Choice] | None = None
    usage: ChatUsage | None = None


@dataclass(kw_only=True, slots=True)
class _Draft:
    """The pieces of a streamed answer."""

    content: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    finish_reason: str | None = None

    def add(self, choice: _Choice, on_delta: DeltaSink) -> None:
        delta = choice.delta or _Message()
        if delta.content:
            self.content.append(delta.content)
            on_delta(delta.content)
        if delta.refusal:
            self.refusal.append(delta.refusal)
        for piece in delta.tool_calls or ():
            self.calls[piece.index] = _joined(self.calls.get(piece.index), piece)
        self.finish_reason = choice.finish_reason or self.finish_reason

    def choice(self) -> _Choice:
        refusal = "".join(self.refusal) or None
        calls = [call for _, call in sorted(self.calls.items())]
        message = _Message(content="".join(self.content), refusal=refusal, tool_calls=calls)
        return _Choice(message=message, finish_reason=self.finish_reason)


class ChatApi:
    """`Dialect` of `/chat/completions`."""

    def __init__(self, sdk: openai.AsyncOpenAI) -> None:
        self._create = sdk.chat.completions.with_raw_response.create
        self._models_of_old_form: set[str] = set()

    async def exchange(
        self, request: CloudRequest, seen: Observed, on_delta: DeltaSink | None
    ) -> Reply:
        body = self._body(request, seen)
        if on_delta is None:
            return await self._whole(body, seen)
        return await self._streamed(body, seen, on_delta)

    def adapts_to(self, error: openai.BadRequestError, model: str, seen: Observed) -> bool:
        """Older compatible servers know the output cap as `max_tokens` only."""
        refused = error.param or error.message
        if seen.limit_name != "max_completion_tokens" or seen.limit_name not in refused:
            return False
        self._models_of_old_form.add(model)
        return True

    def _body(self, request: CloudRequest, seen: Observed) -> dict[str, Any]:
        old_form = request.model in self._models_of_old_form
        limit: LimitName = "max_tokens" if old_form else "max_completion_tokens"
        seen.limit_name = limit
        body: dict[str, Any] = {
            "model": request.model,
            **_asked(request),
            limit: request.max_output_tokens,
            "extra_headers": {"Idempotency-Key": request.idempotency_key},
            **sampling(request),
        }
        if request.json_object:
            body["response_format"] = {"type": "json_object"}
        return body

    async def _whole(self, body: dict[str, Any], seen: Observed) -> Reply:
        raw = await self._create(**body)
        seen.status_code, seen.request_id = raw.status_code, raw.request_id
        completion = parsed(_Body, raw.content)
        seen.completion_id = completion.id
        seen.usage = completion.usage.counted() if completion.usage else None
        if not completion.choices:
            raise InvalidReply("the completion has no choices")
        return _reply(completion.choices[0], seen)

    async def _streamed(self, body: dict[str, Any], seen: Observed, on_delta: DeltaSink) -> Reply:
        raw = await self._create(**body, stream=True, stream_options={"include_usage": True})
        seen.status_code, seen.request_id = raw.status_code, raw.request_id
        seen.streaming = True
        draft = _Draft()
        async with raw.parse() as stream, aclosing(shaped(stream, _Body)) as chunks:
            async for chunk in chunks:
                seen.completion_id = chunk.id
                if chunk.usage:
                    seen.usage = chunk.usage.counted()
                for choice in chunk.choices or ():
                    draft.add(choice, on_delta)
        if draft.finish_reason is None:
            raise CutStream("the stream ended without a finish_reason")
        return _reply(draft.choice(), seen)


def _asked(request: CloudRequest) -> dict[str, Any]:
    """What is said to the model, and what it may call."""
    asked = request.conversation
    if asked is None:
        return {
            "messages": [
                {"role": "system", "content": request.instructions},
                {"role": "user", "content": request.content},
            ]
        }
    body: dict[str, Any] = {"messages": [message_body(message) for message in asked.messages]}
    if asked.stop:
        body["stop"] = list(asked.stop)
    if effort := effort_of(asked, request.model):
        body["reasoning_effort"] = effort.value
    if asked.tools:
        body["tools"] = [tool_body(tool) for tool in asked.tools]
        body["tool_choice"] = choice_body(asked.tool_choice)
        body["parallel_tool_calls"] = asked.parallel_tool_calls
    return body


def _joined(known: _Call | None, piece: _Call) -> _Call:
    if known is None:
        return piece
    function = _Function(
        name=f"{known.function.name or ''}{piece.function.name or ''}",
        arguments=f"{known.function.arguments or ''}{piece.function.arguments or ''}",
    )
    return _Call(index=known.index, id=known.id or piece.id, function=function)


def _reply(choice: _Choice, seen: Observed) -> Reply:
    message, reason = choice.message, choice.finish_reason
    usage = require_usage(seen)
    if message.refusal:
        return Reply(text=message.refusal, finish_reason="refusal", usage=usage)
    finish_reason = reason if reason in _CAPPED_REASONS else "stop"
    if message.calls:
        finish_reason = "tool_calls"
    return Reply(
        text=message.content or "",
        finish_reason=finish_reason,
        usage=usage,
        tool_calls=message.calls,
    )
