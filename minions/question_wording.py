"""The wording of questions for computed values: years, measures, rounding. English only."""

from __future__ import annotations

import re

MAX_QUESTION_CHARS = 2_000
"""Longer questions are not parsed: they hold more than one request."""
MAX_SPAN_YEARS = 12
MAX_MEASURE_WORDS = 10

_ASKS_FOR_A_VALUE = re.compile(
    r"^\W*(?:please\b\W*)?(?:(?:what|which|how (?:much|many|large|big|high))\b"
    r"(?!\s+(?:drove|drives|caused|explains|led|made|accounts?)\b)"
    r"|calculate|compute|determine|find|give|state|work out)",
    re.IGNORECASE,
)
_WITHIN_A_YEAR = re.compile(
    r"\bquarters?\b|\bQ[1-4]\b|\b(?:jan|febr)uary\b|\b(?:march|april|june|july|august)\b"
    r"|\b(?:septem|octo|novem|decem)ber\b|\bmay\s+\d",
    re.IGNORECASE,
)
"""A year alone does not name the period then."""
_WANTS_WORDS = re.compile(r"\b(?:reasons?|causes?|drivers?|respective(?:ly)?)\b", re.IGNORECASE)
"""The answer is an explanation, or more than one number."""
_YEAR = r"(?:fiscal\s+years?|fiscal|years?|FY)?\s*(?P<{0}>(?:19|20)\d\d)"
_SHORT_FY = re.compile(r"\bFY\s?'?(\d\d)\b")
_RANGE = re.compile(
    rf"\b{_YEAR.format('first')}\s*(?:-|–|—|to|through|until)\s*{_YEAR.format('last')}\b", re.I
)
_ONE_YEAR = re.compile(rf"\b{_YEAR.format('year')}\b", re.IGNORECASE)
_ANY_YEARS = re.compile(f"{_RANGE.pattern}|{_ONE_YEAR.pattern}", re.IGNORECASE)
_TAIL_OF_YEARS = re.compile(
    r"\b(?:in|for|from|over|during|between|of|and|to|through|the|both|at|end|as|,|\s)*$", re.I
)
_WORDS_OF_YEARS = re.compile(
    r"\b(?:over|for|in|during|across|throughout)?\s*(?:the\s+)?(?:last|past|these|all|those)?\s*"
    r"(?:two|three|four|five|six|\d)[\s-]years?(?:\s+period)?\b|\bof each year\b"
    r"|\b(?:fiscal|calendar)\s+years?\b|\byear[\s-]end\b"
    r"|\(\s*(?:in|rounded|as|expressed)\b[^()]*\)"
    r"|,?\s+in (?:units of )?(?:percents?|%|percentages?)(?=\W*$)",
    re.IGNORECASE,
)
_PLACES = re.compile(
    r"\b(?:to|with|using)\s+(?:the\s+nearest\s+)?(one|two|three|four|\d)\s+decimals?"
    r"(?:\s+places?)?\b",
    re.IGNORECASE,
)
_PLACE_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4}
_LEAD = re.compile(
    r"^(?:please|what|which|how much|calculate|compute|determine|find|give|state|tell me|is|was"
    r"|were|are|would be|the|its|their|company's|annual|yearly|[:,]|\s)+\b",
    re.IGNORECASE,
)
_AVERAGE = re.compile(
    r"(?<!weighted[ -])\b(?:average|mean)\b(?:\s+(?:annual|yearly))?(?:\s+(?:of|for)\b)?", re.I
)
_TRAILING = re.compile(
    r"(?:[\s,;:-]|\b(?:in|for|of|over|during|between|from|to|and|the|was|were|is|at|as|by|with"
    r"|compared|versus|reported|respectively)\b)+$",
    re.IGNORECASE,
)
_DETERMINER = re.compile(
    r"^(?:(?:the|its|their|a|an|of|in|for)\b|(?:value|amount|level)\s+of\b|[\s,;:-])+",
    re.IGNORECASE,
)
_NOT_A_MEASURE = re.compile(r"\b(?:who|whom|which|what|why|how|when|where)\b", re.IGNORECASE)


def asks_for_a_value(question: str) -> bool:
    """Whether one value is asked for, of whole years: not a reason, a list, or a quarter."""
    if len(question) > MAX_QUESTION_CHARS:
        return False
    first = first_sentence(question)
    if _WITHIN_A_YEAR.search(first) or _WANTS_WORDS.search(first):
        return False
    return bool(_ASKS_FOR_A_VALUE.search(first))


def is_average(sentence: str) -> bool:
    """Whether a mean is asked for; a weighted one is a measure of its own."""
    return bool(_AVERAGE.search(sentence))


def after_average(sentence: str) -> str:
    """What stands behind the word `average`."""
    found = _AVERAGE.search(sentence)
    return sentence[found.end() :] if found else ""


def years_in(question: str) -> tuple[int, ...]:
    """The years that a question names, ranges filled in, ascending."""
    text = _full_years(question)
    years: set[int] = set()
    for match in _RANGE.finditer(text):
        first, last = int(match["first"]), int(match["last"])
        if first <= last <= first + MAX_SPAN_YEARS:
            years |= set(range(first, last + 1))
    years |= {int(match["year"]) for match in _ONE_YEAR.finditer(text)}
    return tuple(sorted(years))


def _full_years(text: str) -> str:
    return _SHORT_FY.sub(r"FY20\1", text)


def places_in(question: str) -> int | None:
    found = _PLACES.search(question)
    return (_PLACE_WORDS.get(found[1].lower()) or int(found[1])) if found else None


def first_sentence(question: str) -> str:
    """Up to the first question mark or full stop: what follows tells how to write the answer."""
    text = " ".join(_full_years(question).split())
    return re.split(r"\?|(?<=\w\w)[.:;](?=\s|$)", text, maxsplit=1)[0]


def without_years(sentence: str) -> str:
    """The sentence without its years, the prepositions before them, and how to round."""
    sentence = _WORDS_OF_YEARS.sub(" ", _PLACES.sub(" ", sentence))
    kept: list[str] = []
    at = 0
    for match in _ANY_YEARS.finditer(sentence):
        kept.append(_TAIL_OF_YEARS.sub("", sentence[at : match.start()]))
        at = match.end()
    return " ".join(" ".join([*kept, sentence[at:]]).split())


def measure_in(text: str) -> str:
    """A measure's words without the question around them."""
    text = _AVERAGE.sub(" ", _LEAD.sub("", text.strip()))
    return _TRAILING.sub("", _DETERMINER.sub("", " ".join(text.split()))).strip("'\"")


def is_measure(text: str) -> bool:
    words = text.split()
    known = any(len(re.findall(r"[A-Za-z]", word)) >= 2 for word in words)
    return known and len(words) <= MAX_MEASURE_WORDS and not _NOT_A_MEASURE.search(text)
