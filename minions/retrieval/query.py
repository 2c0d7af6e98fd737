"""What a question asks for: its telling words, concepts, statements and years."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from minions.retrieval.lexicon import CONCEPTS, STATEMENT_NAMES, Concept, Part
from minions.retrieval.structure import folded
from minions.retrieval.words import telling_terms

_WHOLE_WORD_UP_TO = 5
"""Asked phrases up to this length match whole words only: `ar` is not `are`."""

_YEAR = re.compile(r"\b(?:fy|cy|q[1-4]\s?)?\s?'?((?:19|20)\d\d)\b|\b(?:fy|cy)\s?'?(\d\d)\b")
_PERIOD = re.compile(r"\b(?:fy|cy)\s?'?(?=\d)|\bq([1-4])(?=\s?(?:of|fy|'|20|\d))")
_INSTRUCTIONS = re.compile(
    r"(?:round|answer|give|provide|respond|address|approach|base|state|calculate|consider|use|"
    r"please|help|assume|you are|we (?:need|want))\b(?=[^.?!:]*\b(?:decimal|places|answer|"
    r"response|question|perspective|standpoint|judge?ments?|usd|units|financial metric|analyst|"
    r"banker|compute))[^.?!:]*[.?!:]?"
    r"|if [^.?!]*\b(?:state (?:that|0)|explain why|not (?:relevant|useful|meaningful))[^.?!]*[.?!]?",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A question, analysed."""

    terms: tuple[str, ...]
    """Distinct telling words, folded; instructions left out."""
    concepts: tuple[Concept, ...]
    named: tuple[Part, ...]
    """Statements that the question names."""
    years: tuple[str, ...]


def analyse(question: str) -> Query:
    """Split a question into what can be looked for."""
    whole = f" {folded(question)} "
    asked = _INSTRUCTIONS.sub(" ", question)
    return Query(
        terms=tuple(telling_terms(_plain_periods(asked))) or tuple(telling_terms(question)),
        concepts=_concepts(f" {folded(asked)} "),
        named=tuple(p for p, names in STATEMENT_NAMES.items() if _any_in(names, whole)),
        years=tuple(dict.fromkeys(_years(question))),
    )


def _concepts(asked: str) -> tuple[Concept, ...]:
    found = [concept for concept in CONCEPTS if _any_in(concept.asked, asked)]
    by_name = {concept.name: concept for concept in CONCEPTS}
    needed = [by_name[name] for concept in found for name in concept.needs]
    lines = [c for c in (*found, *needed) if c.written]
    return tuple(dict.fromkeys(lines))


def _any_in(phrases: Sequence[str], text: str) -> bool:
    return any(_asked_in(phrase, text) for phrase in phrases)


def _asked_in(phrase: str, text: str) -> bool:
    end = " " if len(phrase) <= _WHOLE_WORD_UP_TO else ""
    return bool(phrase) and f" {phrase}{end}" in text


def _years(question: str) -> list[str]:
    found = _YEAR.findall(question.lower())
    return [full or f"20{short}" for full, short in found]


def _plain_periods(question: str) -> str:
    """`FY2018` -> `2018`, `FY22` -> `2022`."""
    return re.sub(r"\b[FC]Y\s?'?(\d{2,4})\b", lambda m: m[1] if len(m[1]) == 4 else f"20{m[1]}", question)
