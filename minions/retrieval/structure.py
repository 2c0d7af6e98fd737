"""What a chunk is, told by its own lines: table rows, headings, and the captions of statements.

Nothing here depends on fonts or layout, which text extraction loses. A statement is known by its
captions standing on rows with numbers (a table of contents names statements too, but has only page
numbers), and then by its title on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minions.retrieval.lexicon import STATEMENT_NAMES, Part
from minions.store.words import searchable

_NOT_WORD = re.compile(r"[^a-z0-9]+")
_APOSTROPHE = re.compile(r"['’`]")
_FIGURE = re.compile(r"^[$€£(\[+-]*\d[\d.,]*\)?%?[)\]]*$|^[—–-]+$|^[$€£)%]+$")
_PERCENT = re.compile(r"\d%|\bpercent\b|\bpercentage\b")
_MAX_TITLE_WORDS = 14
_LEADERS = re.compile(r"\.{3,}|(?:\. ){3,}|_{3,}")
_ROW_FIGURES = 2
_FULL_STATEMENT = 7
"""Captions that make a statement certain; half of them make it likely."""

_CAPTIONS: Mapping[Part, tuple[str, ...]] = {
    Part.BALANCE_SHEET: (
        "total assets", "total current assets", "total current liabilities", "total liabilities",
        "accounts payable|trade payables|payables", "retained earnings|accumulated deficit",
        "inventor", "receivable", "goodwill", "treasury stock|common stock|ordinary shares",
        "additional paid in capital|capital surplus", "cash and cash equivalents",
        "property", "accrued", "accumulated other comprehensive", "long term debt",
        "total (?:stockholders|shareholders|shareowners) equity|total equity",
    ),
    Part.INCOME_STATEMENT: (
        "(?:total )?(?:net )?(?:sales|revenues?)", "costs? of (?:sales|revenue|goods|products?)",
        "gross (?:profit|margin)", "operating (?:income|profit|earnings)|income from operations",
        "(?:income|earnings|loss).{0,25} before", "provision for|income tax",
        "(?:consolidated )?net (?:income|earnings|loss)", "basic", "diluted",
        "selling|marketing|general and", "research", "interest expense|interest and",
        "weighted average|average shares",
    ),
    Part.CASH_FLOW: (
        "depreciation", "(?:stock|share) based compensation", "deferred (?:income )?tax",
        "(?:purchases?|acquisitions?|additions?|payments?|expenditures?).{0,20} (?:property|plant)"
        "|capital (?:expenditures|spending)",
        "net cash.{0,40} operating|cash.{0,20} operating activities",
        "net cash.{0,40} investing|cash.{0,20} investing activities",
        "net cash.{0,40} financing|cash.{0,20} financing activities",
        "dividends|repurchase|purchases? of (?:treasury|common)", "proceeds", "(?:re)?payments? of",
        "effect of (?:foreign )?(?:exchange|currency)",
        "cash.{0,60} (?:beginning|start) of", "cash.{0,60} end of", "accounts payable",
        "net increase|net decrease|net change",
    ),
}  # fmt: skip
_CAPTION_PATTERNS = {
    part: tuple(re.compile(f"^ (?:{caption})", re.MULTILINE) for caption in captions)
    for part, captions in _CAPTIONS.items()
}
_PROSE = {
    Part.RESULTS: re.compile(
        r" (?:primarily|mainly|largely|partially) (?:due|driven|reflecting|offset|attributable)"
        r"| (?:driven by|due to|as a result of|offset by|compared (?:to|with)|reflecting)"
        r"| (?:increased|decreased|declined|grew|increase|decrease|decline|growth)\b"
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """What a chunk looks like."""

    rows: str
    """Labels of its table rows, folded, one a line, each with a space before it."""
    prose: str
    """All of its text, folded, with a space before it."""
    headings: str
    """Its short lines without figures, folded, one a line, each with a space before it."""
    row_share: float
    """Share of its lines that are table rows, 0..1."""
    parts: Mapping[Part, float]
    """How much it looks like each part, 0..1."""
    is_furniture: float
    """How much it is contents, exhibits, signatures or certificates, 0..1."""


def folded(text: str) -> str:
    """In lower case, words apart by one space, and no punctuation: `SG&A` -> `sg a`."""
    return _NOT_WORD.sub(" ", _APOSTROPHE.sub("", searchable(text).lower())).strip()


def profile(text: str) -> Profile:
    """Describe a chunk by its text."""
    lines = [line for line in text.split("\n") if line.strip()]
    rows, headings = [], []
    n_contents = 0
    for line in lines:
        label, n_figures = _row(line)
        if n_figures and label:
            rows.append(label)
            n_contents += n_figures == 1 and bool(_LEADERS.search(line) or len(label.split()) > 2)
        elif label and not n_figures and _is_heading(line):
            headings.append(label)
    joined_rows = "\n".join(f" {row}" for row in rows)
    joined_headings = "\n".join(f" {heading}" for heading in headings)
    prose = " " + folded(text)
    return Profile(
        rows=joined_rows,
        prose=prose,
        headings=joined_headings,
        row_share=len(rows) / max(len(lines), 1),
        parts=_parts(joined_rows, joined_headings, prose),
        is_furniture=_furniture(prose, len(lines), n_contents),
    )


def _row(line: str) -> tuple[str, int]:
    """A line's label, folded, and how many figures it ends with."""
    words = _LEADERS.sub(" ", line).split()
    end = len(words)
    while end and _FIGURE.match(words[end - 1]):
        end -= 1
    n_figures = sum(any(map(str.isdigit, word)) or word in "—–-" for word in words[end:])
    return folded(" ".join(words[:end])), n_figures


def _is_heading(line: str) -> bool:
    words = line.split()
    if len(words) > _MAX_TITLE_WORDS or line.rstrip().endswith((".", ",", ";")):
        return False
    telling = [word for word in words if len(word) > 3]
    return bool(telling) and all(not word[0].islower() for word in telling)


def _parts(rows: str, headings: str, prose: str) -> dict[Part, float]:
    parts = {part: _statement(part, rows, headings) for part in STATEMENT_NAMES}
    n_words = max(prose.count(" "), 1)
    n_said = len(_PROSE[Part.RESULTS].findall(prose))
    parts[Part.RESULTS] = min(n_said * 40 / n_words, 1.0)
    return parts


def _statement(part: Part, rows: str, headings: str) -> float:
    n_captions = sum(bool(pattern.search(rows)) for pattern in _CAPTION_PATTERNS[part])
    titled = any(f" {name}" in headings for name in STATEMENT_NAMES[part])
    return min(n_captions / _FULL_STATEMENT, 1.0) * (1.0 if titled else 0.7)


def _furniture(prose: str, n_lines: int, n_contents: int) -> float:
    return 0.0
