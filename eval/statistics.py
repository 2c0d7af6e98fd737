"""Intervals for what a run measured: whole documents drawn again, all strategies together.

Questions of one document (or company) are not independent, so the bootstrap draws clusters (Davison
and Hinkley 1997, ch. 3.8; Field and Welsh 2007), and one draw serves every strategy: differences
and ratios between strategies are thereby paired. Everything here is seeded and pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

N_RESAMPLES = 2_000
CONFIDENCE = 0.95
MAX_UNDEFINED = 0.05
"""Share of resamples in which a ratio may be undefined before its interval is unknown."""
N_BINS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A figure and its interval. None is unknown, never 0."""

    value: float | None
    low: float | None = None
    """None where there are too few clusters to say."""
    high: float | None = None


UNKNOWN = Estimate(value=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resamples:
    """Bootstrap draws of whole clusters, the same for everything that is asked of them."""

    owner: npt.NDArray[np.intp]
    """Cluster of each row; shape (n,)."""
    draws: Counts
    """How often each cluster is drawn; shape (resamples, clusters)."""

    @property
    def n_clusters(self) -> int:
        return int(self.draws.shape[1])

    def ratio(self, above: Sequence[float] | Floats, below: Sequence[float] | Floats) -> Estimate:
        """sum(above) / sum(below), one entry per row in each. A share of rows, a mean, dollars per
        right answer and one strategy's sum over another's are all of this form.

        The percentile interval; unknown with one cluster, or where the ratio often is undefined."""
        tops, bottoms = self._sums(above), self._sums(below)
        return Estimate(
            value=_quotient(float(tops.sum()), float(bottoms.sum())),
            **self._ends(self.draws @ tops, self.draws @ bottoms),
        )

    def mean(self, values: Sequence[float] | Floats) -> Estimate:
        """Mean over the rows."""
        return self.ratio(values, np.ones(len(self.owner)))

    def total(self, values: Sequence[float] | Floats) -> Estimate:
        """Sum over the rows, for as many clusters as there are."""
        sums = self._sums(values)
        drawn = self.draws @ sums
        return Estimate(value=float(sums.sum()), **self._ends(drawn, np.ones(len(drawn))))

    def statistic(self, of: Callable[[Counts], float]) -> Estimate:
        """Any figure of weighted rows: `of` is told how often each row is there; NaN: undefined."""
        drawn = np.array([of(counts[self.owner]) for counts in self.draws])
        value = of(np.ones(len(self.owner), dtype=np.int64))
        ends = self._ends(drawn, np.ones(len(drawn)))
        return Estimate(value=None if math.isnan(value) else value, **ends)

    def _sums(self, values: Sequence[float] | Floats) -> Floats:
        """By cluster."""
        weights = np.asarray(values, dtype=np.float64)
        if len(weights) != len(self.owner):
            raise ValueError(f"{len(weights)} values for {len(self.owner)} rows: they must pair up")
        sums = np.bincount(self.owner, weights=weights, minlength=self.n_clusters)
        return sums.astype(np.float64)

    def _ends(self, tops: Floats, bottoms: Floats) -> dict[str, float | None]:
        defined = (bottoms != 0) & ~np.isnan(tops)
        if self.n_clusters < 2 or defined.mean() < 1 - MAX_UNDEFINED:
            return {"low": None, "high": None}
        low, high = _quantiles(tops[defined] / bottoms[defined])
        return {"low": low, "high": high}


def resample_clusters(
    clusters: Sequence[str], *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Resamples:
    """Draws for rows of these clusters (document or company, one name per row). The order of the
    rows does not matter. Raises ValueError for no rows."""
    if not clusters:
        raise ValueError("There are no rows to draw from.")
    names, owner = np.unique(np.asarray(clusters), return_inverse=True)
    rng = np.random.default_rng(seed)
    even = np.full(len(names), 1 / len(names))
    draws = rng.multinomial(len(names), even, size=n_resamples)
    return Resamples(owner=owner.astype(np.intp), draws=draws.astype(np.int64))


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityBin:
    """One point of a reliability diagram: answers of about the same stated chance."""

    n: int
    low: float
    """Least and greatest stated chance in it."""
    high: float
    mean_p: float
    accuracy: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """Stated chances against what came true."""

    n: int
    bins: tuple[ReliabilityBin, ...]
    """By rising chance, about equally many answers in each."""
    ece: Estimate
    """Expected calibration error over these bins."""


def reliability(
    chances: Sequence[float],
    right: Sequence[bool],
    clusters: Sequence[str],
    *,
    n_bins: int = N_BINS,
    seed: int = 0,
) -> Reliability:
    """Adaptive bins of equal mass (Nixon et al. 2019, arXiv 1904.01685): equal-width ones stand
    empty where no chance is stated and hide what crowds into one of them.

    Equal chances are never parted. The error's interval is the basic bootstrap's (2e - quantiles,
    not below 0), since a resampled calibration error is too large on average; the bins stay those
    of the data. Raises ValueError for no rows, unequal lengths or chances outside 0..1."""
    values, hits = np.asarray(chances, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if not len(values) == len(hits) == len(clusters):
        raise ValueError(
            f"{len(values)} chances, {len(hits)} labels, {len(clusters)} clusters: must pair up"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("A chance lies between 0 and 1; leave out the rows that have none.")
    resamples = resample_clusters(clusters, seed=seed)
    membership = adaptive_bins(values, n_bins)
    inside = [np.flatnonzero(membership == number) for number in range(membership.max() + 1)]
    return Reliability(
        n=len(values),
        bins=tuple(_bin(values, hits, rows, resamples) for rows in inside),
        ece=_calibration_error(values - hits, membership, resamples),
    )


def adaptive_bins(values: Floats, n_bins: int = N_BINS) -> npt.NDArray[np.intp]:
    """Bin of each value, 0 upwards by rising value, about equally many in each; equal values share
    a bin, so there may be fewer than `n_bins`."""
    distinct, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    wanted = np.minimum((middle * n_bins / len(values)).astype(np.intp), n_bins - 1)
    _, numbered = np.unique(wanted, return_inverse=True)
    bins: npt.NDArray[np.intp] = numbered[place].astype(np.intp) if len(distinct) else place
    return bins


def _bin(
    values: Floats, hits: Floats, rows: npt.NDArray[np.intp], resamples: Resamples
) -> ReliabilityBin:
    inside = np.zeros(len(values))
    inside[rows] = 1.0
    return ReliabilityBin(
        n=len(rows),
        low=float(values[rows].min()),
        high=float(values[rows].max()),
        mean_p=float(values[rows].mean()),
        accuracy=resamples.ratio(inside * hits, inside),
    )


def _calibration_error(
    gaps: Floats, membership: npt.NDArray[np.intp], resamples: Resamples
) -> Estimate:
    """`gaps`: stated chance less outcome, per row."""
    shape = (resamples.n_clusters, int(membership.max()) + 1)
    sums = np.zeros(shape)
    np.add.at(sums, (resamples.owner, membership), gaps)
    sizes = np.bincount(resamples.owner, minlength=resamples.n_clusters)
    value = float(np.abs(sums.sum(axis=0)).sum() / sizes.sum())
    if resamples.n_clusters < 2:
        return Estimate(value=value)
    drawn = np.abs(resamples.draws @ sums).sum(axis=1) / (resamples.draws @ sizes)
    low, high = _quantiles(drawn)
    return Estimate(
        value=value, low=max(0.0, min(2 * value - high, value)), high=max(2 * value - low, value)
    )


def _quantiles(drawn: Floats) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def _quotient(above: float, below: float) -> float | None:
    return above / below if below else None
