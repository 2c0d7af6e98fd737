"""What chat pages put around a question, taken off again: notes about files, and texts they found.

Open WebUI (0.12 and before) names the files of a message in `<attached_files>`, and hands their
texts over as `<source name="...">...</source>` in a `<context>`, below instructions of its own and
above the question. With each turn the same texts come in another wrapping, so only what is inside
can be known again as a document that was read.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

_FILES_NOTE = re.compile(r"<attached_files>[^<]*(?:<file\b[^<>]*>[^<]*)*</attached_files>\s*")
_BEGIN, _END = "<context>\n", "\n</context>"
_SOURCE = re.compile(r"<source\b([^<>]*)>")
_SOURCE_END = "</source>"
_NAME = re.compile(r'\bname="([^"]{1,255})"')
_INSTRUCTIONS = re.compile(r"\s*(?:#{2,4} Task:|$)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wrapped:
    """A message that a chat page has wrapped."""

    question: str
    sources: tuple[tuple[str, str], ...]
    """(name, text) of each."""


def without_notes(content: str) -> str:
    """The message without the page's notes about its files."""
    if "<attached_files>" not in content:
        return content
    return _FILES_NOTE.sub("", content).strip()


def unwrapped(content: str) -> Wrapped | None:
    """Question and sources of a message that brings its texts along; None for any other, also where
    taking the wrapping off would lose words that are not the page's own."""
    before, begin, rest = content.partition(_BEGIN)
    inside, end, question = rest.rpartition(_END)
    question = without_notes(question).strip()
    if not (begin and end and question) or not _INSTRUCTIONS.match(before):
        return None
    sources = _sources(inside)
    return Wrapped(question=question, sources=sources) if sources else None


def _sources(inside: str) -> tuple[tuple[str, str], ...]:
    """The pieces of each source under its name; none where there is anything between them."""
    heads = list(_SOURCE.finditer(inside))
    starts = [head.start() for head in heads]
    if not heads or inside[: starts[0]].strip():
        return ()
    texts: dict[str, list[str]] = {}
    for head, end in zip(heads, [*starts[1:], len(inside)], strict=True):
        text, closed, after = inside[head.end() : end].rpartition(_SOURCE_END)
        if not closed or after.strip():
            return ()
        texts.setdefault(_name(head.group(1)), []).append(text.strip())
    return tuple((name, "\n\n".join(parts)) for name, parts in texts.items())


def _name(attributes: str) -> str:
    """Of a text, whatever file it was taken from."""
    named = _NAME.search(attributes)
    name = html.unescape(named.group(1)) if named else "source"
    return name if name.endswith(".txt") else f"{name}.txt"
