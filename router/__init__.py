"""Decisions: signals to probability to the cheapest rung that is good enough. Pure."""

from router.chances import CALIBRATED, PRIOR, Chances, CloudChance, chances, p_answer
from router.decision import Decision, Offer, Wishes, choose, closed_because
from router.plan import Plan, choose_by_value, plan_purchases
from router.prior import p_cloud, p_cloud_answer, p_local
from router.profile import Calibration, CalibrationKey, StaleCalibration
from router.reach import STOPPABLE, reach
from router.risk import (
    Audit,
    RiskRow,
    Threshold,
    audit,
    confident_threshold,
    conformal_threshold,
)
from router.rungs import Rung
from router.signals import (
    NOTHING_READ,
    QuestionType,
    Signals,
    agreement_of,
    is_hedged,
    logprob_quantiles,
    margin_confidence,
    margin_gap,
    mean_logprob,
    question_type,
    rank_of,
    retrieval_gap,
    sample_agreement,
    verified_share,
    weakest_abstention,
)

__all__ = [
    "CALIBRATED",
    "NOTHING_READ",
    "PRIOR",
    "STOPPABLE",
    "Audit",
    "Calibration",
    "CalibrationKey",
    "Chances",
    "CloudChance",
    "Decision",
    "Offer",
    "Plan",
    "QuestionType",
    "RiskRow",
    "Rung",
    "Signals",
    "StaleCalibration",
    "Threshold",
    "Wishes",
    "agreement_of",
    "audit",
    "chances",
    "choose",
    "choose_by_value",
    "closed_because",
    "confident_threshold",
    "conformal_threshold",
    "is_hedged",
    "logprob_quantiles",
    "margin_confidence",
    "margin_gap",
    "mean_logprob",
    "p_answer",
    "p_cloud",
    "p_cloud_answer",
    "p_local",
    "plan_purchases",
    "question_type",
    "rank_of",
    "reach",
    "retrieval_gap",
    "sample_agreement",
    "verified_share",
    "weakest_abstention",
]
