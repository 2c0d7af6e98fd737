"""The Responses API. Nothing is stored at the provider: `store` is always false."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import openai

from minions.cloud.model import CloudRequest, DeltaSink
from minions.cloud.wire import (
    CutStream,
    FailedRun,
    Observed,
    Reply,
    ResponsesUsage,
    Shape,
    effort_of,
    parsed,
    require_usage,
    sampling,
    shaped,
)
from workers import Message, Role, ToolCall
from workers.chat_wire import tool_body

_TERMINAL_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_FINISH_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


class _Part(Shape):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Item(Shape):
    type: str = ""
    content: list[_Part] | None = None
    call_id: str | None = None
    """Of a `function_call`, as are the next two."""
    name: str | None = None
    arguments: str | None = None


class _Incomplete(Shape):
    reason: str | None = None


class _Error(Shape):
    code: str | None = None
    message: str | None = None


class _Body(Shape):
    id: str | None = None
    status: str | None = None
    output: list[_Item] | None = None
    incomplete_details: _Incomplete | None = None
    error: _Error | None = None
    usage: ResponsesUsage | None = None

    def joined(self, part_type: str) -> str:
        parts = [part for item in self.output or () for part in item.content or ()]
        return "".join(part.text or part.refusal or "" for part in parts if part.type == part_type)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return tuple(
            ToolCall(
                call_id=item.call_id or f"call_{index}",
                name=item.name or "",
                arguments=item.arguments or "",
            )
            for index, item in enumerate(self.output or ())
            if item.type == "function_call"
        )


class _Event(Shape):
    type: str
    delta: object = None
    response: _Body | None = None
    code: str | None = None
    """Of an `error` event."""
    message: str | None = None


class ResponsesApi:
    """`Dialect` of `/responses`."""

    def __init__(self, sdk: openai.AsyncOpenAI) -> None:
        self._create = sdk.responses.with_raw_response.create

    async def exchange(
        self, request: CloudRequest, seen: Observed, on_delta: DeltaSink | None
    ) -> Reply:
        body = _request_body(request, seen)
        if on_delta is None:
            return await self._whole(body, seen)
        return await self._streamed(body, seen, on_delta)

    def adapts_to(self, error: openai.BadRequestError, model: str, seen: Observed) -> bool:  # noqa: ARG002 - the API has one form
        return False

    async def _whole(self, body: dict[str, Any], seen: Observed) -> Reply:
        raw = await self._create(**body)
        seen.status_code, seen.request_id = raw.status_code, raw.request_id
        return _reply(parsed(_Body, raw.content), seen)

    async def _streamed(self, body: dict[str, Any], seen: Observed, on_delta: DeltaSink) -> Reply:
        raw = await self._create(**body, stream=True)
        seen.status_code, seen.request_id = raw.status_code, raw.request_id
        seen.streaming = True
        async with raw.parse() as stream, aclosing(shaped(stream, _Event)) as events:
            async for event in events:
                if event.type == "response.output_text.delta" and isinstance(event.delta, str):
                    on_delta(event.delta)
                if event.type == "error":
                    raise FailedRun(f"{event.code}: {event.message}")
                if event.type in _TERMINAL_EVENTS and event.response:
                    return _reply(event.response, seen)
        raise CutStream("the stream ended without response.completed")


def _request_body(request: CloudRequest, seen: Observed) -> dict[str, Any]:
    seen.limit_name = "max_output_tokens"
    body: dict[str, Any] = {
        "model": request.model,
        **_asked(request),
        "max_output_tokens": request.max_output_tokens,
        "store": False,
        "extra_headers": {"Idempotency-Key": request.idempotency_key},
        **sampling(request),
    }
    if request.json_object:
        body["text"] = {"format": {"type": "json_object"}}
    return body


def _asked(request: CloudRequest) -> dict[str, Any]:
    """What is said to the model, and what it may call."""
    asked = request.conversation
    if asked is None:
        return {"instructions": request.instructions, "input": request.content}
    body: dict[str, Any] = {"input": [item for turn in asked.messages for item in _items(turn)]}
    if effort := effort_of(asked, request.model):
        body["reasoning"] = {"effort": effort.value}
    if asked.tools:
        body["tools"] = [
            {"type": "function", **tool_body(tool)["function"]} for tool in asked.tools
        ]
        body["tool_choice"] = _choice(asked.tool_choice)
        body["parallel_tool_calls"] = asked.parallel_tool_calls
    return body


def _items(turn: Message) -> Iterator[dict[str, Any]]:
    """One turn as input items: a message, calls, or a call's output."""
    if turn.role is Role.TOOL:
        output = {"call_id": turn.tool_call_id or "", "output": turn.content}
        yield {"type": "function_call_output", **output}
        return
    if turn.content:
        yield {"role": turn.role.value, "content": turn.content}
    for call in turn.tool_calls:
        what = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
        yield {"type": "function_call", **what}


def _choice(choice: str) -> str | dict[str, str]:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "name": choice}


def _reply(body: _Body, seen: Observed) -> Reply:
    seen.completion_id = body.id
    seen.usage = body.usage.counted() if body.usage else None
    if body.status == "failed":
        error = body.error or _Error()
        raise FailedRun(f"{error.code}: {error.message}")
    usage = require_usage(seen)
    if refusal := body.joined("refusal"):
        return Reply(text=refusal, finish_reason="refusal", usage=usage)
    reason = body.incomplete_details.reason if body.incomplete_details else None
    finish_reason = _FINISH_REASONS.get(reason or "", "tool_calls" if body.calls else "stop")
    return Reply(
        text=body.joined("output_text"),
        finish_reason=finish_reason,
        usage=usage,
        tool_calls=body.calls,
    )
