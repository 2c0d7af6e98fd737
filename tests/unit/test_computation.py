"""Which computation a question asks for, and what becomes of the values that are found."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.arithmetic import ArithmeticRefused, check_formula
from minions.computation import Form, computation_of
from minions.evidence.model import AnswerGroup, Citation, Claim, Evidence
from minions.named_values import NamedValue, plain, value_for, work_out
from minions.question_wording import years_in

RATIO_OVER_YEARS = (
    "(capex_2019 / revenue_2019 + capex_2020 / revenue_2020 + capex_2021 / revenue_2021) / 3"
)


@pytest.mark.parametrize(
    ("question", "formula", "form"),
    [
        (
            "What is the average of capex / revenue over FY2019 - FY2021?",
            RATIO_OVER_YEARS,
            Form.NUMBER,
        ),
        (
            "What was the FY19-FY21 three year average of capex as a % of revenue? "
            "Round to one decimal place.",
            RATIO_OVER_YEARS,
            Form.PERCENT,
        ),
        (
            "What was the gross margin in fiscal 2021?",
            "gross_profit_2021 / revenue_2021",
            Form.PERCENT,
        ),
        (
            "What is the ratio of debt to equity in 2021?",
            "debt_2021 / equity_2021",
            Form.NUMBER,
        ),
        (
            "What share of revenue was rent in 2020?",
            "rent_2020 / revenue_2020",
            Form.PERCENT,
        ),
        (
            "What was the percentage change in net sales from 2019 to 2020?",
            "(net_sales_2020 - net_sales_2019) / net_sales_2019",
            Form.PERCENT,
        ),
        (
            "What was the year-over-year change in net sales in 2020, in percent?",
            "(net_sales_2020 - net_sales_2019) / net_sales_2019",
            Form.PERCENT,
        ),
        (
            "What was the decrease in net sales between 2019 and 2020?",
            "net_sales_2019 - net_sales_2020",
            Form.AMOUNT,
        ),
        (
            "What is the difference between gross profit and net income in 2021?",
            "gross_profit_2021 - net_income_2021",
            Form.AMOUNT,
        ),
        (
            "What was the sum of rent and wages in 2020?",
            "rent_2020 + wages_2020",
            Form.AMOUNT,
        ),
        (
            "What was the average net income over 2018, 2019 and 2020?",
            "(net_income_2018 + net_income_2019 + net_income_2020) / 3",
            Form.AMOUNT,
        ),
    ],
)
def test_recognised(question: str, formula: str, form: Form) -> None:
    computation = computation_of(question)
    assert computation is not None
    assert (computation.formula, computation.form) == (formula, form)
    assert check_formula(formula) == {operand.name for operand in computation.operands}


@pytest.mark.parametrize(
    "question",
    [
        "Which state's law governs this agreement?",
        "How much was capital expenditure in 2020?",
        "What is the difference between a Buyer and a Seller?",
        "What drove the change in operating margin in 2022?",
        "Does the firm have an improving gross margin in 2023?",
        "What was the reason for the change in other income from 2018 to 2019?",
        "What was the change in net sales between June 2018 and June 2019?",
        "What was the weighted average number of shares in 2019?",
        "What was the gross margin in the third quarter of 2020?",
        "What was the average of capex / revenue over three years?",
        "What was the ratio of debt to equity in 2019 and 2020?",
        "What is the ratio of who to what in 2020?",
        "",
        "What was the ratio of debt" + "," * 200_000 + " to equity in 2021?",
    ],
)
def test_left_alone(question: str) -> None:
    assert computation_of(question) is None


def test_sub_questions_stand_alone() -> None:
    computation = computation_of(
        "What were total costs divided by revenue in FY21, to two decimals?"
    )
    assert computation is not None and computation.places == 2
    assert [operand.question for operand in computation.operands] == [
        "What was the total costs in 2021?",
        "What was the revenue in 2021?",
    ]
    assert [operand.is_outflow for operand in computation.operands] == [True, False]


@given(st.text(max_size=120), st.integers(min_value=1950, max_value=2049))
def test_any_question_is_read(text: str, year: int) -> None:
    computation = computation_of(f"What was the ratio of {text} to income in {year}?")
    if computation is not None:
        names = {operand.name for operand in computation.operands}
        assert len(names) == len(computation.operands)
        assert check_formula(computation.formula) == names


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("FY2018 - FY2020", (2018, 2019, 2020)),
        ("from 2018 to 2020", (2018, 2019, 2020)),
        ("2018, 2020 and FY'22", (2018, 2020, 2022)),
        ("1900 to 2099", (1900, 2099)),
        ("item 20189", ()),
    ],
)
def test_years(text: str, years: tuple[int, ...]) -> None:
    assert years_in(text) == years


def citation(quote: str, start: int = 0) -> Citation:
    return Citation(
        document_id="doc",
        document_name="a.txt",
        page=1,
        start=start,
        end=start + len(quote),
        quote=quote,
    )


def evidence(*answers: tuple[str, str | None]) -> Evidence:
    """One group per (answer, verified quote), best first."""
    groups = [
        AnswerGroup(
            answer=answer,
            claims=(
                Claim(
                    job_id=f"j{i}",
                    chunk_id=f"c{i}",
                    answer=answer,
                    citation=citation(quote) if quote else None,
                    answer_in_quote=True,
                    margin=None,
                    logprob=None,
                ),
            ),
            score=9.0 - i,
        )
        for i, (answer, quote) in enumerate(answers)
    ]
    return Evidence(
        groups=tuple(groups), n_answered=len(groups), n_abstained=0, n_failed=0, n_unverified=0
    )


@pytest.mark.parametrize(
    ("answer", "quote", "value"),
    [
        ("1,577", "Purchases of property (1,577) (1,373)", Decimal(1577)),
        ("(429)", "Net loss (429) (12)", Decimal(-429)),
        ("$1.5 billion", "Revenue was $1.5 billion in 2021.", Decimal("1.5")),
        ("In 2021 it was 32,765", "Net sales 32,765 32,184", Decimal(32765)),
    ],
)
def test_a_value_is_the_quotes_own_number(answer: str, quote: str, value: Decimal) -> None:
    found = value_for("x", evidence((answer, quote)), year=2021)
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize(
    ("answer", "quote"),
    [
        ("1,577", None),
        ("1,577 or 1,373", "Purchases 1,577 1,373"),
        ("1,578", "Purchases of property 1,577"),
        ("not stated", "Purchases of property 1,577"),
        ("1,577", "Purchases in 2019 were 1,577."),
    ],
)
def test_without_one_verified_number_there_is_no_value(answer: str, quote: str | None) -> None:
    assert value_for("x", evidence((answer, quote)), year=2021) is None


def test_another_years_quote_is_passed_over() -> None:
    both = evidence(("200", "In 2020 it was 200 units."), ("300", "In 2021 it was 300 units."))
    found = value_for("x", both, year=2021)
    assert found is not None and found.value == 300


def test_money_spent_is_taken_without_its_brackets() -> None:
    found = value_for("x", evidence(("(1,577)", "Additions (1,577)")), magnitude=True)
    assert found is not None and found.value == 1577


def named(name: str, value: str, scale: int | None = None, unit: str = "") -> NamedValue:
    return NamedValue(
        name=name,
        value=Decimal(value),
        scale=None if scale is None else Decimal(10) ** scale,
        unit=unit,
        citation=citation("quote"),
    )


def test_a_formula_is_shown_with_its_numbers() -> None:
    values = {"a": named("a", "1577"), "b": named("b", "2"), "c": named("c", "-3")}
    worked = work_out("a / b - c", values)
    assert not isinstance(worked, ArithmeticRefused)
    assert (worked.result, worked.shown) == (Decimal("791.5"), "1,577 / 2 - (-3)")


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (named("a", "1", 6), named("b", "2"), "names no scale"),
        (named("a", "1", unit="$"), named("b", "2", unit="€"), "units differ"),
        (named("a", "1"), named("b", "0"), "division by zero"),
    ],
)
def test_values_that_do_not_fit_are_refused(one: NamedValue, other: NamedValue, why: str) -> None:
    worked = work_out("a / b", {"a": one, "b": other})
    assert isinstance(worked, ArithmeticRefused) and why in worked.reason


def test_different_scales_are_brought_together() -> None:
    worked = work_out("a / b", {"a": named("a", "1.5", 9), "b": named("b", "500", 6)})
    assert not isinstance(worked, ArithmeticRefused)
    assert worked.result == 3


def test_a_missing_value_is_named() -> None:
    worked = work_out("a / b", {"a": named("a", "1")})
    assert isinstance(worked, ArithmeticRefused) and worked.reason.endswith("for b")


@given(st.decimals(min_value=-(10**12), max_value=10**12, places=4))
def test_plain_numbers_read_back(value: Decimal) -> None:
    assert Decimal(plain(value).replace(",", "")) == value
