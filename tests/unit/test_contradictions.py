"""Answers that can't both be right are found; answers about different things are left alone."""

from __future__ import annotations

import pytest

from minions.evidence.contradictions import contradictions
from minions.evidence.model import AnswerGroup, Citation, Claim, Evidence


def group(answer: str, quote: str, *, job_id: str = "", supported: bool = True) -> AnswerGroup:
    citation = Citation(
        document_id="d", document_name="d", page=1, start=0, end=len(quote), quote=quote
    )
    claim = Claim(
        job_id=job_id or answer,
        chunk_id="c",
        answer=answer,
        citation=citation,
        answer_in_quote=supported,
        margin=None,
        logprob=None,
    )
    return AnswerGroup(answer=answer, claims=(claim,), score=1.0)


def evidence(*groups: AnswerGroup) -> Evidence:
    return Evidence(
        groups=groups, n_answered=len(groups), n_abstained=0, n_failed=0, n_unverified=0
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$5 million", "$6 million"),
        ("The term is two years.", "The term is 3 years"),
        ("3 March 2021", "4 March 2021"),
        ("120", "-120"),
    ],
)
def test_different_values_in_equal_words_contradict(one: str, other: str) -> None:
    first, second = group(one, one), group(other, other)
    [found] = contradictions(evidence(first, second))
    assert (found.stronger, found.weaker) == (first, second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$5 million", "5,000,000"),  # the same
        ("1,577", "$1,577 million"),  # a heading may hold the scale
        ("March 2021", "3 March 2021"),  # more exact
        ("120", "(120)"),  # brackets may be layout
        ("Oregon", "Texas"),  # no values
        ("5 pumps", "6 valves"),  # other words
        ("Revenue in 2020 was 5", "Revenue in 2021 was 6"),  # other years
    ],
)
def test_other_answers_do_not(one: str, other: str) -> None:
    assert contradictions(evidence(group(one, one), group(other, other))) == []


def test_years_in_the_quotes_count() -> None:
    one, other = group("$5", "2020: $5"), group("$6", "2021: $6")
    assert contradictions(evidence(one, other)) == []


def test_unsupported_answers_contradict_nobody() -> None:
    one, other = group("$5", "$5"), group("$6", "$7", supported=False)
    assert contradictions(evidence(one, other)) == []


def test_only_one_task_can_be_contradicted() -> None:
    one, other = group("$5", "$5", job_id="j1"), group("$6", "$6", job_id="j2")
    assert contradictions(evidence(one, other), {"j1": "capex", "j2": "revenue"}) == []
    assert len(contradictions(evidence(one, other), {"j1": "capex", "j2": "capex"})) == 1
