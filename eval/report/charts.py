"""The report's charts: accuracy over cost, the deferral curve, reliability, as SVG for the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eval.deferral import Curve
from eval.report.figures import REFERENCE, Deferral, RunFigures, StrategyFigures
from eval.report.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Plot,
    Scale,
    Tick,
    across,
    linear,
    plot,
    share_ticks,
    upward,
)
from eval.report.wording import percent, percent_interval, usd, usd_interval
from eval.statistics import Reliability

N_COLOURS = 12
FREE_WIDTH = 60.0
"""Pixels at the left of a logarithmic axis for what costs nothing."""
LEAST_USD = 1e-6
"""Below this a price counts as nothing."""
HISTOGRAM_HEIGHT = 36.0


def colour(index: int) -> str:
    """The style of the index-th strategy."""
    return f"c{index % N_COLOURS}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CostAxis:
    """Dollars on a logarithmic axis, with a place of its own for $0."""

    low: float
    high: float

    @staticmethod
    def over(amounts: Sequence[float]) -> CostAxis:
        """An axis that holds these amounts, from one power of ten to another."""
        paid = [amount for amount in amounts if amount >= LEAST_USD] or [0.01]
        low, high = math.floor(math.log10(min(paid))), math.ceil(math.log10(max(paid)))
        return CostAxis(low=10.0**low, high=10.0 ** max(high, low + 1))

    def place(self, amount: float) -> float:
        """Pixels of an amount."""
        if amount < LEAST_USD:
            return LEFT + FREE_WIDTH / 4
        scale = linear(
            math.log10(self.low), math.log10(self.high), LEFT + FREE_WIDTH, WIDTH - RIGHT
        )
        return scale(math.log10(max(amount, self.low)))

    @property
    def ticks(self) -> list[Tick]:
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        powers = [10.0**exponent for exponent in range(first, last + 1)]
        return [Tick(at=0.0, text="$0"), *(Tick(at=p, text=_power(p)) for p in powers)]


def _power(amount: float) -> str:
    return f"${amount:g}" if amount >= 1e-4 else f"${amount:.0e}"


def frontier_chart(figures: RunFigures) -> str | None:
    """Accuracy over dollars per question, each with its interval; the line joins the strategies
    that no other beats in both. None when no strategy has both figures."""
    shown = [(i, s) for i, s in enumerate(figures.strategies) if _placed(s)]
    if not shown:
        return None
    axis = CostAxis.over([_cost(s) for _, s in shown])
    y, ticks = _accuracy_axis([s for _, s in shown])
    chart = plot(
        title="Accuracy over dollars per question",
        x=axis.place,
        y=y,
        x_ticks=axis.ticks,
        y_ticks=ticks,
        x_name="dollars per question (logarithmic)",
    )
    chart.line(frontier([(_cost(s), _accuracy(s)) for _, s in shown]), "frontier")
    for index, strategy in shown:
        _draw_strategy(chart, strategy, colour(index))
    chart.labels([((_cost(s), _accuracy(s)), s.label, colour(i)) for i, s in shown])
    return chart.to_text()


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, accuracy) points that no other beats: none cheaper is as accurate."""
    kept: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or accuracy > kept[-1][1]:
            kept.append((cost, accuracy))
    return kept


def deferral_chart(figures: RunFigures) -> str | None:
    """Accuracy over the share of the cloud's dollars when the least certain local answers are sent
    to the cloud first. None without a curve, or without known prices."""
    found = figures.deferral
    if found is None or found.curve.usd is None or not found.curve.usd[-1]:
        return None
    everything = float(found.curve.usd[-1])
    accuracies = [a for _, a in curve_points(found)] + [a for _, a in oracle_points(found)]
    accuracies += [_accuracy(one) for one in figures.strategies if _placed(one)]
    low = math.floor(min(accuracies) * 10) / 10
    high = min(1.0, math.ceil(max(accuracies) * 10 + 1e-9) / 10)
    chart = plot(
        title="Accuracy over the share of the cloud's dollars",
        x=across(0, 1),
        y=upward(low, high),
        x_ticks=share_ticks(0, 1, 0.2),
        y_ticks=share_ticks(low, high, _step(low)),
        x_name="dollars, as a share of asking the cloud every time",
    )
    chart.line(oracle_points(found), "oracle")
    chart.line([curve_points(found)[0], curve_points(found)[-1]], "chance")
    chart.line(hull_points(found, everything), "hull")
    chart.line(curve_points(found), "curve c0")
    for index, strategy in enumerate(figures.strategies):
        _draw_beside(chart, strategy, colour(index))
    return chart.to_text()


def curve_points(found: Deferral) -> list[tuple[float, float]]:
    """(share of dollars, accuracy) along the deferral curve; nothing where prices are unknown."""
    return _shares(found.curve, found)


def oracle_points(found: Deferral) -> list[tuple[float, float]]:
    """The same in the best order there is."""
    return _shares(found.oracle, found)


def hull_points(found: Deferral, everything: float) -> list[tuple[float, float]]:
    """The hull of the deferral curve: what mixing two thresholds reaches."""
    return [
        (spent / everything, found.local_accuracy + gain / found.n)
        for spent, gain in found.curve.hull()
    ]


def _shares(curve: Curve, found: Deferral) -> list[tuple[float, float]]:
    if curve.usd is None:
        return []
    everything = float(curve.usd[-1])
    return [
        (cost / everything, found.local_accuracy + more / found.n)
        for cost, more in zip(curve.usd.tolist(), curve.gain.tolist(), strict=True)
    ]


def reliability_chart(found: Reliability, style: str) -> str:
    """What came true over what was stated; a bar tells how many answers a point stands for."""
    chart = plot(
        title="Share of right answers over their stated chance",
        x=across(0, 1),
        y=linear(0, 1, HEIGHT - BOTTOM, TOP),
        x_ticks=share_ticks(0, 1, 0.2),
        y_ticks=share_ticks(0, 1, 0.2),
        x_name="stated chance of being right",
    )
    most = max(one.n for one in found.bins)
    for one in found.bins:
        span = f"{percent(one.low)} to {percent(one.high)}"
        height = HISTOGRAM_HEIGHT * one.n / most
        chart.bar(one.low, one.high, height, "histogram", f"{one.n} answers at {span}")
    chart.line([(0, 0), (1, 1)], "chance")
    for one in found.bins:
        if one.accuracy.low is not None and one.accuracy.high is not None:
            ends = (one.mean_p, one.accuracy.low), (one.mean_p, one.accuracy.high)
            chart.segment(*ends, f"interval {style}")
    for one in found.bins:
        right = one.accuracy.value or 0.0
        tip = f"{one.n} answers stated at {percent(one.mean_p)}: {percent_interval(one.accuracy)}"
        chart.point((one.mean_p, right), style, tip)
    return chart.to_text()


def _placed(strategy: StrategyFigures) -> bool:
    return strategy.accuracy.value is not None and strategy.usd_per_question.value is not None


def _cost(strategy: StrategyFigures) -> float:
    return strategy.usd_per_question.value or 0.0


def _accuracy(strategy: StrategyFigures) -> float:
    return strategy.accuracy.value or 0.0


def _accuracy_axis(strategies: Sequence[StrategyFigures]) -> tuple[Scale, list[Tick]]:
    """From the tenth below the lowest interval to the tenth above the highest."""
    ends = [end for s in strategies for end in (s.accuracy.low, s.accuracy.high) if end is not None]
    shares = [*ends, *map(_accuracy, strategies)]
    low = max(0.0, math.floor(min(shares) * 10 - 1e-9) / 10)
    high = min(1.0, math.ceil(max(shares) * 10 + 1e-9) / 10)
    return upward(low, high), share_ticks(low, high, _step(low))


def _step(low: float) -> float:
    """Between ticks, of an axis from `low` to 1."""
    return 0.1 if low >= 0.3 else 0.2


def _draw_strategy(chart: Plot, strategy: StrategyFigures, style: str) -> None:
    cost, accuracy = _cost(strategy), _accuracy(strategy)
    right, dollars = strategy.accuracy, strategy.usd_per_question
    if right.low is not None and right.high is not None:
        chart.segment((cost, right.low), (cost, right.high), f"interval {style}")
    if dollars.low and dollars.high:
        chart.segment((dollars.low, accuracy), (dollars.high, accuracy), f"interval {style}")
    tip = f"{strategy.label}: {percent_interval(right)} for {usd_interval(dollars)}"
    chart.point((cost, accuracy), style, tip)


def _draw_beside(chart: Plot, strategy: StrategyFigures, style: str) -> None:
    """A measured strategy in the deferral chart, where its dollars are within the cloud's."""
    beside = strategy.against_cloud
    share = 1.0 if strategy.label == REFERENCE else beside.usd.value if beside else None
    if share is None or share > 1 or strategy.accuracy.value is None:
        return
    tip = f"{strategy.label}: {percent(strategy.accuracy.value)}, {usd(_cost(strategy))} a question"
    chart.point((share, strategy.accuracy.value), style, tip)
