"""Which quotes support an answer, and which answers say the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.evidence.answers import agree, answer_in_quote, wording_of


@pytest.mark.parametrize(
    ("answer", "quote"),
    [
        ("1,577", "Purchases of equipment were $1,577 million"),
        ("$1.577 billion", "Purchases of equipment were $1,577 million"),
        ("$1,577 million in 2018", "Purchases of equipment 1,577 1,373"),
        ("429", "Purchases of equipment (429)"),
        ("2018", "in the fiscal year 2018"),
        ("2018", "on March 5, 2018"),
        ("March 5, 2021", "dated as of 2021-03-05"),
        ("March 2021", "dated as of March 5, 2021"),
        ("two years", "for a period of 2 years"),
        ("the State of New York", "governed by the laws of the state of\nNew York"),
        ("long-term debt", "the long-\nterm debt"),
        ("It may not be assigned", "This Agreement may not be assigned by the Licensee"),
        (
            "The Licensee shall keep complete and accurate books and records of all its sales",
            "Licensee shall keep complete, accurate books and records of all sales",
        ),
    ],
)
def test_supported(answer: str, quote: str) -> None:
    assert answer_in_quote(answer, quote)


@pytest.mark.parametrize(
    ("answer", "quote"),
    [
        ("", "anything at all"),
        ("1,578", "Purchases of equipment were $1,577 million"),
        ("5%", "a fee of $5"),
        ("$5 thousand", "a fee of $5 million"),
        ("March 5, 2021", "dated as of March 6, 2021"),
        ("March 5, 2021", "dated as of March 2021"),
        ("Delaware", "governed by the laws of New York"),
        ("Yes", "This Agreement may be assigned"),
        ("It may not be assigned", "This Agreement may be assigned by the Licensee"),
        ("John Smith", "signed by John Smithson"),
    ],
)
def test_not_supported(answer: str, quote: str) -> None:
    assert not answer_in_quote(answer, quote)


def says_the_same(one: str, other: str, *, same_source: bool = False) -> bool:
    ours, theirs = wording_of(one), wording_of(other)
    result = agree(ours, theirs, same_source=same_source)
    assert agree(theirs, ours, same_source=same_source) is result
    return result


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("New York", "new york."),
        ("the Licensor", "Licensor"),
        ("New York", "the State of New York"),
        ("$1,577 million", "USD 1.577 billion"),
        ("$1,577 million", "1,577"),
        ("5%", "5 percent"),
        ("two (2) years", "2 years"),
        ("March 5, 2021", "2021-03-05"),
        ("30 days", "thirty days' notice"),
    ],
)
def test_agree(one: str, other: str) -> None:
    assert says_the_same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("New York", "Delaware"),
        ("Virginia", "West Virginia"),
        ("assignable", "not assignable"),
        ("Yes", "No"),
        ("$1,577", "$1,578"),
        ("$5", "5%"),
        ("5", "5 million"),
        ("$1,577 thousand", "$1,577 million"),
        ("-5%", "5%"),
        ("12 months", "12 years"),
        ("2 years", "2 years and 6 months"),
        ("5 days after 10 notices", "10 days after 5 notices"),
        ("March 5, 2021", "March 6, 2021"),
        ("the", "New York"),
        ("net income", "income"),
    ],
)
def test_disagree(one: str, other: str) -> None:
    assert not says_the_same(one, other)


CLAUSE = "The Licensee shall indemnify the Licensor against all losses from any breach of warranty"


def test_long_answers_agree_only_about_the_same_place() -> None:
    longer = CLAUSE + " or gross negligence"
    assert says_the_same(CLAUSE, CLAUSE.upper() + ".")
    assert not says_the_same(CLAUSE, longer)
    assert not says_the_same(CLAUSE, longer, same_source=True)  # `gross` turns its noun
    longer = CLAUSE + " and applicable law"
    assert not says_the_same(CLAUSE, longer)
    assert says_the_same(CLAUSE, longer, same_source=True)
    swapped = CLAUSE.replace("Licensee", "Licensor", 1)
    assert not says_the_same(CLAUSE + " or law", swapped + " and more", same_source=True)
    assert not says_the_same(CLAUSE, CLAUSE.replace("shall", "shall not"), same_source=True)


def test_the_same_place_may_hold_a_missing_scale_or_sign() -> None:
    assert says_the_same("5", "5 million", same_source=True)
    assert says_the_same("(429)", "429", same_source=True)
    assert not says_the_same("429", "-429", same_source=True)
    assert not says_the_same("5 thousand", "5 million", same_source=True)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60), st.booleans())
def test_agreement_is_reflexive_and_symmetric(one: str, other: str, same_source: bool) -> None:
    assert says_the_same(one, one, same_source=same_source)
    says_the_same(one, other, same_source=same_source)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(["$", "", "€"]))
def test_different_numbers_never_agree(one: int, other: int, unit: str) -> None:
    for same_source in (False, True):
        agreed = says_the_same(f"{unit}{one:,} each", f"{other} each", same_source=same_source)
        assert agreed is (one == other)
