"""Figures as people read them: shares, dollars, intervals; an unknown one says so."""

from __future__ import annotations

from eval.statistics import Estimate

UNKNOWN_TEXT = "unknown"


def counted(n: int, noun: str) -> str:
    """`1 document`, `2 documents`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def percent(share: float | None) -> str:
    """`83.1%`."""
    return UNKNOWN_TEXT if share is None else f"{share:.1%}"


def usd(amount: float | None) -> str:
    """Dollars with two digits that count: `$0.042`, `$12.30`; nothing at all is `$0`."""
    if amount is None:
        return UNKNOWN_TEXT
    if amount == 0:
        return "$0"
    if abs(amount) >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if abs(amount) >= 0.001 else f"${amount:.2g}"


def percent_interval(estimate: Estimate) -> str:
    """`83.1% (79.0-87.2)`; without an interval, the share alone."""
    if estimate.low is None or estimate.high is None or estimate.value is None:
        return percent(estimate.value)
    return f"{percent(estimate.value)} ({100 * estimate.low:.1f}–{100 * estimate.high:.1f})"


def usd_interval(estimate: Estimate) -> str:
    """`$0.042 ($0.031-$0.055)`."""
    if estimate.low is None or estimate.high is None or not estimate.value:
        return usd(estimate.value)
    return f"{usd(estimate.value)} ({usd(estimate.low)}–{usd(estimate.high)})"


def number_interval(estimate: Estimate, digits: int = 3) -> str:
    """`.693 (.617-.766)` with as many digits."""
    if estimate.value is None:
        return UNKNOWN_TEXT
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}"
    ends = f"{estimate.low:.{digits}f}–{estimate.high:.{digits}f}"
    return f"{estimate.value:.{digits}f} ({ends})"


def times_cheaper(share: Estimate) -> str:
    """Dollars as a share of the cloud's, told as a factor: `5.4 times cheaper (4.2-7.6)`."""
    if share.value is None:
        return "at an unknown price"
    if share.value == 0:
        return "for nothing"
    if share.value > 1:
        return f"for {share.value:.2f} times its cost"
    factor = f"at 1/{1 / share.value:.1f} of its cost"
    if not share.low or not share.high:
        return factor
    return f"{factor} (1/{1 / share.low:.1f} to 1/{1 / share.high:.1f})"
