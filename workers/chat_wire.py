"""Conversations in the JSON of OpenAI's chat API, for whoever sends them on."""

from __future__ import annotations

from typing import Any

from workers.chat import Message, Role, Tool, ToolCall


def message_body(message: Message) -> dict[str, Any]:
    """One turn in OpenAI's form."""
    body: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.tool_calls:
        body["tool_calls"] = [call_body(call) for call in message.tool_calls]
        body["content"] = message.content or None
    if message.role is Role.TOOL:
        body["tool_call_id"] = message.tool_call_id or ""
    return body


def call_body(call: ToolCall) -> dict[str, Any]:
    """A tool call in OpenAI's form."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.call_id, "type": "function", "function": function}


def tool_body(tool: Tool) -> dict[str, Any]:
    """A tool in OpenAI's form."""
    function: dict[str, Any] = {"name": tool.name, "parameters": dict(tool.parameters)}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def choice_body(choice: str) -> str | dict[str, Any]:
    """`tool_choice` in OpenAI's form: a mode, or the one function."""
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}
