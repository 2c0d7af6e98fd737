"""What to expect of a local and a cloud model on a plain question before anything was learned.

Round numbers in the place of a profile (`router.chat_profile`), on the careful side: a 20B local
model at low effort answers about four of five questions of a broad exam rightly and the best cloud
models nine of ten (gpt-oss model card, arXiv 2508.10925); steps to be combined cost the smaller
model more (RouteLLM finds the same order of questions for many pairs, arXiv 2406.18665).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from router.chat import Forecast
from router.chat_signs import DRAFT_SIGNS, WorkOut, draft_signs
from router.signals import is_hedged

P_LOCAL = 0.80
GAIN = 0.10
P_PER_SIGN = 0.07
"""Taken from the local model's chance for each sign of a hard question..."""
GAIN_PER_SIGN = 0.05
"""...and added to what the cloud would gain."""
MAX_SIGNS = 4
P_DOUBTFUL = 0.40
"""Of a draft that hedges, or whose own sums do not add up."""
P_CUT = 0.50
"""Of a draft that was cut at its limit."""
LONG_CHARS = 1500

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_STEPS = re.compile(
    r"\b(?:prove|proof|derive|optimi[sz]e|step by step|algorithm|complexity|debug|refactor|"
    r"integral|theorem|percent|ratio|how many|how much)\b|%",
    re.IGNORECASE,
)
_CONDITION = re.compile(r"\b(?:if|unless|given that|suppose|assum\w+)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalDraft:
    """What is seen of a local answer."""

    text: str
    calls_tools: bool = False
    cut: bool = False
    """It ran into its limit of tokens."""


def prior_forecast(question: str) -> Forecast:
    """Before anyone has answered: fewer hopes the more signs of a hard question there are."""
    n_signs = min(_hard_signs(question), MAX_SIGNS)
    return Forecast(
        p_local=P_LOCAL - P_PER_SIGN * n_signs,
        gain=GAIN + GAIN_PER_SIGN * n_signs,
    )


def prior_with_draft(question: str, draft: LocalDraft, work_out: WorkOut) -> Forecast:
    """Once the local model has answered: doubts about the draft lower its chance, never raise it;
    what the cloud can do stays as it was."""
    before = prior_forecast(question)
    p_local = min(before.p_local, _p_of(question, draft, work_out))
    return Forecast(p_local=p_local, gain=before.p_cloud - p_local)


def _p_of(question: str, draft: LocalDraft, work_out: WorkOut) -> float:
    if draft.calls_tools:
        return 1.0  # nothing is claimed yet
    if not draft.text.strip():
        return 0.0
    signs = dict(zip(DRAFT_SIGNS, draft_signs(question, draft.text, work_out), strict=True))
    if is_hedged(draft.text) or signs["wrong_equations"] > 0:
        return P_DOUBTFUL
    return P_CUT if draft.cut else 1.0


def _hard_signs(question: str) -> int:
    signs = (
        len(_NUMBER.findall(question[:LONG_CHARS])) >= 3,
        _STEPS.search(question[:LONG_CHARS]) is not None,
        _CONDITION.search(question[:LONG_CHARS]) is not None,
        "```" in question,
        len(question) > LONG_CHARS,
    )
    return sum(signs)
