"""CUAD v1 (The Atticus Project, CC BY 4.0): contracts with located clauses."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workers.nano.clause_questions import WORDINGS
from workers.nano.documents import (
    Document,
    DocumentQuestion,
    Located,
    Span,
    TextEncoder,
    collapse_whitespace,
    fitting_quote,
    make_document,
)
from workers.nano.examples import trim
from workers.nano.splits import validation_contracts

MAX_GAP_IN_CLAUSE = 5
MAX_GAP_BETWEEN_PARTIES = 250


def read_rows(path: Path) -> list[dict[str, Any]]:
    """JSON lines, gzipped or not."""
    raw = path.read_bytes()
    text = gzip.decompress(raw) if path.suffix == ".gz" else raw
    return [json.loads(line) for line in text.decode().split("\n") if line]


def merge_near(spans: Sequence[Span], max_gap: int) -> list[Span]:
    """Sorted spans, joined where less than `max_gap` characters lie between."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start - out[-1][1] <= max_gap:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def _value_spans(row: dict[str, Any], text: str) -> list[Span]:
    """Where the answer stands: the clause; for governing law the state; parties in one piece."""
    evidence = [(e["start"], e["end"]) for e in row["evidence"]]
    gap = MAX_GAP_BETWEEN_PARTIES if row["category"] == "Parties" else MAX_GAP_IN_CLAUSE
    spans = [trim(text, span) for span in merge_near(evidence, gap)]
    if row["category"] != "Governing Law" or not row["answer"]:
        return [s for s in spans if s[0] < s[1]]
    return [_within(text, span, row["answer"]) for span in spans]


def _within(text: str, span: Span, wanted: str) -> Span:
    """`wanted` inside `span`, or the span itself when it isn't there."""
    found = text[slice(*span)].lower().find(wanted.lower())
    return span if found < 0 else (span[0] + found, span[0] + found + len(wanted))


def _question(row: dict[str, Any], text: str, collapsed: bool) -> tuple[str, DocumentQuestion]:
    """The (possibly collapsed) text and the question with its places in it."""
    spans = _value_spans(row, text)
    if collapsed:
        text, spans = collapse_whitespace(text, spans)
    places = tuple(Located(value=s, quote=fitting_quote(text, s)) for s in spans)
    wordings = (row["question"], *WORDINGS[row["category"]])
    return text, DocumentQuestion(key=row["category"], wordings=wordings, places=places)


def load_contracts(
    folder: Path, tokenizer: TextEncoder, *, validation: bool, collapsed: bool
) -> list[Document]:
    """Contracts of one side of the split; `collapsed` replaces runs of whitespace by a space."""
    contracts = read_rows(folder / "contracts.jsonl.gz")
    held_out = set(validation_contracts(c["doc_id"] for c in contracts))
    rows = defaultdict(list)
    for row in read_rows(folder / "questions.jsonl.gz"):
        rows[row["doc_id"]].append(row)
    documents = []
    for contract in contracts:
        if (contract["doc_id"] in held_out) != validation:
            continue
        text = contract["text"]
        asked = [_question(row, text, collapsed)[1] for row in rows[contract["doc_id"]]]
        shown = collapse_whitespace(text, [])[0] if collapsed else text
        documents.append(make_document(contract["doc_id"], shown, asked, tokenizer))
    return documents
