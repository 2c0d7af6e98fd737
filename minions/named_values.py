"""Numbers that workers found, each with its checked quote, put into a formula that shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from minions.arithmetic import ArithmeticRefused, check_formula, evaluate
from minions.evidence.model import Citation, Claim, Evidence
from minions.evidence.values import Quantity, same_quantity, values_of

_SCALE_NAMES = {
    Decimal(10**3): "thousand",
    Decimal(10**6): "million",
    Decimal(10**9): "billion",
    Decimal(10**12): "trillion",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedValue:
    """One number of a formula. It stands in the verified quote, in the document's own words."""

    name: str
    value: Decimal
    """Without its scale word."""
    scale: Decimal | None
    """What the scale word beside it multiplies by; None when there is none (a table's heading may
    hold it)."""
    unit: str
    """As in `Quantity`."""
    citation: Citation

    @property
    def amount(self) -> Decimal:
        return self.value if self.scale is None else self.value * self.scale

    @property
    def scale_name(self) -> str:
        """`million` and the like; empty where none stands there."""
        return "" if self.scale is None else _SCALE_NAMES[self.scale]


@dataclass(frozen=True, kw_only=True, slots=True)
class Worked:
    """A formula's result and how it came about."""

    result: Decimal
    shown: str
    """The formula with the numbers in place of their names."""
    unit: str
    """Common unit of the numbers; empty where they have none."""
    scale_name: str
    """Common scale word of the numbers, `million`; empty where they have none."""


def value_for(
    name: str, evidence: Evidence, *, year: int | None = None, magnitude: bool = False
) -> NamedValue | None:
    """The number that the best verified answer gives; None when there is no such answer, or it
    gives several numbers or one that its quote does not hold.

    With `year`, answers whose quote names other years only are passed over. `magnitude` takes a
    number in brackets without its sign: cash flow statements print what was spent so, and a
    question about spending means how much."""
    for group in evidence.groups:
        claims = [claim for claim in group.claims if _may_be_of(year, claim)]
        if claims:
            found = (_named(name, claim, magnitude) for claim in claims)
            return next((value for value in found if value is not None), None)
    return None


def _may_be_of(year: int | None, claim: Claim) -> bool:
    """Whether the claim has a quote, and that quote does not speak of other years alone. A table's
    row names no year: its heading does."""
    if claim.citation is None:
        return False
    named = _years_of(claim.citation.quote)
    return year is None or not named or year in named


def _years_of(text: str) -> frozenset[int]:
    values = values_of(text)
    years = {int(q.value) for q in values.quantities if q.looks_like_year}
    return frozenset(years | {date.year for date in values.dates})


def _named(name: str, claim: Claim, magnitude: bool) -> NamedValue | None:
    if claim.citation is None:
        return None
    stated = _only_number(claim.answer)
    if stated is None:
        return None
    quoted = _in_quote(stated, claim.citation.quote)
    if quoted is None:
        return None
    # Sign by what the worker made of the brackets; digits and scale by the document.
    value = quoted.value.copy_abs().copy_sign(stated.value)
    return NamedValue(
        name=name,
        value=value.copy_abs() if magnitude else value,
        scale=quoted.scale,
        unit=quoted.unit or stated.unit,
        citation=claim.citation,
    )


def _only_number(answer: str) -> Quantity | None:
    """The one number of an answer, beside years; None when there is none or more than one."""
    telling = [q for q in values_of(answer).quantities if not q.looks_like_year]
    return telling[0] if len({(q.amount, q.unit) for q in telling}) == 1 else None


def _in_quote(stated: Quantity, quote: str) -> Quantity | None:
    """The same number in the quote; the one that names its scale, where several do."""
    there = [q for q in values_of(quote).quantities if same_quantity(stated, q)]
    return min(there, key=lambda q: q.scale is None, default=None)


def work_out(formula: str, values: Mapping[str, NamedValue]) -> Worked | ArithmeticRefused:
    """Evaluate `formula` over those of the values that it names, and show it with their numbers.

    Refused when a value is missing; and when some numbers name a scale and others do not, or their
    units differ: then nobody can tell whether they fit together."""
    names = check_formula(formula)
    if isinstance(names, ArithmeticRefused):
        return names
    missing = ", ".join(sorted(names - set(values)))
    if missing:
        return ArithmeticRefused(reason=f"no number with a verified quote was found for {missing}")
    used = {name: values[name] for name in sorted(names)}
    refusal = _misfit(list(used.values()))
    if refusal is not None:
        return refusal
    common = len({value.scale for value in used.values()}) == 1
    numbers = {name: v.value if common else v.amount for name, v in used.items()}
    result = evaluate(formula, numbers)
    if isinstance(result, ArithmeticRefused):
        return result
    return Worked(
        result=result,
        shown=_with_numbers(formula, numbers),
        unit=next((v.unit for v in used.values() if v.unit), ""),
        scale_name=next(v.scale_name for v in used.values()) if common else "",
    )


def _misfit(values: list[NamedValue]) -> ArithmeticRefused | None:
    if not values:
        return ArithmeticRefused(reason="the formula names no value")
    units = {value.unit for value in values if value.unit}
    if len(units) > 1:
        return ArithmeticRefused(reason=f"the units differ: {' and '.join(sorted(units))}")
    bare = next((v for v in values if v.scale is None), None)
    scaled = next((v for v in values if v.scale is not None), None)
    if bare is not None and scaled is not None and bare.value != 0:
        return ArithmeticRefused(
            reason=f"`{scaled.name}` is stated in {scaled.scale_name}s and `{bare.name}` "
            f"({plain(bare.value)}) names no scale"
        )
    return None


def _with_numbers(formula: str, numbers: Mapping[str, Decimal]) -> str:
    """The formula with numbers for names; negative ones in parentheses."""

    def number(match: re.Match[str]) -> str:
        value = numbers.get(match.group())
        if value is None:
            return match.group()
        return f"({plain(value)})" if value < 0 else plain(value)

    return re.sub(r"[A-Za-z_]\w*", number, formula.strip())


def plain(value: Decimal) -> str:
    """A number as people write it: `1,577`, `0.048`; never with an exponent."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
