"""Risk control: keep local answers only so far that the loss against the cloud stays below alpha.

The loss of a question is 1 when its local answer was kept, is wrong, and the cloud alone would have
been right; else 0. Raising the threshold on P(correct) keeps fewer answers, so the loss can only
fall: that is what both methods need. Pure: no IO, no clock, no randomness.

The guarantees hold for new questions that are drawn like the labelled ones, and for a P(correct)
that was not fitted on these very rows. Questions of one document are not independent draws: rows
that name a group count as one unit together, and the guarantee is then for new documents.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

KEEP_ALL = -1.0
"""A threshold below every probability."""
DELTA = 0.1
"""Chance that a tested threshold's own guarantee fails."""
GRID = (*(step / 100 for step in range(100, -1, -1)), KEEP_ALL)
"""Thresholds that are tested in this order. Fixed beforehand: it must not depend on the rows."""
ROUNDING = 1e-9
NORMAL_95 = 1.959964
"""Two-sided 95% quantile of the normal distribution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RiskRow:
    """One labelled question."""

    p_correct: float
    """P(the local answer is right), 0..1, from a model that did not see this row."""
    lost: bool
    """The local answer is wrong and the cloud's is right. Where the cloud's is not known, take it
    as right: that errs on the safe side."""
    group: str | None = None
    """Its document or company; None when the question stands for itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """A rule for keeping local answers, and what is promised of it."""

    alpha: float
    """The loss that was asked for: a share of all questions, 0..1."""
    value: float | None
    """Keep a local answer whose P(correct) is above this; None: no answer may be kept."""
    bound: float | None
    """The level that is really guaranteed, at most alpha; None without a threshold."""
    confidence: float | None
    """None: the *expected* loss is within the bound (conformal risk control). Otherwise the loss is
    within alpha with this probability over the draw of the labels (learn then test)."""
    n_units: int
    """Independent units among the labels: groups, or rows that have none."""
    n_needed: int
    """Units from which alpha can be promised at all."""
    empirical_loss: float
    """Mean loss on the labels themselves, 0..1."""
    kept_share: float
    """Share of the labelled questions that stay local."""
    reason: str
    """One sentence for people."""

    def keeps(self, p_correct: float) -> bool:
        """Whether a local answer with this chance may be kept."""
        return self.value is not None and p_correct > self.value


def conformal_threshold(rows: Sequence[RiskRow], alpha: float) -> Threshold:
    """The lowest threshold whose expected loss on a new question is at most `alpha`.

    Conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814, theorem 1) with B = 1: the
    lowest t such that (n R(t) + 1) / (n + 1) <= alpha, R being the mean loss over n units. Needs
    n >= 1/alpha - 1. Raises ValueError for alpha outside (0, 1)."""
    _check_share("alpha", alpha)
    weights = _unit_weights(rows)
    n_units, n_needed = _n_units(rows), _at_least(1 / alpha - 1)
    if n_units < n_needed:
        return _too_few(alpha, n_units, n_needed)
    value, loss = _lowest_within(rows, weights, alpha * (n_units + 1) - 1)
    bound = (loss + 1) / (n_units + 1)
    return Threshold(
        alpha=alpha,
        value=value,
        bound=bound,
        confidence=None,
        n_units=n_units,
        n_needed=n_needed,
        empirical_loss=loss / n_units,
        kept_share=_kept_share(rows, value),
        reason=f"expected loss against the cloud at most {bound:.4f} (asked: {alpha:g}), from "
        f"{n_units} labelled units",
    )


def confident_threshold(rows: Sequence[RiskRow], alpha: float, delta: float = DELTA) -> Threshold:
    """The lowest threshold of `GRID` whose loss is at most `alpha` with probability 1 - `delta`.

    Learn then test (Angelopoulos et al. 2021, arXiv 2110.01052) by fixed sequence: from the safest
    threshold downwards until the hypothesis "the loss is above alpha" can't be rejected at `delta`.
    Needs (1 - alpha)^n <= delta. Raises ValueError for shares outside (0, 1)."""
    _check_share("alpha", alpha)
    _check_share("delta", delta)
    weights = _unit_weights(rows)
    n_units, n_needed = _n_units(rows), _at_least(math.log(delta) / math.log1p(-alpha))
    if n_units < n_needed:
        return _too_few(alpha, n_units, n_needed)
    whole = n_units == len(rows)
    value = GRID[0]
    for candidate in GRID:
        if _p_value(_loss_above(rows, weights, candidate), n_units, alpha, whole=whole) > delta:
            break
        value = candidate
    return Threshold(
        alpha=alpha,
        value=value,
        bound=alpha,
        confidence=1 - delta,
        n_units=n_units,
        n_needed=n_needed,
        empirical_loss=_loss_above(rows, weights, value) / n_units,
        kept_share=_kept_share(rows, value),
        reason=f"loss against the cloud at most {alpha:g} with {1 - delta:.0%} confidence, from "
        f"{n_units} labelled units",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What a threshold really lost on rows that had no part in choosing it."""

    alpha: float
    n: int
    n_kept: int
    n_lost: int
    """Kept, wrong, and the cloud was right: violations."""
    rate: float
    """n_lost / n: the observed violation rate over all questions."""
    low: float
    high: float
    """95% interval of the rate (Wilson 1927); rows are taken as independent."""

    @property
    def within(self) -> bool:
        """Whether the observed rate is at most alpha."""
        return self.rate <= self.alpha

    @property
    def alarm(self) -> bool:
        """Whether the rate is above alpha beyond chance: the labels no longer describe the work."""
        return self.low > self.alpha


def audit(rows: Sequence[RiskRow], threshold: Threshold) -> Audit:
    """The observed violation rate of `threshold` on fresh labelled rows.

    Raises ValueError for no rows: a rate of nothing is unknown, not 0."""
    if not rows:
        raise ValueError("An audit needs labelled rows that had no part in choosing the threshold.")
    kept = [row for row in rows if threshold.keeps(row.p_correct)]
    n_lost = sum(row.lost for row in kept)
    low, high = wilson_interval(n_lost, len(rows))
    return Audit(
        alpha=threshold.alpha,
        n=len(rows),
        n_kept=len(kept),
        n_lost=n_lost,
        rate=n_lost / len(rows),
        low=low,
        high=high,
    )


def wilson_interval(n_hits: int, n: int) -> tuple[float, float]:
    """95% score interval of a share (Wilson 1927), within 0..1. n must be positive."""
    share, z2 = n_hits / n, NORMAL_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def _unit_weights(rows: Iterable[RiskRow]) -> dict[str | None, float]:
    """1 / size per group: the loss of a unit is the mean over its rows."""
    sizes = Counter(row.group for row in rows)
    return {group: 1.0 if group is None else 1 / size for group, size in sizes.items()}


def _n_units(rows: Iterable[RiskRow]) -> int:
    sizes = Counter(row.group for row in rows)
    alone = sizes.pop(None, 0)
    return alone + len(sizes)


def _lowest_within(
    rows: Sequence[RiskRow], weights: dict[str | None, float], allowed: float
) -> tuple[float, float]:
    """The lowest threshold whose summed loss is at most `allowed`, and that sum.

    The loss changes only at the rows' own probabilities, and at one of them (kept: strictly above)
    it is the one just beyond: so one of them, or `KEEP_ALL`, is the infimum."""
    ordered = sorted(rows, key=lambda row: -row.p_correct)
    value, total = 1.0, 0.0
    for p_correct, tied in groupby(ordered, key=lambda row: row.p_correct):
        value = p_correct
        beyond = total + math.fsum(weights[row.group] for row in tied if row.lost)
        if beyond > allowed + ROUNDING:
            return value, total
        total = beyond
    return KEEP_ALL, total


def _loss_above(
    rows: Sequence[RiskRow], weights: dict[str | None, float], threshold: float
) -> float:
    return math.fsum(weights[r.group] for r in rows if r.lost and r.p_correct > threshold)


def _kept_share(rows: Sequence[RiskRow], threshold: float) -> float:
    return sum(row.p_correct > threshold for row in rows) / len(rows)


def _p_value(total_loss: float, n: int, alpha: float, *, whole: bool) -> float:
    """P(a summed loss this small | the mean loss is above alpha), or a bound on it.

    Exact binomial tail where each loss is 0 or 1 (`whole`); for fractions the smaller of
    Hoeffding's and Bentkus' bounds (arXiv 2110.01052, proposition 1)."""
    if whole:
        return binomial_tail(round(total_loss), n, alpha)
    mean = min(total_loss / n, alpha)
    divergence = _cross(mean, alpha) + _cross(1 - mean, 1 - alpha)
    bentkus = math.e * binomial_tail(math.ceil(total_loss), n, alpha)
    return min(math.exp(-n * divergence), bentkus)


def binomial_tail(k: int, n: int, p: float) -> float:
    """P(X <= k) for X ~ Binomial(n, p), 0 < p < 1."""
    log_p, log_q = math.log(p), math.log1p(-p)
    logs = (
        math.lgamma(n + 1)
        - math.lgamma(i + 1)
        - math.lgamma(n - i + 1)
        + i * log_p
        + (n - i) * log_q
        for i in range(min(k, n) + 1)
    )
    return min(1.0, math.fsum(map(math.exp, logs)))


def _cross(a: float, b: float) -> float:
    return a * math.log(a / b) if a > 0 else 0.0


def _too_few(alpha: float, n_units: int, n_needed: int) -> Threshold:
    return Threshold(
        alpha=alpha,
        value=None,
        bound=None,
        confidence=None,
        n_units=n_units,
        n_needed=n_needed,
        empirical_loss=0.0,
        kept_share=0.0,
        reason=f"too few labels to promise {alpha:g}: {n_units} units, at least {n_needed} needed; "
        "label more, or allow a larger loss",
    )


def _at_least(n: float) -> int:
    """The next whole number; a hair above a whole one is rounding."""
    return max(1, math.ceil(n - ROUNDING))


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, not {value}.")
