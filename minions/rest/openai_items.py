"""Input items of the Responses API, as pydantic models and as the conversation they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from minions.chat.conversation import Said
from minions.rest.openai_parts import Content, Function, Part, Strict, attachments_of, text_of
from workers import Message, Role, ToolCall

_ROLES = {"developer": Role.SYSTEM}


class MessageItem(Strict):
    """Something said. `id` and `status` are those of our own answers when they come back."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    id: str | None = None
    status: str | None = None
    phase: str | None = None

    def said(self) -> Said:
        role = _ROLES.get(self.role) or Role(self.role)
        message = Message(role=role, content=text_of(self.content))
        return Said(message=message, attachments=attachments_of(self.content))


class CallItem(Strict):
    """A tool call of ours when it comes back."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None
    namespace: None = None

    def said(self) -> Said:
        call = ToolCall(call_id=self.call_id, name=self.name, arguments=self.arguments)
        return Said(message=Message(role=Role.ASSISTANT, content="", tool_calls=(call,)))


class OutputItem(Strict):
    """What a tool said."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[Part]
    id: str | None = None
    status: str | None = None

    def said(self) -> Said:
        text = text_of(self.output)
        message = Message(role=Role.TOOL, content=text, tool_call_id=self.call_id)
        return Said(message=message, attachments=attachments_of(self.output))


Item = Annotated[CallItem | OutputItem | MessageItem, Field(union_mode="left_to_right")]


class FlatTool(Function):
    """A tool that the client runs."""

    type: Literal["function"]
    defer_loading: Literal[False] | None = None


class FlatNamedTool(Strict):
    """A tool that must be called."""

    type: Literal["function"]
    name: str


def conversation_of(items: str | Sequence[Item]) -> list[Said]:
    """The input as messages; calls join the assistant's message that they follow."""
    if isinstance(items, str):
        return [Said(message=Message(role=Role.USER, content=items))]
    said: list[Said] = []
    for item in items:
        new = item.said()
        last = said[-1] if said else None
        if last and new.message.tool_calls and last.message.role is Role.ASSISTANT:
            calls = (*last.message.tool_calls, *new.message.tool_calls)
            said[-1] = replace(last, message=replace(last.message, tool_calls=calls))
        else:
            said.append(new)
    return said


def text_item(item_id: str, text: str, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """A finished message of ours."""
    part = {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}
    return {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def call_item(item_id: str, call: ToolCall) -> dict[str, Any]:
    """A finished tool call of ours."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": "completed",
        "call_id": call.call_id,
        "name": call.name,
        "arguments": call.arguments,
    }
