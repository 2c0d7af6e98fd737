"""What a weak model's answer to a plain question tells about itself, before it is trusted.

A cascade asks the local model first and the cloud only when the draft looks wrong. The signs here
are counted in the question and the draft alone: there is no gold answer, no second opinion and no
token probability in them. They are inputs of a learned model (`router.chat`), not verdicts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

WorkOut = Callable[[str], float | None]
"""Works out a formula such as `3*(4+5)`; None when it has no value. Must never execute text."""

RELATIVE_SLACK = 0.01
"""An equation holds when its sides differ by less than this share: drafts round."""
MAX_EQUATIONS = 50

_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_EQUATION = re.compile(r"([\d.,$%()+\-*/x× ]{3,80}?)=\s*\$?(-?[\d,]*\.?\d+)(?![\d%])")
_FINALS = (
    re.compile(r"####[^\S\n]*([^\n]*)"),
    re.compile(r"\\boxed\{+([^{}]*)\}"),
    re.compile(r"\banswer is:?\s*([^\n]*)", re.IGNORECASE),
)
_SECOND_THOUGHTS = re.compile(
    r"\b(?:note|however|assum\w*|cannot|can't|not possible|impossible|mistake|apologi\w*|unclear)\b",
    re.IGNORECASE,
)
_ALGEBRA = re.compile(r"\b\d*[xyn]\b|\blet\b|\balgebra|\bequation", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class _Draft:
    question: str
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
    def numbers(self) -> list[float]:
        return _numbers(self.text)

    @cached_property
    def asked_numbers(self) -> list[float]:
        return _numbers(self.question)

    @cached_property
    def equations(self) -> list[bool]:
        """For each equation of the draft that can be worked out, whether it holds."""
        found = _EQUATION.findall(self.text.replace("\\", ""))[:MAX_EQUATIONS]
        held = (_holds(left, right, self.work_out) for left, right in found)
        return [one for one in held if one is not None]


def _numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in _NUMBER.findall(text)]


def _holds(left: str, right: str, work_out: WorkOut) -> bool | None:
    formula = left.translate(_AS_FORMULA).strip()
    if not any(operator in formula.lstrip("-") for operator in "+-*/"):
        return None
    value = work_out(formula)
    if value is None:
        return None
    stated = float(right.replace(",", ""))
    return abs(value - stated) <= RELATIVE_SLACK * max(1.0, abs(stated))


_AS_FORMULA = str.maketrans({"x": "*", "×": "*", ",": None, "$": None})


def _share_unused(draft: _Draft) -> float:
    """Numbers of the question that the draft never writes down: a step was left out."""
    asked, used = set(draft.asked_numbers), set(draft.numbers)
    return len(asked - used) / len(asked) if asked else 0.0


def _final_number(draft: _Draft) -> float | None:
    found = _numbers(draft.final)
    return found[0] if found else None


def _final_is_fraction(draft: _Draft) -> bool:
    number = _final_number(draft)
    return number is not None and not number.is_integer()


_SIGNS: dict[str, Callable[[_Draft], float]] = {
    "final_missing": lambda d: not d.final,
    "final_is_bare_number": lambda d: bool(_NUMBER.fullmatch(d.final)),
    "final_is_fraction": _final_is_fraction,
    "final_has_words": lambda d: bool(re.search(r"[A-Za-z]{2}", d.final)),
    "final_is_negative": lambda d: (_final_number(d) or 0.0) < 0,
    "final_stands_in_question": lambda d: _final_number(d) in d.asked_numbers,
    "last_number_is_fraction": lambda d: bool(d.numbers) and not d.numbers[-1].is_integer(),
    "wrong_equations": lambda d: math.log1p(d.equations.count(False)),
    "right_equations": lambda d: math.log1p(d.equations.count(True)),
    "no_equation": lambda d: not d.equations,
    "unused_numbers": _share_unused,
    "fractions_written": lambda d: math.log1p(sum(not n.is_integer() for n in d.numbers)),
    "second_thoughts": lambda d: bool(_SECOND_THOUGHTS.search(d.text)),
    "algebra": lambda d: bool(_ALGEBRA.search(d.text)),
    "cut_short": lambda d: d.text.rstrip()[-1:] not in set(".)!}0123456789"),
    "draft_length": lambda d: math.log1p(len(d.text)),
    "draft_lines": lambda d: math.log1p(d.text.count("\n")),
    "question_length": lambda d: math.log1p(len(d.question)),
    "question_sentences": lambda d: math.log1p(len(re.findall(r"[.?!](?=\s|$)", d.question))),
    "question_numbers": lambda d: math.log1p(len(d.asked_numbers)),
    "question_has_decimals": lambda d: bool(re.search(r"\d\.\d", d.question)),
    "question_has_money": lambda d: "$" in d.question,
    "question_has_shares": lambda d: bool(re.search(r"%|percent|\d/\d", d.question)),
}
DRAFT_SIGNS = tuple(_SIGNS)
"""Names of what `draft_signs` counts, in its order."""


def draft_signs(question: str, draft: str, work_out: WorkOut) -> npt.NDArray[np.float64]:
    """The signs of `DRAFT_SIGNS`, one number each: flags 0 or 1, counts as `ln(1 + n)`.

    Linear in the texts' length, but for the formulas that `work_out` is given: 50 at most."""
    seen = _Draft(question=question, text=draft, work_out=work_out)
    return np.array([float(sign(seen)) for sign in _SIGNS.values()])
