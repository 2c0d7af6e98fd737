"""Where an answer whose quote was not found most likely comes from.

Workers that misquote (a table retyped, a figure rounded) have often read the right place. The
window of the chunk that holds most of what the answer and its task speak of stands for the quote.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from minions.documents.model import Chunk, Document
from minions.evidence.lexicon import Lexicon, telling_terms, terms
from minions.evidence.model import Citation, Claim
from minions.evidence.verify import cite

ANCHOR_CHARS = 300
"""Width of the window: about three sentences or six rows of a table."""
ANSWER_WEIGHT = 2.0
"""A word or number of the answer tells more than one of the task, which was put to every chunk."""

_WORD = re.compile(r"[^\W_]+")


class Anchors:
    """Finds anchors in the chunks that were read. `tasks` gives the task of a job by its id;
    without it every job was asked the question itself."""

    def __init__(
        self,
        question: str,
        chunks: Mapping[str, Chunk],
        documents: Mapping[str, Document],
        lexicon: Lexicon,
        tasks: Mapping[str, str] | None = None,
    ) -> None:
        self._question = question
        self._chunks = chunks
        self._documents = documents
        self._lexicon = lexicon
        self._tasks = tasks or {}
        self._found: dict[Claim, Citation | None] = {}

    def find(self, claim: Claim) -> Citation | None:
        """The anchor of a claim; None when its chunk holds nothing that it speaks of."""
        if claim not in self._found:
            self._found[claim] = self._find(claim)
        return self._found[claim]

    def _find(self, claim: Claim) -> Citation | None:
        chunk = self._chunks[claim.chunk_id]
        document = self._documents[chunk.document_id]
        task = self._tasks.get(claim.job_id, self._question)
        weights = {term: self._lexicon.weight(term) for term in telling_terms(task)}
        for term in telling_terms(claim.answer):
            weights[term] = ANSWER_WEIGHT * self._lexicon.weight(term)
        found = best_window(chunk.text, weights)
        return found and cite(document, chunk.start + found[0], chunk.start + found[1])


def best_window(
    text: str, weights: Mapping[str, float], width: int = ANCHOR_CHARS
) -> tuple[int, int] | None:
    """The span, from word to word and at most `width` long, whose distinct terms weigh most; the
    first of equals. None when no term stands in the text. Linear in the text for a fixed width."""
    hits = [
        (match.start(), match.end(), term)
        for match in _WORD.finditer(text)
        for term in terms(match.group())
        if term in weights and match.end() - match.start() <= width
    ]
    best, weighs = None, 0.0
    for first, (start, _, _) in enumerate(hits):
        inside = [hit for hit in hits[first : first + width] if hit[1] <= start + width]
        total = math.fsum(weights[term] for term in {term for _, _, term in inside})
        if total > weighs:
            best, weighs = (start, inside[-1][1]), total
    return best
