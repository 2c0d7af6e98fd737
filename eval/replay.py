"""Recorded runs scored again under other thresholds, prices and risks. No model is called.

For every threshold on P(local answer is right): the answers above it stay local, the rest are
bought at one cloud rung, whose answers and prices are on record. Dollars are unknown as soon as one
price is (Law 3).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from eval.calibrate import MIN_GROUPS, MIN_LABELS, quality
from eval.chance_fit import cross_fitted
from eval.deferral import deferral_curve
from eval.labelled import LabelledRun, RungOutcome
from eval.statistics import UNKNOWN, Estimate, Resamples, resample_clusters
from minions.errors import BadRequest
from minions.offers import EXPECTED_OUTPUT_TOKENS
from router import Calibration, RiskRow, Rung, Threshold, audit, conformal_threshold, p_local
from router.profile import FitQuality

THRESHOLDS = tuple(step / 10 for step in range(11))
N_BINS = 10
N_SPLITS = 200
"""Random halves in which a threshold is chosen on one side and watched on the other."""
MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """What a rung costs in the replay, where it is not the recorded price."""

    per_question: Mapping[Rung, Decimal] = field(default_factory=dict)
    """Dollars, flat."""
    input_usd: Decimal | None = None
    """Dollars per million prompt tokens; both or none."""
    output_usd: Decimal | None = None

    def of(self, rung: Rung, outcome: RungOutcome) -> Decimal | None:
        """Dollars of one answer; None when unknown."""
        if rung in self.per_question:
            return self.per_question[rung]
        if rung is Rung.LOCAL:
            return Decimal(0)
        if self.input_usd is None or self.output_usd is None:
            return outcome.usd
        if outcome.prompt_tokens is None:
            return None
        tokens_usd = outcome.prompt_tokens * self.input_usd
        return (tokens_usd + EXPECTED_OUTPUT_TOKENS * self.output_usd) / MILLION


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One threshold of the deferral curve."""

    threshold: float
    kept_local: float
    """Share of the questions."""
    accuracy: float
    relative_accuracy: float | None
    """Accuracy over the cloud's alone; None when that is 0."""
    loss: float
    """Share of the questions kept local, wrong, and right in the cloud: the risk."""
    usd: float | None
    """Sum over all questions; None when a price is unknown."""
    usd_per_question: float | None
    of_cloud: Estimate
    """Accuracy over the cloud's alone, with its interval: documents drawn again, both together."""
    usd_of_cloud: Estimate
    """Dollars over the cloud's alone, likewise; unknown when a price is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """One bar of a reliability diagram: those with low < P <= high."""

    low: float
    high: float
    n: int
    mean_p: float
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RiskCheck:
    """A conformal threshold for one alpha, and what such thresholds lost on other documents."""

    threshold: Threshold
    """Chosen on all rows."""
    n_splits: int
    """Random halves, by document, in which alpha could be promised at all."""
    mean_loss: float | None
    """Over the unseen halves; conformal risk control promises that this is at most alpha."""
    violation_rate: float | None
    """Share of the unseen halves whose own loss is above alpha."""
    mean_kept_local: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """All that a replay says."""

    n: int
    n_without_cloud: int
    """Rows left out because the cloud's answer is not labelled at this rung."""
    rung: str
    source: str
    """Where P(correct) comes from: `profile`, `cross-fitted` (by document) or `prior`."""
    local_accuracy: float
    cloud_accuracy: float
    oracle_accuracy: float
    """When each question goes where it is answered rightly."""
    cloud_only_usd: float | None
    apgr: float | None
    """See `apgr`."""
    quality: FitQuality
    reliability: tuple[Bin, ...]
    curve: tuple[Point, ...]
    risk: RiskCheck


def replay(
    runs: Sequence[LabelledRun],
    *,
    alpha: float,
    thresholds: Sequence[float] = THRESHOLDS,
    prices: Prices | None = None,
    rung: Rung = Rung.DOCUMENT,
    calibration: Calibration | None = None,
) -> Replay:
    """Score `runs` again. Raises BadRequest when no row has a labelled answer at `rung`, and
    StaleCalibration for a profile of another worker."""
    known = [run for run in runs if rung in run.outcomes]
    if not known:
        raise BadRequest(
            f"No row has a labelled answer at `{rung}`. Give the run of a strategy that buys it as "
            "well, such as `minions eval run --strategy cloud`."
        )
    chances, source = chances_of(known, calibration)
    right = [run.local_correct for run in known]
    cloud = [run.outcomes[rung].correct for run in known]
    prices = prices or Prices()
    draws = resample_clusters([run.group for run in known])
    curve = [_point(t, known, chances, rung, prices, draws) for t in thresholds]
    return Replay(
        n=len(known),
        n_without_cloud=len(runs) - len(known),
        rung=rung.value,
        source=source,
        local_accuracy=_mean(right),
        cloud_accuracy=_mean(cloud),
        oracle_accuracy=_mean([a or b for a, b in zip(right, cloud, strict=True)]),
        cloud_only_usd=_point(1.0, known, chances, rung, prices, draws).usd,
        apgr=apgr(chances, right, cloud),
        quality=quality(chances, right),
        reliability=reliability(chances, right),
        curve=tuple(curve),
        risk=check_risk(_risk_rows(known, chances, rung), alpha),
    )


def chances_of(
    runs: Sequence[LabelledRun], calibration: Calibration | None
) -> tuple[list[float], str]:
    """P(local answer is right) per row and where it comes from: the profile when there is one; else
    fits without the row's own document; else, with too few labels, the prior."""
    signals = [run.signals for run in runs]
    if calibration is not None:
        calibration.check(runs[0].key)
        return [calibration.local.of(each) for each in signals], "profile"
    groups = [run.group for run in runs]
    if len(runs) < MIN_LABELS or len(set(groups)) < MIN_GROUPS:
        return [p_local(each) for each in signals], "prior"
    return cross_fitted(signals, [run.local_correct for run in runs], groups), "cross-fitted"


def apgr(chances: Sequence[float], local: Sequence[bool], cloud: Sequence[bool]) -> float | None:
    """Average performance gap recovered when the least certain answers go to the cloud first (see
    `eval.deferral`). 0.5 for a coin; None when the cloud is no better."""
    gains = [float(strong) - weak for weak, strong in zip(local, cloud, strict=True)]
    curve = deferral_curve([-p for p in chances], gains)
    return curve.apgr() if curve.gap > 0 else None


def reliability(chances: Sequence[float], right: Sequence[bool]) -> tuple[Bin, ...]:
    """The bins of a reliability diagram that hold anything; those of `expected_calibration_error`:
    (low, high], with 0 in the first."""
    binned: dict[int, list[tuple[float, bool]]] = {}
    for pair in zip(chances, right, strict=True):
        number = next(i for i in range(N_BINS) if pair[0] <= (i + 1) / N_BINS or i == N_BINS - 1)
        binned.setdefault(number, []).append(pair)
    return tuple(
        Bin(
            low=number / N_BINS,
            high=(number + 1) / N_BINS,
            n=len(pairs),
            mean_p=sum(p for p, _ in pairs) / len(pairs),
            accuracy=_mean([hit for _, hit in pairs]),
        )
        for number, pairs in sorted(binned.items())
    )


def check_risk(rows: Sequence[RiskRow], alpha: float) -> RiskCheck:
    """The threshold for `alpha`, and how such thresholds fared on documents they had not seen."""
    checks = [
        audit(unseen, threshold)
        for labels, unseen in _halves(rows)
        if (threshold := conformal_threshold(labels, alpha)).value is not None
    ]
    n = len(checks)
    return RiskCheck(
        threshold=conformal_threshold(rows, alpha),
        n_splits=n,
        mean_loss=sum(check.rate for check in checks) / n if n else None,
        violation_rate=sum(not check.within for check in checks) / n if n else None,
        mean_kept_local=sum(check.n_kept / check.n for check in checks) / n if n else None,
    )


def _halves(rows: Sequence[RiskRow]) -> list[tuple[list[RiskRow], list[RiskRow]]]:
    """Random halves by group, the same ones every time."""
    groups = sorted({str(row.group) for row in rows})
    if len(groups) < 2:
        return []
    draw = random.Random(0)
    halves = []
    for _ in range(N_SPLITS):
        chosen = set(draw.sample(groups, len(groups) // 2))
        first = [row for row in rows if str(row.group) in chosen]
        halves.append((first, [row for row in rows if str(row.group) not in chosen]))
    return halves


def _point(
    threshold: float,
    runs: Sequence[LabelledRun],
    chances: Sequence[float],
    rung: Rung,
    prices: Prices,
    draws: Resamples,
) -> Point:
    """The figures when local answers above `threshold` are kept. A bought question has paid for its
    local answer as well."""
    taken = [Rung.LOCAL if p > threshold else rung for p in chances]
    right = [run.outcomes[at].correct for run, at in zip(runs, taken, strict=True)]
    cloud = [run.outcomes[rung].correct for run in runs]
    paid = [_paid(run, at, prices) for run, at in zip(runs, taken, strict=True)]
    usd = _sum(paid)
    n_lost = sum(
        strong and not hit and at is Rung.LOCAL
        for strong, hit, at in zip(cloud, right, taken, strict=True)
    )
    return Point(
        threshold=threshold,
        kept_local=taken.count(Rung.LOCAL) / len(runs),
        accuracy=_mean(right),
        relative_accuracy=sum(right) / sum(cloud) if any(cloud) else None,
        loss=n_lost / len(runs),
        usd=None if usd is None else float(usd),
        usd_per_question=None if usd is None else float(usd / len(runs)),
        of_cloud=draws.ratio(right, cloud),
        usd_of_cloud=_usd_of_cloud(paid, [_paid(run, rung, prices) for run in runs], draws),
    )


def _usd_of_cloud(
    paid: Sequence[Decimal | None], cloud: Sequence[Decimal | None], draws: Resamples
) -> Estimate:
    ours = [float(usd) for usd in paid if usd is not None]
    theirs = [float(usd) for usd in cloud if usd is not None]
    known = len(ours) == len(theirs) == len(paid)
    return draws.ratio(ours, theirs) if known else UNKNOWN


def _paid(run: LabelledRun, taken: Rung, prices: Prices) -> Decimal | None:
    rungs = {Rung.LOCAL, taken}
    return _sum([prices.of(rung, run.outcomes[rung]) for rung in rungs])


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None


def _risk_rows(runs: Sequence[LabelledRun], chances: Sequence[float], rung: Rung) -> list[RiskRow]:
    return [
        RiskRow(
            p_correct=p,
            lost=run.outcomes[rung].correct and not run.local_correct,
            group=run.group,
        )
        for run, p in zip(runs, chances, strict=True)
    ]


def _mean(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)
