"""Deferral curves: what part of the gap between two models is recovered by how many strong calls.

Definitions after RouteLLM (arXiv 2406.18665). With `gain(i) = strong(i) - weak(i)` and
the k questions of highest routing score sent to the strong model,

    PGR(k)  = sum of gain over those k / sum of gain over all n         performance gap recovered
    APGR    = area under PGR over k/n, by the trapezoid rule
    CPT(x)  = min {k : PGR(k) >= x} / n                                 call-performance threshold

Computed on the sorted rows themselves. Rows of equal score come in random order: all is then the
expectation over that order, so a router that says the same of every question has APGR 1/2 and
CPT(x) = x, rounded up to whole calls. Unlike in the paper's own code nothing is interpolated over
accuracy (which may fall while calls rise), dollars are counted besides calls, and there are
intervals. APGR depends on the scores' order only; it can pass 1, because PGR does where questions
are spared that the weak model alone gets right.

In dollars the same curve stands over what the strong calls cost, dear questions taking more room
than cheap ones; a call-performance threshold is then the least money at a point that can really be
had. `Curve.hull` says what mixing two such points at random would reach, and is the only thing here
that may be read between points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
"""How often each row is there, in a bootstrap resample."""

ROUNDING = 1e-9
"""A share of the gap counts as recovered when less than this is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The deferral curve at the ends of its runs of equal scores, highest score first.

    Straight between them: the expectation over the order of equals."""

    n_calls: Floats
    """Shape (m + 1,), from 0 to n."""
    gain: Floats
    """Sum of gain over those calls; shape (m + 1,)."""
    usd: Floats | None
    """Dollars of all n answers when those calls are made; None when a price is unknown."""

    @property
    def gap(self) -> float:
        """Sum of gain over all questions."""
        return float(self.gain[-1])

    def apgr(self) -> float:
        """See above. NaN when the strong model is not better in sum: there is no gap then."""
        if self.gap <= 0:
            return math.nan
        area = np.diff(self.n_calls) @ (self.gain[:-1] + self.gain[1:]) / 2
        return float(area / (self.gap * self.n_calls[-1]))

    def calls_for(self, share: float) -> float:
        """Least whole number of strong calls that recovers `share` of the gap; NaN without
        a gap."""
        if self.gap <= 0:
            return math.nan
        target = share * self.gap - ROUNDING
        if target <= 0:
            return 0.0
        run = int(np.argmax(self.gain >= target))
        missing = (target - self.gain[run - 1]) / (self.gain[run] - self.gain[run - 1])
        length = self.n_calls[run] - self.n_calls[run - 1]
        return float(self.n_calls[run - 1] + math.ceil(missing * length - ROUNDING))

    def cpt(self, share: float) -> float:
        """`calls_for` as a share of all questions, 0..1."""
        return self.calls_for(share) / float(self.n_calls[-1])

    def usd_for(self, share: float) -> float:
        """Expected dollars of all answers when `calls_for(share)` go to the strong model; NaN
        without a gap or with an unknown price."""
        calls = self.calls_for(share)
        if self.usd is None or math.isnan(calls):
            return math.nan
        return float(np.interp(calls, self.n_calls, self.usd))

    def apgr_usd(self) -> float:
        """As `apgr`, over the share of the strong calls' dollars instead of their number; NaN
        without a gap, with an unknown price, or where the calls cost nothing."""
        if self.usd is None or self.gap <= 0 or self.usd[-1] <= self.usd[0]:
            return math.nan
        area = np.diff(self.usd) @ (self.gain[:-1] + self.gain[1:]) / 2
        return float(area / (self.gap * (self.usd[-1] - self.usd[0])))

    def cpt_usd(self, share: float) -> float:
        """`usd_for` as a share of the dollars of sending every question to the strong model."""
        if self.usd is None or not self.usd[-1]:
            return math.nan
        return self.usd_for(share) / float(self.usd[-1])

    def hull(self) -> list[tuple[float, float]]:
        """Upper concave hull of (dollars, gain), up to the highest gain: each point of a line
        between two neighbours is had by drawing one of their two thresholds per question.

        Raises ValueError where a price is unknown."""
        if self.usd is None:
            raise ValueError("A price is unknown: there are no dollars to lay gains over.")
        points = sorted(zip(self.usd.tolist(), self.gain.tolist(), strict=True))
        kept: list[tuple[float, float]] = []
        for usd, gain in points:
            if kept and gain <= kept[-1][1]:
                continue
            while kept and (kept[-1][0] == usd or _sags(kept, (usd, gain))):
                kept.pop()
            kept.append((usd, gain))
        return kept


def _sags(kept: Sequence[tuple[float, float]], new: tuple[float, float]) -> bool:
    """Whether the last kept point lies on or below the line from the one before it to `new`."""
    if len(kept) < 2:
        return False
    (x0, y0), (x1, y1) = kept[-2:]
    return (y1 - y0) * (new[0] - x0) <= (new[1] - y0) * (x1 - x0)


def deferral_curve(
    scores: Sequence[float] | Floats,
    gains: Sequence[float] | Floats,
    weak_usd: Sequence[float] | Floats | None = None,
    call_usd: Sequence[float] | Floats | None = None,
    counts: Counts | None = None,
) -> Curve:
    """The curve of sending questions to the strong model by falling `scores`.

    `weak_usd` is what each question costs without the strong call, `call_usd` what the call adds
    (less the weak answer, if that is spared). `counts` says how often each row is there, for a
    bootstrap. Raises ValueError for no rows, unequal lengths or a score that is NaN."""
    columns = [np.asarray(column, dtype=np.float64) for column in (scores, gains)]
    _check(*columns)
    times = np.ones(len(columns[0])) if counts is None else counts.astype(np.float64)
    _, run = np.unique(-columns[0], return_inverse=True)
    usd = None
    if weak_usd is not None and call_usd is not None:
        base = float(np.asarray(weak_usd, dtype=np.float64) @ times)
        usd = base + _summed(run, np.asarray(call_usd, dtype=np.float64) * times)
    return Curve(n_calls=_summed(run, times), gain=_summed(run, columns[1] * times), usd=usd)


def _check(scores: Floats, gains: Floats) -> None:
    if not len(scores) or len(scores) != len(gains):
        raise ValueError(f"A curve needs paired rows: {len(scores)} scores, {len(gains)} gains.")
    if np.isnan(scores).any():
        raise ValueError("A routing score is NaN: leave out the rows that have no score.")


def _summed(run: npt.NDArray[np.intp], values: Floats) -> Floats:
    """0 and the sums over the first run, the first two runs, and so on."""
    return np.concatenate([[0.0], np.cumsum(np.bincount(run, weights=values))])


def drawn_counts(n: int, n_resamples: int, rng: np.random.Generator) -> Iterator[Counts]:
    """How often each of n rows is drawn, once for each bootstrap resample (with replacement)."""
    return (np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(n_resamples))
