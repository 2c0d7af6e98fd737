"""Numbers and dates in a text, compared by value: `USD 1.5 billion` is `$1,500 million`.

English notation: comma for thousands, point for decimals, month before day in `3/5/2020`. What
stands in parentheses like `(429)` is negative, as accountants write; `two (2)` is 2.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

_SCALES = {
    "thousand": Decimal(10**3), "k": Decimal(10**3),
    "million": Decimal(10**6), "mm": Decimal(10**6), "mn": Decimal(10**6), "m": Decimal(10**6),
    "billion": Decimal(10**9), "bn": Decimal(10**9), "b": Decimal(10**9),
    "trillion": Decimal(10**12),
}  # fmt: skip
_UNITS = {
    "us$": "$", "usd": "$", "dollar": "$", "dollars": "$", "eur": "€", "euro": "€", "euros": "€",
    "gbp": "£", "jpy": "¥", "yen": "¥", "percent": "%", "per cent": "%", "pct": "%",
    "bps": "bp", "basis points": "bp",
}  # fmt: skip
_NAMED = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20,
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
    "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)\b"
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<![\w-])(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)(?![\w-])",
        r"(?<![\w/])(?P<month>\d{1,2})/(?P<day>\d{1,2})/(?P<year>\d{4}|\d\d)(?![\w/])",
        rf"\b{_MONTH}\s{{0,3}}{_DAY}\s?,?\s{{0,3}}{_YEAR}",
        rf"\b{_DAY}\s{{1,3}}(?:day\s{{1,3}}of\s{{1,3}})?{_MONTH},?\s{{0,3}}{_YEAR}",
        rf"\b{_MONTH},?\s{{1,3}}{_YEAR}",
    )
)
_NAME = "|".join(sorted(_NAMED, key=len, reverse=True))
_NAMED_NUMBER = re.compile(
    rf"\b(?:{_NAME})(?:[\s-]{{1,3}}(?:and\s{{1,3}})?(?:{_NAME}|hundred))*\b"
    r"(?:\s{0,3}\(\s?(?P<digits>\d+)\s?\))?",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?<!\w)(?<!\d\.)(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+", re.ASCII
)
_SIGN = r"(?<![\w.,)\]])[-\u2212\u2013]"
_SCALE_WORD = r"(?:thousand|million|billion|trillion|bn|mm|mn)\b"
_BEFORE = re.compile(
    rf"(?:(?P<open>(?<!\w)\()\s?)?(?P<sign>{_SIGN})?"
    rf"(?:(?P<unit>us\$|[$€£¥]|\b(?:usd|eur|gbp|jpy))\s?)?"
    rf"(?:(?P<inner>(?<!\w)\()\s?)?(?P<inner_sign>{_SIGN})?\Z",
    re.IGNORECASE,
)
_AFTER = re.compile(
    rf"(?:(?:st|nd|rd|th)\b)?(?:\s?(?P<scale>{_SCALE_WORD}|[kmb]\b))?"
    r"(?:\s?(?P<unit>%|(?:percent|per cent|pct|bps|basis points|usd|eur|gbp|jpy|dollars?|euros?"
    rf"|yen)\b))?(?:\s?(?P<close>\)))?(?P<share>\s?%)?(?:\s?(?P<late_scale>{_SCALE_WORD}))?",
    re.IGNORECASE,
)
_GLUED_SCALE = re.compile(r"(?:bn|mm|mn|[kmb])\b", re.IGNORECASE)
_LOOK_BEHIND, _LOOK_AHEAD = 8, 40


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """A number as written in `text[start:end]`, units and brackets included."""

    start: int
    end: int
    value: Decimal
    """Signed, without its scale word."""
    scale: Decimal | None
    """What `million` and the like multiply by; None when no such word stands there."""
    unit: str
    """`$`, `€`, `£`, `¥`, `%`, `bp` or empty."""
    bracketed: bool
    """Negative by parentheses, which may also be a mere layout."""
    looks_like_year: bool

    @property
    def amount(self) -> Decimal:
        return self.value if self.scale is None else self.value * self.scale


@dataclass(frozen=True, kw_only=True, slots=True)
class CalendarDate:
    """A date as written in `text[start:end]`; `day` is None for a mere month."""

    start: int
    end: int
    year: int
    month: int
    day: int | None

    def includes(self, other: CalendarDate) -> bool:
        """Whether `other` is this date, or lies in this month when no day is given."""
        same_month = (self.year, self.month) == (other.year, other.month)
        return same_month and self.day in (None, other.day)


@dataclass(frozen=True, kw_only=True, slots=True)
class Values:
    """All numbers and dates of a text, each in reading order; dates are no quantities."""

    quantities: tuple[Quantity, ...]
    dates: tuple[CalendarDate, ...]

    def __bool__(self) -> bool:
        return bool(self.quantities or self.dates)


@functools.lru_cache(maxsize=1024)
def values_of(text: str) -> Values:
    """The numbers and dates in `text`. Linear time; never raises."""
    dates, rest = _take_dates(text)
    named, rest = _take_named(rest)
    digits = [_quantity(m.start(), m.end(), _decimal(m.group()), rest) for m in _numbers(rest)]
    quantities = sorted([*named, *digits], key=lambda q: q.start)
    return Values(quantities=tuple(quantities), dates=tuple(sorted(dates, key=lambda d: d.start)))


def same_unit(one: Quantity, other: Quantity) -> bool:
    """Whether the units are equal, or one is not stated."""
    return one.unit == other.unit or "" in (one.unit, other.unit)


def same_quantity(one: Quantity, other: Quantity) -> bool:
    """Whether both may be the same number: a unit, a scale (a table's heading may hold it) or the
    meaning of brackets may be missing on one side, the digits may not differ."""
    if not same_unit(one, other):
        return False
    by_layout = one.bracketed != other.bracketed
    pairs = [(one.amount, other.amount)]
    if one.scale is None or other.scale is None:
        pairs.append((one.value, other.value))
    return any(a == b or (by_layout and a.copy_abs() == b.copy_abs()) for a, b in pairs)


def _take_dates(text: str) -> tuple[list[CalendarDate], str]:
    """The dates, and the text with blanks in their place."""
    dates: list[CalendarDate] = []
    for pattern in _DATES:
        found = [date for m in pattern.finditer(text) if (date := _date(m)) is not None]
        text = _blank(text, [(date.start, date.end) for date in found])
        dates += found
    return dates, text


def _date(match: re.Match[str]) -> CalendarDate | None:
    groups = match.groupdict()
    year, named = int(groups["year"]), groups["month"][:3].lower()
    month = _MONTHS.get(named) or int(named)
    day = int(groups["day"]) if groups.get("day") else None
    if day is not None and month > 12:  # 25/12/2020
        month, day = day, month
    if year < 100:
        year += 2000 if year < 50 else 1900
    try:
        datetime.date(year, month, day or 1)
    except ValueError:
        return None
    return CalendarDate(start=match.start(), end=match.end(), year=year, month=month, day=day)


def _take_named(text: str) -> tuple[list[Quantity], str]:
    """Numbers in words, and the text with blanks in their place."""
    found = list(_NAMED_NUMBER.finditer(text))
    quantities = [_quantity(m.start(), m.end(), _named_value(m), text) for m in found]
    return quantities, _blank(text, [m.span() for m in found])


def _named_value(match: re.Match[str]) -> Decimal:
    if match["digits"]:
        return Decimal(match["digits"])
    total = 0
    for word in re.findall(r"[a-z]+", match.group().lower()):
        total = max(total, 1) * 100 if word == "hundred" else total + _NAMED.get(word, 0)
    return Decimal(total)


def _numbers(text: str) -> Iterator[re.Match[str]]:
    """Numbers in digits that are no part of a word: not the 5 of `5G` or `3rdparty`."""
    for match in _NUMBER.finditer(text):
        after = text[match.end() : match.end() + 4]
        ordinal = re.match(r"(?:st|nd|rd|th)\b", after, re.IGNORECASE)
        if not after[:1].isalpha() or ordinal or _GLUED_SCALE.match(after):
            yield match


def _decimal(digits: str) -> Decimal:
    return Decimal(digits.replace(",", ""))


def _quantity(start: int, end: int, value: Decimal, text: str) -> Quantity:
    """The number at `text[start:end]` with what stands around it."""
    # Both patterns can match nothing at all, so that there always is a first match.
    before = next(_BEFORE.finditer(text, max(0, start - _LOOK_BEHIND), start))
    after = next(_AFTER.finditer(text, end, end + _LOOK_AHEAD))
    unit = (before["unit"] or after["unit"] or after["share"] or "").strip().lower()
    bracketed = bool((before["open"] or before["inner"]) and after["close"])
    negative = bracketed or bool(before["sign"] or before["inner_sign"])
    scale = _SCALES.get((after["scale"] or after["late_scale"] or "").lower())
    plain = not (unit or scale or bracketed or negative) and end - start == 4
    return Quantity(
        start=start - len(before.group()),
        end=end + len(after.group()),
        value=value.copy_negate() if negative else value,
        scale=scale,
        unit=_UNITS.get(unit, unit),
        bracketed=bracketed,
        looks_like_year=plain and text[start:end].isdecimal() and 1900 <= value <= 2100,
    )


def _blank(text: str, spans: list[tuple[int, int]]) -> str:
    """`text` with spaces in place of `spans`, which are in order."""
    pieces: list[str] = []
    at = 0
    for start, end in spans:
        pieces += (text[at:start], " " * (end - start))
        at = end
    return "".join([*pieces, text[at:]])
