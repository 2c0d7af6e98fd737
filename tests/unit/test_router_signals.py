"""Signals: each small function, and their way through JSON and into features."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router import (
    QuestionType,
    Signals,
    is_hedged,
    logprob_quantiles,
    margin_gap,
    mean_logprob,
    question_type,
    rank_of,
    retrieval_gap,
    sample_agreement,
    verified_share,
    weakest_abstention,
)
from router.features import FEATURE_NAMES, features_of
from tests.unit.test_router import GOOD

logprobs = st.lists(st.floats(min_value=-30, max_value=0), min_size=1)


@given(logprobs)
def test_quantiles_of_token_logprobs_are_ordered_and_within(tokens: list[float]) -> None:
    found = logprob_quantiles(tokens)
    assert found is not None
    lowest, tenth, median = found
    assert min(tokens) == lowest <= tenth <= median <= max(tokens)


def test_what_is_unknown_stays_unknown() -> None:
    assert logprob_quantiles([]) is None
    assert mean_logprob([]) is None
    assert sample_agreement(["Oregon"]) is None
    assert verified_share(0, 0) is None
    assert margin_gap([], [1.0]) is None
    assert weakest_abstention([]) is None
    assert retrieval_gap([3.0]) is None
    assert retrieval_gap([0.0, 0.0]) is None
    assert rank_of("c9", ["c1", "c2"]) is None


def test_signals_of_agreement_margins_and_ranks() -> None:
    assert mean_logprob([-1.0, -3.0]) == -2.0
    assert logprob_quantiles([-3.0, -1.0, -2.0]) == (-3.0, pytest.approx(-2.8), -2.0)
    assert sample_agreement(["Oregon", None, "Oregon", "Ohio"]) == 0.5
    assert verified_share(1, 4) == 0.75
    assert margin_gap([2.0, 7.0], [1.0, 3.0]) == 4.0
    assert weakest_abstention([4.0, 0.5, 9.0]) == 0.5
    assert retrieval_gap([8.0, 6.0, 1.0]) == 0.25
    assert rank_of("c2", ["c1", "c2"]) == 2


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Is the company a party to any litigation?", QuestionType.YES_NO),
        ("You are an auditor. Does revenue include interest? Explain.", QuestionType.YES_NO),
        ("How much did Alder pay for each pump?", QuestionType.NUMBER),
        ("State net PP&E. Answer in USD millions.", QuestionType.NUMBER),
        ("When does the agreement end?", QuestionType.DATE),
        ("What are the warranties of the seller?", QuestionType.LIST),
        ("Summarise the meeting.", QuestionType.SUMMARY),
        ("Which law governs this agreement?", QuestionType.CLAUSE),
        ("Who is the chair?", QuestionType.OTHER),
        ("", QuestionType.OTHER),
    ],
)
def test_question_types(question: str, kind: QuestionType) -> None:
    assert question_type(question) is kind


@given(st.text(max_size=200))
def test_any_text_has_a_type_and_may_hedge(text: str) -> None:
    assert question_type(text) in QuestionType
    assert is_hedged(f"I’m sorry, {text}")


def test_signals_go_through_json_and_old_records_are_unknown() -> None:
    full = replace(
        GOOD, logprob_quantiles=(-2.0, -1.0, -0.1), question_type=QuestionType.DATE, n_competing=2
    )
    assert Signals.from_json(json.loads(json.dumps(full.to_json()))) == full
    old = {k: v for k, v in GOOD.to_json().items() if v is not None}
    assert Signals.from_json(old) == GOOD
    with pytest.raises(TypeError):
        Signals.from_json({**old, "no_such_signal": 1})


def test_features_are_bounded_and_keep_unknown_apart_from_bad() -> None:
    wild = replace(GOOD, margin=1e9, mean_logprob=-1e9, rival_margin_gap=None)
    found = features_of(wild)
    assert set(found) == FEATURE_NAMES
    assert found["margin"] == 20
    assert found["mean_logprob"] == -5
    assert found["rival_margin_gap"] is None
    assert features_of(replace(GOOD, answered=False))["agreement"] is None
