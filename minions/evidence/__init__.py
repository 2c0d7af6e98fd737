"""Quotes verified, answers merged: what the workers' results are worth."""

from minions.evidence.answers import answer_in_quote
from minions.evidence.merge import gather_evidence
from minions.evidence.sentences import sentence_around, widen
from minions.evidence.verify import (
    Span,
    find_all_quotes,
    find_quote,
    is_verifiable,
    make_citation,
)

__all__ = [
    "Span",
    "answer_in_quote",
    "find_all_quotes",
    "find_quote",
    "gather_evidence",
    "is_verifiable",
    "make_citation",
    "sentence_around",
    "widen",
]
