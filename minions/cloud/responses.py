"""The Responses API. Nothing is stored at the provider: `store` is always false."""

from __future__ import annotations

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
    parsed,
    require_usage,
    sampling,
    shaped,
)

_TERMINAL_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_FINISH_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


class _Part(Shape):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Item(Shape):
    type: str = ""
    content: list[_Part] | None = None


class _Incomplete(Shape):
    reason: str | None = None


class _Error(Shape):
    code: str | None = None
    message: str | None = None


class _Body(Shape):
    status: str | None = None
    output: list[_Item] | None = None
    incomplete_details: _Incomplete | None = None
    error: _Error | None = None
    usage: ResponsesUsage | None = None

    def joined(self, part_type: str) -> str:
        parts = [part for item in self.output or () for part in item.content or ()]
        return "".join(part.text or part.refusal or "" for part in parts if part.type == part_type)


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
        "instructions": request.instructions,
        "input": request.content,
        "max_output_tokens": request.max_output_tokens,
        "store": False,
        "extra_headers": {"Idempotency-Key": request.idempotency_key},
        **sampling(request),
    }
    if request.json_object:
        body["text"] = {"format": {"type": "json_object"}}
    return body


def _reply(body: _Body, seen: Observed) -> Reply:
    seen.usage = body.usage.counted() if body.usage else None
    if body.status == "failed":
        error = body.error or _Error()
        raise FailedRun(f"{error.code}: {error.message}")
    usage = require_usage(seen)
    if refusal := body.joined("refusal"):
        return Reply(text=refusal, finish_reason="refusal", usage=usage)
    reason = body.incomplete_details.reason if body.incomplete_details else None
    finish_reason = _FINISH_REASONS.get(reason or "", "stop")
    return Reply(text=body.joined("output_text"), finish_reason=finish_reason, usage=usage)
