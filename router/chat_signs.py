"""Signs of how hard a plain question is, and of how far a local draft can be trusted.

Counted in the question and the draft alone: no gold answer, no second opinion and no token
probability. They are inputs of a learned model (`router.chat`), not verdicts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Signs = npt.NDArray[np.float64]
WorkOut = Callable[[str], float | None]
"""Works out a formula such as `3*(4+5)`; None when it has no value. It must never execute text."""

RELATIVE_SLACK = 0.01
"""An equation holds when its sides differ by at most this share: drafts round."""
MAX_EQUATIONS = 50
MAX_CHARS = 20_000
"""Of a question or a draft; the rest is not looked at."""

_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d{1,15})?")
_EQUATION = re.compile(r"([\d.,$()+\-*/x× ]{3,80})=\s?\$?(-?\d[\d,]{0,15}(?:\.\d{1,15})?)(?![\d%])")
_FINALS = (
    re.compile(r"####[^\S\n]*([^\n]*)"),
    re.compile(r"\\boxed\{+([^{}\n]*)\}"),
    re.compile(r"\banswer is:?[^\S\n]*([^\n]*)", re.IGNORECASE),
)
_CHOICES = re.compile(r"^\s?\(?A[.):]\s.*^\s?\(?B[.):]\s", re.DOTALL | re.MULTILINE)
_SECOND_THOUGHTS = re.compile(
    r"\b(?:note|however|assum\w{1,5}|cannot|can't|not possible|impossible|mistake|apologi\w{1,4}"
    r"|unclear)\b",
    re.IGNORECASE,
)
_ALGEBRA = re.compile(r"\b\d{0,5}[xyn]\b|\blet\b|\balgebra|\bequation", re.IGNORECASE)
_PERIOD = re.compile(r"\b(?:hour|minute|day|week|month|year)", re.IGNORECASE)
_RATIO = re.compile(r"\d/\d|\b(?:half|third|quarter|twice|times)\b", re.IGNORECASE)
_AS_FORMULA = str.maketrans({"x": "*", "×": "*", ",": None, "$": None})


@dataclass(frozen=True, kw_only=True)
class _Question:
    text: str

    @cached_property
    def numbers(self) -> list[float]:
        return _numbers(self.text)


@dataclass(frozen=True, kw_only=True)
class _Draft:
    question: _Question
    text: str
    work_out: WorkOut

    @cached_property
    def final(self) -> str:
        """What the draft marks as its answer: after `####`, in a box, after `answer is`; or ''."""
        for pattern in _FINALS:
            if found := pattern.findall(self.text):
                return str(found[-1]).strip()
        return ""

    @cached_property
    def final_number(self) -> float | None:
        found = _numbers(self.final)
        return found[0] if found else None

    @cached_property
    def numbers(self) -> list[float]:
        return _numbers(self.text)

    @cached_property
    def equations(self) -> list[bool]:
        """For each equation that can be worked out, whether it holds."""
        found = _EQUATION.findall(self.text.replace("\\", ""))[:MAX_EQUATIONS]
        held = (_holds(left, right, self.work_out) for left, right in found)
        return [one for one in held if one is not None]


def _numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in _NUMBER.findall(text)]


def _holds(left: str, right: str, work_out: WorkOut) -> bool | None:
    """Whether both sides are equal; None when the left side is no sum to work out."""
    formula = left.translate(_AS_FORMULA).strip()
    if not any(operator in formula.lstrip("-") for operator in "+-*/"):
        return None
    value = work_out(formula)
    if value is None:
        return None
    stated = float(right.replace(",", ""))
    return abs(value - stated) <= RELATIVE_SLACK * max(1.0, abs(stated))


def _n_sentences(question: _Question) -> int:
    return len(re.findall(r"[.?!](?=\s|$)", question.text))


def _largest_number(question: _Question) -> float:
    return max(map(abs, question.numbers), default=0.0)


def _share_unused(draft: _Draft) -> float:
    """Numbers of the question that the draft never writes down: a step may be missing."""
    asked, used = set(draft.question.numbers), set(draft.numbers)
    return len(asked - used) / len(asked) if asked else 0.0


def _is_fraction(number: float | None) -> bool:
    return number is not None and not number.is_integer()


_OF_QUESTION: dict[str, Callable[[_Question], float]] = {
    "length": lambda q: math.log1p(len(q.text)),
    "sentences": lambda q: math.log1p(_n_sentences(q)),
    "numbers": lambda q: math.log1p(len(q.numbers)),
    "largest_number": lambda q: math.log1p(_largest_number(q)),
    "decimals": lambda q: bool(re.search(r"\d\.\d", q.text)),
    "money": lambda q: "$" in q.text,
    "percent": lambda q: bool(re.search(r"%|percent", q.text)),
    "ratio": lambda q: bool(_RATIO.search(q.text)),
    "condition": lambda q: bool(re.search(r"\bif\b", q.text, re.IGNORECASE)),
    "each": lambda q: "each" in q.text.lower(),
    "period": lambda q: bool(_PERIOD.search(q.text)),
    "lines": lambda q: math.log1p(q.text.count("\n")),
}
_OF_DRAFT: dict[str, Callable[[_Draft], float]] = {
    "final_missing": lambda d: not d.final,
    "final_is_bare_number": lambda d: bool(_NUMBER.fullmatch(d.final)),
    "final_is_fraction": lambda d: _is_fraction(d.final_number),
    "final_has_words": lambda d: bool(re.search(r"[A-Za-z]{2}", d.final)),
    "final_is_negative": lambda d: (d.final_number or 0.0) < 0,
    "final_stands_in_question": lambda d: d.final_number in d.question.numbers,
    "last_number_is_fraction": lambda d: _is_fraction(d.numbers[-1] if d.numbers else None),
    "wrong_equations": lambda d: math.log1p(d.equations.count(False)),
    "right_equations": lambda d: math.log1p(d.equations.count(True)),
    "no_equation": lambda d: not d.equations,
    "unused_numbers": _share_unused,
    "fractions_written": lambda d: math.log1p(sum(map(_is_fraction, d.numbers))),
    "second_thoughts": lambda d: bool(_SECOND_THOUGHTS.search(d.text)),
    "algebra": lambda d: bool(_ALGEBRA.search(d.text)),
    "cut_short": lambda d: d.text.rstrip()[-1:] not in set(".)!}0123456789"),
    "draft_length": lambda d: math.log1p(len(d.text)),
    "draft_lines": lambda d: math.log1p(d.text.count("\n")),
}
QUESTION_SIGNS = ("open", *_OF_QUESTION)
"""Names of what `question_signs` counts, in its order."""
DRAFT_SIGNS = (*_OF_QUESTION, *_OF_DRAFT)
"""Names of what `draft_signs` counts, in its order."""


def has_choices(question: str) -> bool:
    """Whether the question lists its possible answers on lines `A.`, `B.` and so on."""
    return bool(_CHOICES.search(question))


def question_signs(question: str) -> Signs:
    """The signs of `QUESTION_SIGNS`: flags 0 or 1, counts as `ln(1 + n)`.

    All are 0 for a question with listed choices: there, length and numbers say how long the choices
    are, not how many steps the answer takes."""
    if has_choices(question[:MAX_CHARS]):
        return np.zeros(len(QUESTION_SIGNS))
    return np.array([1.0, *_of_question(_Question(text=question[:MAX_CHARS]))])


def draft_signs(question: str, draft: str, work_out: WorkOut) -> Signs:
    """The signs of `DRAFT_SIGNS`: flags 0 or 1, counts as `ln(1 + n)`.

    Linear in the texts' length, but for the formulas that `work_out` is given: 50 at most."""
    asked = _Question(text=question[:MAX_CHARS])
    seen = _Draft(question=asked, text=draft[:MAX_CHARS], work_out=work_out)
    return np.array([*_of_question(asked), *(float(sign(seen)) for sign in _OF_DRAFT.values())])


def _of_question(question: _Question) -> list[float]:
    return [float(sign(question)) for sign in _OF_QUESTION.values()]
