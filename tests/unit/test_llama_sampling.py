"""Choosing tokens, with small rows of logits and plain sets as grammars."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import JobRejected
from workers.jobs import Sampling
from workers.llama.sampling import Sampler, best_tokens, check_sampling, log_probability
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


def row(*logits: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(logits, np.float32)


def test_greedy_takes_the_best_and_checks_it_alone() -> None:
    constraint = Only({0, 1, 2})
    assert Sampler(Sampling()).choose(row(0, 3, 1), constraint) == 1
    assert constraint.checked == [1]


def test_greedy_takes_the_best_that_is_allowed() -> None:
    assert Sampler(Sampling()).choose(row(0, 3, 1), Only({0, 2})) == 2


def test_the_whole_vocabulary_is_walked_only_when_the_best_64_are_refused() -> None:
    logits = np.arange(1000, dtype=np.float32)
    near, far = Only({950}), Only({3, 5})
    assert Sampler(Sampling(top_k=100)).choose(logits, near) == 950
    assert Sampler(Sampling()).choose(logits, far) == 5
    assert (near.checked, far.checked) == ([1, 100], [1, 64, 1000])


def test_nothing_allowed_is_said() -> None:
    with pytest.raises(JobRejected, match="no token"):
        Sampler(Sampling()).choose(row(0, 1), Only(set()))


def test_the_same_seed_draws_the_same_tokens() -> None:
    logits = np.random.default_rng(1).standard_normal(50).astype(np.float32)
    allowed = Only(set(range(50)))

    def draws(seed: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.5, seed=seed))
        return [sampler.choose(logits, allowed) for _ in range(30)]

    assert draws(7) == draws(7)
    assert draws(7) != draws(8)


def test_draws_follow_the_constrained_distribution() -> None:
    sampler = Sampler(Sampling(temperature=1.0, seed=0))
    logits = np.log(row(0.5, 0.3, 0.2))
    drawn = [sampler.choose(logits, Only({1, 2})) for _ in range(4000)]
    assert set(drawn) == {1, 2}
    assert math.isclose(drawn.count(1) / 4000, 0.6, abs_tol=0.03)


def test_top_k_bounds_the_draws() -> None:
    sampler = Sampler(Sampling(temperature=5.0, top_k=2, seed=0))
    drawn = {sampler.choose(row(0, 1, 2, 3), Only({0, 1, 2, 3})) for _ in range(100)}
    assert drawn == {2, 3}


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40))
def test_log_probabilities_sum_to_one(logits: list[float]) -> None:
    array = row(*logits)
    total = sum(math.exp(log_probability(array, token)) for token in range(len(logits)))
    assert math.isclose(total, 1.0, rel_tol=1e-4)


def test_threads_do_not_share_their_memory() -> None:
    rows = [np.random.default_rng(i).normal(0, 1, 60_000).astype(np.float32) for i in range(4)]
    alone = [log_probability(each, 0) for each in rows]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: log_probability(each, 0), rows * 50))
    assert together == alone * 50


@pytest.mark.parametrize("lead", [0.0, 8.0, 20.0, 200.0])
@pytest.mark.parametrize("size", [5_000, 201_088])
def test_large_vocabularies_give_the_same_within_a_hundredth(lead: float, size: int) -> None:
    logits = np.random.default_rng(size).normal(0, 2, size).astype(np.float32)
    logits[[7, size - 1]] += np.float32(lead)
    exact = logits.astype(np.float64) - logits.max()
    exact -= np.log(np.exp(exact).sum())
    for token in (7, 8, size - 1, int(logits.argmin())):
        assert math.isclose(log_probability(logits, token), exact[token], abs_tol=0.01)


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


@given(seed=st.integers(0, 10**6), size=st.integers(1, 9000), n=st.integers(1, 200))
def test_the_best_are_found_as_by_sorting(seed: int, size: int, n: int) -> None:
    row = np.random.default_rng(seed).integers(0, size, size).astype(np.float32)
    found = best_tokens(row, n)
    assert len(found) == len(set(found.tolist())) == min(n, size)
    assert sorted(row[found]) == sorted(row)[-n:]
