"""What a run says, in figures with intervals: strategies, question types, deferral, reliability.

Pure: a run's rows in, figures out; the terminal, the page and the pictures show them. An error is
no answer, so it counts against accuracy and is told apart; an item that was not reached is counted,
with what accuracy could become at worst and at best. A sum with an unknown price is unknown.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.deferral import Counts, Curve, deferral_curve
from eval.report.judged import JudgeFigures, judge_of
from eval.rows import ABSTAINED, ANSWERED, ERROR, Row, RunFolder
from eval.score import abstention_f1
from eval.statistics import (
    UNKNOWN,
    Estimate,
    Reliability,
    Resamples,
    reliability,
    resample_clusters,
)
from minions.errors import BadRequest

REFERENCE = "cloud"
"""The strategy that all others are compared with."""
LOCAL = "local"
SHARES = (0.5, 0.8, 0.95)
"""Shares of the gap whose price is told (CPT)."""
N_CURVE_RESAMPLES = 500
N_WORST = 5
"""Worst cases shown of each strategy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgainstCloud:
    """A strategy beside `cloud`, on the questions that both reached."""

    n: int
    accuracy: Estimate
    """Accuracy as a share of the cloud's."""
    usd: Estimate
    """Dollars as a share of the cloud's."""

    @property
    def times_cheaper(self) -> float | None:
        """None when unknown, and when nothing was spent."""
        return 1 / self.usd.value if self.usd.value else None


@dataclass(frozen=True, kw_only=True, slots=True)
class StrategyFigures:
    """One strategy's line."""

    label: str
    n_items: int
    n_answered: int
    n_abstained: int
    n_errors: int
    n_missing: int
    """Items without a row."""
    n_unpriced: int
    """Rows whose dollars are unknown."""
    accuracy: Estimate
    """Share of the reached items that are right."""
    at_worst: float
    """Accuracy over all items if every missing one were wrong."""
    at_best: float
    """If every missing one were right."""
    score: Estimate
    """Mean of the dataset's own metric."""
    citations: Estimate
    """Share of right citations among those that could be judged."""
    n_citations: int
    abstention_f1: float | None
    """None without rows."""
    usd_per_question: Estimate
    usd_per_correct: Estimate
    usd: Estimate
    """Sum over the reached items, as if nothing came from the response cache."""
    paid_usd: float | None
    """What was really paid; None when unknown."""
    median_latency_s: float | None
    against_cloud: AgainstCloud | None
    """None for the cloud itself, and in a run without it."""

    @property
    def n_done(self) -> int:
        return self.n_answered + self.n_abstained + self.n_errors


@dataclass(frozen=True, kw_only=True, slots=True)
class KindFigures:
    """One strategy on one type of question."""

    kind: str
    label: str
    n: int
    n_missing: int
    accuracy: Estimate
    usd_per_question: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Deferral:
    """Local answers sent to the cloud, the least certain first. No rung between is bought."""

    n: int
    """Questions that both `local` and `cloud` reached."""
    local_accuracy: float
    cloud_accuracy: float
    curve: Curve
    oracle: Curve
    """Sent in the best order there is: those first that the cloud mends, the cheap ones first."""
    apgr: Estimate
    apgr_usd: Estimate
    cpt: Mapping[float, Estimate]
    """By share of the gap: least share of calls."""
    cpt_usd: Mapping[float, Estimate]
    """By share of the gap: least share of the cloud's dollars."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorstCase:
    """A row that went wrong, and why it is shown."""

    row: Row
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFigures:
    """All that is told of a run."""

    run: RunFolder
    n_clusters: int
    strategies: tuple[StrategyFigures, ...]
    kinds: tuple[KindFigures, ...]
    reliability: Mapping[str, Reliability]
    """By strategy, where answers have a stated chance."""
    deferral: Deferral | None
    no_deferral: str
    """Why there is no deferral curve; empty when there is one."""
    worst: tuple[WorstCase, ...]
    judge: JudgeFigures | None
    """None in a run without a judge."""

    @property
    def n_missing(self) -> int:
        return sum(each.n_missing for each in self.strategies)

    @property
    def n_errors(self) -> int:
        return sum(each.n_errors for each in self.strategies)


def run_figures(run: RunFolder, *, seed: int = 0) -> RunFigures:
    """The figures of a run. Raises BadRequest when it has no row yet."""
    if not run.rows:
        raise BadRequest(f"{run.path} has no row yet: go on with `minions eval run`.")
    deferral, why_not = _deferral(run, seed)
    return RunFigures(
        run=run,
        n_clusters=len(set(map(cluster_of, run.rows))),
        strategies=tuple(_strategy(run, label, seed) for label in run.manifest.labels),
        kinds=tuple(_kinds(run, seed)),
        reliability=dict(_reliabilities(run, seed)),
        deferral=deferral,
        no_deferral=why_not,
        worst=tuple(_worst(run)),
        judge=judge_of(run, seed=seed),
    )


def cluster_of(row: Row) -> str:
    """Rows of one document stand or fall together."""
    return row.document or row.item_id


def priced(rows: Iterable[Row]) -> list[float] | None:
    """Dollars of each row; None as soon as one is unknown."""
    amounts = [row.cloud_usd for row in rows]
    known = [amount for amount in amounts if amount is not None]
    return known if len(known) == len(amounts) else None


def _strategy(run: RunFolder, label: str, seed: int) -> StrategyFigures:
    rows, n_missing = run.of(label), run.n_missing(label)
    n_items, n_right = run.manifest.n_items, sum(row.correct for row in rows)
    judged = [row for row in rows if row.citation_correct is not None]
    usd = _money(rows, seed)
    return StrategyFigures(
        label=label,
        n_items=n_items,
        n_answered=_n_ended(rows, ANSWERED),
        n_abstained=_n_ended(rows, ABSTAINED),
        n_errors=_n_ended(rows, ERROR),
        n_missing=n_missing,
        n_unpriced=sum(row.cloud_usd is None for row in rows),
        accuracy=_mean(rows, [row.correct for row in rows], seed),
        at_worst=n_right / n_items,
        at_best=(n_right + n_missing) / n_items,
        score=_mean(rows, [row.score for row in rows], seed),
        citations=_mean(judged, [bool(row.citation_correct) for row in judged], seed),
        n_citations=len(judged),
        abstention_f1=_abstention(rows),
        usd=usd[0],
        usd_per_question=usd[1],
        usd_per_correct=usd[2],
        paid_usd=_sum([row.paid_usd for row in rows]),
        median_latency_s=_median([row.latency_s for row in rows]),
        against_cloud=_against_cloud(run, label, seed),
    )


def _n_ended(rows: Sequence[Row], outcome: str) -> int:
    return sum(row.outcome == outcome for row in rows)


def _draws(rows: Sequence[Row], seed: int) -> Resamples:
    return resample_clusters([cluster_of(row) for row in rows], seed=seed)


def _mean(rows: Sequence[Row], values: Sequence[float], seed: int) -> Estimate:
    return _draws(rows, seed).mean(values) if rows else UNKNOWN


def _money(rows: Sequence[Row], seed: int) -> tuple[Estimate, Estimate, Estimate]:
    """Dollars in all, per question, and per right answer."""
    usd = priced(rows)
    if not rows or usd is None:
        return UNKNOWN, UNKNOWN, UNKNOWN
    draws = _draws(rows, seed)
    per_correct = draws.ratio(usd, [float(row.correct) for row in rows])
    return draws.total(usd), draws.mean(usd), per_correct


def _abstention(rows: Sequence[Row]) -> float | None:
    if not rows:
        return None
    abstained = [row.outcome == ABSTAINED for row in rows]
    return abstention_f1(abstained, [not row.answerable for row in rows])


def _sum(amounts: Sequence[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def _median(seconds: Iterable[float | None]) -> float | None:
    known = [each for each in seconds if each is not None]
    return statistics.median(known) if known else None


def _against_cloud(run: RunFolder, label: str, seed: int) -> AgainstCloud | None:
    if label == REFERENCE:
        return None
    pairs = _pairs(run, label, REFERENCE)
    if not pairs:
        return None
    ours, theirs = zip(*pairs, strict=True)
    draws = _draws(ours, seed)
    spent, reference = priced(ours), priced(theirs)
    known = spent is not None and reference is not None
    return AgainstCloud(
        n=len(pairs),
        accuracy=draws.ratio([r.correct for r in ours], [r.correct for r in theirs]),
        usd=draws.ratio(spent or (), reference or ()) if known else UNKNOWN,
    )


def _pairs(run: RunFolder, one: str, other: str) -> list[tuple[Row, Row]]:
    """Rows of two strategies for the same items."""
    theirs = {row.item_id: row for row in run.of(other)}
    return [(row, theirs[row.item_id]) for row in run.of(one) if row.item_id in theirs]


def _kinds(run: RunFolder, seed: int) -> Iterable[KindFigures]:
    for kind, n_items in run.manifest.kinds.items():
        for label in run.manifest.labels:
            rows = [row for row in run.of(label) if row.kind == kind]
            yield KindFigures(
                kind=kind,
                label=label,
                n=len(rows),
                n_missing=n_items - len(rows),
                accuracy=_mean(rows, [row.correct for row in rows], seed),
                usd_per_question=_money(rows, seed)[1],
            )


def _reliabilities(run: RunFolder, seed: int) -> Iterable[tuple[str, Reliability]]:
    for label in run.manifest.labels:
        rows = [row for row in run.of(label) if row.p_correct is not None]
        if rows:
            yield (
                label,
                reliability(
                    [row.p_correct for row in rows if row.p_correct is not None],
                    [row.correct for row in rows],
                    [cluster_of(row) for row in rows],
                    seed=seed,
                ),
            )


def _deferral(run: RunFolder, seed: int) -> tuple[Deferral | None, str]:
    """The deferral figures, or why there are none."""
    pairs = [pair for pair in _pairs(run, LOCAL, REFERENCE) if pair[0].p_correct is not None]
    if not pairs:
        return None, f"it needs questions answered by both `{LOCAL}` and `{REFERENCE}`"
    gains = [float(cloud.correct) - local.correct for local, cloud in pairs]
    if sum(gains) <= 0:
        return None, f"`{REFERENCE}` is no better than `{LOCAL}` here: there is no gap to recover"
    return _deferral_figures(pairs, gains, seed), ""


def _deferral_figures(
    pairs: Sequence[tuple[Row, Row]], gains: Sequence[float], seed: int
) -> Deferral:
    local, cloud = zip(*pairs, strict=True)
    scores = [-(row.p_correct or 0.0) for row in local]
    weak, strong = priced(local), priced(cloud)

    def curve(by: Sequence[float], counts: Counts | None = None) -> Curve:
        return deferral_curve(by, gains, weak, strong, counts)

    draws = resample_clusters(
        [cluster_of(row) for row in local], n_resamples=N_CURVE_RESAMPLES, seed=seed
    )

    def estimate(figure: Callable[[Curve], float]) -> Estimate:
        return draws.statistic(lambda counts: figure(curve(scores, counts)))

    return Deferral(
        n=len(pairs),
        local_accuracy=float(np.mean([row.correct for row in local])),
        cloud_accuracy=float(np.mean([row.correct for row in cloud])),
        curve=curve(scores),
        oracle=curve(_oracle_scores(gains, strong)),
        apgr=estimate(Curve.apgr),
        apgr_usd=estimate(Curve.apgr_usd),
        cpt={share: estimate(_at(Curve.cpt, share)) for share in SHARES},
        cpt_usd={share: estimate(_at(Curve.cpt_usd, share)) for share in SHARES},
    )


def _at(figure: Callable[[Curve, float], float], share: float) -> Callable[[Curve], float]:
    return lambda curve: figure(curve, share)


def _oracle_scores(gains: Sequence[float], usd: Sequence[float] | None) -> list[float]:
    """Gain per dollar; gain alone where dollars are unknown or nothing."""
    if usd is None or not all(usd):
        return list(gains)
    return [gain / cost for gain, cost in zip(gains, usd, strict=True)]


def _worst(run: RunFolder) -> Iterable[WorstCase]:
    """Of each strategy, the rows that went wrong most surely: errors, then wrong answers by their
    stated chance, then by what they cost."""
    reference = {row.item_id: row for row in run.of(REFERENCE)}
    for label in run.manifest.labels:
        wrong = [row for row in run.of(label) if not row.correct]
        wrong.sort(key=lambda row: (row.outcome != ERROR, -(row.p_correct or 0), _dearness(row)))
        for row in wrong[:N_WORST]:
            yield WorstCase(row=row, why=_why(row, reference.get(row.item_id)))


def _dearness(row: Row) -> float:
    return -(row.cloud_usd or 0.0)


def _why(row: Row, reference: Row | None) -> str:
    if row.outcome == ERROR:
        return "ended in an error"
    missed = "said that nothing is there, and it is"
    wrong = missed if row.outcome == ABSTAINED else "a wrong answer"
    if row.answerable is False:
        wrong = "answered what the document does not say"
    sure = "" if row.p_correct is None else f", stated as {row.p_correct:.0%} sure"
    lost = reference is not None and reference is not row and reference.correct
    return f"{wrong}{sure}" + ("; the cloud was right" if lost else "")
