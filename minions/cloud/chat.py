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
    parsed,
    require_usage,
    sampling,
    shaped,
)

_CAPPED_REASONS = ("length", "content_filter")


class _Message(Shape):
    content: str | None = None
    refusal: str | None = None


class _Choice(Shape):
    message: _Message = _Message()
    delta: _Message | None = None
    finish_reason: str | None = None


class _Body(Shape):
    """A whole completion, or one chunk of a streamed one."""

    choices: list[_Choice] | None = None
    usage: ChatUsage | None = None


@dataclass(kw_only=True, slots=True)
class _Draft:
    """The pieces of a streamed answer."""

    content: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, choice: _Choice, on_delta: DeltaSink) -> None:
        delta = choice.delta or _Message()
        if delta.content:
            self.content.append(delta.content)
            on_delta(delta.content)
        if delta.refusal:
            self.refusal.append(delta.refusal)
        self.finish_reason = choice.finish_reason or self.finish_reason

    def choice(self) -> _Choice:
        refusal = "".join(self.refusal) or None
        message = _Message(content="".join(self.content), refusal=refusal)
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
            "messages": [
                {"role": "system", "content": request.instructions},
                {"role": "user", "content": request.content},
            ],
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
                if chunk.usage:
                    seen.usage = chunk.usage.counted()
                for choice in chunk.choices or ():
                    draft.add(choice, on_delta)
        if draft.finish_reason is None:
            raise CutStream("the stream ended without a finish_reason")
        return _reply(draft.choice(), seen)


def _reply(choice: _Choice, seen: Observed) -> Reply:
    message, reason = choice.message, choice.finish_reason
    usage = require_usage(seen)
    if message.refusal:
        return Reply(text=message.refusal, finish_reason="refusal", usage=usage)
    finish_reason = reason if reason in _CAPPED_REASONS else "stop"
    return Reply(text=message.content or "", finish_reason=finish_reason, usage=usage)
