"""Choosing tokens, with small rows of logits and plain sets as grammars."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from workers.errors import JobRejected
from workers.jobs import Sampling
from workers.llama.row import Row
from workers.llama.sampling import Sampler, check_sampling
from workers.llama.schedule import Tokens


@dataclass
class Only:
    """Allows the tokens of a set and notes how many were checked at once."""

    tokens: set[int]
    checked: list[int] = field(default_factory=list)

    def allows(self, token: int) -> bool:
        self.checked.append(1)
        return token in self.tokens

    def keep_allowed(self, tokens: Tokens) -> Tokens:
        self.checked.append(len(tokens))
        return np.array([token for token in tokens if int(token) in self.tokens], np.int32)


def row(*logits: float) -> Row:
    return Row(np.array(logits, np.float32))


def test_greedy_takes_the_best_and_checks_it_alone() -> None:
    constraint = Only({0, 1, 2})
    assert Sampler(Sampling()).choose(row(0, 3, 1), constraint) == 1
    assert constraint.checked == [1]


def test_greedy_takes_the_best_that_is_allowed() -> None:
    assert Sampler(Sampling()).choose(row(0, 3, 1), Only({0, 2})) == 2


def test_the_whole_vocabulary_is_walked_only_when_the_best_64_are_refused() -> None:
    logits = Row(np.arange(1000, dtype=np.float32))
    near, far = Only({950}), Only({3, 5})
    assert Sampler(Sampling(top_k=100)).choose(logits, near) == 950
    assert Sampler(Sampling()).choose(logits, far) == 5
    assert (near.checked, far.checked) == ([1, 100], [1, 64, 1000])


def test_nothing_allowed_is_said() -> None:
    with pytest.raises(JobRejected, match="no token"):
        Sampler(Sampling()).choose(row(0, 1), Only(set()))


def test_the_same_seed_draws_the_same_tokens() -> None:
    logits = Row(np.random.default_rng(1).standard_normal(50).astype(np.float32))
    allowed = Only(set(range(50)))

    def draws(seed: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.5, seed=seed))
        return [sampler.choose(logits, allowed) for _ in range(30)]

    assert draws(7) == draws(7)
    assert draws(7) != draws(8)


def test_draws_follow_the_constrained_distribution() -> None:
    sampler = Sampler(Sampling(temperature=1.0, seed=0))
    logits = row(*np.log([0.5, 0.3, 0.2]))
    drawn = [sampler.choose(logits, Only({1, 2})) for _ in range(4000)]
    assert set(drawn) == {1, 2}
    assert math.isclose(drawn.count(1) / 4000, 0.6, abs_tol=0.03)


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 5e-324])
def test_the_coldest_draw_is_the_best(temperature: float) -> None:
    sampler = Sampler(Sampling(temperature=temperature, seed=3))
    everything = Only({0, 1, 2, 3})
    assert [sampler.choose(row(-900, 2, 1, 900), everything) for _ in range(20)] == [3] * 20


def test_top_k_bounds_the_draws() -> None:
    sampler = Sampler(Sampling(temperature=5.0, top_k=2, seed=0))
    drawn = {sampler.choose(row(0, 1, 2, 3), Only({0, 1, 2, 3})) for _ in range(100)}
    assert drawn == {2, 3}


@pytest.mark.parametrize(
    ("sampling", "reason"),
    [
        (Sampling(temperature=-0.1), "temperature is -0.1"),
        (Sampling(temperature=math.nan), "temperature is nan"),
        (Sampling(top_k=0), "top_k is 0"),
        (Sampling(max_output_tokens=0), "max_output_tokens is 0"),
        (Sampling(seed=-1), "seed is -1"),
    ],
)
def test_sampling_that_makes_no_sense_is_refused(sampling: Sampling, reason: str) -> None:
    with pytest.raises(JobRejected, match=reason):
        check_sampling(sampling)
