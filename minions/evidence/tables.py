"""The row and column headings of a number quoted from a table: what `1,577` is a number of.

Tables come as text: cells set apart by ` | ` or tabs (HTML, DOCX, Markdown), or rows of a PDF with
a label and its numbers in a line. English period headings (`2022`, `FY2022`, `December 31, 2022`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from minions.evidence.verify import Span
from minions.evidence.words import STOP_WORDS, words

MAX_LINES_ABOVE = 60
"""How far above its row a heading is looked for: about a page."""
MAX_HEADING_LETTERS = 40
"""Beside the periods: `Three Months Ended`, but no sentence. Remarks in brackets are free."""
MAX_LINE_CHARS = 1_000
"""A longer line is prose."""

_FIGURE = re.compile(
    r"(?<![\w.,/-])[$€£¥]?\s?\(?[-−–]?[$€£¥]?\s?"
    r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?\s?%?\)?\s?%?(?![\w/-])"
    r"|(?<!\S)[—–-](?!\S)"
)
"""A cell of figures; a lone dash is nil."""
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_PERIOD = re.compile(
    rf"\b(?:{_MONTH}\s+\d{{1,2}},?\s+|{_MONTH}\s+|Q[1-4]\s+|[1-4]Q\s?|fiscal\s+|FY\s?)?"
    r"(?:19|20)\d\d[AE]?\b|\bFY\s?\d\d\b|%\s?change\b",
    re.IGNORECASE,
)
_CELL_BORDER = re.compile(r"[^\S\n]*\|[^\S\n]*|\t")
_BRACKETS = re.compile(r"\([^()]*\)")
_BARE_SIGNS = frozenset({"$", "€", "£", "¥", "%", ")", ")%"})
"""Filings in HTML put these into cells of their own."""
_LABEL_END = " .:$€£¥|\t"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cell:
    start: int
    """Half-open span in the line."""
    end: int
    text: str


def headings_of(document_text: str, start: int, end: int) -> tuple[str, str] | None:
    """The headings of the row and of the column of the number at `document_text[start:end]`.

    The span may hold more of the row (its label, say): the first number in it that is no part of
    the label counts. None when the span is in no table's row, or the column has no heading."""
    line = _line_at(document_text, start)
    if end > line.end or line.end - line.start > MAX_LINE_CHARS:
        return None
    row = document_text[line.start : line.end]
    above = document_text[: line.start].rsplit("\n", MAX_LINES_ABOVE + 1)[-MAX_LINES_ABOVE - 1 : -1]
    above = [text for text in reversed(above) if len(text) <= MAX_LINE_CHARS]
    span = Span(start=start - line.start, end=end - line.start)
    if _CELL_BORDER.search(row.strip()):
        return _of_marked_row(row, span, above)
    return _of_plain_row(row, span, above)


def _line_at(text: str, offset: int) -> Span:
    end = text.find("\n", offset)
    return Span(start=text.rfind("\n", 0, offset) + 1, end=end if end >= 0 else len(text))


def _of_marked_row(row: str, span: Span, above: list[str]) -> tuple[str, str] | None:
    """Cells with borders: the heading stands in the same column of the rows above."""
    cells = _marked_cells(row)
    at = _first_within(cells, span)
    if at is None:
        return None
    for line in above:
        heads = _marked_cells(line)
        if len(heads) < 2:
            break
        # A label's column often has no heading, and converters drop its empty cell.
        n_missing = len(cells) - len(heads)
        if n_missing in (0, 1) and _is_heading(heads[at - n_missing].text):
            return _pair(cells[0].text, heads[at - n_missing].text)
    return None


def _marked_cells(line: str) -> list[_Cell]:
    borders = [(m.start(), m.end()) for m in _CELL_BORDER.finditer(line)]
    starts = [0, *(end for _, end in borders)]
    ends = [*(start for start, _ in borders), len(line)]
    cells = [
        _Cell(start=s, end=e, text=line[s:e].strip()) for s, e in zip(starts, ends, strict=True)
    ]
    if borders and not cells[0].text:  # `| a | b |`, as in Markdown
        cells = cells[1:]
    if len(cells) > 1 and not cells[-1].text:
        cells = cells[:-1]
    return [cell for cell in cells if cell.text not in _BARE_SIGNS]


def _first_within(cells: list[_Cell], span: Span) -> int | None:
    """The first cell of figures, labels aside, that the span touches."""
    for at, cell in enumerate(cells):
        touched = cell.start < span.end and span.start < cell.end
        if at > 0 and touched and _FIGURE.search(cell.text):
            return at
    return None


def _is_heading(text: str) -> bool:
    """Words, or a period; no figure and no Markdown rule."""
    return bool(_PERIOD.search(text)) or (any(map(str.isalpha, text)) and not _FIGURE.search(text))


def _of_plain_row(row: str, span: Span, above: list[str]) -> tuple[str, str] | None:
    """A label and at least two figures. Columns are counted from the right, because the label's
    column has no heading: the nearest line above with as many periods heads them."""
    figures = _trailing_figures(row)
    label = row[: figures[0].start].strip(_LABEL_END) if figures else ""
    touched = [n for n, f in enumerate(figures) if f.start < span.end and span.start < f.end]
    if len(figures) < 2 or not touched or not _is_label(label):
        return None
    for line in above:
        periods = [match.group().strip() for match in _PERIOD.finditer(line)]
        if len(periods) == len(figures) and _only_heads(line):
            return _pair(label, periods[touched[0]])
    return None


def _is_label(text: str) -> bool:
    """Not the beginning of a sentence that happens to end in numbers."""
    found = words(text)
    return any(map(str.isalpha, text)) and bool(found) and found[-1] not in STOP_WORDS


def _only_heads(line: str) -> bool:
    """Whether a line with periods is no row of amounts and no prose."""
    rest = _BRACKETS.sub("", _PERIOD.sub("", line))
    n_letters = sum(map(str.isalpha, rest))
    return n_letters <= MAX_HEADING_LETTERS and not _trailing_figures(rest)


def _trailing_figures(row: str) -> list[_Cell]:
    """The figures at the row's end, with nothing but white space and signs between them."""
    found = [_Cell(start=m.start(), end=m.end(), text=m.group()) for m in _FIGURE.finditer(row)]
    kept: list[_Cell] = []
    border = len(row)
    for cell in reversed(found):
        if row[cell.end : border].strip(" \t$€£¥%)"):
            break
        kept.insert(0, cell)
        border = cell.start
    return kept


def _pair(row: str, column: str) -> tuple[str, str] | None:
    label = " ".join(row.strip(_LABEL_END).split())
    return (label, " ".join(column.split())) if label else None
