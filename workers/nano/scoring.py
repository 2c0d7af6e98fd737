"""Figures for a reader: token F1, exact match, abstention, ranking of margins."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalised(text: str) -> str:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation + "“”‘’")
    return " ".join(_ARTICLES.sub(" ", bare).split())


def token_f1(said: str, gold: str) -> float:
    """SQuAD's token F1 between two texts."""
    ours, theirs = normalised(said).split(), normalised(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def best_f1(said: str | None, golds: Sequence[str]) -> float:
    """The best token F1 over the accepted answers; 0 for an abstention."""
    return 0.0 if said is None else max((token_f1(said, g) for g in golds), default=0.0)


def exact(said: str | None, gold: str) -> bool:
    """Whether both are the same after normalisation."""
    return said is not None and normalised(said) == normalised(gold)


def verified(quote: str | None, source: str) -> bool:
    """Whether a quote of some length stands in the source, whitespace aside."""
    squeezed = " ".join((quote or "").split())
    return len(squeezed) > 1 and squeezed in " ".join(source.split())


@dataclass(frozen=True, kw_only=True, slots=True)
class Abstention:
    """How well "the text does not say" was told: null is the positive class."""

    precision: float
    recall: float
    f1: float


def abstention(said_null: Sequence[bool], is_null: Sequence[bool]) -> Abstention:
    """Precision, recall and F1 of null over all questions."""
    hits = sum(a and b for a, b in zip(said_null, is_null, strict=True))
    precision = hits / max(1, sum(said_null))
    recall = hits / max(1, sum(is_null))
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    return Abstention(precision=precision, recall=recall, f1=f1)


def auroc(scores: Sequence[float], good: Sequence[bool]) -> float:
    """Chance that a good one outranks a bad one (ties count half); nan without both."""
    values, flags = np.asarray(scores, dtype=float), np.asarray(good, dtype=bool)
    n_good, n_bad = int(flags.sum()), int((~flags).sum())
    if not n_good or not n_bad:
        return float("nan")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    ranks = mean_rank[inverse]
    return float((ranks[flags].sum() - n_good * (n_good + 1) / 2) / (n_good * n_bad))
