"""The lexicon: what people ask of reports and contracts, and how those write it.

The entries stand in `lexicon.toml`, whose head says how phrases are compared.
"""

from __future__ import annotations

import enum
import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any


class Part(enum.StrEnum):
    """A statement of a report."""

    BALANCE_SHEET = "balance sheet"
    INCOME_STATEMENT = "income statement"
    CASH_FLOW = "cash flow statement"


class Kind(enum.StrEnum):
    """What sort of thing is asked for; the lexicon's tables."""

    LINE = "line"
    """A row of a statement."""
    RATIO = "ratio"
    """Worked out from lines."""
    TOPIC = "topic"
    """A section, note or table of a report, or a fact about any document."""
    CLAUSE = "clause"
    """A clause of a contract."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Concept:
    """Something that is asked for. Phrases are folded."""

    name: str
    kind: Kind
    asked: tuple[str, ...]
    written: tuple[str, ...] = ()
    part: Part | None = None
    """Where a line stands."""
    needs: tuple[str, ...] = ()
    """Names of the lines that a ratio is worked out from."""
    results: bool = False
    """Whether the answer is in the text that explains changes."""
    opening: bool = False
    """Whether the answer stands where the document begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """How a statement is recognised."""

    part: Part
    names: tuple[str, ...]
    captions: tuple[re.Pattern[str], ...]
    """Searched in row labels, one label a line with a space before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lexicon:
    """All of `lexicon.toml`."""

    concepts: Mapping[str, Concept]
    """By name."""
    statements: tuple[Statement, ...]


@functools.cache
def lexicon() -> Lexicon:
    """The lexicon that ships with the package; read once."""
    source = resources.files("minions.retrieval").joinpath("lexicon.toml")
    return parse_lexicon(source.read_text(encoding="utf-8"))


def parse_lexicon(text: str) -> Lexicon:
    """Read a lexicon. Raises ValueError naming a need that is no concept, or an unknown part."""
    tables = tomllib.loads(text)
    concepts = [
        _concept(kind, name, entry)
        for kind in Kind
        for name, entry in tables.get(kind.value, {}).items()
    ]
    by_name = {concept.name: concept for concept in concepts}
    missing = {need for concept in concepts for need in concept.needs} - by_name.keys()
    if missing:
        raise ValueError(f"The lexicon's ratios need lines that it does not hold: {missing}.")
    statements = tuple(
        _statement(name, entry) for name, entry in tables.get("statement", {}).items()
    )
    return Lexicon(concepts=by_name, statements=statements)


def _concept(kind: Kind, name: str, entry: Mapping[str, Any]) -> Concept:
    written = tuple(entry.get("written", ()))
    also_asked = written if kind is Kind.LINE else ()
    return Concept(
        name=name,
        kind=kind,
        asked=(*entry.get("asked", ()), *also_asked),
        written=written,
        part=Part(entry["part"]) if "part" in entry else None,
        needs=tuple(entry.get("needs", ())),
        results=entry.get("results", False),
        opening=entry.get("opening", False),
    )


def _statement(name: str, entry: Mapping[str, Any]) -> Statement:
    return Statement(
        part=Part(name),
        names=tuple(entry["names"]),
        captions=tuple(re.compile(f"^ (?:{c})", re.MULTILINE) for c in entry["captions"]),
    )
