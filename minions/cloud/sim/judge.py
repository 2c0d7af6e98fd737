"""The simulated model as judge of answers: it compares words and figures, and knows no meaning.

A candidate is taken for correct when it has every figure of a reference and most of its words. How
far such a judge can be trusted is for its agreement with people to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from minions.cloud.sim.sentences import stems

_PART = re.compile(r"<(reference|candidate)>(.*?)</\1>", re.DOTALL)
_FIGURE = re.compile(r"\d[\d,.]*\d|\d")
_WORDS_SHARE = 0.6
"""Of a reference's words that a right answer has, at least."""
_DECLINES = re.compile(
    r"\b(?:cannot|can't|unable|not (?:contain|provide|find|found|possible|available|disclose))",
    re.IGNORECASE,
)


def verdict(content: str) -> str | None:
    """The judge's JSON for a frame of references and a candidate; None when there is no such
    frame."""
    parts = [(match[1], match[2].strip()) for match in _PART.finditer(content)]
    candidates = [text for name, text in parts if name == "candidate"]
    references = [text for name, text in parts if name == "reference"]
    if not candidates or not references:
        return None
    right = any(_says(candidates[-1], reference) for reference in references)
    reason = "the same words and figures" if right else "words or figures are missing"
    return json.dumps({"reason": reason, "verdict": "correct" if right else "wrong"})


def _says(candidate: str, reference: str) -> bool:
    if _DECLINES.search(candidate) and not _DECLINES.search(reference):
        return False
    wanted, there = _figures(reference), _figures(candidate)
    return wanted <= there and _share(stems(reference), stems(candidate)) >= _WORDS_SHARE


def _figures(text: str) -> frozenset[str]:
    """Numbers without their thousands' commas and trailing zeros."""
    found = (figure.replace(",", "").strip(".") for figure in _FIGURE.findall(text))
    return frozenset(each.rstrip("0").rstrip(".") if "." in each else each for each in found)


def _share(wanted: Sequence[str], there: Sequence[str]) -> float:
    words = {word for word in wanted if not word[0].isdigit()}
    return len(words & set(there)) / len(words) if words else 1.0
