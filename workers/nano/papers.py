"""COVID-QA (deepset, Apache-2.0) and TAT-QA (NExT++, CC BY 4.0): papers, and tables with text."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from workers.nano.contracts import read_rows
from workers.nano.documents import (
    Document,
    DocumentQuestion,
    Located,
    Span,
    TextEncoder,
    fitting_quote,
    make_document,
)
from workers.nano.examples import trim
from workers.nano.splits import is_validation


def _located(text: str, span: Span) -> Located:
    value = trim(text, span)
    return Located(value=value, quote=fitting_quote(text, value))


def load_papers(folder: Path, tokenizer: TextEncoder, *, validation: bool) -> list[Document]:
    """COVID-QA's papers of one side of the split."""
    rows = defaultdict(list)
    for row in read_rows(folder / "questions.jsonl"):
        if row["evidence"]:
            rows[row["doc_id"]].append(row)
    documents = []
    for paper in read_rows(folder / "documents.jsonl.gz"):
        if is_validation(paper["doc_id"]) != validation:
            continue
        questions = [
            DocumentQuestion(
                key=row["item_id"],
                wordings=(row["question"],),
                places=tuple(
                    _located(paper["text"], (e["start"], e["end"])) for e in row["evidence"]
                ),
            )
            for row in rows[paper["doc_id"]]
        ]
        documents.append(make_document(paper["doc_id"], paper["text"], questions, tokenizer))
    return documents


def _table_text(context: dict[str, Any]) -> str:
    """The table as lines of cells, then the paragraphs."""
    lines = [" | ".join(str(cell) for cell in row) for row in context["table"]["table"]]
    paragraphs = sorted(context["paragraphs"], key=lambda p: int(p["order"]))
    return "\n".join(lines) + "\n\n" + "\n\n".join(p["text"] for p in paragraphs)


def _table_question(row: dict[str, Any], text: str) -> DocumentQuestion | None:
    """Questions whose one answer stands in the text word for word, in one place only."""
    answer = row["answer"]
    if isinstance(answer, list):
        answer = answer[0] if len(answer) == 1 else None
    if row["answer_type"] != "span" or answer is None or text.count(str(answer)) != 1:
        return None
    start = text.find(str(answer))
    place = _located(text, (start, start + len(str(answer))))
    return DocumentQuestion(key=row["uid"], wordings=(row["question"],), places=(place,))


def load_tables(folder: Path, tokenizer: TextEncoder, *, validation: bool) -> list[Document]:
    """TAT-QA's contexts of one side of the split, with the questions that a span answers."""
    documents = []
    for context in read_rows(folder / "contexts_with_questions.jsonl.gz"):
        uid = context["table"]["uid"]
        if is_validation(uid) != validation:
            continue
        text = _table_text(context)
        found = [_table_question(row, text) for row in context["questions"]]
        questions = [q for q in found if q is not None]
        documents.append(make_document(uid, text, questions, tokenizer))
    return documents
