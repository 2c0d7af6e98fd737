"""Risk control: what is promised of a threshold holds in simulation."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import RiskRow, audit, conformal_threshold
from router.risk import (
    KEEP_ALL,
    Threshold,
    binomial_tail,
    confident_threshold,
    wilson_interval,
)

rows_strategy = st.lists(
    st.builds(
        RiskRow,
        p_correct=st.sampled_from([0.0, 0.1, 0.5, 0.5001, 0.9, 1.0]),
        lost=st.booleans(),
        group=st.none() | st.sampled_from("abc"),
    ),
    min_size=1,
    max_size=80,
)
alphas = st.sampled_from([0.02, 0.05, 0.1, 0.3])


def draw_rows(draw: random.Random, n: int, skill: float) -> list[RiskRow]:
    """Rows whose P(correct) is worth `skill`: 1 is calibrated, 0 is no information. The cloud is
    right on 90% of what the worker gets wrong, which is about 40%."""
    rows = []
    for _ in range(n):
        p = draw.random() ** 0.7
        wrong = draw.random() > skill * p + (1 - skill) * 0.6
        rows.append(RiskRow(p_correct=p, lost=wrong and draw.random() < 0.9))
    return rows


def true_loss(threshold: Threshold, skill: float) -> float:
    """Expected loss of a threshold under `draw_rows`, summed over quantiles of P(correct)."""
    if threshold.value is None:
        return 0.0
    n, total = 400, 0.0
    for i in range(n):
        p = ((i + 0.5) / n) ** 0.7
        if p > threshold.value:
            total += 0.9 * (1 - (skill * p + (1 - skill) * 0.6))
    return total / n


@pytest.mark.parametrize("n", [100, 500, 1000])
@pytest.mark.parametrize("skill", [1.0, 0.3])
def test_the_mean_loss_on_fresh_questions_stays_within_alpha(n: int, skill: float) -> None:
    """The noise bound: four standard errors of the mean over the simulated label sets."""
    alpha, n_sets = 0.05, 120
    losses = []
    for seed in range(n_sets):
        labels = draw_rows(random.Random(1000 * n + seed), n, skill)
        losses.append(true_loss(conformal_threshold(labels, alpha), skill))
    mean = sum(losses) / n_sets
    spread = (sum((x - mean) ** 2 for x in losses) / (n_sets - 1)) ** 0.5
    assert mean <= alpha + 4 * spread / n_sets**0.5
    assert mean >= alpha - 2 / (n + 1) - 4 * spread / n_sets**0.5  # the bound is not given away


def test_a_confident_threshold_violates_alpha_no_more_often_than_delta() -> None:
    alpha, delta, n_sets = 0.1, 0.1, 150
    violations = sum(
        true_loss(confident_threshold(draw_rows(random.Random(seed), 300, 1.0), alpha, delta), 1.0)
        > alpha
        for seed in range(n_sets)
    )
    assert violations / n_sets <= delta + 4 * (delta * (1 - delta) / n_sets) ** 0.5


def test_whole_documents_are_the_unit_when_questions_hang_together() -> None:
    """Every question of a document shares its fate: row by row the loss would look better known
    than it is; by document the promise holds."""
    alpha, losses = 0.1, []
    for seed in range(150):
        draw = random.Random(seed)
        labels: list[RiskRow] = []
        for document in range(30):
            bad = draw.random() < 0.3
            labels += [
                RiskRow(
                    p_correct=draw.random(), lost=bad and draw.random() < 0.8, group=str(document)
                )
                for _ in range(20)
            ]
        threshold = conformal_threshold(labels, alpha)
        assert threshold.n_units == 30 and threshold.value is not None
        losses.append(0.24 * (1 - max(threshold.value, 0.0)))
    assert sum(losses) / len(losses) <= alpha + 0.01


@given(rows_strategy, alphas)
def test_a_threshold_keeps_its_own_bound_on_the_labels(rows: list[RiskRow], alpha: float) -> None:
    found = conformal_threshold(rows, alpha)
    if found.value is None:
        assert found.n_units < found.n_needed
        assert str(found.n_needed) in found.reason
        assert not found.keeps(1.0)
        return
    assert found.bound is not None and found.bound <= alpha + 1e-9
    sizes = {row.group: sum(other.group == row.group for other in rows) for row in rows}
    loss = sum(
        1 if row.group is None else 1 / sizes[row.group]
        for row in rows
        if row.lost and found.keeps(row.p_correct)
    )
    assert (loss + 1) / (found.n_units + 1) <= alpha + 1e-9


@given(rows_strategy)
def test_a_larger_alpha_never_keeps_less(rows: list[RiskRow]) -> None:
    for find in (conformal_threshold, confident_threshold):
        found = [find(rows, alpha) for alpha in (0.05, 0.1, 0.3, 0.6)]
        assert all(a.kept_share <= b.kept_share for a, b in pairwise(found))


def test_how_many_labels_an_alpha_needs() -> None:
    good = [RiskRow(p_correct=0.9, lost=False)] * 18
    too_few = conformal_threshold(good, 0.05)
    assert (too_few.value, too_few.n_needed) == (None, 19)
    assert "18 units, at least 19" in too_few.reason
    enough = conformal_threshold([*good, RiskRow(p_correct=0.2, lost=False)], 0.05)
    assert enough.value == KEEP_ALL
    assert enough.bound == pytest.approx(0.05)
    assert confident_threshold(good, 0.05).n_needed == 45
    assert conformal_threshold([], 0.5).value is None


def test_losses_close_the_door_from_above() -> None:
    rows = [RiskRow(p_correct=p / 100, lost=p < 50) for p in range(100)]
    found = conformal_threshold(rows, 0.05)
    assert found.value == pytest.approx(0.45)  # 4 of 100 lost: (4 + 1) / 101 is within, 6 / 101 not
    assert not found.keeps(0.45) and found.keeps(0.46)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 2.0])
def test_an_alpha_is_a_share(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must lie between 0 and 1"):
        conformal_threshold([], alpha)
    with pytest.raises(ValueError, match="alpha must lie between 0 and 1"):
        confident_threshold([], alpha)


def test_an_audit_says_what_was_lost_and_when_to_worry() -> None:
    threshold = conformal_threshold([RiskRow(p_correct=0.5, lost=False)] * 99, 0.05)
    calm = [RiskRow(p_correct=0.9, lost=i < 3) for i in range(100)]
    found = audit(calm, threshold)
    assert (found.n_kept, found.n_lost, found.rate) == (100, 3, 0.03)
    assert found.within and not found.alarm
    assert found.low < 0.03 < found.high
    drifted = [replace(row, lost=i < 20) for i, row in enumerate(calm)]
    assert audit(drifted, threshold).alarm
    with pytest.raises(ValueError, match="no part in choosing"):
        audit([], threshold)


def test_binomial_tail_and_wilson_interval() -> None:
    assert binomial_tail(0, 10, 0.5) == pytest.approx(0.5**10)
    assert binomial_tail(10, 10, 0.3) == pytest.approx(1.0)
    assert binomial_tail(3, 50, 0.1) == pytest.approx(0.2502939, abs=1e-6)
    low, high = wilson_interval(0, 20)
    assert low == 0 and high == pytest.approx(0.1611, abs=1e-4)
