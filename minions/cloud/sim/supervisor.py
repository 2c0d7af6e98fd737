"""The simulated model as supervisor of workers: plans, verdicts and chat turns, by fixed rules.

It answers from the sources it is shown with the same lexical reader as everywhere. What it knows
beyond them is only how to split a question: at an `and`, or into the values of a computation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minions.cloud.sim.reader import Finding, find
from minions.computation import computation_of

_SOURCE = re.compile(r"<source\b[^>]*>(.*?)</source>", re.DOTALL)
_QUESTION = re.compile(r"<question>(.*?)</question>", re.DOTALL)
_COMPUTED = re.compile(r"<computed\b[^<>]*>(.*?)</computed>", re.DOTALL)
_LAST = re.compile(r'<(?:aggregate|chat)-request [^<>]*\blast="yes">')
_AND = re.compile(
    r"^(?P<first>.{8,}?)[,;]?\s+and\s+(?P<second>(?:what|which|who|when|how)\b.+)$", re.IGNORECASE
)
_LEAD = re.compile(
    r"^(?:what|which|who|when|where|how much|how many|how)\s+"
    r"(?:(?:is|are|was|were|does|do|did)\s+)?(?:the\s+)?",
    re.IGNORECASE,
)


def supervise(content: str) -> str | None:
    """The supervisor's reply to a framed request; None when the message holds no such frame.

    Frames inside sources are text."""
    outside = _SOURCE.sub(" ", content)
    for mark, reply in _REPLIES.items():
        if mark in outside:
            sources = [match.group(1).strip() for match in _SOURCE.finditer(content)]
            return json.dumps(reply(outside, sources), ensure_ascii=False)
    return None


def _plan(outside: str, _sources: Sequence[str]) -> dict[str, Any]:
    question = _question(outside)
    computation = computation_of(question)
    if computation is not None:
        values = [{"name": o.name, "instruction": o.question} for o in computation.operands]
        return {"tasks": values[:16], "chunk_tokens": None, "formula": computation.formula}
    tasks = [{"name": "question", "instruction": question}]
    parts = _AND.match(question.rstrip("? "))
    if parts:
        tasks.append({"name": "first_part", "instruction": f"{parts['first']}?"})
        tasks.append({"name": "second_part", "instruction": _sentence(parts["second"])})
    return {"tasks": tasks, "chunk_tokens": None, "formula": None}


def _verdict(outside: str, sources: Sequence[str]) -> dict[str, Any]:
    question, computed = _question(outside), _COMPUTED.search(outside)
    if computed:
        result = computed.group(1).partition(" = ")[0].strip()
        return {"decision": "answer", "answer": result, "citations": list(sources[:4])}
    finding = find(question, sources)
    if finding or _is_last(outside):
        return {"decision": "answer", **_found(finding)}
    return {
        "decision": "more",
        "answer": None,
        "citations": [],
        "scratchpad": "The sources so far do not answer the question.",
        "tasks": [{"name": "reworded", "instruction": _reworded(question)}],
        "formula": None,
    }


def _chat_turn(outside: str, sources: Sequence[str]) -> dict[str, Any]:
    question = _question(outside)
    finding = find(question, sources)
    if finding or _is_last(outside):
        return _found(finding)
    asked_before = "<message>" in outside
    return {"message": _reworded(question) if asked_before else question}


def _found(finding: Finding | None) -> dict[str, Any]:
    return {
        "answer": finding.answer if finding else None,
        "citations": [finding.citation] if finding else [],
    }


def _question(outside: str) -> str:
    match = _QUESTION.search(outside)
    return match.group(1).strip() if match else ""


def _is_last(outside: str) -> bool:
    """Whether the frame says that nothing may be asked any more."""
    return bool(_LAST.search(outside))


def _reworded(question: str) -> str:
    """The question without its question word: a lexical worker weighs the rest higher."""
    words = _LEAD.sub("", question.strip()).rstrip("? ")
    return f"Which passage is about {words}?"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('? ')}?"


_REPLIES: Mapping[str, Callable[[str, Sequence[str]], dict[str, Any]]] = {
    "<plan-request>": _plan,
    "<aggregate-request ": _verdict,
    "<chat-request ": _chat_turn,
}
"""By the tag that opens the frame."""
