"""What is expected of both models before anything was learned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.chat.routing import work_out
from router.chat_prior import LocalDraft, prior_forecast, prior_with_draft

EASY = "Which city is the capital of Norway?"
HARD = (
    "If a train leaves at 9 and travels 120 km at 80 km per hour, how many minutes later than a "
    "train at 95 km per hour does it arrive? Prove it step by step."
)


def after(text: str, **fields: bool) -> float:
    draft = LocalDraft(text=text, **fields)
    return prior_with_draft(EASY, draft, work_out).p_local


def test_harder_questions_have_less_hope_here_and_gain_more_there() -> None:
    easy, hard = prior_forecast(EASY), prior_forecast(HARD)
    assert hard.p_local < easy.p_local and hard.gain > easy.gain


def test_a_good_draft_changes_nothing() -> None:
    assert after("Oslo.") == prior_forecast(EASY).p_local


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", {}),
        ("I'm sorry, I don't know.", {}),
        ("Since 7 + 5 = 13, the answer is 13.", {}),
        ("Oslo is", {"cut": True}),
    ],
)
def test_a_doubtful_draft_has_less_hope(text: str, fields: dict[str, bool]) -> None:
    assert after(text, **fields) < prior_forecast(EASY).p_local - 0.2


def test_a_tool_call_claims_nothing_yet() -> None:
    assert after("", calls_tools=True) == prior_forecast(EASY).p_local


@given(question=st.text(max_size=200), text=st.text(max_size=200), cut=st.booleans())
def test_a_draft_never_raises_hopes_and_chances_stay_chances(
    question: str, text: str, cut: bool
) -> None:
    before = prior_forecast(question)
    later = prior_with_draft(question, LocalDraft(text=text, cut=cut), work_out)
    assert 0 <= later.p_local <= before.p_local <= before.p_cloud <= 1
    assert later.p_cloud == pytest.approx(before.p_cloud)
