"""`/v1/responses`: OpenAI's Responses API over the house's models and documents."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from minions.chat.conversation import Said
from minions.chat.turn import DEFAULT_OUTPUT_TOKENS, ChatReply, TokensUsed, Turn
from minions.rest.access import Asking, Seeing
from minions.rest.errors import ERRORS
from minions.rest.idempotency import IdempotencyKey, claimed, number_of
from minions.rest.office import OfficeOf
from minions.rest.openai_answer import Asked, Prepared, prepare
from minions.rest.openai_items import (
    FlatNamedTool,
    FlatTool,
    Item,
    call_item,
    conversation_of,
    text_item,
)
from minions.rest.openai_parts import (
    MAX_TOOLS,
    ReasoningEffort,
    Strict,
    ToolMode,
    checked_choice,
    effort_of,
    tool_of,
)
from minions.rest.openai_response_events import ResponseEvents
from minions.rest.openai_shelf import ResponseShelf, Shelved
from minions.rest.openai_stream import ANSWERS, HEADERS, MEDIA_TYPE, Answering
from minions.rest.openai_wishes import MinionsWishes, route_of
from minions.settings import Settings
from workers import Message, Role

router = APIRouter(prefix="/v1/responses", tags=["openai"], responses=ERRORS)
MAX_ITEMS = 2000
ResponseId = Annotated[str, Path(max_length=200, examples=["resp_0123456789abcdef01234567"])]


class Reasoning(Strict):
    """How long the model reasons."""

    effort: ReasoningEffort | None = None
    summary: None = None


class TextFormat(Strict):
    """Free text, the only format there is."""

    type: Literal["text"] = "text"


class TextOptions(Strict):
    """How the text is written."""

    format: TextFormat = TextFormat()


class ResponsesBody(Strict):
    """A response. What can't be done is refused, not ignored."""

    model: str = Field(max_length=200, examples=["minions-ladder"])
    input: str | Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS)]
    instructions: str | None = None
    previous_response_id: str | None = Field(default=None, max_length=200)
    store: bool | None = Field(default=True, description="Keep it, to go on from it by its id.")
    stream: bool | None = False
    max_output_tokens: int | None = Field(default=None, ge=1, le=100_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    tools: list[FlatTool] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: ToolMode | FlatNamedTool | None = None
    parallel_tool_calls: bool | None = True
    reasoning: Reasoning | None = None
    text: TextOptions | None = None
    minions: MinionsWishes = MinionsWishes()
    background: Literal[False] | None = Field(
        default=None, description="Use `/v1/questions`, which outlives its client."
    )
    top_p: float | None = Field(default=None, ge=1, le=1, description="Only 1: not supported.")
    top_logprobs: Literal[0] | None = None
    truncation: Literal["disabled"] | None = None
    include: list[str] | None = Field(default=None, max_length=0)
    service_tier: Literal["auto", "default"] | None = None
    metadata: dict[str, str] | None = Field(default=None, description="Labels; given back.")
    user: str | None = Field(default=None, description="A label; nothing here depends on it.")
    safety_identifier: str | None = Field(default=None, description="A label, as `user`.")
    prompt_cache_key: str | None = Field(default=None, description="A label, as `user`.")

    def asked(self, owner: str, settings: Settings, earlier: tuple[Said, ...]) -> Asked:
        """In our words, after what was said `earlier`."""
        route = route_of(self.model, settings)
        effort = effort_of(self.reasoning.effort if self.reasoning else None)
        tools = tuple(tool_of(tool) for tool in self.tools or ())
        choice = self.tool_choice or "auto"
        turn = Turn(
            messages=(),
            route=route,
            options=self.minions.options(route, settings, effort),
            owner=owner,
            tools=tools,
            tool_choice=checked_choice(choice if isinstance(choice, str) else choice.name, tools),
            parallel_tool_calls=self.parallel_tool_calls is not False,
            effort=effort,
            temperature=self.temperature,
            max_output_tokens=self.max_output_tokens or DEFAULT_OUTPUT_TOKENS,
        )
        said = (*self._instructions(), *earlier, *conversation_of(self.input))
        return Asked(said=said, turn=turn, documents=tuple(self.minions.documents))

    def _instructions(self) -> tuple[Said, ...]:
        if not self.instructions:
            return ()
        return (Said(message=Message(role=Role.SYSTEM, content=self.instructions)),)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Draft:
    """A response in the making."""

    body: ResponsesBody
    prepared: Prepared
    owner: str
    shelf: ResponseShelf
    response_id: str
    created_at: int
    """Unix time; of the first request under an idempotency key."""

    def head(self) -> dict[str, Any]:
        """All fields but those of the answer, as before it is there."""
        body = self.body
        return {
            "id": self.response_id,
            "object": "response",
            "created_at": self.created_at,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": body.model,
            "output": [],
            "usage": None,
            "instructions": body.instructions,
            "previous_response_id": body.previous_response_id,
            "store": body.store is not False,
            "max_output_tokens": body.max_output_tokens,
            "temperature": body.temperature,
            "top_p": 1.0,
            "tools": [tool.model_dump(exclude_none=True) for tool in body.tools or ()],
            "tool_choice": _choice_json(body.tool_choice),
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "reasoning": {"effort": self.effort, "summary": None},
            "text": {"format": {"type": "text"}},
            "truncation": "disabled",
            "metadata": body.metadata or {},
            "user": body.user,
        }

    @property
    def effort(self) -> str | None:
        return self.body.reasoning.effort if self.body.reasoning else None

    async def finish(self, reply: ChatReply) -> dict[str, Any]:
        """The finished response, put on the shelf if it is to be stored."""
        cut = reply.finish_reason in ("length", "content_filter")
        reason = "max_output_tokens" if reply.finish_reason == "length" else "content_filter"
        done = {
            **self.head(),
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": reason} if cut else None,
            "output": output_json(self.response_id, reply),
            "usage": usage_json(reply.usage),
            "minions": reply.facts(),
        }
        if self.body.store is not False:
            shelved = Shelved(body=done, said=self._all(reply), documents=self.prepared.documents)
            await self.shelf.put(self.owner, self.response_id, shelved)
        return done

    def _all(self, reply: ChatReply) -> tuple[Said, ...]:
        """The conversation with its newest turn, without instructions."""
        begun = self.prepared.said[1:] if self.body.instructions else self.prepared.said
        answer = Message(role=Role.ASSISTANT, content=reply.text, tool_calls=reply.tool_calls)
        return (*begun, Said(message=answer))


@router.post("", response_model=None, responses=ANSWERS)
async def respond(
    request: Request,
    office: OfficeOf,
    caller: Asking,
    body: ResponsesBody,
    key: IdempotencyKey = None,
) -> Response:
    """As chat completions, with a memory: `previous_response_id` goes on from a stored response."""
    store, shelf = office.app.store, ResponseShelf(store=office.app.store)
    claim = await claimed(store, caller.owner, key, f"response {body.model_dump_json()}")
    earlier: tuple[Said, ...] = ()
    if body.previous_response_id is not None:
        earlier = (await shelf.get(caller.owner, body.previous_response_id)).said
    asked = body.asked(caller.owner, office.app.settings, earlier)
    draft = _Draft(
        body=body,
        prepared=await prepare(office, asked, None if claim is None else claim.resource_id),
        owner=caller.owner,
        shelf=shelf,
        response_id=f"resp_{number_of(claim)}",
        created_at=int(time.time() if claim is None else claim.created_at),
    )
    answering = Answering(work=draft.prepared.work)
    if not body.stream:
        return JSONResponse(await draft.finish(await answering.whole(request)))
    await answering.begin()
    events = _stream(draft, answering)
    return StreamingResponse(events, media_type=MEDIA_TYPE, headers=HEADERS)


@router.get("/{response_id}")
async def get_response(office: OfficeOf, caller: Seeing, response_id: ResponseId) -> dict[str, Any]:
    """A stored response."""
    shelf = ResponseShelf(store=office.app.store)
    return (await shelf.get(caller.owner, response_id)).body


@router.delete("/{response_id}")
async def delete_response(
    office: OfficeOf, caller: Asking, response_id: ResponseId
) -> dict[str, Any]:
    """Forget a stored response. What it cost stays on the books."""
    await ResponseShelf(store=office.app.store).delete(caller.owner, response_id)
    return {"id": response_id, "object": "response", "deleted": True}


async def _stream(draft: _Draft, answering: Answering) -> AsyncIterator[str]:
    events = ResponseEvents(response_id=draft.response_id)
    for line in events.begin(draft.head()):
        yield line
    try:
        async for piece in answering.pieces():
            for line in events.say(piece):
                yield line
        done = await draft.finish(answering.reply())
    except Exception as error:  # noqa: BLE001 - the status is sent: an event must tell it
        yield events.fail(draft.head(), error)
        return
    for line in events.end(done):
        yield line


def output_json(response_id: str, reply: ChatReply) -> list[dict[str, Any]]:
    """The items of a finished response: what was said, then what is to be called."""
    number = response_id.removeprefix("resp_")
    calls = [call_item(f"fc_{number}_{i}", call) for i, call in enumerate(reply.tool_calls)]
    if calls and not reply.text:
        return calls
    return [text_item(f"msg_{number}", reply.text, annotations_json(reply)), *calls]


def annotations_json(reply: ChatReply) -> list[dict[str, Any]]:
    """The citations as OpenAI's file citations; page and quote stand in `minions.citations`, in the
    same order."""
    return [
        {
            "type": "file_citation",
            "file_id": citation["document_id"],
            "filename": citation["document"],
            "index": len(reply.text),
        }
        for citation in reply.citations
    ]


def usage_json(used: TokensUsed) -> dict[str, Any]:
    """Tokens of all model calls, local and cloud. Nothing is asked to be written to a cache."""
    return {
        "input_tokens": used.prompt,
        "output_tokens": used.completion,
        "total_tokens": used.prompt + used.completion,
        "input_tokens_details": {"cached_tokens": used.cached, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": used.reasoning},
    }


def _choice_json(choice: str | FlatNamedTool | None) -> str | dict[str, str]:
    if isinstance(choice, FlatNamedTool):
        return {"type": "function", "name": choice.name}
    return choice or "auto"
