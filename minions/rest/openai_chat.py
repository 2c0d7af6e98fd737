"""`/v1/chat/completions`: OpenAI's chat API over the house's models and documents."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from minions.chat.conversation import Said
from minions.chat.turn import DEFAULT_OUTPUT_TOKENS, ChatReply, TokensUsed, Turn
from minions.errors import BadRequest
from minions.rest.access import Asking
from minions.rest.errors import ERRORS
from minions.rest.idempotency import IdempotencyKey, claimed, number_of
from minions.rest.office import OfficeOf
from minions.rest.openai_answer import Asked, prepare
from minions.rest.openai_parts import (
    MAX_STOPS,
    MAX_TOOLS,
    Call,
    Content,
    Function,
    ReasoningEffort,
    Strict,
    ToolMode,
    attachments_of,
    checked_choice,
    effort_of,
    text_of,
    tool_of,
)
from minions.rest.openai_stream import (
    ANSWERS,
    DONE,
    HEADERS,
    KEEPALIVE,
    MEDIA_TYPE,
    Answering,
    data_line,
    failure_json,
)
from minions.rest.openai_wishes import MinionsWishes, route_of
from minions.settings import Settings
from workers import Message, Role
from workers.chat_wire import call_body

router = APIRouter(tags=["openai"], responses=ERRORS)
MAX_MESSAGES = 2000
_ROLES = {"developer": Role.SYSTEM}


class ChatMessage(Strict):
    """One turn. The fields below `tool_call_id` are those of our answers when they come back."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = None
    name: str | None = Field(default=None, max_length=200, description="Put before the words.")
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    annotations: list[dict[str, Any]] | None = None
    audio: None = None
    function_call: None = None

    def said(self) -> Said:
        """As our models get it. Raises BadRequest for a tool's message without its call."""
        if self.role == "tool" and not self.tool_call_id:
            raise BadRequest("A message of role tool needs the tool_call_id that it answers.")
        text = text_of(self.content) or self.refusal or ""
        message = Message(
            role=_ROLES.get(self.role) or Role(self.role),
            content=f"{self.name}: {text}" if self.name and self.role == "user" else text,
            tool_calls=tuple(call.call() for call in self.tool_calls or ()),
            tool_call_id=self.tool_call_id,
        )
        return Said(message=message, attachments=attachments_of(self.content))


class ChatTool(Strict):
    """A tool that the client runs."""

    type: Literal["function"]
    function: Function


class NamedFunction(Strict):
    """The name of a function."""

    name: str


class NamedTool(Strict):
    """A tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class StreamOptions(Strict):
    """What a stream tells beside its text."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class TextFormat(Strict):
    """Free text, the only format there is."""

    type: Literal["text"]


class ChatBody(Strict):
    """A chat completion. What can't be done is refused, not ignored."""

    model: str = Field(max_length=200, examples=["minions-ladder"])
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1, le=100_000)
    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    stop: str | list[str] | None = Field(default=None, description=f"Up to {MAX_STOPS} texts.")
    tools: list[ChatTool] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: ToolMode | NamedTool | None = None
    parallel_tool_calls: bool | None = True
    reasoning_effort: ReasoningEffort | None = None
    minions: MinionsWishes = MinionsWishes()
    n: Literal[1] | None = Field(default=1, description="One answer.")
    top_p: float | None = Field(default=None, ge=1, le=1, description="Only 1: not supported.")
    frequency_penalty: float | None = Field(default=None, ge=0, le=0)
    presence_penalty: float | None = Field(default=None, ge=0, le=0)
    logprobs: Literal[False] | None = None
    logit_bias: dict[str, float] | None = Field(default=None, max_length=0)
    response_format: TextFormat | None = None
    modalities: list[Literal["text"]] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    user: str | None = Field(default=None, description="A label; nothing here depends on it.")
    safety_identifier: str | None = Field(default=None, description="A label, as `user`.")
    prompt_cache_key: str | None = Field(default=None, description="A label, as `user`.")
    metadata: dict[str, str] | None = Field(default=None, description="Labels, as `user`.")

    @property
    def stops(self) -> tuple[str, ...]:
        """Raises BadRequest for too many."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(given) > MAX_STOPS or not all(given):
            raise BadRequest(f"stop takes up to {MAX_STOPS} texts, none of them empty.")
        return tuple(given)

    def asked(self, owner: str, settings: Settings) -> Asked:
        """In our words. Raises NotFound for an unknown model and BadRequest for what can't be."""
        route, effort = route_of(self.model, settings), effort_of(self.reasoning_effort)
        tools = tuple(tool_of(tool.function) for tool in self.tools or ())
        choice = self.tool_choice or "auto"
        named = choice if isinstance(choice, str) else choice.function.name
        said = tuple(message.said() for message in self.messages)
        turn = Turn(
            messages=(),
            route=route,
            options=self.minions.options(route, settings, effort),
            owner=owner,
            tools=tools,
            tool_choice=checked_choice(named, tools),
            parallel_tool_calls=self.parallel_tool_calls is not False,
            stop=self.stops,
            effort=effort,
            temperature=self.temperature,
            seed=self.seed or 0,
            max_output_tokens=self.max_completion_tokens
            or self.max_tokens
            or DEFAULT_OUTPUT_TOKENS,
        )
        return Asked(said=said, turn=turn, documents=tuple(self.minions.documents))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Head:
    """What all pieces of one completion share."""

    model: str
    base_url: str
    """Of this service, for the links of citations."""
    completion_id: str
    created: int
    """Unix time; of the first request under an idempotency key."""

    def of(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.completion_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
        }


@router.post("/v1/chat/completions", response_model=None, responses=ANSWERS)
async def complete(
    request: Request,
    office: OfficeOf,
    caller: Asking,
    body: ChatBody,
    key: IdempotencyKey = None,
) -> Response:
    """The next turn of a conversation, by the local model or the cloud, whichever pays off; with
    files or long texts in it, an answer from them with citations. The receipt is in `minions`."""
    claim = await claimed(office.app.store, caller.owner, key, f"chat {body.model_dump_json()}")
    number = number_of(claim)
    asked = body.asked(caller.owner, office.app.settings)
    prepared = await prepare(office, asked, None if claim is None else claim.resource_id)
    head = _Head(
        model=body.model,
        base_url=str(request.base_url).rstrip("/"),
        completion_id=f"chatcmpl-{number}",
        created=int(time.time() if claim is None else claim.created_at),
    )
    answering = Answering(work=prepared.work)
    if not body.stream:
        return JSONResponse(completion_json(head, await answering.whole(request)))
    await answering.begin()
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    events = _events(head, answering, with_usage=with_usage)
    return StreamingResponse(events, media_type=MEDIA_TYPE, headers=HEADERS)


def completion_json(head: _Head, reply: ChatReply) -> dict[str, Any]:
    """A whole completion."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": reply.text if reply.text or not reply.tool_calls else None,
        "refusal": None,
        "annotations": annotations_json(reply, head.base_url),
    }
    if reply.tool_calls:
        message["tool_calls"] = [call_body(call) for call in reply.tool_calls]
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": reply.finish_reason,
        "logprobs": None,
    }
    return {
        **head.of("chat.completion"),
        "choices": [choice],
        "usage": usage_json(reply.usage),
        "minions": reply.facts(),
    }


async def _events(head: _Head, answering: Answering, *, with_usage: bool) -> AsyncIterator[str]:
    """A completion piece by piece. A failure ends it with an error event, without `[DONE]`."""
    chunk = head.of("chat.completion.chunk") | ({"usage": None} if with_usage else {})
    yield _delta(chunk, {"role": "assistant", "content": ""})
    try:
        async for piece in answering.pieces():
            yield _delta(chunk, {"content": piece}) if piece else KEEPALIVE
        reply = answering.reply()
    except Exception as error:  # noqa: BLE001 - the status is sent: an event must tell it
        yield data_line(failure_json(error))
        return
    for line in _closing(head, chunk, reply):
        yield line
    if with_usage:
        yield data_line(chunk | {"choices": [], "usage": usage_json(reply.usage)})
    yield DONE


def _closing(head: _Head, chunk: dict[str, Any], reply: ChatReply) -> Sequence[str]:
    """Tool calls, citations, and the end with its receipt."""
    lines = [
        _delta(chunk, {"tool_calls": [{"index": index, **call_body(call)}]})
        for index, call in enumerate(reply.tool_calls)
    ]
    if annotations := annotations_json(reply, head.base_url):
        lines.append(_delta(chunk, {"annotations": annotations}))
    told = chunk | {"minions": reply.facts()}
    return [*lines, _delta(told, {}, finish_reason=reply.finish_reason)]


def _delta(
    chunk: dict[str, Any], delta: dict[str, Any], *, finish_reason: str | None = None
) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    return data_line(chunk | {"choices": [choice]})


def annotations_json(reply: ChatReply, base_url: str) -> list[dict[str, Any]]:
    """The citations as OpenAI's URL citations: the link opens the document at the page, and the
    whole answer is what they are about."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": 0,
                "end_index": len(reply.text),
                "title": f"{citation['document']}, page {citation['page']}: {citation['quote']}",
                "url": f"{base_url}/v1/documents/{citation['document_id']}/content"
                f"#page={citation['page']}",
            },
        }
        for citation in reply.citations
    ]


def usage_json(used: TokensUsed) -> dict[str, Any]:
    """Tokens of all model calls, local and cloud."""
    return {
        "prompt_tokens": used.prompt,
        "completion_tokens": used.completion,
        "total_tokens": used.prompt + used.completion,
        "prompt_tokens_details": {"cached_tokens": used.cached},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning},
    }
