"""What a chunk is, told by its own lines: table rows, headings, and the captions of statements.

Nothing here depends on fonts or layout, which text extraction loses. A statement is known by its
captions on rows with figures (a table of contents names statements as well, without any), and then
by its title on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from minions.retrieval.lexicon import Part, Statement, lexicon
from minions.retrieval.words import folded

_FIGURE = re.compile(r"[$€£(\[+-]*\d[\d.,]*[)%\]]*|[—–-]+|[$€£)%]+")
_LEADERS = re.compile(r"\.{3,}|(?:\. ){3,}|_{3,}")
_MAX_HEADING_WORDS = 14
_SHORT_WORD = 3
"""Words up to this length may be in lower case in a heading: `of`, `and`, `the`."""
_FULL_STATEMENT = 7
"""Captions that make a chunk a whole statement; fewer make it a part of one."""
_WITHOUT_TITLE = 0.7
"""A statement's second chunk has no title, and a summary's table has none either."""
_EXPLAINS = re.compile(
    r" (?:primarily|mainly|largely|partially|partly)"
    r" (?:due|driven|reflecting|offset|attributable|because)"
    r"| driven by| due to| as a result of| offset by| compared (?:to|with)| reflecting"
    r"| increased| decreased| declined| grew| growth| increase| decrease| decline"
)
_FULL_EXPLANATION = 0.025
"""Explaining phrases per word of a text that does little else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """What a chunk looks like. Every line in it is folded, with a space before it."""

    rows: str
    """Labels of table rows, one a line."""
    headings: str
    """Short lines without figures that are set like headings, one a line."""
    text: str
    """All of the chunk, on one line."""
    parts: Mapping[Part, float]
    """How much of each statement it holds, 0..1."""
    results: float
    """How much of it explains what went up or down, and why, 0..1."""


def profile(text: str) -> Profile:
    """Describe a chunk by its text."""
    rows: list[str] = []
    headings: list[str] = []
    for line in text.split("\n"):
        label, has_figures = _row(line)
        if label and has_figures:
            rows.append(label)
        elif label and _is_heading(line):
            headings.append(label)
    labels, titles, whole = _lines(rows), _lines(headings), _lines([folded(text)])
    return Profile(
        rows=labels,
        headings=titles,
        text=whole,
        parts={s.part: _share_of(s, labels, titles) for s in lexicon().statements},
        results=_explanation(whole),
    )


def _lines(phrases: list[str]) -> str:
    return "\n".join(f" {phrase}" for phrase in phrases)


def _row(line: str) -> tuple[str, bool]:
    """A line's label, folded, and whether figures stand after it."""
    words = _LEADERS.sub(" ", line).split()
    end = len(words)
    while end and _FIGURE.fullmatch(words[end - 1]):
        end -= 1
    return folded(" ".join(words[:end])), any(map(str.isdigit, "".join(words[end:])))


def _is_heading(line: str) -> bool:
    words = line.split()
    if len(words) > _MAX_HEADING_WORDS or line.rstrip().endswith((".", ",", ";")):
        return False
    telling = [word for word in words if len(word) > _SHORT_WORD]
    return bool(telling) and not any(word[0].islower() for word in telling)


def _share_of(statement: Statement, rows: str, headings: str) -> float:
    """How much of the statement stands in the rows."""
    n_captions = sum(bool(caption.search(rows)) for caption in statement.captions)
    is_titled = any(f" {name}" in headings for name in statement.names)
    share = min(n_captions / _FULL_STATEMENT, 1.0)
    return share if is_titled else share * _WITHOUT_TITLE


def _explanation(text: str) -> float:
    n_said, n_words = len(_EXPLAINS.findall(text)), text.count(" ")
    return min(n_said / n_words / _FULL_EXPLANATION, 1.0) if n_words else 0.0
