"""Deferral curves in dollars: areas, thresholds at points that can be had, and the hull above."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eval.deferral import Curve, deferral_curve

QUICK = settings(max_examples=50, deadline=None)

ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([-1.0, 0.0, 1.0, 1.0]), st.floats(0.01, 9)),
    min_size=1,
    max_size=25,
)


def curve_of(rows: list[tuple[int, float, float]]) -> Curve:
    scores, gains, usd = zip(*rows, strict=True)
    return deferral_curve(scores, gains, [0.0] * len(rows), usd)


def test_by_hand() -> None:
    # Dollars 0, 10, 30, 40; gains 0, 1, 1, 2.
    curve = deferral_curve([3, 2, 1], [1, 0, 1], [0, 0, 0], [10, 20, 10])
    assert curve.apgr_usd() == pytest.approx((10 * 0.5 + 20 * 1 + 10 * 1.5) / (40 * 2))
    assert curve.cpt_usd(0.5) == 0.25 and curve.cpt_usd(1.0) == 1.0
    assert curve.hull() == [(0.0, 0.0), (10.0, 1.0), (40.0, 2.0)]


def test_a_dear_question_first_is_worse_in_dollars_than_in_calls() -> None:
    cheap_last = deferral_curve([2, 1], [1, 1], [0, 0], [90, 10])
    assert cheap_last.apgr() == pytest.approx(0.5)
    assert cheap_last.apgr_usd() == pytest.approx(0.9 * 0.25 + 0.1 * 0.75)


@QUICK
@given(ROWS)
def test_equal_prices_make_dollars_of_calls(rows: list[tuple[int, float, float]]) -> None:
    curve = curve_of([(score, gain, 0.5) for score, gain, _ in rows])
    assume(curve.gap > 0)
    assert curve.apgr_usd() == pytest.approx(curve.apgr())
    assert curve.cpt_usd(0.5) == pytest.approx(curve.cpt(0.5))


@QUICK
@given(ROWS)
def test_the_hull_is_concave_lies_above_and_is_made_of_points_of_the_curve(
    rows: list[tuple[int, float, float]],
) -> None:
    curve = curve_of(rows)
    assert curve.usd is not None
    points = list(zip(curve.usd.tolist(), curve.gain.tolist(), strict=True))
    hull = curve.hull()
    assert set(hull) <= set(points) and hull[-1][1] == max(gain for _, gain in points)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(hull)]
    assert all(slope > 0 for slope in slopes)
    assert all(a >= b - 1e-9 for a, b in pairwise(slopes))
    xs, ys = zip(*hull, strict=True)
    assert all(np.interp(usd, xs, ys) >= gain - 1e-9 for usd, gain in points)


@QUICK
@given(ROWS, st.sampled_from([0.2, 0.5, 0.8, 1.0]))
def test_a_threshold_is_a_point_that_recovers_the_share(
    rows: list[tuple[int, float, float]], share: float
) -> None:
    distinct = [(number, gain, usd) for number, (_, gain, usd) in enumerate(rows)]
    curve = curve_of(distinct)
    assume(curve.gap > 0 and curve.usd is not None)
    usd, calls = curve.usd_for(share), int(curve.calls_for(share))
    assert usd == pytest.approx(curve.usd[calls])  # type: ignore[index]
    assert curve.gain[calls] >= share * curve.gap - 1e-6


def test_what_is_unknown_or_free_has_no_dollars() -> None:
    unknown = deferral_curve([2, 1], [1, 0])
    assert math.isnan(unknown.apgr_usd()) and math.isnan(unknown.cpt_usd(0.5))
    with pytest.raises(ValueError, match="price is unknown"):
        unknown.hull()
    free = deferral_curve([2, 1], [1, 0], [0, 0], [0, 0])
    assert math.isnan(free.apgr_usd()) and math.isnan(free.cpt_usd(0.5))
    gapless = deferral_curve([2, 1], [1, -1], [0, 0], [1, 1])
    assert math.isnan(gapless.apgr_usd())
