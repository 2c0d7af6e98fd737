"""The report's charts as PNG files, for slides and documents. Needs matplotlib (extra `plots`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eval.report.charts import curve_points, frontier, oracle_points
from eval.report.figures import REFERENCE, Deferral, RunFigures, StrategyFigures
from eval.statistics import Estimate, Reliability
from minions.errors import BadRequest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (7.2, 4.8)
DOTS_PER_INCH = 160
COLOURS = (
    "#2456c9",
    "#c2410c",
    "#0f766e",
    "#a21caf",
    "#b45309",
    "#4d7c0f",
    "#be123c",
    "#475569",
    "#0e7490",
    "#6d28d9",
    "#78350f",
    "#166534",
)
"""Those of the page in daylight."""
SOFT = "#8a8f99"
_FILE_MARKS = str.maketrans("@:/", "---")


def write_pictures(figures: RunFigures, folder: Path) -> list[Path]:
    """`frontier.png`, `deferral.png` and `reliability-STRATEGY.png`, those that there are figures
    for. Raises BadRequest when matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BadRequest(
            "Pictures need matplotlib: pip install 'minions[plots]', or leave out --png."
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in _drawings(figures):
        figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
        draw(figure)
        path = folder / f"{name}.png"
        figure.savefig(path)
        written.append(path)
    return written


def _drawings(figures: RunFigures) -> Iterator[tuple[str, Callable[[Figure], None]]]:
    """File name and how it is drawn."""
    if any(_placed(one) for one in figures.strategies):
        yield "frontier", partial(_draw_frontier, figures)
    found = figures.deferral
    if found is not None and found.curve.usd is not None and found.curve.usd[-1]:
        yield "deferral", partial(_draw_deferral, figures, found)
    for index, one in enumerate(figures.strategies):
        stated = figures.reliability.get(one.label)
        if stated is not None:
            draw = partial(_draw_reliability, stated, one.label, _colour(index))
            yield f"reliability-{one.label.translate(_FILE_MARKS)}", draw


_LABEL_PLACES = tuple((x, y) for y in (6, -13, 20, -27, 34, -41, 48) for x in (7, -7))
"""Offsets from a point, in typographic points: the first at which a label covers no other."""


def _draw_frontier(figures: RunFigures, figure: Figure) -> None:
    axes = _axes(figure, "Accuracy over dollars per question", "dollars per question", "accuracy")
    placed = [(i, one) for i, one in enumerate(figures.strategies) if _placed(one)]
    paid = [cost for _, one in placed if (cost := one.usd_per_question.value)]
    least = math.floor(math.log10(min(paid, default=0.01)))
    axes.set_xscale("symlog", linthresh=10.0**least, linscale=0.5)
    best = frontier([(_value(one.usd_per_question), _value(one.accuracy)) for _, one in placed])
    axes.plot(*zip(*best, strict=True), ":", color=SOFT, zorder=1)
    for index, one in placed:
        _draw_strategy(axes, one, _colour(index))
    axes.xaxis.set_major_formatter(lambda amount, _: f"${amount:g}")
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.margins(x=0.12)
    _write_labels(figure, axes, [(one, _colour(index)) for index, one in placed])


def _write_labels(
    figure: Figure, axes: Axes, strategies: Sequence[tuple[StrategyFigures, str]]
) -> None:
    """A label beside each point, over no other and over no point."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # only then is it known where things stand
    points = [axes.transData.transform(_at(one)) for one, _ in strategies]
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in points]
    for one, colour in strategies:
        for place in _LABEL_PLACES:
            side = "left" if place[0] > 0 else "right"
            label = axes.annotate(
                one.label,
                _at(one),
                place,
                textcoords="offset points",
                color=colour,
                fontsize=9,
                ha=side,
            )
            box = label.get_window_extent()
            if not box.count_overlaps(taken) or place == _LABEL_PLACES[-1]:
                taken.append(box)
                break
            label.remove()


def _at(one: StrategyFigures) -> tuple[float, float]:
    return _value(one.usd_per_question), _value(one.accuracy)


def _draw_strategy(axes: Axes, one: StrategyFigures, colour: str) -> None:
    axes.errorbar(
        *_at(one),
        xerr=_around(one.usd_per_question),
        yerr=_around(one.accuracy),
        fmt="o",
        color=colour,
        elinewidth=1,
        markersize=6,
    )


def _draw_deferral(figures: RunFigures, found: Deferral, figure: Figure) -> None:
    axes = _axes(
        figure,
        "Local answers sent to the cloud",
        "dollars, as a share of asking the cloud every time",
        "accuracy",
    )
    ours = curve_points(found)
    axes.plot(*zip(*oracle_points(found), strict=True), ":", color=COLOURS[2], label="best order")
    axes.plot(*zip(ours[0], ours[-1], strict=True), "--", color=SOFT, label="at random")
    axes.plot(*zip(*ours, strict=True), color=COLOURS[0], label="least certain first")
    for index, one in enumerate(figures.strategies):
        beside = one.against_cloud
        share = 1.0 if one.label == REFERENCE else beside.usd.value if beside else None
        if share is not None and share <= 1 and one.accuracy.value is not None:
            axes.plot(share, one.accuracy.value, "o", color=_colour(index), label=one.label)
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{share:.0%}")


def _draw_reliability(found: Reliability, label: str, colour: str, figure: Figure) -> None:
    error = f"{found.ece.value:.3f}" if found.ece.value is not None else "unknown"
    title = f"{label}: calibration error {error}"
    axes = _axes(figure, title, "stated chance of being right", "share that was right")
    axes.plot([0, 1], [0, 1], "--", color=SOFT, zorder=1)
    for one in found.bins:
        axes.errorbar(
            one.mean_p,
            _value(one.accuracy),
            yerr=_around(one.accuracy),
            fmt="o",
            color=colour,
            elinewidth=1,
            markersize=4 + 8 * one.n / found.n,
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _axes(figure: Figure, title: str, x_name: str, y_name: str) -> Axes:
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set(xlabel=x_name, ylabel=y_name)
    axes.grid(visible=True, color="#e6e4df", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    return axes


def _placed(one: StrategyFigures) -> bool:
    return one.accuracy.value is not None and one.usd_per_question.value is not None


def _value(estimate: Estimate) -> float:
    return estimate.value or 0.0


def _around(estimate: Estimate) -> list[list[float]] | None:
    """An interval as distances below and above; None without one."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    below, above = estimate.value - estimate.low, estimate.high - estimate.value
    return [[max(below, 0.0)], [max(above, 0.0)]]


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]
