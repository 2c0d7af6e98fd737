"""Documents in a conversation: files and long texts set apart, and the question about them.

A client sends its whole conversation with every turn. The same bytes are the same document, so
follow-ups meet what was read before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from minions.chat.wrapping import unwrapped, without_notes
from minions.errors import BadRequest
from workers import Message, Role

QUESTION_CHARS = 1000
"""A first or last paragraph of a long message can be the question about the rest, up to so long."""
MAX_CONTEXT_CHARS = 300
"""Of an earlier question or answer, where a question leans on it."""

_OPENS_ON_BEFORE = re.compile(r"^\W*(?:what about|how about)\b", re.IGNORECASE)
_GOES_ON = re.compile(r"^\W*(?:and|but|so|or|also|then|why|why not)\b", re.IGNORECASE)
_WHOLE = re.compile(
    r"^\W*\w+\W+(?:who|what|when|where|which|how|is|are|was|were|does|do|did|can|must|may)\b"
    r"(?:\W+\w+){4}",
    re.IGNORECASE,
)
"""A question of its own after the first word."""
_POINTS_BACK = re.compile(
    r"\b(?:it|its|they|them|theirs?|he|him|his|she|hers?|the (?:same|former|latter|above|previous|"
    r"others?))\b"
    # "this agreement" is the document at hand; "this is" points to what was said.
    r"|\b(?:this|that|these|those)\b(?=\s*(?:[?.,!;]|$|(?:is|are|was|were|does|did|means?|has)\b))",
    re.IGNORECASE,
)
_FEW_WORDS = 4
_SHORT_WORDS = 6
"""A question up to so long that begins with "and" is likely cut down to what is new in it."""
_LONG_WORDS = 10
"""In a longer one, a pronoun most likely stands for something in the question itself."""
_MARKED_QUESTION = re.compile(r"<user_query>(.{1,1000})</user_query>", re.DOTALL)
"""How Open WebUI marks the question below the texts that it found itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment:
    """A file that came with a message: its bytes, or the id of a document that is here already."""

    name: str
    data: bytes | None = None
    document_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A message and what came with it."""

    message: Message
    attachments: tuple[Attachment, ...] = ()


def set_long_texts_apart(
    said: Sequence[Said], limit_tokens: int, count: Callable[[str], int]
) -> list[Said]:
    """Texts of users and systems over the limit become attachments; a question in the first or the
    last paragraph stays where it is, and what a chat page has put around it goes."""
    bare = [replace(one, message=_bare(one.message)) for one in said]
    return [_set_apart(one, number, limit_tokens, count) for number, one in enumerate(bare, 1)]


def _bare(message: Message) -> Message:
    if message.role is not Role.USER:
        return message
    return replace(message, content=without_notes(message.content))


def _set_apart(said: Said, number: int, limit_tokens: int, count: Callable[[str], int]) -> Said:
    message = said.message
    from_outside = message.role in (Role.USER, Role.SYSTEM)
    # A token is at least one character: short texts need no counting.
    if not from_outside or len(message.content) <= limit_tokens:
        return said
    if count(message.content) <= limit_tokens:
        return said
    question, texts = _split(message.content, f"message-{number}.txt")
    attached = [Attachment(name=name, data=text.encode(errors="replace")) for name, text in texts]
    return Said(
        message=replace(message, content=question), attachments=(*said.attachments, *attached)
    )


def _split(content: str, name: str) -> tuple[str, Sequence[tuple[str, str]]]:
    """(question, named texts) of a long message; the question is empty where none stands apart."""
    wrapped = unwrapped(content)
    if wrapped is not None:
        return wrapped.question, wrapped.sources
    question, text = _question_and_text(content)
    return question, [(name, text)]


def _question_and_text(content: str) -> tuple[str, str]:
    marked = _MARKED_QUESTION.search(content)
    if marked is not None:
        return marked.group(1).strip(), content[: marked.start()] + content[marked.end() :]
    paragraphs = re.split(r"\n\s*\n", content.strip())
    last, first = paragraphs[-1].strip(), paragraphs[0].strip()
    if len(paragraphs) < 2:
        last_line = content.strip().splitlines()[-1].strip()
        fits = last_line.endswith("?") and len(last_line) <= QUESTION_CHARS
        return (last_line, content.strip().removesuffix(last_line)) if fits else ("", content)
    candidates = [(last, "\n\n".join(paragraphs[:-1])), (first, "\n\n".join(paragraphs[1:]))]
    asking = [pair for pair in candidates if "?" in pair[0] and len(pair[0]) <= QUESTION_CHARS]
    short = [pair for pair in candidates if len(pair[0]) <= QUESTION_CHARS]
    return next(iter(asking or short), ("", content))


def question_of(said: Sequence[Said]) -> str:
    """The question about the documents: what the user said last, with the turn before it where it
    leans on that. Raises BadRequest where no question can be told."""
    messages = [one.message for one in said]
    if messages[-1].role is not Role.USER:
        raise BadRequest(
            "A question about documents must be the last message and come from the user; this "
            f"conversation ends with a message of `{messages[-1].role}`."
        )
    question = messages[-1].content.strip()
    if not question:
        raise BadRequest(
            "There is a document and no question about it. Ask it in a message of its own, or in "
            "the first or last paragraph of a long text."
        )
    return f"{question} {_context(messages[:-1])}".strip() if leans(question) else question


def leans(question: str) -> bool:
    """Whether a question can't be understood without what was said before it (English)."""
    n_words = len(question.split())
    if n_words < _FEW_WORDS or _OPENS_ON_BEFORE.search(question):
        return True
    if n_words <= _SHORT_WORDS and _GOES_ON.search(question) and not _WHOLE.search(question):
        return True
    return n_words <= _LONG_WORDS and _POINTS_BACK.search(question) is not None


def _context(earlier: Sequence[Message]) -> str:
    """The last question and its answer, in brackets; empty where there is none."""
    asked = next((m.content for m in reversed(earlier) if m.role is Role.USER and m.content), "")
    told = next((m.content for m in reversed(earlier) if m.role is Role.ASSISTANT), "")
    if not asked:
        return ""
    answered = f" Answer: {_shortened(told)}" if told else ""
    return f"(Asked before: {_shortened(asked)}{answered})"


def _shortened(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= MAX_CONTEXT_CHARS else f"{joined[:MAX_CONTEXT_CHARS]}…"
