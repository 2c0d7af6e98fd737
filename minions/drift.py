"""Has the worker become worse than its calibration says? A sequential test on audits. Pure.

Each audited answer was stated to be right with some chance, so the cloud was expected to agree with
it with a chance e, and did or did not. Under "agreement is at least as likely as expected" the
factor

    L = theta                            where the cloud agreed
    L = (1 - theta e) / (1 - e)          where it did not                    0 < theta < 1

has mean at most 1, whatever the order and the number of answers: a bet that agreement has shrunk to
theta of what was expected. The Shiryaev-Roberts recursion M <- (1 + M) L, averaged over a few
theta, is an e-detector (Shin, Ramdas and Rinaldo 2022, arXiv 2203.03532): when nothing is wrong, an
alarm at M >= c comes on average after c answers or later, with no assumption about the answers
beside the expectation itself. It forgets a good past, so that a late change is still seen.
`simulate` shows both: how often the alarm is false, and how soon a true one comes.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BETS = (0.5, 0.7, 0.85, 0.95)
"""Shares of the expected agreement that are bet on: from a collapse to a slow decline."""
MEAN_RUN = 10_000
"""Audited answers until a false alarm, on average, at least: the c of the text above."""
TOLERANCE = 0.1
"""Shortfall that is no drift. Two right answers in other words count as disagreeing here, and the
cloud errs too: a calibration on labels knows of neither."""
MAX_EXPECTED = 0.98
"""No agreement is certain: beyond this a single disagreement would end the test."""
N_SIMULATED = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Audited:
    """One audited answer."""

    expected: float
    """Chance with which the cloud should have agreed, 0..1, tolerance not taken off."""
    agreed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """Where the test stands after all answers so far."""

    n: int
    n_agreed: int
    expected: float | None
    """Mean expected agreement; None before the first answer."""
    agreement: float | None
    evidence: float
    """M of the module's text; 0 before the first answer."""
    threshold: float
    raised_at: int | None
    """Number of the answer at which M first passed the threshold; None if it never did."""

    @property
    def alarm(self) -> bool:
        """Whether the evidence is above the threshold now."""
        return self.evidence >= self.threshold

    def text(self) -> str:
        """One sentence for people."""
        if self.agreement is None or self.expected is None:
            return "nothing was audited yet"
        figures = (
            f"the cloud agreed with {self.agreement:.1%} of {self.n} audited answers, "
            f"{self.expected:.1%} were expected"
        )
        if not self.alarm:
            return f"{figures}: no alarm"
        return (
            f"{figures}. This is no chance (evidence {self.evidence:,.0f}, alarm at "
            f"{self.threshold:,.0f}): the stated chances are too high. Fit anew with "
            "`minions eval calibrate`, or raise the target."
        )


def watch(
    answers: Iterable[Audited], *, tolerance: float = TOLERANCE, threshold: float = MEAN_RUN
) -> Drift:
    """The test over answers in the order in which they were audited."""
    sums = [0.0] * len(BETS)
    n = n_agreed = 0
    expected, raised_at = 0.0, None
    for n, one in enumerate(answers, start=1):
        n_agreed += one.agreed
        expected += one.expected
        level = min(max(one.expected - tolerance, 0.0), MAX_EXPECTED)
        sums = [
            (1 + m) * _factor(bet, level, one.agreed) for m, bet in zip(sums, BETS, strict=True)
        ]
        if raised_at is None and statistics.fmean(sums) >= threshold:
            raised_at = n
    return Drift(
        n=n,
        n_agreed=n_agreed,
        expected=expected / n if n else None,
        agreement=n_agreed / n if n else None,
        evidence=statistics.fmean(sums),
        threshold=threshold,
        raised_at=raised_at,
    )


def _factor(bet: float, expected: float, agreed: bool) -> float:
    return bet if agreed else (1 - bet * expected) / (1 - expected)


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """What the test does on drawn answers."""

    agreement: float
    """True agreement, as a share of the expected (tolerance taken off)."""
    n_answers: int
    alarms: float
    """Share of the simulated series with an alarm within `n_answers`."""
    median_delay: float | None
    """Answers until the alarm, median over the series that had one."""


def simulate(
    expected: Sequence[float],
    *,
    agreement: float = 1.0,
    n_answers: int = 200,
    n_series: int = N_SIMULATED,
    seed: int = 0,
) -> Simulated:
    """Series of audited answers whose true chance of agreement is `agreement` times the tolerated
    expectation: 1 is the worst case in which nothing is wrong. Expectations are drawn from
    `expected`."""
    draw = random.Random(seed)
    delays = []
    for _ in range(n_series):
        stated = draw.choices(expected, k=n_answers)
        true = (agreement * max(one - TOLERANCE, 0.0) for one in stated)
        answers = [
            Audited(expected=one, agreed=draw.random() < p)
            for one, p in zip(stated, true, strict=True)
        ]
        delays.append(watch(answers).raised_at)
    raised = [delay for delay in delays if delay is not None]
    return Simulated(
        agreement=agreement,
        n_answers=n_answers,
        alarms=len(raised) / n_series,
        median_delay=statistics.median(raised) if raised else None,
    )
