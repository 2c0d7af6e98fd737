"""The answer while it is still being read: told as it changes, and whether it is enough to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from minions.computation import computation_of
from minions.events import DraftChanged, Observer
from minions.evidence import gather_evidence
from minions.evidence.model import Evidence
from minions.reading import Reading
from router import STOPPABLE, question_type, reach
from workers import JobResult, JobStatus

Judge = Callable[[Evidence, Reading], float]
"""P(correct) of the evidence's draft by what was read so far."""


def why_read_everything(question: str, n_documents: int) -> str | None:
    """Why reading can't stop early for this question; None when it can."""
    if computation_of(question) is not None:
        return "it asks for a computation over several values"
    if (kind := question_type(question)) not in STOPPABLE:
        return f"its answer may stand in many places (it is of the kind {kind})"
    if n_documents > 1:
        return "it is asked of several documents, each of which may answer it"
    return None


@dataclass(kw_only=True)
class EarlyAnswer:
    """A watch over one reading (see `minions.reading.Watch`)."""

    base: Reading
    """The reading without results."""
    best_first: Sequence[str]
    """All chunk ids, the likeliest first: the order in which they are read."""
    judge: Judge
    observe: Observer
    enough: float | None
    """P(correct) from which reading stops; None to read everything."""
    stopped: bool = field(default=False, init=False)
    _shown: tuple[str, float] | None = field(default=None, init=False)

    async def __call__(self, results: Sequence[JobResult]) -> bool:
        reading = self.reading_of(results)
        evidence = await asyncio.to_thread(
            gather_evidence, results, reading.chunks, reading.documents
        )
        draft = evidence.draft
        if draft is None:
            return False
        p_correct = self.judge(evidence, reading)
        if self._shown != (draft.answer, round(p_correct, 2)):
            self._shown = (draft.answer, round(p_correct, 2))
            self.observe(
                DraftChanged(
                    answer=draft.answer,
                    citations=draft.citations,
                    p_correct=p_correct,
                    coverage=reading.coverage,
                )
            )
        self.stopped = self._is_enough(evidence, p_correct)
        return self.stopped

    def reading_of(self, results: Sequence[JobResult]) -> Reading:
        """What was read by these results, with its reach."""
        n_chunks = len(self.best_first)
        done = {r.chunk_id for r in results if r.status is not JobStatus.FAILED}
        unread = (n for n, chunk_id in enumerate(self.best_first) if chunk_id not in done)
        n_best_read = next(unread, n_chunks)
        return replace(
            self.base,
            results=tuple(results),
            n_skipped=n_chunks - len(results),
            reach=reach(n_best_read, n_chunks),
        )

    def _is_enough(self, evidence: Evidence, p_correct: float) -> bool:
        """Certain by its chance and by a quote that stands in the text, where no other answer has
        one."""
        if self.enough is None or evidence.draft is None or not evidence.draft.citations:
            return False
        is_alone = not any(rival.citations for rival in evidence.groups[1:])
        return is_alone and p_correct >= self.enough
