"""What is asked of one row of logits: its best tokens, how far one is ahead, how likely it is.

With 200,000 tokens a row is 0.8 MB, and reading it is most of what each answer costs outside
llama.cpp. So all that is asked of a row is answered from one pass where that can be.
"""

from __future__ import annotations

import functools
import math
import threading
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.llama.api import Logits
from workers.llama.schedule import Tokens

_GROUPS: Final = 400
"""So many groups of neighbouring tokens are told apart, or fewer."""
_FEWEST_EACH: Final = 64
"""Smaller groups would take longer to find the best of."""
_NEAR: Final = 12.0
"""Groups whose best is further below the best of all are not summed; see `log_probability`."""
_TOLERANCE: Final = 0.01
"""Largest error of a log-probability."""


class Row:
    """The logits of the whole vocabulary for one next token.

    One pass finds the best of each group of neighbouring tokens: what is best, what is second, and
    what can be left out of a sum or a comparison then follows from 400 numbers and a few groups."""

    def __init__(self, logits: Logits) -> None:
        """`logits`: shape (vocabulary,), at least one."""
        self.logits = logits
        self._n_each = max(_FEWEST_EACH, -(-len(logits) // _GROUPS))
        self._bests: Logits = np.maximum.reduceat(logits, _starts(len(logits), self._n_each))

    def best(self) -> int:
        """The likeliest token, of equals the first."""
        group = int(self._bests.argmax())
        return group * self._n_each + int(self._members(group).argmax())

    def likeliest(self, n: int) -> Tokens:
        """The `n` likeliest tokens in the vocabulary's order."""
        if n >= len(self.logits):
            return self.all()
        likely = self._likely(n)
        if len(likely) == n:
            return likely
        return likely[np.sort(np.argpartition(self.logits[likely], -n)[-n:])]

    def all(self) -> Tokens:
        """The whole vocabulary."""
        return np.arange(len(self.logits), dtype=np.int32)

    def lead(self, token: int) -> float:
        """By how much `token` is ahead of all others, in logits; 0 when it is not."""
        group, place = divmod(token, self._n_each)
        beside, others = self._members(group).copy(), self._bests.copy()
        beside[place] = others[group] = -math.inf
        return max(0.0, float(self.logits[token]) - float(max(beside.max(), others.max())))

    def log_probability(self, token: int) -> float:
        """Natural logarithm of the model's own probability of `token`, before any grammar; at most
        0.01 off.

        The sum of all exponentials takes longer than all else that is done with 200,000 logits.
        Where the model has a favourite, nearly all of them count for nothing: then only those near
        the best are summed, beside a bound for the rest."""
        best, total = self._best_and_sum
        return float(self.logits[token]) - best - math.log(total)

    def _members(self, group: int) -> Logits:
        """The logits of a group, the last of which may be smaller."""
        return self.logits[group * self._n_each : (group + 1) * self._n_each]

    @functools.cached_property
    def _table(self) -> Logits:
        """All groups of full size, one in each row."""
        n_full = len(self.logits) // self._n_each
        return self.logits[: n_full * self._n_each].reshape(n_full, self._n_each)

    @property
    def _rest(self) -> Logits:
        """The last, smaller group; empty when there is none."""
        return self.logits[self._table.size :]

    def _likely(self, n: int) -> Tokens:
        """A few tokens that the `n` likeliest are among, in order.

        None of those is worse than the n-th best of the groups' bests."""
        if n < len(self._bests):
            bound = np.partition(self._bests, -n)[-n]
            groups = np.flatnonzero(self._bests[: len(self._table)] >= bound)
            rows, places = np.divmod(np.flatnonzero(self._table[groups] >= bound), self._n_each)
            last = self._table.size + np.flatnonzero(self._rest >= bound)
            likely = np.concatenate((groups[rows] * self._n_each + places, last))
            if len(likely) >= n:  # fewer where some logits are not numbers
                return likely.astype(np.int32)
        return self.all()

    @functools.cached_property
    def _best_and_sum(self) -> tuple[float, float]:
        """The best logit, and the sum of all exponentials relative to its own."""
        best = float(self._bests.max())
        return best, self._sum_near(best) or _sum(self.logits, best)

    def _sum_near(self, best: float) -> float | None:
        """The sum over the groups near the best; None where too many count."""
        bests = self._bests[: len(self._table)]
        is_near = bests > best - _NEAR
        if np.count_nonzero(is_near) > len(bests) // 4:
            return None
        near = np.concatenate((self._table[is_near].ravel(), self._rest))
        total = float(np.exp(near - best).sum())
        bound = self._n_each * float(np.exp(bests[~is_near] - best).sum())
        return total + bound / 2 if bound <= 2 * _TOLERANCE * total else None


@functools.lru_cache(maxsize=64)
def _starts(n_tokens: int, n_each: int) -> npt.NDArray[np.intp]:
    """Where the groups begin."""
    return np.arange(0, n_tokens, n_each)


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
