"""What is asked of a row of logits, against the plain way to find it."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.llama.api import Logits
from workers.llama.row import Row


def rounded(seed: int, size: int) -> Logits:
    """Many equal logits, since quantised models give them."""
    return np.random.default_rng(seed).integers(0, size, size).astype(np.float32)


SEEDS = st.integers(0, 10**6)
SIZES = st.one_of(st.integers(1, 300), st.integers(4000, 9000))


@given(seed=SEEDS, size=SIZES)
def test_the_best_is_the_first_of_the_largest(seed: int, size: int) -> None:
    logits = rounded(seed, size)
    assert Row(logits).best() == logits.argmax()


@given(seed=SEEDS, size=SIZES, n=st.integers(1, 200))
def test_the_likeliest_are_found_as_by_sorting(seed: int, size: int, n: int) -> None:
    logits = rounded(seed, size)
    found = Row(logits).likeliest(n)
    assert len(found) == min(n, size)
    assert (np.diff(found) > 0).all()
    assert sorted(logits[found]) == sorted(logits)[-n:]


@given(seed=SEEDS, size=st.one_of(st.integers(2, 300), st.integers(4000, 9000)), data=st.data())
def test_a_lead_is_the_distance_to_the_best_of_the_others(
    seed: int, size: int, data: st.DataObject
) -> None:
    logits = rounded(seed, size)
    best = int(logits.argmax())
    logits[best] += data.draw(st.sampled_from([0.0, 0.5, 3.0]))
    token = data.draw(st.one_of(st.just(best), st.integers(0, size - 1)))
    expected = max(0.0, float(logits[token] - np.delete(logits, token).max()))
    assert Row(logits).lead(token) == expected


@given(st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=40))
def test_log_probabilities_sum_to_one(logits: list[float]) -> None:
    row = Row(np.array(logits, np.float32))
    total = sum(math.exp(row.log_probability(token)) for token in range(len(logits)))
    assert math.isclose(total, 1.0, rel_tol=1e-4)


@pytest.mark.parametrize("lead", [0.0, 8.0, 20.0, 200.0])
@pytest.mark.parametrize("size", [5_000, 201_088])
def test_large_vocabularies_give_the_same_within_a_hundredth(lead: float, size: int) -> None:
    logits = np.random.default_rng(size).normal(0, 2, size).astype(np.float32)
    logits[[7, size - 1]] += np.float32(lead)
    exact = logits.astype(np.float64) - logits.max()
    exact -= np.log(np.exp(exact).sum())
    row = Row(logits)
    for token in (7, 8, size - 1, int(logits.argmin())):
        assert math.isclose(row.log_probability(token), exact[token], abs_tol=0.01)


def test_threads_do_not_share_their_memory() -> None:
    rows = [np.random.default_rng(i).normal(0, 1, 60_000).astype(np.float32) for i in range(4)]
    alone = [Row(each).log_probability(0) for each in rows]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: Row(each).log_probability(0), rows * 50))
    assert together == alone * 50


def test_a_row_without_numbers_does_not_end_the_engine() -> None:
    logits = np.full(5000, np.nan, np.float32)
    assert 0 <= Row(logits).best() < 5000
    assert len(Row(logits).likeliest(40)) == 40
