"""What the simulated model writes: JSON for a framed question, a sentence for a plain chat."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from minions.cloud.sim.judge import verdict
from minions.cloud.sim.reader import Finding, find
from minions.cloud.sim.supervisor import supervise
from minions.cloud.sim.wire import Message, Prompt

_SOURCE = re.compile(r"<source\b[^>]*>(.*?)</source>", re.DOTALL)
_QUESTION = re.compile(r"<question>(.*?)</question>", re.DOTALL)
_CANT_TELL = "I can't tell from what I was sent."


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """A question and the texts that it is to be answered from."""

    question: str
    sources: tuple[str, ...]


def answer_text(prompt: Prompt) -> str:
    """The model's text for this prompt, from nothing but the prompt."""
    supervised = _supervised(prompt.messages)
    if supervised is not None:
        return supervised
    framed = _last_frame(prompt.messages)
    if framed:
        return _framed_answer(find(framed.question, framed.sources))
    if prompt.messages[-1].role == "tool":
        return prompt.messages[-1].text
    finding = _chat_finding(prompt.messages)
    if prompt.json_object:
        return _framed_answer(finding)
    return finding.citation if finding else _CANT_TELL


def parse_frame(content: str) -> Frame | None:
    """The frame in a message; None when it has none. A `<question>` inside a source is text."""
    sources = tuple(match.group(1).strip() for match in _SOURCE.finditer(content))
    question = _QUESTION.search(_SOURCE.sub(" ", content))
    if not (question and sources):
        return None
    return Frame(question=question.group(1).strip(), sources=sources)


def _supervised(messages: tuple[Message, ...]) -> str | None:
    """The reply to a supervisor's or a judge's frame in the last user message; None when it holds
    none."""
    asked = next((message for message in reversed(messages) if message.role == "user"), None)
    return (supervise(asked.text) or verdict(asked.text)) if asked else None


def _last_frame(messages: tuple[Message, ...]) -> Frame | None:
    frames = (parse_frame(message.text) for message in reversed(messages) if message.role == "user")
    return next((frame for frame in frames if frame), None)


def _chat_finding(messages: tuple[Message, ...]) -> Finding | None:
    """The last user message is the question, what was said before it is the source."""
    asked = next((i for i in reversed(range(len(messages))) if messages[i].role == "user"), None)
    if asked is None:
        return None
    return find(messages[asked].text, tuple(message.text for message in messages[:asked]))


def _framed_answer(finding: Finding | None) -> str:
    return json.dumps(
        {
            "answer": finding.answer if finding else None,
            "citations": [finding.citation] if finding else [],
            "sufficient": finding is not None,
        },
        ensure_ascii=False,
    )
