"""Fit the router's profile on labelled runs, and say how good it is on rows it never saw.

A share of the documents is held back from the fit: thresholds for a stated loss come from them
alone, which is what their guarantee rests on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from eval.chance_fit import MIN_PER_CLASS, cross_fitted, fit_chance
from eval.labelled import LabelledRun, RungOutcome
from eval.score import auroc, expected_calibration_error
from eval.statistics import Reliability, reliability
from minions.errors import BadRequest
from router import RiskRow, Rung, p_cloud_answer, p_local
from router.prior import P_NOTICED
from router.profile import Calibration, CloudRung, FitQuality

MIN_LABELS = 50
"""Labelled questions below which nothing is fitted: the prior is the better guess."""
MIN_GROUPS = 5
"""Documents below which no figure for a new document can be given."""
MIN_CLOUD_LABELS = 20
PRIOR_WEIGHT = 10
"""Labels that the documented prior counts as, in the rates of the cloud's answers."""
KEEPS_PRIOR = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationReport:
    """A fitted profile with the figures that speak for or against it."""

    calibration: Calibration
    n_labels: int
    n_groups: int
    accuracy: float
    """Share of local answers that are right."""
    prior: FitQuality
    """The documented prior on the rows of `calibration.quality`."""
    before: Reliability
    """What came true of the prior's chances, on the same rows."""
    after: Reliability
    """Of the profile's, each row's by a fit without its document."""
    held_back: FitQuality | None
    """The profile on the rows kept for thresholds; None when there are none."""


def calibrate(
    runs: Sequence[LabelledRun], *, risk_share: float = 0.3, seed: int = 0
) -> CalibrationReport:
    """Fit a profile. `risk_share` of the documents is held back for thresholds with a guarantee,
    unless that would leave too few labels to fit on.

    Raises BadRequest, saying what is missing, when there are too few labels."""
    _check_enough(runs)
    fitted, held_back = hold_back(runs, risk_share, seed)
    signals, right = [run.signals for run in fitted], _right(fitted)
    groups = [run.group for run in fitted]
    local, chances = fit_chance(signals, right, groups), cross_fitted(signals, right, groups)
    prior = [p_local(each) for each in signals]
    unseen = [local.of(run.signals) for run in held_back]
    calibration = Calibration(
        key=runs[0].key,
        local=local,
        cloud_model=next((run.cloud_model for run in runs if run.cloud_model), None),
        rungs=tuple(fit_rungs(fitted)),
        quality=quality(chances, right),
        risk_rows=risk_rows(held_back, unseen),
    )
    return CalibrationReport(
        calibration=calibration,
        n_labels=len(runs),
        n_groups=len({run.group for run in runs}),
        accuracy=sum(_right(runs)) / len(runs),
        prior=quality(prior, right),
        before=reliability(prior, right, groups, seed=seed),
        after=reliability(chances, right, groups, seed=seed),
        held_back=quality(unseen, _right(held_back)) if held_back else None,
    )


def hold_back(
    runs: Sequence[LabelledRun], share: float, seed: int
) -> tuple[list[LabelledRun], list[LabelledRun]]:
    """(rows to fit on, rows held back), whole groups drawn with `seed`; nothing is held back when
    fewer than `MIN_LABELS` rows or `MIN_GROUPS` groups would be left to fit on."""
    groups = sorted({run.group for run in runs})
    random.Random(seed).shuffle(groups)
    kept = set(groups[: round(share * len(groups))])
    rest = [run for run in runs if run.group not in kept]
    if len(rest) < MIN_LABELS or len(groups) - len(kept) < MIN_GROUPS:
        return list(runs), []
    return rest, [run for run in runs if run.group in kept]


def risk_rows(runs: Sequence[LabelledRun], chances: Sequence[float]) -> tuple[RiskRow, ...]:
    """Rows for `router.risk`, given P(local answer is right) from a model that saw none of them."""
    return tuple(
        RiskRow(p_correct=p, lost=lost_to_cloud(run), group=run.group)
        for run, p in zip(runs, chances, strict=True)
    )


def lost_to_cloud(run: LabelledRun) -> bool:
    """The local answer is wrong and the cloud alone would be right; an unlabelled cloud answer
    counts as right, to be on the safe side."""
    cloud = run.outcomes.get(Rung.DOCUMENT)
    return not run.local_correct and (cloud is None or cloud.correct)


def quality(chances: Sequence[float], right: Sequence[bool]) -> FitQuality:
    """ECE, Brier score (Brier 1950: mean squared error) and AUROC of stated chances."""
    errors = [(p - label) ** 2 for p, label in zip(chances, right, strict=True)]
    mixed = any(right) and not all(right)
    return FitQuality(
        n=len(right),
        ece=expected_calibration_error(chances, right),
        brier=sum(errors) / len(errors),
        auroc=auroc(chances, right) if mixed else None,
    )


def fit_rungs(runs: Sequence[LabelledRun]) -> Iterator[CloudRung]:
    """What the labels say of each cloud rung that has enough of them.

    Best labelled on every question (strategy `cloud`, say): where a rung was bought only when the
    router thought so, the rates hold for such questions."""
    for rung in Rung.LOCAL.above:
        labelled = [run for run in runs if rung in run.outcomes]
        if len(labelled) >= MIN_CLOUD_LABELS:
            yield _fit_rung(rung, labelled)


def _fit_rung(rung: Rung, runs: Sequence[LabelledRun]) -> CloudRung:
    wrong = [run for run in runs if not run.local_correct]
    kept = [run.outcomes[rung].correct for run in runs if run.local_correct]
    answers = [run.outcomes[rung] for run in runs]

    def rate(of: Callable[[RungOutcome], bool], *, abstained: bool, verified: bool) -> float:
        prior = p_cloud_answer(rung, abstained=abstained, verified=verified)
        return _smoothed([answer.correct for answer in answers if of(answer)], prior)

    return CloudRung(
        rung=rung,
        fixes=fit_chance(
            [run.signals for run in wrong],
            [run.outcomes[rung].correct for run in wrong],
            [run.group for run in wrong],
        ),
        keeps=_smoothed(kept, KEEPS_PRIOR),
        verified=rate(lambda a: not a.abstained and a.verified, abstained=False, verified=True),
        unverified=rate(
            lambda a: not a.abstained and not a.verified, abstained=False, verified=False
        ),
        abstained=rate(lambda a: a.abstained, abstained=True, verified=False),
        noticed=_smoothed(
            [a.abstained or not a.verified for a in answers if not a.correct], P_NOTICED
        ),
        n_labels=len(runs),
    )


def _smoothed(hits: Sequence[bool], prior: float) -> float:
    """A rate drawn towards its prior: few labels move it little."""
    return (sum(hits) + PRIOR_WEIGHT * prior) / (len(hits) + PRIOR_WEIGHT)


def _right(runs: Sequence[LabelledRun]) -> list[bool]:
    return [run.local_correct for run in runs]


def _check_enough(runs: Sequence[LabelledRun]) -> None:
    """Raises BadRequest unless there are labels, documents and both classes enough."""
    n_groups, n_right = len({run.group for run in runs}), sum(_right(runs))
    n_rarer = min(n_right, len(runs) - n_right)
    for n, least, what in (
        (len(runs), MIN_LABELS, "labelled questions"),
        (n_groups, MIN_GROUPS, "documents"),
        (n_rarer, MIN_PER_CLASS, "of the rarer of right and wrong local answers"),
    ):
        if n < least:
            raise BadRequest(
                f"Too few labels to calibrate on: {n} {what}, at least {least} are needed. Label "
                "more; until then the documented prior is used."
            )
