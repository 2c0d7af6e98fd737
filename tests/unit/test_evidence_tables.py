"""Headings of a number quoted from a table, as PDFs, HTML, DOCX and Markdown give it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.evidence.tables import headings_of

PDF = """\
Harrow Mills Inc.
CONSOLIDATED STATEMENT OF INCOME
(In millions) 2022 2021 2020
Net sales $ 4,120 $ 3,987 $ 3,655
Cost of goods sold (2,904) (2,811) (2,602)
Impairment — 12 —
The company had 212 mills in 2021, after 208 in 2020.
"""
DATED = """\
December 31, 2022 December 25, 2021
Total current assets 15,019 8,583
Inventories 3,771 1,955
"""
MARKED = """\
Item | FY2022 | FY2021
Net sales | $4,120 | $3,987
Gross margin | 29.5% | 29.4%
"""
HTML_FILING = """\
2022 | 2021
Net sales | $ | 4,120 | $ | 3,987
"""
MARKDOWN = """\
|  | 2022 | 2021 |
|---|---:|---:|
| Net sales | 4,120 | 3,987 |
"""


def headings(text: str, quote: str) -> tuple[str, str] | None:
    start = text.index(quote)
    return headings_of(text, start, start + len(quote))


@pytest.mark.parametrize(
    ("text", "quote", "expected"),
    [
        (PDF, "3,987", ("Net sales", "2021")),
        (PDF, "$ 3,655", ("Net sales", "2020")),
        (PDF, "Net sales $ 4,120", ("Net sales", "2022")),
        (PDF, "(2,602)", ("Cost of goods sold", "2020")),
        (PDF, "12 —", ("Impairment", "2021")),
        (DATED, "8,583", ("Total current assets", "December 25, 2021")),
        (DATED, "3,771", ("Inventories", "December 31, 2022")),
        (MARKED, "$3,987", ("Net sales", "FY2021")),
        (MARKED, "29.5%", ("Gross margin", "FY2022")),
        (HTML_FILING, "4,120", ("Net sales", "2022")),
        (HTML_FILING, "3,987", ("Net sales", "2021")),
        (MARKDOWN, "3,987", ("Net sales", "2021")),
    ],
)
def test_row_and_column_are_named(text: str, quote: str, expected: tuple[str, str]) -> None:
    assert headings(text, quote) == expected


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        (PDF, "212"),  # prose
        (PDF, "2021 2020"),  # the heading itself
        (PDF, "Net sales"),  # no number
        (PDF, "3,655\nCost of goods sold (2,904)"),  # two rows
        ("Net sales 4,120 3,987\n", "4,120"),  # no heading
        ("2022 2021\nNet sales 4,120 3,987 3,655\n", "3,987"),  # heading of another table
    ],
)
def test_no_heading_is_guessed(text: str, quote: str) -> None:
    assert headings(text, quote) is None


@given(
    st.text(alphabet="ab 19,20.|$()%-\t\n", max_size=120), st.integers(0, 119), st.integers(1, 40)
)
def test_any_text_is_survived(text: str, start: int, width: int) -> None:
    start = min(start, len(text))
    found = headings_of(text, start, min(len(text), start + width))
    assert found is None or all(found)
