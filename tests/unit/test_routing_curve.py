"""Deferral curves: by hand, ties, invariances, bounds, dollars."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eval.deferral import Floats, deferral_curve, drawn_counts

GAINS = st.lists(st.sampled_from([-1.0, 0.0, 0.0, 1.0, 1.0, 1.0]), min_size=1, max_size=30)


def plain_recovered(gains: list[float]) -> Floats:
    """PGR after 0, 1, ... n calls in the given order."""
    return np.concatenate([[0.0], np.cumsum(gains)]) / sum(gains)


def plain_apgr(gains: list[float]) -> float:
    recovered = plain_recovered(gains)
    return float((recovered[:-1] + recovered[1:]).sum() / 2 / len(gains))


def test_by_hand() -> None:
    # PGR goes 0, 1, 1, 2, 1: area (0.5 + 1 + 1.5 + 1.5) / 4.
    curve = deferral_curve([4, 3, 2, 1], [1, 0, 1, -1])
    assert curve.apgr() == pytest.approx(1.125)
    assert curve.cpt(0.5) == curve.cpt(1.0) == 0.25


def test_worst_order_first_recovers_last() -> None:
    # PGR goes 0, -1, -1, 0, 1.
    curve = deferral_curve([4, 3, 2, 1], [-1, 0, 1, 1])
    assert curve.apgr() == pytest.approx((-0.5 - 1 - 0.5 + 0.5) / 4)
    assert curve.cpt(0.01) == 1.0


def test_least_share_even_where_the_curve_falls_again() -> None:
    # PGR goes 0, 0.5, 1, 0.5, 1: the first time counts.
    assert deferral_curve([4, 3, 2, 1], [1, 1, -1, 1]).cpt(1.0) == 0.5


def test_equal_scores_are_an_even_mixture() -> None:
    curve = deferral_curve([7] * 10, [1, 1, 1, 1, 0, 0, 0, 0, 0, -1])
    assert curve.apgr() == pytest.approx(0.5)
    assert curve.cpt(0.5) == 0.5
    assert curve.cpt(0.8) == 0.8
    assert curve.cpt(0.81) == 0.9  # whole calls


def test_calls_for_nothing_are_none() -> None:
    assert deferral_curve([2, 1], [1, 1]).cpt(0.0) == 0.0


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([-1.0, 0.0, 1.0])), max_size=5))
def test_ties_are_the_expectation_over_their_order(rows: list[tuple[int, float]]) -> None:
    assume(sum(gain for _, gain in rows) > 0)
    orders = [
        [gain for _, gain in order]
        for order in permutations(rows)
        if all(a[0] >= b[0] for a, b in pairwise(order))
    ]
    curve = deferral_curve([score for score, _ in rows], [gain for _, gain in rows])
    assert curve.apgr() == pytest.approx(np.mean([plain_apgr(order) for order in orders]))
    expected = np.mean([plain_recovered(order) for order in orders], axis=0)
    first = int(np.argmax(expected >= 0.5 - 1e-9))
    assert curve.calls_for(0.5) == first


@given(GAINS, st.integers(0, 10_000))
def test_only_the_order_counts(gains: list[float], seed: int) -> None:
    assume(sum(gains) > 0)
    scores = np.random.default_rng(seed).integers(0, 9, len(gains)).astype(float)
    one, other = (deferral_curve(s, gains) for s in (scores, np.exp(scores / 3) - 5))
    assert one.apgr() == other.apgr()
    assert one.cpt(0.5) == other.cpt(0.5)


@given(GAINS, st.integers(0, 10_000))
def test_no_order_beats_the_oracle(gains: list[float], seed: int) -> None:
    assume(sum(gains) > 0)
    scores = np.random.default_rng(seed).random(len(gains))
    ours, oracle = deferral_curve(scores, gains), deferral_curve(gains, gains)
    assert ours.apgr() <= oracle.apgr() + 1e-12
    assert ours.cpt(0.8) >= oracle.cpt(0.8)


def test_random_scores_recover_half_in_expectation() -> None:
    rng = np.random.default_rng(0)
    gains = [1.0] * 30 + [0.0] * 60 + [-1.0] * 10
    apgrs = [deferral_curve(rng.random(100), gains).apgr() for _ in range(2_000)]
    assert np.mean(apgrs) == pytest.approx(0.5, abs=3 * np.std(apgrs) / math.sqrt(2_000))


def test_dollars_by_hand() -> None:
    # All weak answers cost 3; the calls add 10, 20 and 30 in the order of the scores.
    curve = deferral_curve([3, 2, 1], [0, 1, 1], weak_usd=[1, 1, 1], call_usd=[10, 20, 30])
    assert curve.calls_for(0.5) == 2
    assert curve.usd_for(0.5) == 33
    assert curve.usd_for(1.0) == 63


def test_dollars_of_ties_are_expected_dollars() -> None:
    curve = deferral_curve([1, 1], [1, 1], weak_usd=[0, 0], call_usd=[10, 30])
    assert curve.usd_for(0.5) == 20


def test_unknown_price_gives_no_dollars() -> None:
    assert math.isnan(deferral_curve([2, 1], [1, 0]).usd_for(0.5))


def test_without_a_gap_there_is_nothing_to_recover() -> None:
    curve = deferral_curve([2, 1], [1, -1], [1, 1], [1, 1])
    assert math.isnan(curve.apgr())
    assert math.isnan(curve.cpt(0.5))
    assert math.isnan(curve.usd_for(0.5))


@given(GAINS, st.integers(0, 10_000))
def test_counts_stand_for_repeated_rows(gains: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, prices = rng.integers(0, 5, len(gains)), rng.random(len(gains))
    (counts,) = drawn_counts(len(gains), 1, rng)
    assert counts.sum() == len(gains)
    assume(sum(counts * gains) > 0)
    weighted = deferral_curve(scores, gains, prices, prices, counts)
    again = [np.repeat(column, counts) for column in (scores, gains, prices)]
    repeated = deferral_curve(again[0], again[1], again[2], again[2])
    assert weighted.apgr() == pytest.approx(repeated.apgr())
    assert weighted.cpt(0.5) == repeated.cpt(0.5)
    assert weighted.usd_for(0.5) == pytest.approx(repeated.usd_for(0.5))


@pytest.mark.parametrize(("scores", "gains"), [([], []), ([1.0], [1.0, 0.0]), ([math.nan], [1.0])])
def test_rows_that_make_no_curve_are_refused(scores: list[float], gains: list[float]) -> None:
    with pytest.raises(ValueError, match=r"curve needs paired rows|NaN"):
        deferral_curve(scores, gains)
