"""Which computation a question asks for, told from its wording: a pure function.

Recognised: ratios and shares, margins, averages over years, growth and change, differences and
sums, of quantities that a document states year by year. What is not recognised with certainty is
left alone: the question is then answered as it stands.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from minions.question_wording import (
    after_average,
    asks_for_a_value,
    first_sentence,
    is_average,
    is_measure,
    measure_in,
    places_in,
    without_years,
    years_in,
)

MAX_OPERANDS = 12
"""More values than these are not looked up one by one."""
MAX_NAME_CHARS = 40


class Form(enum.StrEnum):
    """How the result is written."""

    NUMBER = "number"
    """A pure number: 0.153."""
    PERCENT = "percent"
    """A share: 15.3%."""
    AMOUNT = "amount"
    """In the unit and scale of the values: $1,577 million."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Operand:
    """One value that must be found in the documents."""

    name: str
    """As it stands in the formula."""
    measure: str
    """What is measured, in the question's words."""
    year: int

    @property
    def question(self) -> str:
        """What a worker is asked."""
        return f"What was the {self.measure} in {self.year}?"

    @property
    def is_outflow(self) -> bool:
        """Whether it is money spent, which statements print in brackets and people name without."""
        return bool(_OUTFLOW.search(self.measure))


@dataclass(frozen=True, kw_only=True, slots=True)
class Computation:
    """A formula over values that are still to be found."""

    formula: str
    operands: tuple[Operand, ...]
    form: Form
    places: int | None
    """Decimal places that the question asks for; None when it does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """Measures and how they combine in one year, before years are put in."""

    measures: tuple[str, ...]
    combine: str
    """A formula over `{0}`, `{1}`..., the measures of one year; for a change, of its two years."""
    form: Form
    across_years: bool = False
    """Whether `{0}` and `{1}` are one measure in the first and the last year."""


_GROWN = "({1} - {0}) / {0}"
_SHRUNK = "({0} - {1}) / {0}"
_FALL = re.compile(r"\b(?:decrease|decline|reduction|drop)\b", re.IGNORECASE)
"""Asked for as a fall, a fall is positive."""
_IN_PERCENT = re.compile(r"\bpercent|%", re.IGNORECASE)
_OUTFLOW = re.compile(
    r"\b(?:cap(?:ital )?ex\w*|expenditures?|expenses?|costs?|purchases?|payments?|dividends?"
    r"|repurchases?|spending|outlays?|additions to)\b",
    re.IGNORECASE,
)
_MARGINS = {
    "gross": ("gross profit", "revenue"),
    "gross profit": ("gross profit", "revenue"),
    "operating": ("operating income", "revenue"),
    "operating profit": ("operating income", "revenue"),
    "operating income": ("operating income", "revenue"),
    "ebit": ("EBIT", "revenue"),
    "ebitda": ("EBITDA", "revenue"),
    "net": ("net income", "revenue"),
    "net profit": ("net income", "revenue"),
    "net income": ("net income", "revenue"),
    "profit": ("net income", "revenue"),
    "free cash flow": ("free cash flow", "revenue"),
}
"""Margins by their usual meaning, over revenue."""
_MARGIN = re.compile(
    rf"\b({'|'.join(sorted(_MARGINS, key=len, reverse=True))})\s+margin\b", re.IGNORECASE
)
_OF = r"as\s+an?\s+(?:%|per\s?cent(?:age)?|share|fraction|proportion)\s+of"


def computation_of(question: str) -> Computation | None:
    """The computation that `question` asks for; None when it asks for none that is sure."""
    if not asks_for_a_value(question):
        return None
    years, sentence = years_in(question), without_years(first_sentence(question))
    shape = next((s for rule in _RULES if (s := rule(sentence, years))), None)
    if shape is None or not all(map(is_measure, shape.measures)):
        return None
    if shape.across_years and _IN_PERCENT.search(question):
        shape = _relative(shape.measures[0], sentence)
    return _over_years(shape, years, is_average(sentence), places_in(question))


def _rule(pattern: str, form: Form, combine: str = "{0} / {1}") -> _Rule:
    """A rule for a sentence that names two measures of one year."""
    compiled = re.compile(pattern, re.IGNORECASE)

    def matched(sentence: str, _years: tuple[int, ...]) -> _Shape | None:
        found = compiled.search(sentence)
        if found is None:
            return None
        measures = (measure_in(found["a"]), measure_in(found["b"]))
        return _Shape(measures=measures, combine=combine, form=form)

    return matched


def _margin(sentence: str, _years: tuple[int, ...]) -> _Shape | None:
    found = _MARGIN.search(sentence)
    if found is None:
        return None
    return _Shape(measures=_MARGINS[found[1].lower()], combine="{0} / {1}", form=Form.PERCENT)


def _growth(sentence: str, years: tuple[int, ...]) -> _Shape | None:
    found = _GROWTH.search(sentence)
    if found is None or not _two_ends(sentence, years):
        return None
    return _relative(found["a"] or found["b"], sentence)


def _plain_change(sentence: str, years: tuple[int, ...]) -> _Shape | None:
    found = _CHANGE.search(sentence)
    if found is None or not _two_ends(sentence, years):
        return None
    combine = "{0} - {1}" if _FALL.search(sentence) else "{1} - {0}"
    return _change(found["a"], combine, Form.AMOUNT)


def _relative(measure: str, sentence: str) -> _Shape:
    combine = _SHRUNK if _FALL.search(sentence) else _GROWN
    return _change(measure, combine, Form.PERCENT)


def _change(measure: str, combine: str, form: Form) -> _Shape:
    return _Shape(measures=(measure_in(measure),), combine=combine, form=form, across_years=True)


def _two_ends(sentence: str, years: tuple[int, ...]) -> bool:
    """Two years, or one that is compared with the year before."""
    return len(years) == 2 or (len(years) == 1 and bool(_YEAR_ON_YEAR.search(sentence)))


def _mean_of_one(sentence: str, years: tuple[int, ...]) -> _Shape | None:
    if not is_average(sentence) or len(years) < 2:
        return None
    measure = measure_in(after_average(sentence))
    return _Shape(measures=(measure,), combine="{0}", form=Form.AMOUNT)


_Rule = Callable[[str, tuple[int, ...]], _Shape | None]
_YEAR_ON_YEAR = re.compile(
    r"\b(?:year[\s-](?:over|on)[\s-]year|yoy|from the (?:prior|previous) year)", re.I
)
_GROWTH = re.compile(
    r"\b(?:growth(?: rate)?|(?:percent(?:age)?|%|relative)\s+(?:change|increase|decrease|growth))"
    r"\s+(?:in|of)\s+(?P<a>.+)$"
    r"|^(?P<b>.+?)\s+growth(?:\s+rate)?$",
    re.IGNORECASE,
)
_CHANGE = re.compile(
    r"\b(?:change|increase|decrease|decline|reduction|difference)\s+(?:in|of)\s+(?P<a>.+)$",
    re.IGNORECASE,
)
_RULES: tuple[_Rule, ...] = (
    _rule(rf"^(?P<a>.+?)\s+{_OF}\s+(?P<b>.+)$", Form.PERCENT),
    _rule(
        r"\b(?:share|percent|percentage|proportion|fraction|%) of (?P<b>.+?) "
        r"(?:was|were|is|are|came from|comes from|went to|did) (?P<a>.+?)"
        r"(?: (?:represent|make up|account for))?$",
        Form.PERCENT,
    ),
    _rule(r"\b(?:share|proportion|fraction) of (?P<a>.+?) in (?P<b>.+)$", Form.PERCENT),
    _rule(r"\bratio (?:of|between) (?P<a>.+?) (?:to|over|and) (?P<b>.+)$", Form.NUMBER),
    _rule(r"^(?P<a>.+?)[\s-]to[\s-](?P<b>.+?) ratio\b", Form.NUMBER),
    _rule(r"^(?P<a>.+?) (?:/|divided by) (?P<b>.+)$", Form.NUMBER),
    _margin,
    _growth,
    _rule(r"\bdifference between (?P<a>.+?) and (?P<b>.+)$", Form.AMOUNT, "{0} - {1}"),
    _plain_change,
    _rule(r"\b(?:sum|total) of (?P<a>.+?) and (?P<b>.+)$", Form.AMOUNT, "{0} + {1}"),
    _rule(r"^(?P<a>.+?) plus (?P<b>.+)$", Form.AMOUNT, "{0} + {1}"),
    _rule(r"^(?P<a>.+?) minus (?P<b>.+)$", Form.AMOUNT, "{0} - {1}"),
    _mean_of_one,
)
"""Tried in order; the first that fits decides."""


def _over_years(
    shape: _Shape, years: tuple[int, ...], averaged: bool, places: int | None
) -> Computation | None:
    """The shape with its years put in; None when years and shape don't fit together."""
    if shape.across_years:
        ends = years if len(years) == 2 else (years[0] - 1, years[0])
        operands = _operands(shape.measures * 2, ends)
        formula = shape.combine.format(*(operand.name for operand in operands))
        return Computation(formula=formula, operands=operands, form=shape.form, places=places)
    if not years or (len(years) > 1 and not averaged):
        return None
    if len(years) * len(shape.measures) > MAX_OPERANDS:
        return None
    by_year = [_operands(shape.measures, [year] * len(shape.measures)) for year in years]
    terms = [shape.combine.format(*(operand.name for operand in row)) for row in by_year]
    return Computation(
        formula=terms[0] if len(terms) == 1 else f"({' + '.join(terms)}) / {len(terms)}",
        operands=tuple(operand for row in by_year for operand in row),
        form=shape.form,
        places=places,
    )


def _operands(measures: Iterable[str], years: Iterable[int]) -> tuple[Operand, ...]:
    """One operand per measure and year, under names that no two share."""
    operands: list[Operand] = []
    for measure, year in zip(measures, years, strict=True):
        name = _name(measure, year)
        taken = sum(operand.name.startswith(name) for operand in operands)
        name = f"{name}_{taken + 1}" if taken else name
        operands.append(Operand(name=name, measure=measure, year=year))
    return tuple(operands)


def _name(measure: str, year: int) -> str:
    words = re.findall(r"[a-z][a-z0-9]*", measure.lower())
    return "_".join([*words[:3], str(year)])[-MAX_NAME_CHARS:].lstrip("_0123456789")
