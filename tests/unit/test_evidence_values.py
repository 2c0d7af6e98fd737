"""Numbers and dates are read by value."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.evidence.values import same_quantity, values_of


def numbers(text: str) -> list[tuple[Decimal, str]]:
    return [(quantity.amount, quantity.unit) for quantity in values_of(text).quantities]


def dates(text: str) -> list[tuple[int, int, int | None]]:
    return [(date.year, date.month, date.day) for date in values_of(text).dates]


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("$1,577 million", 1_577_000_000, "$"),
        ("USD 1.5 billion", 1_500_000_000, "$"),
        ("US$5bn", 5_000_000_000, "$"),
        ("$(1,234.5) million", -1_234_500_000, "$"),
        ("(429)", -429, ""),
        ("($429)", -429, "$"),
        ("( 429 )", -429, ""),
        ("-5%", -5, "%"),
        ("(5)%", -5, "%"),
        ("5 percent", 5, "%"),
        ("25 basis points", 25, "bp"),
        ("two (2) years", 2, ""),
        ("one hundred eighty (180) days", 180, ""),
        ("one hundred and five days", 105, ""),
        ("Twenty-one days", 21, ""),
        ("two million euros", 2_000_000, "€"),
        ("the 3rd", 3, ""),
        ("No.5", 5, ""),
        (".5", Decimal("0.5"), ""),
        ("COVID-19", 19, ""),
        ("15 members", 15, ""),
    ],
)
def test_one_number(text: str, amount: int | Decimal, unit: str) -> None:
    assert numbers(text) == [(Decimal(amount), unit)]


@pytest.mark.parametrize("text", ["", "FY2018", "5G", "rate x10a", "someone", "anyone is often"])
def test_no_number(text: str) -> None:
    assert numbers(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "March 5, 2021",
        "Mar. 5, 2021",
        "March 5th, 2021",
        "5 March 2021",
        "the 5th day of March, 2021",
        "2021-03-05",
        "03/05/2021",
        "3/5/21",
    ],
)
def test_spellings_of_one_date(text: str) -> None:
    assert dates(text) == [(2021, 3, 5)]
    assert numbers(text) == []


def test_other_dates() -> None:
    assert dates("25/12/2020 and March 2020") == [(2020, 12, 25), (2020, 3, None)]
    assert dates("13/13/2020, February 30, 2021, may 10 days") == []


def test_a_year_is_told_from_other_numbers() -> None:
    looks = [
        quantity.looks_like_year for quantity in values_of("2021 $2021 2,021 (2021) 12").quantities
    ]
    assert looks == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1,577", "$1,577 million", True),
        ("$1.577 billion", "1,577 million", True),
        ("(429)", "429", True),
        ("-429", "429", False),
        ("$5", "5%", False),
        ("5 thousand", "5 million", False),
        ("1,577", "1,578", False),
    ],
)
def test_same_quantity(one: str, other: str, same: bool) -> None:
    (ours,), (theirs,) = values_of(one).quantities, values_of(other).quantities
    assert same_quantity(ours, theirs) is same
    assert same_quantity(theirs, ours) is same


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("0123456789,.()$%- onetwo/AMaprch\n²٣"), max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    values = values_of(text)
    spans = [(q.start, q.end) for q in values.quantities]
    spans += [(date.start, date.end) for date in values.dates]
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert bool(values) == bool(values.quantities or values.dates)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**15), st.sampled_from(["", "$", "€"]), st.booleans())
def test_thousands_separators_don_t_matter(number: int, unit: str, negative: bool) -> None:
    plain, grouped = f"{unit}{number}", f"{unit}{number:,}"
    if negative:
        plain, grouped = f"-{plain}", f"({grouped})"
    assert numbers(f"it is {plain} or") == numbers(f"it is {grouped} or")


@pytest.mark.parametrize("text", ["(" * 50_000, "one " * 20_000, "9" * 50_000, "$-" * 30_000])
def test_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    began = time.perf_counter()
    values_of(text)
    assert time.perf_counter() - began < 5
