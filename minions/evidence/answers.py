"""Whether a quote supports an answer, and whether two answers say the same."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from minions.evidence.values import (
    CalendarDate,
    Quantity,
    Values,
    same_quantity,
    same_unit,
    values_of,
)
from minions.evidence.words import ARTICLES, NEGATIONS, TURNING_WORDS, content_words, words

SHORT_WORDS = 8
"""Answers up to this many words are short: they agree when one contains the other."""
MIN_OVERLAP = 0.5
"""Share of common content words (Jaccard) that lets a longer answer absorb another one."""
SUPPORTED_SHARE = 0.7
"""Share of a longer answer's content words that its quote must hold; a short one's must all be."""

TELLING_DIGITS = 3
"""Significant digits from which equal numbers are taken as one though one lacks its scale."""


def answer_in_quote(answer: str, quote: str) -> bool:
    """Whether the answer's own words and numbers stand in the quote.

    Numbers and dates are compared by value: `1,577` stands in `$1,577 million`. A year beside other
    numbers may be missing, since it is often a table's heading. A short answer with numbers is
    judged by them alone; other answers need their content words, all of them when short, most of
    them when long, and for a negation always a negation.
    """
    values = values_of(answer)
    if not _values_stand(values, values_of(quote)):
        return False
    found = wording_of(answer).words
    wanted = content_words(found) or frozenset(found)
    there = frozenset(words(quote))
    if wanted & NEGATIONS and not there & NEGATIONS:
        return False
    if len(found) <= SHORT_WORDS:
        return bool(values) or (bool(wanted) and wanted <= there)
    return len(wanted & there) >= SUPPORTED_SHARE * len(wanted)


def _values_stand(ours: Values, there: Values) -> bool:
    telling = [q for q in ours.quantities if not q.looks_like_year]
    if not (telling or ours.dates):
        telling = list(ours.quantities)
    quantities = all(_quantity_stands(quantity, there) for quantity in telling)
    return quantities and all(any(map(date.includes, there.dates)) for date in ours.dates)


def _quantity_stands(quantity: Quantity, there: Values) -> bool:
    if any(same_quantity(quantity, other) for other in there.quantities):
        return True
    return quantity.looks_like_year and any(date.year == quantity.value for date in there.dates)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wording:
    """An answer without its spelling: folded words, and values in their places."""

    tokens: tuple[str, ...]
    """Without articles; `#` stands for a quantity and `@` for a date."""
    quantities: tuple[Quantity, ...]
    """In the order of the answer, like the dates."""
    dates: tuple[CalendarDate, ...]
    content: frozenset[str]
    """Content words, without values."""

    kind: tuple[Hashable, ...]
    """Digits, dates and turning words (`not`, `west`): equal for any two answers that can agree."""

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(token for token in self.tokens if token not in {"#", "@"})

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Equal for answers that differ in spelling only."""
        amounts = tuple((q.amount, q.unit) for q in self.quantities)
        return self.tokens, amounts, tuple(map(_calendar, self.dates))


def wording_of(answer: str) -> Wording:
    """Reduce an answer to its wording."""
    values = values_of(answer)
    tokens: list[str] = []
    at = 0
    marks: list[Quantity | CalendarDate] = [*values.quantities, *values.dates]
    for value in sorted(marks, key=lambda v: v.start):
        tokens += words(answer[at : value.start])
        tokens.append("#" if isinstance(value, Quantity) else "@")
        at = max(at, value.end)
    tokens += words(answer[at:])
    kept = tuple(token for token in tokens if token not in ARTICLES)
    turning = TURNING_WORDS & frozenset(kept)
    digits = tuple(q.value.normalize().as_tuple().digits for q in values.quantities)
    return Wording(
        tokens=kept,
        quantities=values.quantities,
        dates=values.dates,
        content=content_words(kept) - {"#", "@"},
        kind=(digits, tuple(map(_calendar, values.dates)), turning),
    )


def _calendar(date: CalendarDate) -> tuple[int, int, int | None]:
    return date.year, date.month, date.day


def agree(one: Wording, other: Wording, *, same_source: bool) -> bool:
    """Whether two answers say the same. Conservative: when in doubt they don't.

    Numbers and dates must be equal, in order, and so must negations and other turning words. Then
    the words must be equal; or one short answer holds the other's words in a row; or, when both
    cite the same place (`same_source`), the longer answer holds all content words of the other and
    not too many more. The same place also makes `(429)` and `429` one number.
    """
    if one.kind != other.kind or not _same_quantities(one, other, same_source):
        return False
    if one.tokens == other.tokens:
        return True
    short, long = sorted((one, other), key=lambda wording: len(wording.tokens))
    if not (short.content or short.quantities or short.dates):
        return False
    if len(long.tokens) <= SHORT_WORDS:
        return _stands_in_a_row(short.tokens, long.tokens)
    shared = len(short.content & long.content)
    covered = shared == len(short.content)
    return same_source and covered and shared >= MIN_OVERLAP * len(long.content)


def _same_quantities(one: Wording, other: Wording, same_source: bool) -> bool:
    pairs = zip(one.quantities, other.quantities, strict=True)
    equal = same_quantity if same_source else _same_number
    return all(equal(ours, theirs) for ours, theirs in pairs)


def _same_number(one: Quantity, other: Quantity) -> bool:
    """Whether two numbers from different places are one: `65,984` and `$65,984 million` are, since
    so many digits don't agree by chance and a table's heading may hold the scale; `5` and `5
    million` are not."""
    if not same_unit(one, other):
        return False
    if one.amount == other.amount:
        return True
    unscaled = one.scale is None or other.scale is None
    n_digits = len(one.value.normalize().as_tuple().digits)
    return unscaled and n_digits >= TELLING_DIGITS and one.value == other.value


def _stands_in_a_row(short: tuple[str, ...], long: tuple[str, ...]) -> bool:
    starts = range(len(long) - len(short) + 1)
    return any(long[at : at + len(short)] == short for at in starts)
