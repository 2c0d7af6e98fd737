"""Whether a verified quote stands where the gold evidence stands. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.items import GoldEvidence
from eval.score import shares_words
from minions.documents import Document


def citation_correct(
    citations: Sequence[Mapping[str, Any]],
    evidence: Sequence[GoldEvidence],
    documents: Mapping[str, Document],
) -> bool | None:
    """Whether any of a reply's `citations` (as its JSON shows them) overlaps any gold evidence.

    `documents` are the item's by the names that its evidence uses. None without gold evidence: then
    there is nothing to compare with. No citation at all is not correct."""
    if not evidence:
        return None
    return any(_overlaps(quote, gold, documents) for quote in citations for gold in evidence)


def _overlaps(
    citation: Mapping[str, Any], gold: GoldEvidence, documents: Mapping[str, Document]
) -> bool:
    """By position where the gold's is known in the very text that was read, else by words in a row;
    by page where the gold is no more than a page."""
    document = _document_of(gold, documents)
    if document is not None and citation["document_id"] != document.document_id:
        return False
    if not gold.text:
        return gold.page is not None and citation["page"] == gold.page
    span = None if document is None else _span_in(document.text, gold)
    if span is None:
        return shares_words(citation["quote"], gold.text)
    return bool(citation["start"] < span[1] and span[0] < citation["end"])


def _span_in(text: str, gold: GoldEvidence) -> tuple[int, int] | None:
    """The gold's own span, where `text` has its words there; else None."""
    if gold.start is None or gold.end is None:
        return None
    stands_there = text[gold.start : gold.end].strip() == gold.text.strip()
    return (gold.start, gold.end) if stands_there else None


def _document_of(gold: GoldEvidence, documents: Mapping[str, Document]) -> Document | None:
    """The document that the gold stands in; None when it names none and there are several."""
    if gold.document is not None:
        return documents.get(gold.document)
    return next(iter(documents.values())) if len(documents) == 1 else None
