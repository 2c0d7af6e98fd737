"""The scorers, against cases computed by hand and against slow definitions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.score import (
    abstention_f1,
    auroc,
    exact_match,
    expected_calibration_error,
    list_f1,
    normalise_answer,
    numeric_match,
    paired_bootstrap,
    token_f1,
)

PROPERTY = settings(max_examples=100, deadline=None)


def test_normalise_answer_as_squad_does() -> None:
    assert normalise_answer("  The Cat, an  A-team's\n") == "cat ateams"
    assert normalise_answer("a the an") == ""


def test_exact_match_takes_the_best_gold() -> None:
    assert exact_match("The Eiffel Tower.", "eiffel tower")
    assert exact_match("Paris", ["London", "paris"])
    assert not exact_match("Paris", ["London", "Paris, France"])


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [
        ("the cat sat", "cat sat", 1.0),
        ("cat sat down", "cat sat", 0.8),  # precision 2/3, recall 1
        ("cat cat", "cat", 2 / 3),  # a word counts as often as the gold has it
        ("dog", "cat", 0.0),
        ("", "cat", 0.0),
        ("", "", 1.0),
        ("the", "", 1.0),
    ],
)
def test_token_f1(prediction: str, gold: str, expected: float) -> None:
    assert token_f1(prediction, gold) == pytest.approx(expected)


def test_token_f1_takes_the_best_gold_and_needs_one() -> None:
    assert token_f1("cat sat", ["dog", "cat sat", "cat"]) == 1.0
    with pytest.raises(ValueError, match="gold"):
        token_f1("cat", [])


@PROPERTY
@given(st.text(max_size=30), st.text(max_size=30))
def test_token_f1_is_symmetric_and_bounded(one: str, other: str) -> None:
    assert token_f1(one, other) == token_f1(other, one)
    assert 0 <= token_f1(one, other) <= 1
    assert token_f1(one, one) == 1
    assert exact_match(one, other) <= (token_f1(one, other) == 1)


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        ("1,577", "$1577.00"),
        ("$1,577 million", "$1577.00"),
        ("$1.58 billion", "1,577 million"),
        ("Capex was $1,577 million in FY2018.", "$1,577 million"),
        ("In 2018 it was 1,577", "1577"),
        ("From 12 to 1,577 in all", "1577"),
        ("(429)", "-429"),
        ("-$429", "($429)"),
        ("1.9%", "1.9 percent"),
        ("1.91", "1.9%"),
        ("0.019", "1.9%"),
        ("$5", ["7", "five dollars"]),
        ("2018", "2018"),
        ("0", "$0.00"),
        ("$1,577 after 12 months", "1577"),
    ],
)
def test_numeric_match(prediction: str, gold: str | list[str]) -> None:
    assert numeric_match(prediction, gold)


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        ("1,600", "1,577"),
        ("429", "-429"),
        ("$5", "5%"),
        ("5 thousand", "5 million"),
        ("€5", "$5"),
        ("0.001", "0"),
        ("no number", "5"),
        ("5", "no number"),
        ("1, 2, 1577, 3", "1577"),
    ],
)
def test_no_numeric_match(prediction: str, gold: str) -> None:
    assert not numeric_match(prediction, gold)


def test_the_tolerance_is_relative_and_includes_its_edge() -> None:
    assert numeric_match("101", "100") and numeric_match("99", "100")
    assert not numeric_match("101.1", "100")
    assert not numeric_match("100.5", "100", tolerance=0.001)
    assert numeric_match("100", "100", tolerance=0)


@PROPERTY
@given(st.integers(1, 10**9), st.floats(0, 0.0099), st.booleans())
def test_numbers_within_the_tolerance_match(gold: int, share: float, more: bool) -> None:
    prediction = gold * (1 + share if more else 1 - share)
    assert numeric_match(f"${prediction:.6f}", f"{gold:,}")


def test_list_f1() -> None:
    assert list_f1(["The cat", "dog"], ["cat", "bird", "fish"]) == pytest.approx(0.4)
    assert list_f1(["cat", "Cat"], ["cat"]) == 1.0
    assert list_f1([], []) == 1.0
    assert list_f1(["cat"], []) == list_f1([], ["cat"]) == 0.0


def test_abstention_f1() -> None:
    # 1 right abstention, 1 wrong, 1 missed: precision 1/2, recall 1/2
    assert abstention_f1([True, True, False, False], [True, False, True, False]) == 0.5
    assert abstention_f1([False], [False]) == 1.0
    assert abstention_f1([True], [False]) == 0.0
    with pytest.raises(ValueError):
        abstention_f1([True], [])


def test_auroc_by_hand() -> None:
    assert auroc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == 0.75
    assert auroc([1, 1, 1], [True, False, True]) == 0.5
    with pytest.raises(ValueError, match="both classes"):
        auroc([1, 2], [True, True])
    with pytest.raises(ValueError, match="NaN"):
        auroc([math.nan, 2], [True, False])
    with pytest.raises(ValueError, match="pair"):
        auroc([1], [True, False])


@PROPERTY
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=25))
def test_auroc_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    above = [score for score, label in rows if label]
    below = [score for score, label in rows if not label]
    if not (above and below):
        return
    pairs = [(a > b) + (a == b) / 2 for a in above for b in below]
    measured = auroc([score for score, _ in rows], [label for _, label in rows])
    assert measured == pytest.approx(sum(pairs) / len(pairs))


def test_expected_calibration_error_by_hand() -> None:
    # bin (0.8, 0.9]: confidence 0.9, accuracy 0.5; bin [0, 0.1]: 0.1 against 0
    assert expected_calibration_error([0.9, 0.9, 0.1], [True, False, False], 10) == pytest.approx(
        (2 * 0.4 + 1 * 0.1) / 3
    )
    assert expected_calibration_error([0.0, 1.0], [False, True]) == 0.0
    # 0.7 closes its bin: together with 0.65 they are right on average
    assert expected_calibration_error([0.7, 0.3], [True, True], 10) == pytest.approx(0.5)
    assert expected_calibration_error([0.65, 0.7], [True, False], 10) == pytest.approx(0.175)


@pytest.mark.parametrize(("probs", "n_bins"), [([], 10), ([0.5], 0), ([1.5], 10), ([-0.1], 10)])
def test_impossible_calibration_is_refused(probs: list[float], n_bins: int) -> None:
    with pytest.raises(ValueError):
        expected_calibration_error(probs, [True] * len(probs), n_bins)


@PROPERTY
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_one_bin_is_the_gap_of_the_means(rows: list[tuple[float, bool]]) -> None:
    probs, labels = [p for p, _ in rows], [label for _, label in rows]
    gap = abs(sum(probs) - sum(labels)) / len(rows)
    assert expected_calibration_error(probs, labels, 1) == pytest.approx(gap)
    assert gap - 1e-9 <= expected_calibration_error(probs, labels, 7) <= 1


def test_paired_bootstrap_is_seeded_and_covers() -> None:
    ours, theirs = [1.0, 1.0, 0.0, 1.0] * 25, [1.0, 0.0, 0.0, 1.0] * 25
    interval = paired_bootstrap(ours, theirs, seed=3)
    assert interval == paired_bootstrap(ours, theirs, seed=3)
    assert interval.difference == 0.25
    # the standard error of the mean of 100 draws with p = 1/4 is 0.0433
    assert interval.low == pytest.approx(0.25 - 1.96 * 0.0433, abs=0.015)
    assert interval.high == pytest.approx(0.25 + 1.96 * 0.0433, abs=0.015)
    assert interval.excludes_zero


def test_equal_systems_have_no_interval_to_speak_of() -> None:
    interval = paired_bootstrap([0.3, 0.7], [0.3, 0.7], n_resamples=50)
    assert (interval.low, interval.high, interval.excludes_zero) == (0.0, 0.0, False)


def test_impossible_bootstraps_are_refused() -> None:
    with pytest.raises(ValueError, match="pair"):
        paired_bootstrap([1.0], [])
    with pytest.raises(ValueError, match="pair"):
        paired_bootstrap([], [])
    with pytest.raises(ValueError, match="confidence"):
        paired_bootstrap([1.0], [0.0], confidence=1.0)


@PROPERTY
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.integers(0, 5))
def test_the_interval_lies_within_the_differences(values: list[float], seed: int) -> None:
    interval = paired_bootstrap(values, [0.0] * len(values), n_resamples=200, seed=seed)
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
