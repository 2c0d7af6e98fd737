"""What is asked of one row of logits: its best tokens, how far one is ahead, how likely it is.

With 200,000 tokens a row is 0.8 MB, and reading it is most of what each answer costs outside
llama.cpp. So all that is asked of a row is answered from one pass where that can be.
"""

from __future__ import annotations

import math
import threading
from functools import cached_property
from typing import Final

import numpy as np

from workers.llama.api import Logits
from workers.llama.schedule import Tokens

_GROUPS: Final = 64
"""Rows of the table that a row of logits is laid out as."""
_NEAR: Final = 12.0
"""Columns whose best is further below the best of all are not summed; see `log_probability`."""
_TOLERANCE: Final = 0.01
"""Largest error of a log-probability."""


class Row:
    """The logits of the whole vocabulary for one next token.

    Where much is asked, the row is laid out as a table, and the best of each column is found in one
    pass: what is best, what is second, and what can be left out of a sum then follows from 3,000
    numbers instead of 200,000."""

    def __init__(self, logits: Logits, *, is_weighed: bool = False) -> None:
        """`logits`: shape (vocabulary,). `is_weighed`: more than the best token will be asked for,
        so that even that one is better found with the rest."""
        self.logits = logits
        self._is_weighed = is_weighed
        self._n_each = len(logits) // _GROUPS
        self._is_long = self._n_each >= _GROUPS

    def best(self) -> int:
        """The likeliest token, of equals the first."""
        if not (self._is_weighed and self._is_long):
            return int(self.logits.argmax())
        best = self._bests.max()
        first = [
            column + self._n_each * int(self._table[:, column].argmax())
            for column in np.flatnonzero(self._bests == best).tolist()
        ]
        first += (np.flatnonzero(self._rest == best)[:1] + self._table.size).tolist()
        return min(first, default=0)

    def likeliest(self, n: int) -> Tokens:
        """The `n` likeliest tokens in the vocabulary's order."""
        if n >= len(self.logits):
            return self.all()
        likely = self._likely(n)
        return likely[np.sort(np.argpartition(self.logits[likely], -n)[-n:])]

    def all(self) -> Tokens:
        """The whole vocabulary."""
        return np.arange(len(self.logits), dtype=np.int32)

    def lead(self, token: int) -> float:
        """By how much `token` is ahead of all others, in logits; 0 when it is not."""
        return max(0.0, float(self.logits[token]) - self._best_beside(token))

    def log_probability(self, token: int) -> float:
        """Natural logarithm of the model's own probability of `token`, before any grammar; at most
        0.01 off.

        The sum of all exponentials takes longer than all else that is done with 200,000 logits.
        Where the model has a favourite, nearly all of them count for nothing: then only those near
        the best are summed, beside a bound for the rest."""
        best, total = self._best_and_sum
        return float(self.logits[token]) - best - math.log(total)

    @cached_property
    def _table(self) -> Logits:
        """All but the last few logits, in `_GROUPS` rows."""
        return self.logits[: self._n_each * _GROUPS].reshape(_GROUPS, self._n_each)

    @cached_property
    def _rest(self) -> Logits:
        return self.logits[self._n_each * _GROUPS :]

    @cached_property
    def _bests(self) -> Logits:
        """The best of each column of the table: the one pass."""
        bests: Logits = self._table.max(0)
        return bests

    def _likely(self, n: int) -> Tokens:
        """A few tokens that the `n` likeliest are among, in order.

        None of those is worse than the n-th best of the columns' bests: comparing with that is
        twenty times faster than parting 200,000 logits."""
        if self._is_long and n < self._n_each:
            bound = np.partition(self._bests, -n)[-n]
            likely = np.flatnonzero(self.logits >= bound)
            if len(likely) >= n:  # fewer where some logits are not numbers
                return likely.astype(np.int32)
        return self.all()

    def _best_beside(self, token: int) -> float:
        """The best logit but that of `token`."""
        if not self._is_long or token >= self._table.size:
            before, after = self.logits[:token], self.logits[token + 1 :]
            return float(max(before.max(initial=-math.inf), after.max(initial=-math.inf)))
        group, column = divmod(token, self._n_each)
        beside, others = self._table[:, column].copy(), self._bests.copy()
        beside[group] = -math.inf
        others[column] = beside.max()
        return float(max(others.max(), self._rest.max(initial=-math.inf)))

    @cached_property
    def _best_and_sum(self) -> tuple[float, float]:
        """The best logit, and the sum of all exponentials relative to its own."""
        if not self._is_long:
            best = float(self.logits.max())
            return best, _sum(self.logits, best)
        best = float(max(self._bests.max(), self._rest.max(initial=-math.inf)))
        return best, self._sum_near(best) or _sum(self.logits, best)

    def _sum_near(self, best: float) -> float | None:
        """The sum over the columns near the best; None where too many count."""
        is_near = self._bests > best - _NEAR
        if np.count_nonzero(is_near) > self._n_each // 4:
            return None
        total = float(
            np.exp(self._table[:, is_near] - best).sum() + np.exp(self._rest - best).sum()
        )
        bound = _GROUPS * float(np.exp(self._bests[~is_near] - best).sum())
        return total + bound / 2 if bound <= 2 * _TOLERANCE * total else None


class _Scratch(threading.local):
    """Memory for one row, for each thread its own: engines side by side share this module."""

    row: Logits = np.empty(0, np.float32)


_SCRATCH: Final = _Scratch()


def _sum(logits: Logits, best: float) -> float:
    """Of all exponentials. Taking 0.8 MB anew for each token would cost more than filling it."""
    if len(_SCRATCH.row) != len(logits):
        _SCRATCH.row = np.empty(len(logits), np.float32)
    weights = np.subtract(logits, best, out=_SCRATCH.row)
    return float(np.exp(weights, out=weights).sum())
