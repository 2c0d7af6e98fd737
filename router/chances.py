"""P(correct) at every rung: from a fitted profile where there is one, else from the prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router import prior
from router.profile import Calibration, CalibrationKey, CloudRung
from router.rungs import Rung
from router.signals import Signals

CALIBRATED = "calibrated"
PRIOR = "prior"


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudChance:
    """The chances of one cloud rung, before it is bought."""

    p_correct: float
    """P(right if bought), 0..1."""
    p_fixes: float | None
    """P(right if bought | the local answer is wrong); None where nothing was learned."""
    p_keeps: float | None
    """P(right if bought | the local answer is right)."""
    p_noticed: float
    """P(its answer is seen to be doubtful | it is wrong)."""
    source: str
    """`calibrated` or `prior`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chances:
    """The chances of one question at every rung."""

    p_local: float
    source: str
    """Of `p_local`: `calibrated` or `prior`."""
    cloud: Mapping[Rung, CloudChance]


def chances(
    signals: Signals,
    calibration: Calibration | None,
    key: CalibrationKey,
    cloud_model: str | None,
) -> Chances:
    """P(correct) at every rung, from the profile or else from the documented prior.

    Rungs without labels, and all of them under another cloud model than the profile's, fall back to
    the prior and say so. Raises StaleCalibration when the profile is another worker's."""
    if calibration is None:
        cloud = {rung: _from_prior(rung, signals) for rung in Rung.LOCAL.above}
        return Chances(p_local=prior.p_local(signals), source=PRIOR, cloud=cloud)
    calibration.check(key)
    p_local = calibration.local.of(signals)
    fitted = _fitted_rungs(calibration, cloud_model)
    return Chances(
        p_local=p_local,
        source=CALIBRATED,
        cloud={
            rung: _from_labels(fitted[rung], p_local, signals)
            if rung in fitted
            else _from_prior(rung, signals)
            for rung in Rung.LOCAL.above
        },
    )


def p_answer(
    rung: Rung,
    calibration: Calibration | None,
    cloud_model: str | None,
    *,
    abstained: bool,
    verified: bool,
) -> tuple[float, str]:
    """P(what the cloud said at `rung` is right), once its quotes were checked, and the source."""
    known = _fitted_rungs(calibration, cloud_model).get(rung) if calibration else None
    if known is None:
        return prior.p_cloud_answer(rung, abstained=abstained, verified=verified), PRIOR
    if abstained:
        return known.abstained, CALIBRATED
    return known.verified if verified else known.unverified, CALIBRATED


def _fitted_rungs(calibration: Calibration, cloud_model: str | None) -> dict[Rung, CloudRung]:
    if cloud_model is None or calibration.cloud_model != cloud_model:
        return {}
    return {known.rung: known for known in calibration.rungs}


def _from_labels(known: CloudRung, p_local: float, signals: Signals) -> CloudChance:
    p_fixes = known.fixes.of(signals)
    return CloudChance(
        p_correct=p_local * known.keeps + (1 - p_local) * p_fixes,
        p_fixes=p_fixes,
        p_keeps=known.keeps,
        p_noticed=known.noticed,
        source=CALIBRATED,
    )


def _from_prior(rung: Rung, signals: Signals) -> CloudChance:
    return CloudChance(
        p_correct=prior.p_cloud(rung, signals),
        p_fixes=None,
        p_keeps=None,
        p_noticed=prior.P_NOTICED,
        source=PRIOR,
    )
