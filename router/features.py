"""Signals as numbers for a learned model: which features there are, by name.

A calibration stores the names it was fitted on, so a new feature never disturbs an old file; a
feature that changes its meaning does, and then `FEATURES_VERSION` is raised. The documented prior
is a feature too, so that a fit on few labels starts from what it knows.
"""

from __future__ import annotations

import math

from router.prior import p_local
from router.signals import NOTHING_READ, QuestionType, Signals

FEATURES_VERSION = 3
MARGIN_LIMIT = 20.0
"""Logits. Above this a margin says no more; the limit keeps one outlier from tilting a fit."""
LOGPROB_LIMIT = -5.0
"""Nats per token; as `MARGIN_LIMIT`."""


def features_of(signals: Signals) -> dict[str, float | None]:
    """Every feature by name; None where its signal is unknown. Counts are log(1 + n)."""
    return {
        "prior": _log_odds(p_local(signals)),
        **_checked(signals),
        **_sureness(signals),
        **_reading(signals),
        **_question(signals),
    }


def _checked(s: Signals) -> dict[str, float | None]:
    """What could be checked of the draft, and who agrees with it."""
    return {
        "answered": float(s.answered),
        "verified": float(s.verified),
        "answer_in_quote": float(s.answer_in_quote),
        "hedged": float(s.hedged),
        "agreement": s.agreement if s.answered else None,
        "sample_agreement": s.sample_agreement,
        "verified_share": s.verified_share,
        "n_competing": _log_count(s.n_competing),
        "rival_share": s.rival_share,
        "answer_words": _log_count(s.answer_words),
    }


def _sureness(s: Signals) -> dict[str, float | None]:
    """What the engine's logits say."""
    low, tenth, median = s.logprob_quantiles or (None, None, None)
    return {
        "margin": _limited(s.margin),
        "rival_margin_gap": _limited(s.rival_margin_gap),
        "abstention_margin": None if s.answered else _limited(s.abstention_margin),
        "mean_logprob": _floored(s.mean_logprob),
        "lowest_logprob": _floored(low),
        "tenth_logprob": _floored(tenth),
        "median_logprob": _floored(median),
    }


def _reading(s: Signals) -> dict[str, float | None]:
    """How the workers fared over the document, and what the search thought of it."""
    n_jobs = s.n_answered + s.n_abstained + s.n_failed
    return {
        "coverage": s.coverage,
        "n_answered": _log_count(s.n_answered),
        "answered_share": s.n_answered / n_jobs if n_jobs else None,
        "n_jobs": _log_count(n_jobs),
        "retrieval_rank": 1 / s.retrieval_rank if s.retrieval_rank else None,
        "retrieval_gap": s.retrieval_gap,
    }


def _question(s: Signals) -> dict[str, float | None]:
    """One feature per question type; a question of unknown type is of none."""
    return {f"asks_{kind}": float(s.question_type is kind) for kind in QuestionType}


def _log_odds(chance: float) -> float:
    safe = min(max(chance, 0.01), 0.99)
    return math.log(safe / (1 - safe))


def _log_count(count: int | None) -> float | None:
    return None if count is None else math.log1p(count)


def _limited(margin: float | None) -> float | None:
    return None if margin is None else max(-MARGIN_LIMIT, min(margin, MARGIN_LIMIT))


def _floored(logprob: float | None) -> float | None:
    return None if logprob is None else max(LOGPROB_LIMIT, min(logprob, 0.0))


FEATURE_NAMES = frozenset(features_of(NOTHING_READ))
