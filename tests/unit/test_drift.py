"""The drift test: rarely false, soon right, and indifferent to what came before."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.drift import MEAN_RUN, TOLERANCE, Audited, simulate, watch

QUICK = settings(max_examples=50, deadline=None)

STATED = [step / 100 for step in range(50, 100, 5)]
ANSWERS = st.lists(st.builds(Audited, expected=st.floats(0, 1), agreed=st.booleans()), max_size=60)


def test_nothing_audited_is_said() -> None:
    found = watch([])
    assert (found.n, found.agreement, found.alarm) == (0, None, False)
    assert found.text() == "nothing was audited yet"


def test_false_alarms_are_rare_even_at_the_edge_of_what_is_tolerated() -> None:
    """Of series of 200 audits at most 200 / MEAN_RUN may alarm, up to chance."""
    found = simulate(STATED, n_answers=200, n_series=400)
    assert found.alarms <= 200 / MEAN_RUN + 0.015
    assert simulate(STATED, agreement=1.1, n_answers=200, n_series=200).alarms == 0.0


def test_a_worker_that_got_worse_is_noticed() -> None:
    slow = simulate(STATED, agreement=0.7, n_answers=300, n_series=200)
    fast = simulate(STATED, agreement=0.4, n_answers=300, n_series=200)
    assert slow.alarms > 0.95 and fast.alarms == 1.0
    assert fast.median_delay is not None and slow.median_delay is not None
    assert fast.median_delay < 35 < slow.median_delay < 120


def test_a_long_good_past_does_not_hide_a_change() -> None:
    good = [Audited(expected=0.8, agreed=n % 10 < 8) for n in range(2_000)]
    bad = [Audited(expected=0.8, agreed=n % 10 < 4) for n in range(80)]
    assert not watch(good).alarm
    found = watch([*good, *bad])
    assert found.alarm and found.raised_at is not None and found.raised_at > 2_000
    assert "the stated chances are too high" in found.text()
    assert not watch([*good, *bad, *good]).alarm


@QUICK
@given(ANSWERS)
def test_evidence_is_a_finite_number_and_agreement_never_raises_it(answers: list[Audited]) -> None:
    found = watch(answers)
    assert 0 <= found.evidence < float("inf")
    agreed = Audited(expected=0.9, agreed=True)
    assert watch([*answers, agreed]).evidence <= found.evidence + 1
    assert found.n_agreed == sum(one.agreed for one in answers)


@QUICK
@given(st.floats(TOLERANCE, 1), st.sampled_from([0.5, 0.7, 0.85, 0.95]))
def test_every_bet_is_fair_when_agreement_is_as_expected(expected: float, bet: float) -> None:
    """The factor's mean under the tolerated expectation is 1, and less when more agree."""
    level = min(expected - TOLERANCE, 0.98)
    disagreed = (1 - bet * level) / (1 - level)
    assert level * bet + (1 - level) * disagreed == pytest.approx(1)
    more = min(1.0, level + 0.05)
    assert more * bet + (1 - more) * disagreed <= 1 + 1e-9
