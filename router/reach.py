"""Reach: the chance that the answer's place is in what was read so far, best chunks first. Pure.

When reading may stop early, P(correct) of the draft is what it would be on the whole document,
times this: a better answer may stand in what was not read.
"""

from __future__ import annotations

from bisect import bisect_right

from router.signals import QuestionType

_KNOTS = (
    (0, 0.0),
    (1, 0.52),
    (2, 0.59),
    (4, 0.68),
    (8, 0.77),
    (12, 0.82),
    (16, 0.87),
    (24, 0.93),
    (32, 0.96),
    (48, 0.98),
)
"""(chunks read, share of questions with gold evidence among them), on CUAD's contracts of more than
40 chunks of 448 tokens: the hardest of four public sets at every depth. `minions eval retrieval
--chunk-tokens 448` prints the shares as `long_any_at_k` (.81 at 8, .90 at 16, .98 at 32; n 392);
here they are lowered by about two standard errors. FinanceBench has .98 at 16."""
_MOST = 0.98
"""However many were read: only the whole document is certain."""

STOPPABLE = frozenset(
    {QuestionType.NUMBER, QuestionType.DATE, QuestionType.CLAUSE, QuestionType.OTHER}
)
"""Questions whose answer stands in one place. Lists and summaries need every page; a `no` rests on
having seen nothing anywhere."""


def reach(n_best_read: int, n_chunks: int) -> float:
    """P(a place with the answer is among the `n_best_read` likeliest of `n_chunks` chunks), 0..1.

    A conservative prior, see `_KNOTS`; linear between them, and 1 only when everything was read."""
    if n_best_read >= n_chunks:
        return 1.0
    depths = [depth for depth, _ in _KNOTS]
    after = bisect_right(depths, n_best_read)
    if after == len(_KNOTS):
        return _MOST
    (low, p_low), (high, p_high) = _KNOTS[after - 1], _KNOTS[after]
    return p_low + (p_high - p_low) * (n_best_read - low) / (high - low)
