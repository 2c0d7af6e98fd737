"""A conversation as the prompt of its next turn: tokens in which contents are only ever text.

gpt-oss with its published vocabulary is rendered by `openai-harmony`, which encodes contents as
text. Others get their GGUF's chat template with a placeholder for each content, which is encoded on
its own. What a template prints of tools and their calls can't be told from its own words any more,
so a conversation in which those hold control strings is refused.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import openai_harmony

from workers.chat import ChatJob, Message, Role, ToolCall
from workers.chat_wire import tool_body
from workers.errors import JobRejected
from workers.jobs import Effort
from workers.llama.api import LlamaModel
from workers.llama.frame import as_tokens
from workers.llama.harmony import render, speaks_harmony, system_message, template_effort
from workers.llama.schedule import Tokens
from workers.llama.templates import render_template
from workers.llama.tokenizer import LlamaTokenizer

TOOL_TAGS: Final = ("<tool_call>", "</tool_call>")
_PLACEHOLDER: Final = re.compile("\ue000([0-9]+)\ue001")
_TOOL_RULES: Final = """

You may call one of these functions, described in JSON, by replying with nothing but
<tool_call>{"name": NAME, "arguments": {...}}</tool_call>:
"""
_FUNCTIONS: Final = "functions."


class Conversation:
    """Turns chat jobs into prompts, for one model."""

    def __init__(self, model: LlamaModel, tokenizer: LlamaTokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._is_harmony = speaks_harmony(model)
        self._template_has_tools = "tools" in (model.chat_template or "")

    @property
    def is_possible(self) -> bool:
        """Whether the model can chat. A template that drops what the system says belongs to a model
        that only extracts."""
        if self._is_harmony:
            return True
        user = {"role": "user", "content": "user"}
        prompts = {
            render_template(self._model, [{"role": "system", "content": said}, user])
            for said in ("one", "other")
        }
        return len(prompts) == 2

    def prompt(self, job: ChatJob, effort: Effort) -> Tokens:
        """Everything up to where the assistant begins to write.

        Raises JobRejected when tools hold control strings or the template fails on the messages."""
        if not job.messages:
            raise JobRejected("a conversation needs at least one message")
        tools = () if job.tool_choice == "none" else job.tools
        asked = replace(job, tools=tools)
        if self._is_harmony:
            return as_tokens(render(harmony_messages(asked, effort)))
        return as_tokens(self._by_template(asked, effort))

    def _by_template(self, job: ChatJob, effort: Effort) -> list[int]:
        job = job if self._template_has_tools else without_tools(job)
        self._check_tools(job)
        contents: list[str] = []
        messages = [_template_message(message, contents) for message in job.messages]
        text = render_template(
            self._model,
            messages,
            reasoning_effort=template_effort(effort),
            tools=[tool_body(tool) for tool in job.tools] or None,
        )
        bos = self._model.bos_token
        ids = self._encode(text, contents)
        return [bos, *ids] if bos is not None and ids[:1] != [bos] else ids

    def _encode(self, text: str, contents: Sequence[str]) -> list[int]:
        """The template's own words with their control strings, the contents without."""
        ids: list[int] = []
        end = 0
        for found in _PLACEHOLDER.finditer(text):
            ids += self._tokenizer.encode_trusted(text[end : found.start()])
            ids += self._tokenizer.encode(contents[int(found[1])])
            end = found.end()
        return ids + self._tokenizer.encode_trusted(text[end:])

    def _check_tools(self, job: ChatJob) -> None:
        calls = itertools.chain.from_iterable(message.tool_calls for message in job.messages)
        shown = [json.dumps(tool_body(tool), ensure_ascii=False) for tool in job.tools]
        shown += [call.name + call.arguments for call in calls]
        for text in shown:
            if self._tokenizer.holds_control_text(text):
                raise JobRejected(
                    "a tool or a call of one holds a control string of this model, such as "
                    f"<|end|>: take it out ({text[:80]!r})"
                )


def harmony_messages(job: ChatJob, effort: Effort) -> list[openai_harmony.Message]:
    """The conversation in harmony's terms: system texts and tools become the developer's message,
    each tool call and each result a message of the commentary channel."""
    said = [message.content for message in job.messages if message.role is Role.SYSTEM]
    developer = openai_harmony.DeveloperContent.new()
    if said:
        developer = developer.with_instructions("\n\n".join(said))
    if job.tools:
        describe = openai_harmony.ToolDescription.new
        tools = [
            describe(tool.name, tool.description, dict(tool.parameters) or None)
            for tool in job.tools
        ]
        developer = developer.with_function_tools(tools)
    messages = [system_message(effort)]
    if said or job.tools:
        role = openai_harmony.Role.DEVELOPER
        messages.append(openai_harmony.Message.from_role_and_content(role, developer))
    names = _names_of_calls(job.messages)
    for message in job.messages:
        if message.role is not Role.SYSTEM:
            messages += _harmony_message(message, names)
    return messages


def _harmony_message(
    message: Message, names: Mapping[str, str]
) -> Iterable[openai_harmony.Message]:
    say = openai_harmony.Message.from_role_and_content
    role = openai_harmony.Role
    if message.role is Role.USER:
        yield say(role.USER, message.content)
    elif message.role is Role.TOOL:
        name = _FUNCTIONS + names.get(message.tool_call_id or "", "unknown")
        author = openai_harmony.Author.new(role.TOOL, name)
        result = openai_harmony.Message.from_author_and_content(author, message.content)
        yield result.with_channel("commentary").with_recipient("assistant")
    elif message.content or not message.tool_calls:
        yield say(role.ASSISTANT, message.content).with_channel("final")
    for call in message.tool_calls:
        called = say(role.ASSISTANT, call.arguments).with_channel("commentary")
        called = called.with_recipient(_FUNCTIONS + call.name)
        yield called.with_content_type("<|constrain|>json")


def _names_of_calls(messages: Iterable[Message]) -> dict[str, str]:
    return {call.call_id: call.name for message in messages for call in message.tool_calls}


def without_tools(job: ChatJob) -> ChatJob:
    """The same conversation for a template that knows no tools: they are told of in the system
    message, their calls in the assistant's words and their results in the user's."""
    messages = [_as_text(message) for message in job.messages]
    if job.tools:
        rules = _TOOL_RULES + "\n".join(json.dumps(tool_body(tool)) for tool in job.tools)
        first = messages[0] if messages[0].role is Role.SYSTEM else None
        said = (first.content if first else "") + rules
        told = Message(role=Role.SYSTEM, content=said.strip())
        messages = [told, *(messages[1:] if first else messages)]
    return replace(job, messages=tuple(messages), tools=())


def _as_text(message: Message) -> Message:
    if message.role is Role.TOOL:
        return Message(role=Role.USER, content=f"The function returned: {message.content}")
    if not message.tool_calls:
        return message
    calls = "".join(map(_call_text, message.tool_calls))
    return Message(role=message.role, content=message.content + calls)


def _call_text(call: ToolCall) -> str:
    opening, closing = TOOL_TAGS
    return f'{opening}{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}{closing}'


def _template_message(message: Message, contents: list[str]) -> dict[str, Any]:
    """The message as templates know it, with a placeholder for its content."""
    contents.append(message.content)
    body: dict[str, Any] = {
        "role": message.role.value,
        "content": f"\ue000{len(contents) - 1}\ue001" if message.content else "",
    }
    if message.tool_calls:
        body["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    return body


def _arguments(text: str) -> object:
    """As templates want them: an object; the text as it is where it is none."""
    try:
        found: object = json.loads(text)
    except ValueError:
        return text
    return found
