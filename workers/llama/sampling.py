"""Choosing one token from one row of logits, under a grammar."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from workers.errors import JobRejected
from workers.jobs import Sampling
from workers.llama.row import Row
from workers.llama.schedule import Tokens

_WALK: Final = 64
"""Best tokens that are tried when the first choice is refused, before the whole vocabulary is."""


_COLDEST: Final = 1e-6
"""Below this the best is always drawn, and single precision would end at 0 / 0."""


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
        self._temperature = np.float32(max(sampling.temperature, _COLDEST))
        self._top_k = sampling.top_k
        self._generator = np.random.default_rng(sampling.seed) if sampling.temperature else None

    def choose(self, row: Row, constraint: Constraint) -> int:
        """A token that `constraint` allows.

        The first choice is made freely and only then checked, since a check of one token is
        thousands of times cheaper than of all. When it is refused, the choice is made again among
        the allowed of the best 64, then of all; so the tokens follow the constrained distribution.
        Raises JobRejected when nothing at all is allowed."""
        first = self._first(row)
        if constraint.allows(first):
            return first
        for candidates in (row.likeliest(max(_WALK, self._top_k)), row.all()):
            allowed = constraint.keep_allowed(candidates)
            if len(allowed):
                return self._draw(row, allowed)
        raise JobRejected("the model's vocabulary has no token that may come next here")

    def _first(self, row: Row) -> int:
        """The choice as if nothing were forbidden."""
        if self._generator is None:
            return row.best()
        return self._draw(row, row.likeliest(self._top_k))

    def _draw(self, row: Row, candidates: Tokens) -> int:
        """One of `candidates`: the best, or one drawn from the tempered top k of them."""
        logits = row.logits[candidates]
        if self._generator is None:
            return int(candidates[logits.argmax()])
        if len(candidates) > self._top_k:
            kept = np.sort(np.argpartition(logits, -self._top_k)[-self._top_k :])
            candidates, logits = candidates[kept], logits[kept]
        heights = np.exp((logits - logits.max()) / self._temperature).cumsum()
        drawn = heights.searchsorted(self._generator.random() * heights[-1], "right")
        return int(candidates[min(int(drawn), len(candidates) - 1)])
