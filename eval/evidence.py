"""Does our evidence keep what the answer stands in? Recorded runs replayed: ranked and packed.

The claims of a run are ranked by relevance, and quotes are packed into a token budget, by the
product's own code. Evidence is *kept* when at least one packed quote comes from a gold chunk (see
`eval.datasets.minions_runs`). The relevance profile is fitted here, with scikit-learn; what it
leaves is plain numbers that the product applies without it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from eval.datasets.minions_runs import Replay
from eval.score import auroc, expected_calibration_error
from minions.cloud.tokens import count_tokens
from minions.errors import BadRequest
from minions.evidence.features import NAMES
from minions.evidence.relevance import Profile
from minions.evidence.selection import select_quotes

BUDGETS = (500, 1_000, 2_000, 4_000)
"""Tokens (o200k) of packed quotes."""
REGULARISATION = 0.02
"""Inverse strength C on standardised features: strong, for a few hundred positives."""
N_INNER_FOLDS = 5

_Matrix = npt.NDArray[np.float64]


def fit_profile(replays: Sequence[Replay]) -> Profile:
    """A profile of recorded runs. Raises BadRequest as `fit_relevance`."""
    labels = np.array([label for replay in replays for label in replay.labels], dtype=np.bool_)
    groups = np.array([replay.source.group for replay in replays for _ in replay.claims])
    source = f"{len(replays)} runs with {len(labels)} answers, {labels.sum()} from gold evidence"
    return fit_relevance(_matrix(replays), labels, groups, source=source)


def fit_relevance(
    rows: _Matrix, labels: npt.NDArray[np.bool_], groups: npt.NDArray[np.str_], *, source: str
) -> Profile:
    """Regularised logistic regression on claims (shape (claims, features)), calibrated by Platt
    scaling on scores of groups that were left out. Raises BadRequest when there are too few groups
    or labels."""
    n_groups = len(set(groups[labels]))
    if n_groups < 2 or labels.all():
        raise BadRequest(
            f"{labels.sum()} of {len(labels)} answers come from gold evidence, of {n_groups} "
            "companies or documents: fitting needs both kinds, and gold of two or more."
        )
    left_out = np.zeros(len(labels))
    folds = StratifiedGroupKFold(n_splits=min(N_INNER_FOLDS, n_groups))
    for inside, outside in folds.split(rows, labels, groups):
        weights, bias = _fit_weights(rows[inside], labels[inside])
        left_out[outside] = rows[outside] @ weights + bias
    platt = LogisticRegression(C=np.inf).fit(left_out[:, None], labels)
    weights, bias = _fit_weights(rows, labels)
    return Profile(
        weights=dict(zip(NAMES, weights.tolist(), strict=True)),
        bias=bias,
        slope=float(platt.coef_[0, 0]),
        offset=float(platt.intercept_[0]),
        calibrated=True,
        source=source,
    )


def _matrix(replays: Iterable[Replay]) -> _Matrix:
    """Shape (claims of all replays, features)."""
    return np.array(
        [[getattr(f, name) for name in NAMES] for replay in replays for f in replay.features]
    )


def _fit_weights(rows: _Matrix, labels: npt.NDArray[np.bool_]) -> tuple[_Matrix, float]:
    """Weights and bias for features as they are; the regularisation sees them standardised."""
    scaler = StandardScaler().fit(rows)
    model = LogisticRegression(C=REGULARISATION, max_iter=2_000)
    model.fit(scaler.transform(rows), labels)
    weights = model.coef_[0] / scaler.scale_
    return weights, float(model.intercept_[0] - weights @ scaler.mean_)


def left_out_profiles(fit: Sequence[Replay]) -> Callable[[Replay], Profile]:
    """For each replay the profile fitted without its group. Scoring the very folder that was
    fitted on is thereby cross-validated by company; for new companies it is one profile."""
    known = {replay.source.group for replay in fit}

    @cache
    def without(group: str | None) -> Profile:
        return fit_profile([replay for replay in fit if replay.source.group != group])

    return lambda replay: without(replay.source.group if replay.source.group in known else None)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceScore:
    """How evidence did on recorded runs. Shares are over runs, each a question asked once."""

    gold_kept: dict[str, float]
    """By budget in tokens: share of the runs with an answer from a gold chunk in which a packed
    quote comes from one."""
    auroc: float
    """Of the relevance score for "this answer comes from a gold chunk", over all answers."""
    all_answers_tokens: float
    """Mean tokens per run of sending all answers with their citations, which keeps all gold."""
    gold_kept_of_all_runs: dict[str, float]
    """The same over all runs; those without a gold answer are never kept."""
    all_parts_kept: dict[str, float]
    """Share of the runs in which every gold evidence text that some answer came from is packed."""
    calibration_error: float
    """Expected calibration error of the probabilities, ten bins."""
    n_runs: int
    n_runs_with_gold_answers: int
    n_questions: int
    n_answers: int
    n_gold_answers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome:
    """One run, ranked and packed."""

    chances: tuple[float, ...]
    """By claim."""
    has_gold: bool
    """Some answer comes from a gold chunk."""
    kept: Mapping[int, bool]
    """By budget in tokens."""
    all_parts_kept: Mapping[int, bool]


def score_replays(
    replays: Sequence[Replay], profile_of: Callable[[Replay], Profile]
) -> EvidenceScore:
    """Rank and pack every run with the profile that is given for it. Raises BadRequest when no
    answer, or every answer, comes from a gold chunk: there is nothing to tell apart then."""
    labels = [label for replay in replays for label in replay.labels]
    if all(labels) or not any(labels):
        raise BadRequest(
            f"{sum(labels)} of {len(labels)} answers come from gold chunks: scoring needs both."
        )
    outcomes = [_outcome(replay, profile_of(replay)) for replay in replays]
    with_gold = [outcome for outcome in outcomes if outcome.has_gold]
    chances = [chance for outcome in outcomes for chance in outcome.chances]
    return EvidenceScore(
        gold_kept=_shares([outcome.kept for outcome in with_gold]),
        auroc=auroc(chances, labels),
        all_answers_tokens=statistics.fmean(replay.answers_tokens for replay in replays),
        gold_kept_of_all_runs=_shares([outcome.kept for outcome in outcomes]),
        all_parts_kept=_shares([outcome.all_parts_kept for outcome in with_gold]),
        calibration_error=expected_calibration_error(chances, labels),
        n_runs=len(replays),
        n_runs_with_gold_answers=len(with_gold),
        n_questions=len({replay.source.document.document_id for replay in replays}),
        n_answers=len(labels),
        n_gold_answers=sum(labels),
    )


def _outcome(replay: Replay, profile: Profile) -> _Outcome:
    chances = tuple(profile.probability(features) for features in replay.features)
    answered = {claim.chunk_id for claim in replay.claims}
    # Gold that no worker reported is not the packing's to keep.
    parts = [part for part in replay.source.gold if part & answered]
    sent = {budget: _sent_chunks(replay, chances, budget) for budget in BUDGETS}
    return _Outcome(
        chances=chances,
        has_gold=bool(parts),
        kept={b: any(part & chunks for part in parts) for b, chunks in sent.items()},
        all_parts_kept={b: all(part & chunks for part in parts) for b, chunks in sent.items()},
    )


def _sent_chunks(replay: Replay, chances: Sequence[float], budget: int) -> frozenset[str]:
    """The chunks that the packed quotes come from."""
    source = replay.source
    ranked = sorted(zip(replay.claims, chances, strict=True), key=lambda pair: -pair[1])
    packed = select_quotes(
        ranked,
        {source.document.document_id: source.document},
        budget,
        count_tokens,
        replay.anchors,
    )
    return frozenset(quote.claim.chunk_id for quote in packed)


def _shares(by_run: Sequence[Mapping[int, bool]]) -> dict[str, float]:
    return {str(b): statistics.fmean(run[b] for run in by_run) for b in BUDGETS}
