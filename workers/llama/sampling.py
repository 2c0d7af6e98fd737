"""Choosing one token from one row of logits, under a grammar."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from workers.errors import JobRejected
from workers.jobs import Sampling
from workers.llama.api import Logits
from workers.llama.schedule import Tokens

_WALK: Final = 64
"""Best tokens that are tried when the first choice is refused, before the whole vocabulary is."""
_GROUPS: Final = 64
"""Rows of the table whose columns' bests bound all that is in them; see `best_tokens`."""
_NEAR: Final = 12.0
"""Columns whose best is further below the best of all are not summed; see `log_probability`."""
_TOLERANCE: Final = 0.01
"""Largest error of a log-probability."""


class Constraint(Protocol):
    """What may come next."""

    def allows(self, token: int) -> bool: ...

    def keep_allowed(self, tokens: Tokens) -> Tokens: ...


class Mask:
    """Free text: every token may come next but those that are barred."""

    def __init__(self, is_allowed: npt.NDArray[np.bool_]) -> None:
        """`is_allowed` has an entry for each token of the vocabulary."""
        self._is_allowed = is_allowed

    @property
    def barred(self) -> npt.NDArray[np.bool_]:
        """For each token of the vocabulary whether it may not come."""
        return ~self._is_allowed

    def allows(self, token: int) -> bool:
        return bool(self._is_allowed[token])

    def keep_allowed(self, tokens: Tokens) -> Tokens:
        return tokens[self._is_allowed[tokens]]


def text_mask(n_vocab: int, barred: Iterable[int], also: Iterable[int]) -> Mask:
    """All tokens but `barred`, of which those in `also` are allowed all the same."""
    is_allowed = np.ones(n_vocab, np.bool_)
    is_allowed[list(barred)] = False
    is_allowed[list(also)] = True
    return Mask(is_allowed)


def check_sampling(sampling: Sampling) -> None:
    """Raise JobRejected when a job asks for what can't be sampled."""
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise JobRejected(f"temperature is {sampling.temperature}, must be 0 or above")
    if sampling.top_k < 1:
        raise JobRejected(f"top_k is {sampling.top_k}, must be at least 1")
    if sampling.max_output_tokens < 1:
        raise JobRejected(f"max_output_tokens is {sampling.max_output_tokens}, must be at least 1")
    if sampling.seed < 0:
        raise JobRejected(f"seed is {sampling.seed}, must be 0 or above")


class Sampler:
    """One job's way to draw: greedy, or from its own seeded generator."""

    def __init__(self, sampling: Sampling) -> None:
        self._temperature = sampling.temperature
        self._top_k = sampling.top_k
        self._generator = np.random.default_rng(sampling.seed) if sampling.temperature else None

    def choose(self, row: Logits, constraint: Constraint) -> int:
        """A token that `constraint` allows; `row` has the logits of the whole vocabulary.

        The first choice is made freely and only then checked, since a check of one token is
        thousands of times cheaper than of all. When it is refused, the choice is made again among
        the allowed of the best 64, then of all; so the tokens follow the constrained distribution.
        Raises JobRejected when nothing at all is allowed."""
        first = self._first(row)
        if constraint.allows(first):
            return first
        for candidates in (best_tokens(row, max(_WALK, self._top_k)), _all(row)):
            allowed = constraint.keep_allowed(candidates)
            if len(allowed):
                return self._draw(row, allowed)
        raise JobRejected("the model's vocabulary has no token that may come next here")

    def _first(self, row: Logits) -> int:
        """The choice as if nothing were forbidden."""
        if self._generator is None:
            return int(row.argmax())
        return self._draw(row, best_tokens(row, self._top_k))

    def _draw(self, row: Logits, candidates: Tokens) -> int:
        """One of `candidates`: the best, or one drawn from the tempered top k of them."""
        logits = row[candidates].astype(np.float64)
        if self._generator is None:
            return int(candidates[logits.argmax()])
        if len(candidates) > self._top_k:
            kept = np.argpartition(logits, -self._top_k)[-self._top_k :]
            candidates, logits = candidates[kept], logits[kept]
        heights = np.exp((logits - logits.max()) / self._temperature).cumsum()
        drawn = heights.searchsorted(self._generator.random() * heights[-1], side="right")
        return int(candidates[min(drawn, len(candidates) - 1)])


def lead(row: Logits, token: int) -> float:
    """By how much `token` is ahead of all others, in logits; 0 when it is not."""
    best_rival = max(
        float(row[:token].max(initial=-math.inf)), float(row[token + 1 :].max(initial=-math.inf))
    )
    return max(0.0, float(row[token]) - best_rival)


def log_probability(row: Logits, token: int) -> float:
    """Natural logarithm of the model's own probability of `token`, before any grammar; at most 0.01
    off.

    The sum of all exponentials takes longer than all else that is done with 200,000 logits. Where
    the model has a favourite, nearly all of them count for nothing: then only those near the best
    are summed, beside a bound for the rest."""
    if len(row) >= _GROUPS * _GROUPS:
        best, total = _sum_near_the_best(row)
    else:
        best, total = float(row.max()), 0.0
    if not total:
        weights = np.subtract(row, best, out=_scratch(len(row)))
        total = float(np.exp(weights, out=weights).sum())
    return float(row[token]) - best - math.log(total)


def _sum_near_the_best(row: Logits) -> tuple[float, float]:
    """The best logit, and the sum of all exponentials relative to its own; 0 for the sum where too
    many count."""
    table, rest = _as_table(row)
    bests = table.max(0)
    best = max(float(bests.max()), float(rest.max(initial=-math.inf)))
    is_near = bests > best - _NEAR
    if np.count_nonzero(is_near) > len(bests) // 4:
        return best, 0.0
    total = float(np.exp(table[:, is_near] - best).sum() + np.exp(rest - best).sum())
    bound = _GROUPS * float(np.exp(bests[~is_near] - best).sum())
    return best, total + bound / 2 if bound <= 2 * _TOLERANCE * total else 0.0


class _Scratch(threading.local):
    """Memory for one row, for each thread its own: engines side by side share this module."""

    row: Logits = np.empty(0, np.float32)


_SCRATCH: Final = _Scratch()


def _scratch(n: int) -> Logits:
    """Taking 0.8 MB anew for each token costs more than filling it."""
    if len(_SCRATCH.row) != n:
        _SCRATCH.row = np.empty(n, np.float32)
    return _SCRATCH.row


def best_tokens(row: Logits, n: int) -> Tokens:
    """The `n` likeliest tokens, unordered.

    Each is at least as good as the n-th best of the columns' bests, when the row is laid out as a
    table: finding those is twenty times faster than parting 200,000 tokens."""
    table, rest = _as_table(row)
    n_each = table.shape[1]
    if n >= n_each:
        return _all(row) if n >= len(row) else np.argpartition(row, -n)[-n:].astype(np.int32)
    bests = table.max(0)
    bound = np.partition(bests, -n)[-n]
    columns = np.flatnonzero(bests >= bound)
    groups, places = np.nonzero(table[:, columns] >= bound)
    others = np.flatnonzero(rest >= bound) + table.size
    likely = np.concatenate((groups * n_each + columns[places], others))
    return likely[np.argpartition(row[likely], -n)[-n:]].astype(np.int32)


def _as_table(row: Logits) -> tuple[Logits, Logits]:
    """The row as a table of `_GROUPS` rows, whose columns are looked at as one, and the rest."""
    n_each = len(row) // _GROUPS
    return row[: n_each * _GROUPS].reshape(_GROUPS, n_each), row[n_each * _GROUPS :]


def _all(row: Logits) -> Tokens:
    return np.arange(len(row), dtype=np.int32)
