"""The figures themselves."""

from __future__ import annotations

import math

from workers.nano.scoring import abstention, auroc, best_f1, exact, token_f1, verified


def test_token_f1_ignores_case_articles_and_punctuation() -> None:
    assert token_f1("The State of Texas.", "state of texas") == 1.0
    assert token_f1("Texas", "State of Texas") == 0.5
    assert token_f1("Ohio", "Texas") == 0.0


def test_an_abstention_scores_nothing_on_an_answerable_question() -> None:
    assert best_f1(None, ["Texas"]) == 0.0
    assert best_f1("Texas", ["Ohio", "Texas"]) == 1.0
    assert not exact(None, "Texas")


def test_a_quote_is_verified_up_to_whitespace() -> None:
    assert verified("laws of the State", "the laws  of\nthe State of Texas")
    assert not verified("laws of a State", "the laws of the State of Texas")
    assert not verified("", "anything")


def test_abstention_counts_nulls() -> None:
    told = abstention([True, True, False, False], [True, False, True, False])
    assert (told.precision, told.recall, told.f1) == (0.5, 0.5, 0.5)


def test_auroc_is_the_chance_of_the_right_order() -> None:
    assert auroc([1, 2, 3, 4], [False, False, True, True]) == 1.0
    assert auroc([1, 1, 1, 1], [False, True, False, True]) == 0.5
    assert math.isnan(auroc([1.0], [True]))
