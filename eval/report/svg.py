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
LETTER_WIDTH = 6.6
LABEL_SHIFTS = (0, -13, 13, -26, 26, -39, 39, -52, 52, -65, 65, -78, 78, -91, 91)
"""Pixels that a label may stand below its dot, the nearest first."""
POINT_RADIUS = 5.0

Scale = Callable[[float], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A mark on an axis, in the chart's own units."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """Where something stands, in pixels; y grows downward."""

    left: float
    right: float
    top: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not beside and self.top < other.bottom and other.top < self.bottom

    @property
    def is_inside(self) -> bool:
        """Whether it lies in the drawing, over its x axis."""
        across = self.left >= LEFT and self.right <= WIDTH - 2
        return across and self.top >= 0 and self.bottom <= HEIGHT - BOTTOM


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
        """Text beside dots, (value, text, style) each: at the nearest place where it covers no dot
        and no other text."""
        dots = [(self.x(at[0]), self.y(at[1])) for at, _, _ in named]
        taken = [Box(left=x - 6, right=x + 6, top=y - 6, bottom=y + 6) for x, y in dots]
        for (x, y), (_, text, style) in zip(dots, named, strict=True):
            box = _free_box(x, y, text, taken)
            taken.append(box)
            right = box.left > x
            place = (box.left if right else box.right, box.bottom - 3)
            _text(self.root, place, text, f"label {style}", "start" if right else "end")

    def to_text(self) -> str:
        """As markup for a page."""
        return ET.tostring(self.root, encoding="unicode")


def _free_box(x: float, y: float, text: str, taken: Sequence[Box]) -> Box:
    """The nearest place for a text beside a dot, right before left; the last one where none is
    free."""
    width = LETTER_WIDTH * len(text)
    boxes = [
        Box(left=left, right=left + width, top=y + shift - 8, bottom=y + shift + 7)
        for shift in LABEL_SHIFTS
        for left in (x + 9, x - 9 - width)
    ]
    within = [box for box in boxes if box.is_inside] or boxes
    return next((b for b in within if not any(map(b.overlaps, taken))), within[-1])


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
