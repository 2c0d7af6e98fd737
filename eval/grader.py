"""A rule grader for answers about filings: right or not, by the gold answer, without a model.

A gold answer that is a bare number needs that number, in any notation, among what the answer
concludes. Any other gold answer needs the answer to state its facts: its numbers, and those of its
words that the question does not give away. An answer that says it cannot tell is wrong, and so is
one that says yes where the gold says no.

The rules and their thresholds were set by hand and checked against labels of people
(`eval.grader_agreement`); nothing is fitted. They see words, not meaning: a gold reason in other
words is missed, and a right number for a wrong reason passes.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from eval.score import numeric_match
from minions.evidence.values import Quantity, values_of

TOLERANCE = Decimal("0.01")
"""Relative difference of two numbers that count as equal."""
MANY, SOME = 0.5, 0.25
"""Shares of the gold answer's own words that an answer must hold, by what its numbers say."""
FEW = 2
OPENING_CHARS = 200
"""An answer that declines does so within these first characters; later it is a reservation."""

_BARE_NUMBER = re.compile(r"\s*[-(]?\s?\$?\s?[\d,]*\.?\d+\s?%?\)?\s*")
_DECLINES = re.compile(
    r"(?:(?:do|does|did|is|are|was|were)(?: not|n't)|\bnot) (?:\w+ly )?(?:provide|contain|include"
    r"|mention|specif|have (?:access|enough|sufficient|real|the|any)|give|disclose|enough|available"
    r"|possible|present|stated|detail)"
    r"|(?:cannot|can't|unable to|not able to|impossible to|difficult to) (?:\w+ly )?(?:be )?"
    r"(?:determine|provide|calculate|answer|access|find|give|assess|identify|compute|browse|confirm"
    r"|perform|ascertain)"
    r"|(?:would|will) need\b|\bI (?:do not|don't) have"
    r"|\bno (?:specific )?(?:information|mention|data)|insufficient|\bsorry\b"
    r"|please (?:provide|refer)|need (?:more|the following|additional)",
    re.IGNORECASE,
)
_YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
_REMARK = re.compile(
    r"(?<=[.;])\s+(?:the answer|this answer|note)\b.*\Z", re.IGNORECASE | re.DOTALL
)
"""What a gold answer says of itself, which no answer has to repeat."""
_WORD = re.compile(r"[a-z][a-z&]+")
_ENDING = re.compile(r"(?:ing|ions?|ed|es|ly|s)\Z")
_CONCLUDED = re.compile(r"(?:=|≈|~|\b(?:is|was|were|are|of|about|approximately)\b)\W{0,6}\Z")
_SCALE_ASKED = re.compile(r"\b(thousand|million|billion)s?\b", re.IGNORECASE)
_SCALES = {"thousand": Decimal(10**3), "million": Decimal(10**6), "billion": Decimal(10**9)}
_DIRECTIONS = (
    ("rise", re.compile(r"(?:increas|improv|grow|grew|accelerat|higher|ris(?:e|ing)|rose|up)")),
    (
        "fall",
        re.compile(r"(?:decreas|declin|drop|lower|decelerat|fall|fell|reduc|shr[iu]nk|down)"),
    ),
)
"""Words that say the same of a figure."""
_COMMON = frozenset(
    re.findall(
        r"\w+",
        """a an the of in on to for and or by as is are was were be been with at from that this it
        its their his her has have had which not no yes than but also into due per vs fy year years
        did does do will would can could""",
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """A verdict and the rule that gave it."""

    correct: bool
    reason: str


class Kind(enum.StrEnum):
    """What sort of gold answer there is; each has its own rule."""

    NUMBER = "number"
    YES_NO = "yes_no"
    TEXT = "text"


def kind_of(gold: str) -> Kind:
    """A bare number, one that opens with yes or no, or any other."""
    if _BARE_NUMBER.fullmatch(gold):
        return Kind.NUMBER
    return Kind.YES_NO if _YES_NO.match(gold) else Kind.TEXT


def grade(question: str, gold: str, answer: str) -> Grade:
    """Whether `answer` is right. Deterministic, linear in the texts' length; never raises."""
    if declines(answer):
        return Grade(correct=False, reason="declines to answer")
    if kind_of(gold) is Kind.NUMBER:
        found = holds_number(question, gold, answer)
        return Grade(correct=found, reason="the gold number" if found else "not the gold number")
    return _by_verdict(gold, answer) or _by_facts(question, _REMARK.sub("", gold), answer)


def declines(answer: str) -> bool:
    """Whether the answer opens by saying that it cannot tell."""
    return bool(_DECLINES.search(answer[:OPENING_CHARS]))


def holds_number(question: str, gold: str, answer: str) -> bool:
    """Whether a number that the answer concludes equals the bare gold number by `numeric_match`, or
    once it is rounded to the gold's decimals, or in the scale that the question asks for."""
    wanted = values_of(gold).quantities
    if not wanted:
        return False
    asked = _SCALE_ASKED.findall(question)
    scale = _SCALES[asked[-1].lower()] if asked else Decimal(1)
    return any(
        numeric_match(answer[number.start : number.end], gold, TOLERANCE)
        or _equal(number, wanted[0], scale)
        for number in _conclusions(answer)
    )


def _conclusions(answer: str) -> Iterator[Quantity]:
    """Numbers that an answer may mean as its result: those near its beginning and its end, and
    those after an equals sign or a verb of being."""
    for number in values_of(answer).quantities:
        if not _is_figure(number, answer):
            continue
        before = answer[max(number.start - 20, 0) : number.start]
        at_edge = not OPENING_CHARS <= number.start < len(answer) - OPENING_CHARS
        if at_edge or _CONCLUDED.search(before):
            yield number


def _is_figure(number: Quantity, text: str) -> bool:
    """Written in digits, and no year: "two decimals" is no result."""
    return not number.looks_like_year and any(map(str.isdigit, text[number.start : number.end]))


def _equal(ours: Quantity, gold: Quantity, scale: Decimal) -> bool:
    """By what `numeric_match` does not know: the scale asked for, and rounding."""
    is_share = ours.unit == "%" and gold.unit != "%"
    form = ours.value / 100 if is_share else ours.amount / scale
    exponent = gold.value.as_tuple().exponent
    places = -exponent if isinstance(exponent, int) else 0
    forms = (form, ours.value)
    return any(_near(each, gold.value) or round(each, places) == gold.value for each in forms)


def _near(ours: Decimal, gold: Decimal) -> bool:
    return abs(ours - gold) <= TOLERANCE * abs(gold)


def _by_verdict(gold: str, answer: str) -> Grade | None:
    """Yes against no is wrong; the same word is right when the gold gives no figures for it. None
    when either does not open with yes or no."""
    ours, theirs = _YES_NO.match(answer), _YES_NO.match(gold)
    if not (ours and theirs):
        return None
    if ours[1].lower() != theirs[1].lower():
        return Grade(correct=False, reason=f"{ours[1].lower()} for {theirs[1].lower()}")
    if values_of(gold).quantities:
        return None
    return Grade(correct=True, reason=f"{ours[1].lower()}, as the gold says")


def _by_facts(question: str, gold: str, answer: str) -> Grade:
    numbers = _share_of_numbers(gold, answer)
    words = share_of_own_words(question, gold, answer)
    if _points_elsewhere(gold, answer):
        return Grade(correct=False, reason="a rise for a fall, or a fall for a rise")
    said = f"{_percent(numbers)} of the gold's numbers, {_percent(words)} of its own words"
    if numbers == 1:
        return Grade(correct=True, reason=said)
    needed = MANY if numbers == 0 else SOME
    if words is None:
        return Grade(correct=numbers is None, reason=said)
    return Grade(correct=words >= needed, reason=said)


def _percent(share: float | None) -> str:
    return "none (there are none)" if share is None else f"{share:.0%}"


def _share_of_numbers(gold: str, answer: str) -> float | None:
    """Share of the gold's numbers that stand in the answer; None when it has none."""
    wanted = [q for q in values_of(gold).quantities if not q.looks_like_year]
    if not wanted:
        return None
    ours = [q for q in values_of(answer).quantities if not q.looks_like_year]
    return sum(any(_same(one, each) for one in ours) for each in wanted) / len(wanted)


def _same(ours: Quantity, gold: Quantity) -> bool:
    return any(
        _near(abs(a), abs(b)) for a, b in ((ours.amount, gold.amount), (ours.value, gold.value))
    )


def _points_elsewhere(gold: str, answer: str) -> bool:
    """Whether one speaks of a rise only and the other of a fall only."""
    names = {name for name, _ in _DIRECTIONS}
    ours, theirs = _stems(answer) & names, _stems(gold) & names
    return len(ours) == len(theirs) == 1 and ours != theirs


def share_of_own_words(question: str, gold: str, answer: str) -> float | None:
    """Share of the gold's words, those of the question left out, that stand in the answer.

    When the gold chooses among words of the question (fewer than FEW of its own), all of its words
    count. None when it has none at all."""
    stems = _stems(gold)
    own = stems - _stems(question)
    wanted = own if len(own) >= FEW else stems
    return len(wanted & _stems(answer)) / len(wanted) if wanted else None


def _stems(text: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()) if word not in _COMMON)


def _stem(word: str) -> str:
    for direction, pattern in _DIRECTIONS:
        if pattern.match(word):
            return direction
    return _ENDING.sub("", word) if len(word) > 4 else word
