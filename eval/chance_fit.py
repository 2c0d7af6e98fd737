"""Learn P(event | signals): a regularised logistic score, then a monotone calibration curve.

Rows of one group (a document, a company) stay together in every split. What comes out
(`router.profile.Chance`) is plain numbers, applied without scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from router import Signals
from router.features import FEATURE_NAMES, features_of
from router.profile import Chance, Weight

MIN_PER_CLASS = 10
"""Positives and negatives each, below which a chance is the base rate whatever the signals."""
ISOTONIC_FROM = 500
"""Labels from which the curve is isotonic; fewer give it steps of chance, so that the smoother beta
calibration with three parameters is the safer one (Kull et al. 2017)."""
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Inverse regularisation tried, on standardised features; the best by grouped log-loss is taken."""
SOLVER = "newton-cholesky"
"""Exact and quick for a few dozen features, whatever their number of rows."""
CURVE_STRENGTH = 10.0
N_FOLDS = 5
KNOTS = 41
"""Points of a smooth curve, evenly spaced in log-odds."""
KNOT_LIMIT = 6.0

_Floats = npt.NDArray[np.float64]
_Labels = npt.NDArray[np.bool_]
_NAMES = tuple(sorted(FEATURE_NAMES))


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
    model = LogisticRegression(C=strength, solver=SOLVER).fit(design, labels)
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
    return LogisticRegression(C=CURVE_STRENGTH, solver=SOLVER).fit(sides, labels)


def _rising(points: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Points in strictly rising score and, against rounding, never falling probability."""
    ordered = sorted(points)
    kept = [ordered[0]]
    for (before, _), (score, chance) in pairwise(ordered):
        if score > before:
            kept.append((score, max(chance, kept[-1][1])))
    return tuple(kept)
