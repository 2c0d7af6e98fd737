"""Small SVG charts: scales, axes and marks as XML elements, so that every text in them is escaped.

Colours are left to the page's style sheet by class, which is how a chart follows dark mode.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460.0, 330.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 22.0, 14.0, 46.0
LABEL_HEIGHT = 14.0
POINT_RADIUS = 5.0

Scale = Callable[[float], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A mark on an axis, in the chart's own units."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A chart under construction: the drawing and where values lie in it."""

    root: ET.Element
    x: Scale
    """From a value to pixels."""
    y: Scale

    def line(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """A line through values."""
        path = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in points)
        _add(self.root, "polyline", points=path, **{"class": f"line {style}"})

    def segment(self, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
        """A straight stroke between two values, such as one half of an interval's cross."""
        places = {"x1": self.x(start[0]), "y1": self.y(start[1])}
        places |= {"x2": self.x(end[0]), "y2": self.y(end[1])}
        _add(self.root, "line", **_rounded(places), **{"class": style})

    def point(
        self, at: tuple[float, float], style: str, tip: str, radius: float = POINT_RADIUS
    ) -> None:
        """A dot with a tooltip."""
        place = {"cx": self.x(at[0]), "cy": self.y(at[1]), "r": radius}
        dot = _add(self.root, "circle", **_rounded(place), **{"class": f"point {style}"})
        _add(dot, "title").text = tip

    def bar(self, low: float, high: float, height: float, style: str, tip: str) -> None:
        """A bar of `height` pixels that stands on the x axis."""
        left, right = self.x(low), self.x(high)
        place = {"x": left + 0.5, "width": max(right - left - 1, 1.5), "height": height}
        place["y"] = HEIGHT - BOTTOM - height
        bar = _add(self.root, "rect", **_rounded(place), **{"class": style})
        _add(bar, "title").text = tip

    def label(self, at: tuple[float, float], text: str, style: str = "") -> None:
        """Text beside a value, given in values."""
        _text(self.root, (self.x(at[0]), self.y(at[1])), text, f"label {style}")

    def labels(self, named: Sequence[tuple[tuple[float, float], str, str]]) -> None:
        """Text beside dots, (value, text, style) each: moved up or down so that none overlap, and
        to the left of dots near the right edge."""
        bottom = -math.inf
        for at, text, style in sorted(named, key=lambda one: self.y(one[0][1])):
            x, y = self.x(at[0]), self.y(at[1]) + 4
            y = bottom = max(y, bottom + LABEL_HEIGHT)
            wide = x + 12 + 6.6 * len(text) > WIDTH - RIGHT
            place = (x - 9, y) if wide else (x + 9, y)
            _text(self.root, place, text, f"label {style}", "end" if wide else "start")

    def to_text(self) -> str:
        """As markup for a page."""
        return ET.tostring(self.root, encoding="unicode")


def plot(
    *, title: str, x: Scale, y: Scale, x_ticks: Sequence[Tick], y_ticks: Sequence[Tick], x_name: str
) -> Plot:
    """An empty chart with its grid. `title` is what a screen reader is told; the y axis is named by
    the page's own heading above the chart."""
    box = f"0 0 {WIDTH:g} {HEIGHT:g}"
    root = ET.Element("svg", {"viewBox": box, "role": "img", "class": "chart"})
    _add(root, "title").text = title
    for tick in y_ticks:
        height = {"y1": y(tick.at), "y2": y(tick.at), "x1": LEFT, "x2": WIDTH - RIGHT}
        _add(root, "line", **_rounded(height), **{"class": "grid"})
        _text(root, (LEFT - 7, y(tick.at) + 4), tick.text, "tick", "end")
    for tick in x_ticks:
        _text(root, (x(tick.at), HEIGHT - BOTTOM + 18), tick.text, "tick", "middle")
    _text(root, ((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8), x_name, "axis-name", "middle")
    return Plot(root=root, x=x, y=y)


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Values low..high on pixels start..end."""
    width = (high - low) or 1.0
    return lambda value: start + (value - low) / width * (end - start)


def across(low: float, high: float) -> Scale:
    """A linear x axis over the whole width."""
    return linear(low, high, LEFT, WIDTH - RIGHT)


def upward(low: float, high: float) -> Scale:
    """A linear y axis over the whole height."""
    return linear(low, high, HEIGHT - BOTTOM, TOP)


def share_ticks(low: float, high: float, step: float) -> list[Tick]:
    """Ticks in per cent from low to high."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [Tick(at=n * step, text=f"{n * step:.0%}") for n in range(first, last + 1)]


def _add(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, attributes)


def _text(
    parent: ET.Element, at: tuple[float, float], text: str, style: str, anchor: str = "start"
) -> None:
    place = _rounded({"x": at[0], "y": at[1]})
    shown = _add(parent, "text", **place, **{"class": style, "text-anchor": anchor})
    shown.text = text


def _rounded(places: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.1f}" for name, value in places.items()}
