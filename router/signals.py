"""Signals: what is known about a draft answer before any money is spent.

Each is a number or a flag computed from local results alone. `None` means that the engine can't
tell (no logits, say), which is not the same as a bad value.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Signals:
    """Everything the router may look at for one question."""

    answered: bool
    """There is a local draft answer."""
    verified: bool
    """The draft has at least one citation that was found in the document."""
    answer_in_quote: bool
    """The draft's own words or number stand in a verified quote."""
    agreement: float
    """Share of all answered jobs whose answer agrees with the draft, 0..1."""
    margin: float | None
    """Best answer-token margin among the draft's claims, in logits."""
    coverage: float
    """Share of the documents' tokens that workers really read, 0..1."""
    n_answered: int
    n_abstained: int
    n_failed: int
    hedged: bool
    """The draft's wording is unsure of itself."""


_HEDGES = re.compile(
    r"\b(?:not (?:stated|specified|mentioned|provided|clear|available)|unclear|unknown|n/a"
    r"|(?:cannot|can't) (?:be determined|determine|say|tell)|appears to|it seems)\b",
    re.IGNORECASE,
)
"""Only phrases that documents rarely use: "may be" or "possibly" stand in every contract."""


def is_hedged(answer: str) -> bool:
    """Whether an answer hedges. Strong where a model refuses honestly, weak where it invents
    (recorded deferral studies: APGR .787 against .521), so the rule uses it one way only: a hedge
    lowers the chance, its absence does not raise it."""
    return bool(_HEDGES.search(answer))


def margin_confidence(margin: float | None) -> float:
    """A margin in logits as the two-way probability that the best token wins (logistic), 0.5..1.

    0.5 (no information) when there is no margin. Token margin is the strongest published single
    signal before calibration (arXiv 2605.18796); here it only orders, it is not a probability of
    being right."""
    if margin is None:
        return 0.5
    return 1.0 / (1.0 + math.exp(-max(margin, 0.0)))


def agreement_of(n_agreeing: int, n_answered: int) -> float:
    """Share of answered jobs that agree with the draft; 0 when nothing was answered.

    Self-consistency (arXiv 2310.03094), taken over chunks as well as over samples."""
    return n_agreeing / n_answered if n_answered else 0.0
