"""Intervals: paired, by cluster, seeded; and calibration errors in bins of equal mass."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.statistics import Estimate, adaptive_bins, reliability, resample_clusters

QUICK = settings(max_examples=50, deadline=None)

ROWS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.floats(0, 5), st.booleans()), min_size=2, max_size=40
)


def columns(rows: list[tuple[str, float, bool]]) -> tuple[list[str], list[float], list[float]]:
    names, usd, right = zip(*rows, strict=True)
    return list(names), list(usd), [float(hit) for hit in right]


@QUICK
@given(ROWS)
def test_intervals_hold_what_was_measured_and_stay_within_the_data(
    rows: list[tuple[str, float, bool]],
) -> None:
    names, usd, right = columns(rows)
    found = resample_clusters(names, n_resamples=200).mean(right)
    assert found.value == pytest.approx(np.mean(right))
    if len(set(names)) == 1:
        assert found.low is found.high is None
        return
    assert found.low is not None and found.high is not None
    assert 0 <= found.low <= found.high <= 1
    total = resample_clusters(names, n_resamples=200).total(usd)
    assert total.value == pytest.approx(sum(usd))


@QUICK
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    rows: list[tuple[str, float, bool]], draw: object
) -> None:
    shuffled = list(rows)
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (
        resample_clusters(names, n_resamples=100).ratio(usd, [1.0] * len(usd))
        for names, usd, _ in (columns(rows), columns(shuffled))
    )
    assert close(one, other)


def close(one: Estimate, other: Estimate) -> bool:
    pairs = zip((one.value, one.low, one.high), (other.value, other.low, other.high), strict=True)
    return all(
        a == b or (a is not None and b is not None and math.isclose(a, b, abs_tol=1e-9))
        for a, b in pairs
    )


@QUICK
@given(ROWS, st.floats(0.1, 9))
def test_strategies_are_compared_on_the_same_draws(
    rows: list[tuple[str, float, bool]], factor: float
) -> None:
    """A strategy that costs `factor` times as much on every question does so in every draw."""
    names, usd, _ = columns([(name, cost + 0.01, hit) for name, cost, hit in rows])
    found = resample_clusters(names, n_resamples=100).ratio([factor * cost for cost in usd], usd)
    assert found.value == pytest.approx(factor)
    if len(set(names)) > 1:
        assert found.low == pytest.approx(factor) and found.high == pytest.approx(factor)


def test_a_ratio_without_a_denominator_is_unknown() -> None:
    resamples = resample_clusters(["a", "b", "c"])
    assert resamples.ratio([1, 1, 1], [0, 0, 0]) == Estimate(value=None)
    often_undefined = resamples.ratio([1, 1, 1], [1, 0, 0])
    assert often_undefined == Estimate(value=3.0)


def test_unequal_lengths_and_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values for 3 rows"):
        resample_clusters(["a", "b", "c"]).mean([1, 2])
    with pytest.raises(ValueError, match="no rows"):
        resample_clusters([])
    with pytest.raises(ValueError, match="must pair up"):
        reliability([0.5], [True, False], ["a", "b"])
    with pytest.raises(ValueError, match="between 0 and 1"):
        reliability([float("nan")], [True], ["a"])


def test_intervals_by_cluster_cover_the_truth_and_those_by_row_do_not() -> None:
    """40 documents of 10 questions that are nearly all right or nearly all wrong together."""
    rng = np.random.default_rng(5)
    covered = {"cluster": 0, "row": 0}
    for _ in range(200):
        ease = rng.beta(0.5, 0.5, size=40)
        right = (rng.random((40, 10)) < ease[:, None]).astype(float).ravel()
        names = {
            "cluster": [f"d{i // 10}" for i in range(400)],
            "row": [str(i) for i in range(400)],
        }
        for kind, clusters in names.items():
            found = resample_clusters(clusters, n_resamples=200).mean(right)
            assert found.low is not None and found.high is not None
            covered[kind] += found.low <= 0.5 <= found.high
    assert covered["cluster"] >= 180 > 150 > covered["row"]


def test_any_statistic_may_be_resampled() -> None:
    values = np.array([1.0, 2.0, 3.0, 10.0])
    resamples = resample_clusters(["a", "b", "c", "d"], n_resamples=300)
    by_hand = resamples.statistic(lambda counts: float(counts @ values / counts.sum()))
    assert close(by_hand, resamples.mean(values))
    undefined = resamples.statistic(lambda _: math.nan)
    assert undefined == Estimate(value=None)


@QUICK
@given(st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.5, 0.9, 1.0]), min_size=1, max_size=60))
def test_bins_keep_equal_chances_together_and_in_order(values: list[float]) -> None:
    bins = adaptive_bins(np.array(values), 4)
    by_value: dict[float, set[int]] = {}
    for value, number in zip(values, bins.tolist(), strict=True):
        by_value.setdefault(value, set()).add(number)
    assert all(len(numbers) == 1 for numbers in by_value.values())
    ordered = [by_value[value].copy().pop() for value in sorted(by_value)]
    assert all(low <= high for low, high in pairwise(ordered))
    assert set(bins.tolist()) == set(range(bins.max() + 1))


def test_bins_of_distinct_chances_are_of_equal_size() -> None:
    bins = adaptive_bins(np.linspace(0, 1, 100), 10)
    assert np.bincount(bins).tolist() == [10] * 10


def test_calibration_error_by_hand() -> None:
    found = reliability([0.9] * 10 + [0.1] * 10, [True] * 5 + [False] * 15, [*"ab"] * 10)
    assert [(b.n, b.mean_p, b.accuracy.value) for b in found.bins] == [
        (10, pytest.approx(0.1), 0.0),
        (10, pytest.approx(0.9), 0.5),
    ]
    assert found.ece.value == pytest.approx((0.1 + 0.4) / 2)


def test_the_interval_of_the_calibration_error_knows_that_noise_adds_to_it() -> None:
    """Of well calibrated chances the interval reaches down to 0; of wrong ones it does not."""
    rng = np.random.default_rng(1)
    chances = rng.random(400)
    names = [f"d{i % 80}" for i in range(400)]
    honest = reliability(chances.tolist(), (rng.random(400) < chances).tolist(), names)
    boastful = reliability(np.sqrt(chances).tolist(), (rng.random(400) < chances).tolist(), names)
    assert honest.ece.low is not None and honest.ece.low < 0.02
    assert boastful.ece.low is not None and boastful.ece.low > 0.08
