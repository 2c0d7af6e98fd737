"""Learn the chat router from questions that both models answered.

Question model: ridge regression of the gain and of the weak score on hashed n-grams, weighted by
inverse document frequency and scaled to unit length, beside a few signs of open questions. Ridge,
because the order that serves best is that of the expected gain, and squared error aims at just
that, with recorded scores that need not be 0 or 1.

Each target is learned in two parts: the mean of the question's topic, which has little noise and so
needs little penalty, and what is left of it. Both use the same features, so that their sum is one
linear model that knows no topics (learning with privileged information, Vapnik & Vashist 2009).

Draft model: ridge on the draft's signs alone.

Trees, kernels and latent spaces on top of the n-grams came within .005 of APGR of each other on
left-out questions: the plain model is kept, which the product can carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from eval.datasets.routing import Duel
from minions.arithmetic import evaluate
from minions.errors import BadRequest
from router.chat import (
    N_BUCKETS,
    Bytes,
    CountedQuestion,
    DraftModel,
    Floats,
    Forecast,
    QuestionModel,
    TermWeights,
    count_question,
)
from router.chat_profile import N_SHARES, ChatProfile
from router.chat_signs import draft_signs

N_FOLDS = 10
MIN_ROWS = 50
"""Fewer recorded questions are not learned from."""
MIN_DOCUMENTS = 2
"""Questions in which a bucket must occur to count."""
TOPIC_PENALTY, REST_PENALTY = 1.0, 10.0
TOPIC_PRIOR = 20.0
DRAFT_PENALTY = 100.0
SIGN_SCALE = 0.1
"""Length of one standard deviation of a sign, where all n-grams together have length 1."""
TOLERANCE = 1e-3
TOP_LEVEL = 127
TOP_RARITY = 255

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """One row as the models see it."""

    question: CountedQuestion
    draft: Floats | None
    """Signs of the draft; None when it is not on record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Recorded questions of one pair of models, counted once for all fits. Row i is duel i."""

    duels: tuple[Duel, ...]
    counted: tuple[Counted, ...]
    topics: npt.NDArray[np.intp]
    """Shape (n,): equal for equal topics."""
    present: sparse.csr_matrix
    """Shape (n, N_BUCKETS): 1 where a bucket occurs."""
    signs: Floats
    """Shape (n, len(QUESTION_SIGNS))."""
    targets: Floats
    """Shape (n, 2): gain, weak score."""

    @property
    def clean(self) -> Rows:
        """Rows that may be fitted on."""
        return np.flatnonzero([not duel.contaminated for duel in self.duels])


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecasts:
    """What the router says of one question."""

    question: Forecast
    draft: Forecast | None
    """None when the weak answer is not on record or drafts were not learned."""


def work_out(formula: str) -> float | None:
    """The value of a formula in a draft, by the whitelisted evaluator; None when it has none."""
    value = evaluate(formula, {})
    return float(value) if isinstance(value, Decimal) else None


def prepare(duels: Sequence[Duel]) -> Prepared:
    """Count terms and signs. Raises BadRequest for fewer than MIN_ROWS clean rows."""
    n_clean = sum(not duel.contaminated for duel in duels)
    if n_clean < MIN_ROWS:
        raise BadRequest(
            f"There are {n_clean} clean recorded questions and {MIN_ROWS} are needed to learn "
            "routing from. Give a folder with more."
        )
    counted = tuple(map(count_row, duels))
    return Prepared(
        duels=tuple(duels),
        counted=counted,
        topics=np.unique([duel.topic for duel in duels], return_inverse=True)[1],
        present=_matrix(counted),
        signs=np.array([row.question.signs for row in counted]),
        targets=np.array([(duel.gain, duel.weak_score) for duel in duels]),
    )


def count_row(duel: Duel) -> Counted:
    """Count what the models look at."""
    signs = None if duel.draft is None else draft_signs(duel.question, duel.draft, work_out)
    return Counted(question=count_question(duel.question), draft=signs)


def _matrix(counted: Sequence[Counted]) -> sparse.csr_matrix:
    rows = [row.question.buckets for row in counted]
    ends = np.cumsum([0, *map(len, rows)])
    ones = np.ones(ends[-1], dtype=np.float32)
    return sparse.csr_matrix((ones, np.concatenate(rows), ends), shape=(len(rows), N_BUCKETS))


def fit_profile(data: Prepared) -> ChatProfile:
    """The profile of all clean rows. Its shares are those of left-out questions."""
    unseen = cross_fitted(data)
    clean = data.clean
    drafts = [forecasts.draft for i in clean if (forecasts := unseen[i]).draft is not None]
    return ChatProfile(
        weak_model=data.duels[0].weak_model,
        strong_model=data.duels[0].strong_model,
        n_rows=len(clean),
        question=fit_question(data, clean),
        question_gains=_falling([unseen[i].question for i in clean]),
        draft=fit_draft(data, clean),
        draft_gains=_falling(drafts) if drafts else None,
    )


def _falling(forecasts: Sequence[Forecast | None]) -> Floats:
    gains = [forecast.gain for forecast in forecasts if forecast is not None]
    return np.quantile(gains, np.linspace(1, 0, N_SHARES))


def cross_fitted(data: Prepared) -> list[Forecasts]:
    """For each row what models say that were fitted without it, and without any row that asks the
    same in the same words."""
    groups = [duel.group for duel in data.duels]
    folds = GroupKFold(N_FOLDS, shuffle=True, random_state=0)
    said: dict[int, Forecasts] = {}
    for train, test in folds.split(groups, groups=groups):
        fitted_on = np.intersect1d(train, data.clean)
        question, draft = fit_question(data, fitted_on), fit_draft(data, fitted_on)
        for i in map(int, test):
            said[i] = forecast_row(data.duels[i], question, draft, data.counted[i])
    return [said[i] for i in range(len(data.duels))]


def forecast_row(
    duel: Duel, question: QuestionModel, draft: DraftModel | None, row: Counted | None = None
) -> Forecasts:
    """What fitted models say of one question; `row` when it was counted before."""
    row = row or count_row(duel)
    return Forecasts(
        question=question.forecast_counted(row.question),
        draft=draft.forecast_counted(row.draft) if draft and row.draft is not None else None,
    )


def fit_question(data: Prepared, rows: Rows) -> QuestionModel:
    """Fit on `rows`, which must be clean."""
    rarity = _rarity(data.present[rows])
    means, scales = _spread_of_open(data.signs[rows])
    signs = (data.signs[rows] - data.signs[rows, :1] * means) / scales
    features = sparse.hstack([_unit_rows(data.present[rows], rarity), _sparse(signs)]).tocsr()
    weights, intercepts = _fit_in_two_parts(features, data.targets[rows], data.topics[rows])
    of_signs = weights[:, N_BUCKETS:] / scales
    of_signs[:, 0] -= of_signs @ means
    gain, local = (_term_weights(row) for row in weights[:, :N_BUCKETS])
    return QuestionModel(rarity=rarity, terms=(gain, local), signs=of_signs, intercepts=intercepts)


def _fit_in_two_parts(
    features: sparse.csr_matrix, targets: Floats, topics: npt.NDArray[np.intp]
) -> tuple[Floats, tuple[float, float]]:
    """Weights, shape (2, features), and intercepts, summed over both parts."""
    by_topic = topic_means(targets, topics)
    ridge = Ridge(
        alpha=np.repeat([TOPIC_PENALTY, REST_PENALTY], 2), solver="sparse_cg", tol=TOLERANCE
    )
    ridge.fit(features, np.hstack([by_topic, targets - by_topic]).astype(np.float32))
    weights = np.asarray(ridge.coef_, dtype=np.float64)
    first, second = ridge.intercept_[:2] + ridge.intercept_[2:]
    return weights[:2] + weights[2:], (float(first), float(second))


def topic_means(targets: Floats, topics: npt.NDArray[np.intp]) -> Floats:
    """For each row the mean targets of its topic, drawn towards the mean of all as if by
    TOPIC_PRIOR rows. Shapes (n, 2), (n,) -> (n, 2)."""
    overall = targets.mean(axis=0)
    n_rows = np.bincount(topics)[:, None]
    sums = np.stack([np.bincount(topics, weights=column) for column in targets.T], axis=1)
    means: Floats = (sums + TOPIC_PRIOR * overall) / (n_rows + TOPIC_PRIOR)
    return means[topics]


def _rarity(present: sparse.csr_matrix) -> Bytes:
    """Inverse document frequency as bytes, the rarest at 255: `ln((1 + n) / (1 + df)) + 1`, as in
    scikit-learn's TfidfVectorizer; 0 below MIN_DOCUMENTS."""
    frequency = np.bincount(present.indices, minlength=N_BUCKETS)
    rarity = np.log((1 + present.shape[0]) / (1 + frequency)) + 1
    rarity[frequency < MIN_DOCUMENTS] = 0
    rarity *= TOP_RARITY / max(float(rarity.max()), 1.0)
    levels: Bytes = np.rint(rarity).astype(np.uint8)
    return levels


def _unit_rows(present: sparse.csr_matrix, rarity: Bytes) -> sparse.csr_matrix:
    weighted = present.copy()
    weighted.data = rarity[present.indices].astype(np.float32)
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    lengths[lengths == 0] = 1
    return (sparse.diags(1 / lengths) @ weighted).tocsr()


def _sparse(values: Floats) -> sparse.csr_matrix:
    return sparse.csr_matrix(values, dtype=np.float32)


def _spread_of_open(signs: Floats) -> tuple[Floats, Floats]:
    """Mean and scale of each sign over open questions; the first sign, `open`, is left as it is."""
    are_open = signs[signs[:, 0] > 0]
    n_signs = signs.shape[1]
    if len(are_open) < 2:
        return np.zeros(n_signs), np.full(n_signs, 1 / SIGN_SCALE)
    means, spread = are_open.mean(axis=0), are_open.std(axis=0)
    means[0], spread[spread == 0] = 0, 1
    return means, spread / SIGN_SCALE


def _term_weights(weights: Floats) -> TermWeights:
    scale = float(np.abs(weights).max()) / TOP_LEVEL or 1.0
    return TermWeights(levels=np.rint(weights / scale).astype(np.int8), scale=scale)


def fit_draft(data: Prepared, rows: Rows) -> DraftModel | None:
    """Fit on those of `rows` that have a draft; None when fewer than MIN_ROWS have."""
    known = [i for i in map(int, rows) if data.counted[i].draft is not None]
    if len(known) < MIN_ROWS:
        return None
    signs = np.array([data.counted[i].draft for i in known])
    means, scales = signs.mean(axis=0), signs.std(axis=0)
    scales[scales == 0] = 1
    ridge = Ridge(alpha=DRAFT_PENALTY).fit((signs - means) / scales, data.targets[known])
    weights = np.asarray(ridge.coef_) / scales
    intercepts = ridge.intercept_ - weights @ means
    return DraftModel(signs=weights, intercepts=(float(intercepts[0]), float(intercepts[1])))
