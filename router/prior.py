"""P(correct) before there is any calibration: a conservative, documented prior.

These numbers are not measured on the user's model and are never called calibrated. They are set
low on purpose, so that an uncalibrated ladder rather buys an answer than trusts a bad one:

- the cloud rungs start from published results on financial filings (arXiv 2502.15964): the whole
  document .826, a cloud model over local extracts .804. Each is lowered a little;
- a local answer starts from the same paper's local-only score (.326) and earns its way up by what
  can be checked: a quote that stands in the document, the answer's words in that quote, agreement,
  margin.
"""

from __future__ import annotations

from router.rungs import Rung
from router.signals import Signals, margin_confidence

LOCAL_BASE = 0.25
AGREEMENT_GAIN = 0.30
ALONE_FACTOR = 0.5
"""A single chunk that answers agrees with nobody: it only has no rival."""
MARGIN_GAIN = 0.20
VERIFIED_GAIN = 0.10
IN_QUOTE_GAIN = 0.10
UNVERIFIED_FACTOR = 0.5
LOCAL_CEILING = 0.90
ABSTENTION_BASE = 0.35
"""Chance that "not in the document" is right when every worker that read it abstained."""
CLOUD_PRIOR = {Rung.EVIDENCE: 0.75, Rung.PASSAGES: 0.78, Rung.DOCUMENT: 0.82}
P_NOTICED = 0.7
"""Chance that a wrong cloud answer is seen to be doubtful (it abstains, or no quote of it stands in
what it was sent): the supervisor is told to say when its sources do not suffice."""
CLOUD_UNVERIFIED_FACTOR = 0.7
"""A cloud answer without a single verified citation is worth this much of its prior."""


def p_local(signals: Signals) -> float:
    """Chance that the local answer (or the local abstention) is right, 0..1."""
    if not signals.answered:
        return ABSTENTION_BASE * signals.coverage
    is_alone = signals.agreement * signals.n_answered < 2
    chance = LOCAL_BASE + AGREEMENT_GAIN * signals.agreement * (ALONE_FACTOR if is_alone else 1.0)
    chance += MARGIN_GAIN * (2 * margin_confidence(signals.margin) - 1)
    if signals.verified:
        chance += VERIFIED_GAIN + (IN_QUOTE_GAIN if signals.answer_in_quote else 0.0)
    else:
        chance *= UNVERIFIED_FACTOR
    if signals.hedged:
        chance *= 0.5
    return min(chance, LOCAL_CEILING) * signals.coverage


def p_cloud(rung: Rung, signals: Signals) -> float:
    """Chance that the cloud would be right at `rung`, 0..1, before it was asked.

    With quotes of which none answers the question (nothing verified), the `evidence` rung has
    nothing to go on; `passages` depends on retrieval then, so it is lowered too."""
    prior = CLOUD_PRIOR[rung]
    if rung is Rung.EVIDENCE and not signals.verified:
        return 0.0
    if rung is Rung.PASSAGES and not signals.verified:
        return prior * 0.8
    return prior


def p_cloud_answer(rung: Rung, *, abstained: bool, verified: bool) -> float:
    """Chance that an answer the cloud gave at `rung` is right, once its quotes were checked.

    An abstention below `document` says only that this rung did not show enough."""
    if abstained:
        return CLOUD_PRIOR[Rung.DOCUMENT] if rung is Rung.DOCUMENT else ABSTENTION_BASE
    return CLOUD_PRIOR[rung] * (1.0 if verified else CLOUD_UNVERIFIED_FACTOR)
