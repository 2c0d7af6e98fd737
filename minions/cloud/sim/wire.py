"""The two OpenAI APIs as a server speaks them: bodies in, bodies and events out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from minions.cloud.model import CloudUsage
from minions.cloud.sim.ledger import Completion

_PIECE = re.compile(r"\S*\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    role: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A request in either API, as far as an answer depends on it."""

    api: Literal["chat", "responses"]
    model: str
    messages: tuple[Message, ...]
    max_output_tokens: int | None
    limit_name: str | None
    json_object: bool
    temperature: float | None
    stream: bool
    include_usage: bool
    tools: tuple[str, ...] = ()
    """Each as JSON: they count as input."""
    tool: str | None = None
    """The tool that must be called."""
    stop: tuple[str, ...] = ()
    """Texts at which an answer ends."""


class _Strict(BaseModel):
    """An argument that this server would ignore is refused, as OpenAI does with unknown ones."""

    model_config = ConfigDict(extra="forbid")


class _TextPart(_Strict):
    type: Literal["text", "input_text", "output_text"]
    text: str


class _Function(_Strict):
    name: str
    arguments: str


class _Call(_Strict):
    id: str
    type: Literal["function"]
    function: _Function


class _BodyMessage(_Strict):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_TextPart] | None
    tool_calls: list[_Call] = []
    tool_call_id: str | None = None

    def message(self) -> Message:
        parts = self.content or ""
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        called = "".join(c.function.name + c.function.arguments for c in self.tool_calls)
        return Message(role=self.role, text=text + called)


class _CallItem(_Strict):
    """A call in the input of the Responses API."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str

    def message(self) -> Message:
        return Message(role="assistant", text=self.name + self.arguments)


class _OutputItem(_Strict):
    """What a tool said, in the input of the Responses API."""

    type: Literal["function_call_output"]
    call_id: str
    output: str

    def message(self) -> Message:
        return Message(role="tool", text=self.output)


class _FunctionSpec(_Strict):
    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class _Tool(_Strict):
    type: Literal["function"]
    function: _FunctionSpec


class _FlatTool(_FunctionSpec):
    """A tool of the Responses API."""

    type: Literal["function"]


class _Named(_Strict):
    name: str


class _Choice(_Strict):
    type: Literal["function"]
    function: _Named


class _FlatChoice(_Named):
    type: Literal["function"]


_Mode = Literal["auto", "none", "required"]


def _demanded(choice: str, tools: list[str]) -> str | None:
    """The tool that must be called; this model calls none of itself."""
    if choice in ("auto", "none") or not tools:
        return None
    return tools[0] if choice == "required" else choice


class _Format(_Strict):
    type: Literal["text", "json_object"] = "text"


class _TextOptions(_Strict):
    format: _Format = _Format()


class _StreamOptions(_Strict):
    include_usage: bool = False


class ChatBody(_Strict):
    """POST /v1/chat/completions."""

    model: str
    messages: list[_BodyMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    response_format: _Format = _Format()
    stop: list[str] = Field(default=[], max_length=4)
    tools: list[_Tool] = []
    tool_choice: _Mode | _Choice = "auto"
    parallel_tool_calls: bool = True
    reasoning_effort: Literal["low", "medium", "high"] | None = None
    stream: bool = False
    stream_options: _StreamOptions = _StreamOptions()

    def prompt(self) -> Prompt:
        names = ("max_completion_tokens", "max_tokens")
        choice = (
            self.tool_choice
            if isinstance(self.tool_choice, str)
            else self.tool_choice.function.name
        )
        return Prompt(
            api="chat",
            model=self.model,
            messages=tuple(message.message() for message in self.messages),
            max_output_tokens=self.max_completion_tokens or self.max_tokens,
            limit_name=next((name for name in names if getattr(self, name)), None),
            json_object=self.response_format.type == "json_object",
            temperature=self.temperature,
            stream=self.stream,
            include_usage=self.stream_options.include_usage,
            tools=tuple(tool.model_dump_json() for tool in self.tools),
            tool=_demanded(choice, [tool.function.name for tool in self.tools]),
            stop=tuple(self.stop),
        )


class _Reasoning(_Strict):
    effort: Literal["low", "medium", "high"] | None = None


class ResponsesBody(_Strict):
    """POST /v1/responses. `store` may be said, but nothing is stored either way."""

    model: str
    input: str | list[_CallItem | _OutputItem | _BodyMessage]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    text: _TextOptions = _TextOptions()
    tools: list[_FlatTool] = []
    tool_choice: _Mode | _FlatChoice = "auto"
    parallel_tool_calls: bool = True
    reasoning: _Reasoning = _Reasoning()
    store: Literal[False] = False
    stream: bool = False

    def prompt(self) -> Prompt:
        choice = self.tool_choice if isinstance(self.tool_choice, str) else self.tool_choice.name
        return Prompt(
            api="responses",
            model=self.model,
            messages=tuple(self._messages()),
            max_output_tokens=self.max_output_tokens,
            limit_name="max_output_tokens" if self.max_output_tokens else None,
            json_object=self.text.format.type == "json_object",
            temperature=self.temperature,
            stream=self.stream,
            include_usage=True,
            tools=tuple(tool.model_dump_json() for tool in self.tools),
            tool=_demanded(choice, [tool.name for tool in self.tools]),
        )

    def _messages(self) -> Iterator[Message]:
        if self.instructions is not None:
            yield Message(role="system", text=self.instructions)
        if isinstance(self.input, str):
            yield Message(role="user", text=self.input)
        else:
            yield from (message.message() for message in self.input)


def chat_body(done: Completion, *, with_usage: bool) -> dict[str, Any]:
    """The JSON of a whole chat completion."""
    refused = done.finish_reason == "refusal"
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused or done.tool else done.text,
        "refusal": done.text if refused else None,
    }
    if done.tool:
        message["tool_calls"] = [_chat_call(done)]
    body = _chat_head(done, "chat.completion")
    body["choices"] = [{"index": 0, "message": message, "finish_reason": _chat_reason(done)}]
    if with_usage:
        body["usage"] = _chat_usage(done.usage)
    return body


def chat_events(done: Completion, *, with_usage: bool) -> Iterator[str]:
    """The same as server-sent events."""
    field = "refusal" if done.finish_reason == "refusal" else "content"
    yield _chat_event(done, {"role": "assistant", "content": ""})
    for piece in pieces(done.text):
        yield _chat_event(done, {field: piece})
    if done.tool:
        yield _chat_event(done, {"tool_calls": [{"index": 0, **_chat_call(done)}]})
    yield _chat_event(done, {}, finish_reason=_chat_reason(done))
    if with_usage:
        tail = _chat_head(done, "chat.completion.chunk")
        yield _sse(tail | {"choices": [], "usage": _chat_usage(done.usage)})
    yield "data: [DONE]\n\n"


def responses_body(done: Completion, *, with_usage: bool) -> dict[str, Any]:
    """The JSON of a whole response."""
    cut = done.finish_reason == "length"
    return {
        "id": f"resp_sim_{done.number}",
        "object": "response",
        "created_at": done.created,
        "model": done.model,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "output": [_call_item(done) if done.tool else _item(done)],
        "parallel_tool_calls": False,
        "tool_choice": "none",
        "tools": [],
        "usage": _responses_usage(done.usage) if with_usage else None,
    }


def responses_events(done: Completion, *, with_usage: bool) -> Iterator[str]:
    """The same as server-sent events, numbered."""
    for number, event in enumerate(_response_steps(done, with_usage=with_usage)):
        yield f"event: {event['type']}\n" + _sse(event | {"sequence_number": number})


def pieces(text: str) -> list[str]:
    """A text in the pieces in which it is streamed: words with the space after them."""
    return [piece for piece in _PIECE.findall(text) if piece]


def _response_steps(done: Completion, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    body = responses_body(done, with_usage=with_usage)
    item, part = _item(done), _part(done)
    kind, text_field = part["type"], "refusal" if part["type"] == "refusal" else "text"
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    running: dict[str, Any] = {
        "status": "in_progress",
        "output": [],
        "usage": None,
        "incomplete_details": None,
    }
    yield {"type": "response.created", "response": body | running}
    if done.tool:
        call = _call_item(done)
        yield {"type": "response.output_item.added", "output_index": 0, "item": call}
        yield {"type": "response.output_item.done", "output_index": 0, "item": call}
        yield {"type": "response.completed", "response": body}
        return
    started = item | {"status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": 0, "item": started}
    yield {"type": "response.content_part.added", **place, "part": part | {text_field: ""}}
    for piece in pieces(done.text):
        yield {"type": f"response.{kind}.delta", **place, "delta": piece}
    yield {"type": f"response.{kind}.done", **place, text_field: done.text}
    yield {"type": "response.content_part.done", **place, "part": part}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": f"response.{body['status']}", "response": body}


def _item(done: Completion) -> dict[str, Any]:
    return {
        "id": f"msg_sim_{done.number}",
        "type": "message",
        "role": "assistant",
        "status": "incomplete" if done.finish_reason == "length" else "completed",
        "content": [_part(done)],
    }


def _part(done: Completion) -> dict[str, Any]:
    if done.finish_reason == "refusal":
        return {"type": "refusal", "refusal": done.text}
    return {"type": "output_text", "text": done.text, "annotations": []}


def _chat_head(done: Completion, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-sim-{done.number}",
        "object": kind,
        "created": done.created,
        "model": done.model,
    }


def _chat_call(done: Completion) -> dict[str, Any]:
    function = {"name": done.tool, "arguments": "{}"}
    return {"id": f"call_sim_{done.number}", "type": "function", "function": function}


def _call_item(done: Completion) -> dict[str, Any]:
    return {
        "id": f"fc_sim_{done.number}",
        "type": "function_call",
        "status": "completed",
        "call_id": f"call_sim_{done.number}",
        "name": done.tool,
        "arguments": "{}",
    }


def _chat_event(
    done: Completion, delta: dict[str, Any], *, finish_reason: str | None = None
) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return _sse(_chat_head(done, "chat.completion.chunk") | {"choices": [choice]})


def _chat_reason(done: Completion) -> str:
    return "stop" if done.finish_reason == "refusal" else done.finish_reason


def _chat_usage(usage: CloudUsage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _responses_usage(usage: CloudUsage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _sse(payload: dict[str, Any]) -> str:
    return f"data: {json.dumps(payload)}\n\n"
