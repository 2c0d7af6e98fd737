"""Your own questions: a CSV or JSONL file of question, answer and file.

Licence and source are yours. A CSV needs a header; `|` separates several right answers, `;` several
files. In JSONL they are lists. A question without an answer is one that the file does not answer.
Files are looked up beside the table.

    question,answer,file
    Which law governs the agreement?,New York|the laws of the State of New York,contract.pdf
    What is the penalty for late delivery?,,contract.pdf

    {"question": "Which quarters had a loss?", "answer": ["Q1", "Q3"], "file": "report.pdf",
     "type": "list", "evidence": ["Net loss"], "page": 12, "id": "losses", "kind": "finance"}
    {"question": "Who signs?", "answer": "the mayor", "file": ["a.txt", "b.txt"],
     "type": "choice", "choices": ["the mayor", "the council"]}

Optional columns: `id`, `kind`, `type` (span, number, list, choice, yes_no, free, summary),
`evidence` (quotes), `page` (of the evidence, from 1) and `choices`. Without `type` a lone figure is
a number, an answer that begins with yes or no is one of those, and anything else is a span.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.datasets.files import json_lines
from eval.grader import Kind, kind_of
from eval.items import AnswerType, DatasetCard, GoldEvidence, Item, ItemDocument
from minions.errors import BadRequest, NotFound

CARD = DatasetCard(
    name="own",
    source="the user's own table",
    licence="the user's own",
    metric="by the type of each answer",
)
ANSWER_SEPARATOR, FILE_SEPARATOR = "|", ";"
REQUIRED = ("question", "answer", "file")
OPTIONAL = ("id", "kind", "type", "evidence", "page", "choices")
_TYPE_OF = {
    Kind.NUMBER: AnswerType.NUMBER,
    Kind.YES_NO: AnswerType.YES_NO,
    Kind.TEXT: AnswerType.SPAN,
}


def load(path: Path) -> list[Item]:
    """Every row of the table. Raises NotFound for a missing table or file, and BadRequest naming
    the row that is wrong."""
    if not path.is_file():
        raise NotFound(f"There is no table {path}. Give a .csv or .jsonl file of questions.")
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else json_lines(path)
    items = [_item(row, path.parent, f"{path}, row {n}") for n, row in enumerate(rows, start=1)]
    if not items:
        raise BadRequest(f"{path} has no rows. It needs the columns {', '.join(REQUIRED)}.")
    return items


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: cell for name, cell in row.items() if cell is not None}


def _item(row: dict[str, Any], folder: Path, where: str) -> Item:
    _check_columns(row, where)
    question = str(row["question"]).strip()
    golds = _several(row["answer"], ANSWER_SEPARATOR)
    return Item(
        item_id=str(row.get("id") or "") or _id_of(row),
        documents=tuple(_document(folder / name, where) for name in _files(row, where)),
        question=question,
        gold_answers=golds,
        kind=str(row.get("kind") or "own"),
        answer_type=_answer_type(row, golds, where),
        evidence=_evidence(row, where),
        choices=_choices(row, golds, where),
    )


def _check_columns(row: dict[str, Any], where: str) -> None:
    missing = [name for name in REQUIRED if name not in row]
    unknown = sorted(str(name) for name in row if name not in REQUIRED + OPTIONAL)
    if missing or unknown:
        raise BadRequest(
            f"{where}: missing columns: {', '.join(missing) or 'none'}; unknown columns: "
            f"{', '.join(unknown) or 'none'}. Known: {', '.join(REQUIRED + OPTIONAL)}."
        )
    if not str(row["question"]).strip():
        raise BadRequest(f"{where}: the question is empty.")


def _several(value: Any, separator: str) -> tuple[str, ...]:
    """One or more texts of a cell or a JSON value, without empty ones."""
    parts = value if isinstance(value, list) else str("" if value is None else value)
    texts = parts if isinstance(parts, list) else parts.split(separator)
    return tuple(text for text in (str(each).strip() for each in texts) if text)


def _files(row: dict[str, Any], where: str) -> tuple[str, ...]:
    names = _several(row["file"], FILE_SEPARATOR)
    if not names:
        raise BadRequest(f"{where}: no file is named.")
    return names


def _document(path: Path, where: str) -> ItemDocument:
    if not path.is_file():
        raise NotFound(f"{where}: there is no file {path}.")
    return ItemDocument(name=path.name, path=path)


def _answer_type(row: dict[str, Any], golds: tuple[str, ...], where: str) -> AnswerType:
    given = str(row.get("type") or "").strip()
    if not given:
        kinds = {kind_of(gold) for gold in golds}
        return _TYPE_OF[kinds.pop()] if len(kinds) == 1 else AnswerType.SPAN
    try:
        return AnswerType(given)
    except ValueError:
        raise BadRequest(
            f"{where}: the type {given!r} is none of {', '.join(AnswerType)}."
        ) from None


def _evidence(row: dict[str, Any], where: str) -> tuple[GoldEvidence, ...]:
    page = _page(row.get("page"), where)
    quotes = _several(row.get("evidence"), ANSWER_SEPARATOR)
    if not quotes and page is not None:
        return (GoldEvidence(text="", page=page),)
    return tuple(GoldEvidence(text=quote, page=page) for quote in quotes)


def _page(value: Any, where: str) -> int | None:
    if value in (None, ""):
        return None
    try:
        page = int(value)
    except (TypeError, ValueError):
        page = 0
    if page < 1:
        raise BadRequest(f"{where}: the page is a whole number from 1, not {value!r}.")
    return page


def _choices(row: dict[str, Any], golds: tuple[str, ...], where: str) -> tuple[str, ...]:
    choices = _several(row.get("choices"), ANSWER_SEPARATOR)
    chosen = str(row.get("type") or "") == AnswerType.CHOICE
    if chosen and not choices:
        raise BadRequest(f"{where}: a question of type choice needs the column `choices`.")
    if choices and not set(golds) <= set(choices):
        raise BadRequest(f"{where}: the answer is none of the choices.")
    return choices


def _id_of(row: dict[str, Any]) -> str:
    """Stable while the row's question and files are: rows may be added, moved and corrected."""
    whole = repr((row["question"], row["file"])).encode()
    return f"own-{hashlib.sha256(whole).hexdigest()[:12]}"
