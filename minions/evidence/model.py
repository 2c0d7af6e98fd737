"""Citations, claims and the draft answer that evidence makes of job results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Citation:
    """A quote found in its document. Only verified ones exist: an unverified quote is no citation.

    Law: `document.text[start:end] == quote`.
    """

    document_id: str
    document_name: str
    page: int
    start: int
    end: int
    quote: str
    """The document's own words, not the model's rendering of them."""
    headings: tuple[str, str] | None = None
    """Row and column heading, where the quote is a number in a table whose headings are clear."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One worker's answer with what became of its quote."""

    job_id: str
    chunk_id: str
    answer: str
    citation: Citation | None
    """None when the quote was missing or was not found in the chunk."""
    answer_in_quote: bool
    """Whether the answer's own words or number stand in the verified quote."""
    margin: float | None
    logprob: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerGroup:
    """Claims that give the same answer in different words."""

    answer: str
    """The best-supported wording."""
    claims: tuple[Claim, ...]
    """Best first."""
    score: float
    """Rank among groups; higher is better. A heuristic, not a probability."""

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Verified citations of the group, best first, no span twice."""
        seen: dict[tuple[str, int, int], Citation] = {}
        for claim in self.claims:
            if claim.citation is not None:
                c = claim.citation
                seen.setdefault((c.document_id, c.start, c.end), c)
        return tuple(seen.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """All that the workers found, merged and ranked."""

    groups: tuple[AnswerGroup, ...]
    """Best first; empty when every job abstained or failed."""
    n_answered: int
    n_abstained: int
    n_failed: int
    n_unverified: int
    """Answers whose quote was not found in their chunk."""

    @property
    def draft(self) -> AnswerGroup | None:
        """The local answer, if there is one."""
        return self.groups[0] if self.groups else None
