"""Decisions: signals to probability to the cheapest rung that is good enough. Pure."""

from router.decision import Decision, Offer, Wishes, choose, closed_because
from router.prior import p_cloud, p_cloud_answer, p_local
from router.rungs import Rung
from router.signals import Signals, agreement_of, is_hedged, margin_confidence

__all__ = [
    "Decision",
    "Offer",
    "Rung",
    "Signals",
    "Wishes",
    "agreement_of",
    "choose",
    "closed_because",
    "is_hedged",
    "margin_confidence",
    "p_cloud",
    "p_cloud_answer",
    "p_local",
]
