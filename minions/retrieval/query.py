"""What a question asks for: its telling words, the concepts in them, the statements it names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from minions.retrieval.lexicon import Concept, Part, lexicon
from minions.retrieval.words import folded, words
from minions.store.words import STOP_WORDS

_WHOLE_WORD_UP_TO = 5
"""Asked phrases up to this length are whole words: `ar` is not `are`."""

_PERIOD = re.compile(r"\b[FC]Y\s?'?(\d{4}|\d{2})\b", re.IGNORECASE)
_INSTRUCTION = re.compile(
    r"""(?:^|(?<=[.?!:,]\s))(?:please\s)?
        (?:round|answer|give|provide|respond|address|approach|base|state|calculate|consider|assume
          |you\sare|we\s(?:need|want))\b
        (?=[^.?!:]{0,300}\b(?:decimal|answer|response|question|perspective|standpoint|judge?ments?|usd
          |units|metric|analyst|banker|compute)\b)
        [^.?!:]{0,300}[.?!:]?
      | \bif\s[^.?!]{0,300}
        \b(?:explain\swhy|state\sthat|not\s(?:relevant|useful|meaningful))[^.?!]{0,300}
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""How to answer, not what is asked: rounding, units, roles, and what to do otherwise. The runs are
bounded, or a question of thousands of `if`s would take minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A question, analysed."""

    words: tuple[str, ...]
    """Distinct telling words; those of instructions are left out if others remain."""
    concepts: tuple[Concept, ...]
    """What is asked for by a name of the lexicon, and what that is worked out from."""
    named: tuple[Part, ...]
    """Statements that the question names as its source."""


def analyse(question: str) -> Query:
    """Split a question into what can be looked for."""
    asked = _INSTRUCTION.sub(" ", question)
    return Query(
        words=_telling(_PERIOD.sub(_as_year, asked)) or tuple(dict.fromkeys(words(question))),
        concepts=_concepts(f" {folded(asked)} "),
        named=tuple(_named(f" {folded(question)} ")),
    )


def _telling(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in words(text) if word not in STOP_WORDS))


def _as_year(period: re.Match[str]) -> str:
    """`FY2018` -> `2018`, `FY22` -> `2022`: so are columns headed."""
    year = period[1]
    return year if len(year) == 4 else f"20{year}"


def _named(question: str) -> Iterable[Part]:
    for statement in lexicon().statements:
        if _mentions(question, statement.names):
            yield statement.part


def _concepts(asked: str) -> tuple[Concept, ...]:
    """Those that the question mentions, ratios replaced by what they need."""
    known = lexicon().concepts
    found = [concept for concept in known.values() if _mentions(asked, concept.asked)]
    needed = [known[name] for concept in found for name in concept.needs]
    return tuple(dict.fromkeys(c for c in (*found, *needed) if not c.needs))


def _mentions(text: str, phrases: Sequence[str]) -> bool:
    """Whether any phrase is in `text`, which is folded, with a space at both ends."""
    return any(
        f" {phrase} " in text if len(phrase) <= _WHOLE_WORD_UP_TO else f" {phrase}" in text
        for phrase in phrases
    )
