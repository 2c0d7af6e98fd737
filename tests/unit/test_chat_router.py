"""The chat router as the product applies it: terms, signs, forecasts, profiles."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.chat import (
    N_BUCKETS,
    DraftModel,
    Forecast,
    QuestionModel,
    TermWeights,
    term_buckets,
    unit_length,
)
from router.chat_profile import N_SHARES, ChatProfile, StaleChatProfile
from router.chat_signs import (
    DRAFT_SIGNS,
    QUESTION_SIGNS,
    draft_signs,
    has_choices,
    question_signs,
)

TEXTS = st.text(max_size=200)
CHOICES = "Which is a prime?\nA. 4\nB. 5\nAnswer:"
SUMS = {"2*3": 6.0, "6/2": 3.0, "1+1": 2.0}


def work_out(formula: str) -> float | None:
    return SUMS.get(formula.replace(" ", ""))


def signs_of(question: str, draft: str) -> dict[str, float]:
    return dict(zip(DRAFT_SIGNS, draft_signs(question, draft, work_out), strict=True))


def question_model(levels: dict[int, int] | None = None, gain: float = 0.1) -> QuestionModel:
    weights = np.zeros(N_BUCKETS, dtype=np.int8)
    for bucket, level in (levels or {}).items():
        weights[bucket] = level
    nothing = TermWeights(levels=np.zeros(N_BUCKETS, dtype=np.int8), scale=1.0)
    return QuestionModel(
        rarity=np.ones(N_BUCKETS, dtype=np.uint8),
        terms=(TermWeights(levels=weights, scale=0.5), nothing),
        signs=np.zeros((2, len(QUESTION_SIGNS))),
        intercepts=(gain, 0.6),
    )


def profile(draft: bool = True) -> ChatProfile:
    model = DraftModel(signs=np.ones((2, len(DRAFT_SIGNS))) / 100, intercepts=(0.0, 0.5))
    return ChatProfile(
        weak_model="small",
        strong_model="large",
        n_rows=100,
        question=question_model({7: -3}),
        question_gains=np.linspace(1, 0, N_SHARES),
        draft=model if draft else None,
        draft_gains=np.linspace(0.5, 0, N_SHARES) if draft else None,
    )


def test_terms_are_distinct_sorted_and_blind_to_case() -> None:
    buckets = term_buckets("Red fox, red fox")
    assert list(buckets) == sorted(set(buckets))
    assert list(buckets) == list(term_buckets("RED FOX, red fox"))
    assert set(term_buckets("red")) < set(buckets)


def test_order_of_words_counts_by_pairs() -> None:
    assert set(term_buckets("dog bites man")) != set(term_buckets("man bites dog"))


@given(TEXTS)
def test_any_text_has_a_finite_forecast(text: str) -> None:
    said = question_model(dict.fromkeys(range(0, N_BUCKETS, 5), 127)).forecast(text)
    assert -1 <= said.gain <= 1
    assert 0 <= said.p_local <= 1
    assert 0 <= said.p_cloud <= 1


def test_forecast_by_hand() -> None:
    buckets = term_buckets("ab")  # the word, and of " ab ": 3 pairs, 2 triples, 1 quadruple
    assert len(buckets) == 7
    said = question_model({int(buckets[0]): 2}).forecast("ab")
    assert said.gain == pytest.approx(0.1 + 2 * 0.5 / np.sqrt(7))
    assert said.p_local == pytest.approx(0.6)


def test_question_without_terms_gets_the_intercepts() -> None:
    assert question_model().forecast("") == Forecast(p_local=0.6, gain=0.1)


def test_unit_length() -> None:
    assert unit_length(np.array([3.0, 4.0])) == pytest.approx([0.6, 0.8])
    assert unit_length(np.zeros(2)) == pytest.approx([0, 0])


def test_listed_choices_silence_the_signs() -> None:
    assert has_choices(CHOICES)
    assert not question_signs(CHOICES).any()
    assert not has_choices("I give an A. to B. and leave")
    assert question_signs("How many are 3 times 4?")[0] == 1


def test_signs_of_a_question() -> None:
    signs = dict(zip(QUESTION_SIGNS, question_signs("If 2 cost $3.50 each?"), strict=True))
    assert signs["numbers"] == pytest.approx(np.log(3))
    assert signs["largest_number"] == pytest.approx(np.log(4.5))
    assert (signs["decimals"], signs["money"], signs["condition"], signs["each"]) == (1, 1, 1, 1)
    assert (signs["percent"], signs["ratio"], signs["period"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("draft", "sign", "value"),
    [
        ("So 2*3=6.\n#### 6", "final_is_bare_number", 1),
        ("So it is 6 apples.", "final_missing", 1),
        ("The answer is 2.5", "final_is_fraction", 1),
        (r"Thus \boxed{-4}", "final_is_negative", 1),
        ("#### about six", "final_has_words", 1),
        ("#### 3", "final_stands_in_question", 1),
        ("2*3=7", "wrong_equations", np.log(2)),
        ("2 x 3 = $6", "right_equations", np.log(2)),
        (r"2 \* 3 = 6", "right_equations", np.log(2)),
        ("6/2=3.01", "wrong_equations", 0),
        ("1+1=3%", "wrong_equations", 0),
        ("no sums here", "no_equation", 1),
        ("2 and 3", "unused_numbers", 0.5),
        ("However, I assume so.", "second_thoughts", 1),
        ("Let x be it", "algebra", 1),
        ("and then we", "cut_short", 1),
    ],
)
def test_signs_of_a_draft(draft: str, sign: str, value: float) -> None:
    assert signs_of("Add 3, 2, 8 and 9.", draft)[sign] == pytest.approx(value)


@given(TEXTS, TEXTS)
def test_any_draft_has_finite_signs(question: str, draft: str) -> None:
    assert np.isfinite(draft_signs(question, draft, work_out)).all()


@pytest.mark.parametrize("noise", ["1+" * 9_000, "=" * 20_000, "$(,.)- x" * 2_500, "#### " * 4_000])
def test_hostile_drafts_are_read_quickly(noise: str) -> None:
    seen: list[str] = []

    def count(formula: str) -> float | None:
        seen.append(formula)
        return None

    assert np.isfinite(draft_signs(noise, noise, count)).all()
    assert len(seen) <= 50


def test_cloud_chance_is_local_plus_gain_within_bounds() -> None:
    assert Forecast(p_local=0.5, gain=0.25).p_cloud == 0.75
    assert Forecast(p_local=0.9, gain=0.25).p_cloud == 1
    assert Forecast(p_local=0.1, gain=-0.25).p_cloud == 0


@pytest.mark.parametrize("with_draft", [True, False])
def test_profile_comes_back_from_json(with_draft: bool) -> None:
    before = profile(with_draft)
    after = ChatProfile.from_json(json.loads(json.dumps(before.to_json())))
    assert after.fingerprint == before.fingerprint
    assert after.question.forecast("some question") == before.question.forecast("some question")
    assert (after.draft is None) == (before.draft is None)


def test_draft_model_comes_back_from_json() -> None:
    before, after = profile().draft, ChatProfile.from_json(profile().to_json()).draft
    assert before is not None
    assert after is not None
    said = (model.forecast("some question", "#### 4", work_out) for model in (before, after))
    assert next(said) == next(said)


def test_profile_belongs_to_its_pair_of_models() -> None:
    profile().check("small", "large")
    with pytest.raises(StaleChatProfile, match="small and large; now small and huge"):
        profile().check("small", "huge")


def test_gain_at_share() -> None:
    assert profile().gain_at_share(0.25) == pytest.approx(0.75)
    assert profile().gain_at_share(0.5, with_draft=True) == pytest.approx(0.25)
    with pytest.raises(ValueError, match=r"0\.\.1"):
        profile().gain_at_share(1.5)
    with pytest.raises(ValueError, match="knows no drafts"):
        profile(draft=False).gain_at_share(0.5, with_draft=True)


def bomb() -> str:
    return base64.b64encode(zlib.compress(bytes(50_000_000))).decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 1"),
        ({"n_rows": 101}, "changed after"),
        ({"question": {}}, "KeyError"),
        ({"draft_gains": [1.0, 0.0]}, "shape"),
        ({"question_gains": ["x"] * N_SHARES}, "could not convert"),
        ({"draft": 3}, "TypeError"),
    ],
)
def test_damaged_profile_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChatProfile.from_json({**profile().to_json(), **change})


@pytest.mark.parametrize("packed", ["é", "AAAA", bomb()])
def test_damaged_weights_are_refused(packed: str) -> None:
    data = profile().to_json()
    with pytest.raises(ValueError, match="No chat profile"):
        ChatProfile.from_json({**data, "question": {**data["question"], "rarity": packed}})


def test_profile_of_other_terms_is_stale() -> None:
    with pytest.raises(StaleChatProfile, match="fit it again"):
        ChatProfile.from_json({**profile().to_json(), "terms_version": 0})
