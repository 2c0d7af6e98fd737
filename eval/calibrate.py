"""Fit the router's profile on labelled runs: logistic scores on signals, then a calibration curve.

Rows of one document stay together in every split. What is reported comes from rows that had no part
in the fit; what is kept (`router.profile.Calibration`) is plain numbers, applied without
scikit-learn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from eval.labelled import LabelledRun, RungOutcome
from eval.score import auroc, expected_calibration_error
from minions.errors import BadRequest
from router import RiskRow, Rung, Signals, p_cloud_answer, p_local
from router.features import FEATURE_NAMES, features_of
from router.prior import P_NOTICED
from router.profile import Calibration, Chance, CloudRung, FitQuality, Weight

MIN_LABELS = 50
"""Labelled questions below which nothing is fitted: the prior is the better guess."""
MIN_GROUPS = 5
"""Documents below which no figure for a new document can be given."""
MIN_PER_CLASS = 10
"""Right and wrong ones each, below which a chance is the base rate whatever the signals."""
MIN_CLOUD_LABELS = 20
ISOTONIC_FROM = 500
"""Labels from which the curve is isotonic; fewer give it steps of chance, so that the smoother beta
calibration with three parameters is the safer one (Kull et al. 2017)."""
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Inverse regularisation tried, on standardised features; the best by grouped log-loss is taken."""
N_FOLDS = 5
PRIOR_WEIGHT = 10
"""Labels that the documented prior counts as, in the rates of the cloud's answers."""
KEEPS_PRIOR = 0.9
KNOTS = 41
"""Points of a smooth curve, evenly spaced in log-odds."""
KNOT_LIMIT = 6.0

_Floats = npt.NDArray[np.float64]
_Labels = npt.NDArray[np.bool_]
_NAMES = tuple(sorted(FEATURE_NAMES))


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
    local = fit_chance(signals, right, groups)
    unseen = [local.of(run.signals) for run in held_back]
    calibration = Calibration(
        key=runs[0].key,
        local=local,
        cloud_model=next((run.cloud_model for run in runs if run.cloud_model), None),
        rungs=tuple(fit_rungs(fitted)),
        quality=quality(cross_fitted(signals, right, groups), right),
        risk_rows=risk_rows(held_back, unseen),
    )
    return CalibrationReport(
        calibration=calibration,
        n_labels=len(runs),
        n_groups=len({run.group for run in runs}),
        accuracy=sum(_right(runs)) / len(runs),
        prior=quality([p_local(each) for each in signals], right),
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


def cross_fitted(
    signals: Sequence[Signals], labels: Sequence[bool], groups: Sequence[str]
) -> list[float]:
    """For every row the chance by a fit (model, strength and curve) without its group."""
    chances = [0.0] * len(labels)
    for train, test in _folds(groups):
        chance = fit_chance(
            [signals[i] for i in train], [labels[i] for i in train], [groups[i] for i in train]
        )
        for i in test:
            chances[i] = chance.of(signals[i])
    return chances


def fit_chance(signals: Sequence[Signals], labels: Sequence[bool], groups: Sequence[str]) -> Chance:
    """P(label | signals): logistic with the strength that suits new groups, and a curve fitted on
    scores of left-out groups. With too few of a class, or too few groups, the base rate."""
    hits = np.asarray(labels, dtype=np.bool_)
    n_rarer = min(int(hits.sum()), int((~hits).sum()))
    if n_rarer < MIN_PER_CLASS or len(set(groups)) < 2:
        return _base_rate(labels)
    matrix = _matrix(signals)
    strength, scores = _best_strength(matrix, hits, groups)
    intercept, weights = _fit_logistic(matrix, hits, strength)
    return Chance(
        intercept=intercept,
        weights=weights,
        curve=_fit_curve(scores, hits),
        n_labels=len(hits),
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


def _base_rate(labels: Sequence[bool]) -> Chance:
    """The same chance for all: Laplace's (hits + 1) / (n + 2)."""
    rate = (sum(labels) + 1) / (len(labels) + 2)
    return Chance(intercept=0.0, weights=(), curve=((0.5, rate),), n_labels=len(labels))


def _matrix(signals: Sequence[Signals]) -> _Floats:
    """Shape (rows, features), unknown ones NaN."""
    rows = [[known[name] for name in _NAMES] for known in map(features_of, signals)]
    return np.asarray(rows, dtype=np.float64)


def _best_strength(
    matrix: _Floats, labels: _Labels, groups: Sequence[str]
) -> tuple[float, _Floats]:
    """The strength with the lowest log-loss on left-out groups, and the scores it gave there."""
    scores = {strength: np.full(len(labels), labels.mean()) for strength in STRENGTHS}
    for train, test in _folds(groups):
        if labels[train].all() or not labels[train].any():
            continue  # a fold without both classes teaches nothing: its rows keep the base rate
        for strength, found in scores.items():
            intercept, weights = _fit_logistic(matrix[train], labels[train], strength)
            found[test] = _scores(matrix[test], intercept, weights)
    best = min(scores, key=lambda strength: _log_loss(scores[strength], labels))
    return best, scores[best]


def _log_loss(scores: _Floats, labels: _Labels) -> float:
    safe = np.clip(scores, 1e-6, 1 - 1e-6)
    return float(-np.log(np.where(labels, safe, 1 - safe)).mean())


def _folds(groups: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """(train, test) row numbers; no group is on both sides."""
    splitter = GroupKFold(n_splits=min(N_FOLDS, len(set(groups))))
    rows = np.zeros((len(groups), 1))
    return [(train.tolist(), test.tolist()) for train, test in splitter.split(rows, groups=groups)]


def _fit_logistic(
    matrix: _Floats, labels: _Labels, strength: float
) -> tuple[float, tuple[Weight, ...]]:
    """L2-regularised logistic regression on standardised features.

    An unknown value counts as the mean, and being unknown is a feature of its own. Features that
    never vary are left out."""
    known = ~np.isnan(matrix)
    means = np.nan_to_num(_over_known(matrix, known))
    scales = np.sqrt(np.nan_to_num(_over_known((matrix - means) ** 2, known)))
    varies = scales > 1e-9
    sometimes = known.any(axis=0) & ~known.all(axis=0)
    values = np.where(known, matrix - means, 0.0)[:, varies] / scales[varies]
    design = np.hstack([values, (~known)[:, sometimes].astype(np.float64)])
    if not design.shape[1]:
        rate = float(labels.mean())
        return float(np.log(rate / (1 - rate))), ()
    model = LogisticRegression(C=strength, max_iter=500).fit(design, labels)
    by_value = dict(zip(np.flatnonzero(varies).tolist(), model.coef_[0].tolist(), strict=False))
    gaps = model.coef_[0][len(by_value) :].tolist()
    by_gap = dict(zip(np.flatnonzero(sometimes).tolist(), gaps, strict=True))
    return float(model.intercept_[0]), tuple(
        Weight(
            feature=_NAMES[i],
            mean=float(means[i]),
            scale=float(scales[i]) if i in by_value else 1.0,
            weight=by_value.get(i, 0.0),
            when_unknown=by_gap.get(i, 0.0),
        )
        for i in sorted({*by_value, *by_gap})
    )


def _over_known(values: _Floats, known: npt.NDArray[np.bool_]) -> _Floats:
    """Mean per column over the known rows; NaN where there are none."""
    counts = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    means: _Floats = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return means


def _scores(matrix: _Floats, intercept: float, weights: Sequence[Weight]) -> _Floats:
    """`Chance.score` for many rows at once."""
    odds = np.full(len(matrix), intercept)
    for weight in weights:
        column = matrix[:, _NAMES.index(weight.feature)]
        share = weight.weight * (column - weight.mean) / weight.scale
        odds += np.where(np.isnan(column), weight.when_unknown, share)
    scores: _Floats = 1 / (1 + np.exp(-odds))
    return scores


def _fit_curve(scores: _Floats, labels: _Labels) -> tuple[tuple[float, float], ...]:
    """A rising curve from score to probability."""
    if len(labels) >= ISOTONIC_FROM:
        return _isotonic(scores, labels)
    return _beta(scores, labels)


def _isotonic(scores: _Floats, labels: _Labels) -> tuple[tuple[float, float], ...]:
    """Pool-adjacent-violators (Zadrozny and Elkan 2002). Never 0 or 1: n labels can't say so."""
    edge = 1 / (len(labels) + 2)
    fitted = IsotonicRegression(y_min=edge, y_max=1 - edge).fit(scores, labels.astype(np.float64))
    points = zip(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist(), strict=True)
    return _rising(points)


def _beta(scores: _Floats, labels: _Labels) -> tuple[tuple[float, float], ...]:
    """Beta calibration (Kull et al. 2017): log-odds a ln s - b ln(1 - s) + c with a, b >= 0.

    As there, a coefficient that comes out negative is set to 0 and the other is fitted again. The
    curve is kept as `KNOTS` points."""
    parts = [0, 1]
    sides = _beta_sides(scores)
    model = _beta_fit(sides, labels)
    if (model.coef_[0] < 0).any():
        parts = [int(np.argmax(model.coef_[0]))]
        model = _beta_fit(sides[:, parts], labels)
    if (model.coef_[0] < 0).any():
        return ((0.5, float(labels.mean())),)
    knots = 1 / (1 + np.exp(-np.linspace(-KNOT_LIMIT, KNOT_LIMIT, KNOTS)))
    chances = model.predict_proba(_beta_sides(knots)[:, parts])[:, 1]
    return _rising(zip(knots.tolist(), chances.tolist(), strict=True))


def _beta_sides(scores: _Floats) -> _Floats:
    safe = np.clip(scores, 1e-6, 1 - 1e-6)
    return np.column_stack([np.log(safe), -np.log1p(-safe)])


def _beta_fit(sides: _Floats, labels: _Labels) -> LogisticRegression:
    return LogisticRegression(C=10.0, max_iter=500).fit(sides, labels)


def _rising(points: Iterator[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Points in strictly rising score and, against rounding, never falling probability."""
    ordered = sorted(points)
    kept = [ordered[0]]
    for (before, _), (score, chance) in pairwise(ordered):
        if score > before:
            kept.append((score, max(chance, kept[-1][1])))
    return tuple(kept)


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
