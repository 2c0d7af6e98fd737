"""The profile: what labelled runs say of a worker's answers, and of the cloud's beside them.

Fitted on labelled runs by `eval.calibrate`, applied by `router.chances`. A profile belongs to one
worker (`CalibrationKey`); with any other it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from router.features import FEATURE_NAMES, FEATURES_VERSION, features_of
from router.risk import RiskRow
from router.rungs import Rung
from router.signals import Signals

FORMAT = 1


class StaleCalibration(ValueError):
    """The profile was fitted for something else than what runs now; it must not be used."""

    def __init__(self, differences: Mapping[str, tuple[object, object]]) -> None:
        self.differences = dict(differences)
        """What differs: name to (in the profile, running now)."""
        listed = "; ".join(
            f"{name}: fitted for {fitted!r}, running {now!r}"
            for name, (fitted, now) in self.differences.items()
        )
        super().__init__(
            f"The calibration is stale and is not used ({listed}). Label a run of the present "
            "worker and fit again with `minions eval calibrate RUN --out FILE`."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationKey:
    """What a local model's chances depend on."""

    model: str
    model_sha256: str | None
    """None where it can't be known (a server): then only the name is compared."""
    quantisation: str
    prompt_version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """One feature of a logistic model."""

    feature: str
    mean: float
    """Over the rows in which it was known; an unknown one counts as this."""
    scale: float
    weight: float
    """Log-odds per `scale`."""
    when_unknown: float
    """Log-odds added when the feature is unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chance:
    """P(an event | signals): a regularised logistic score, then a monotone curve."""

    intercept: float
    weights: tuple[Weight, ...]
    """Empty when there were too few labels to learn from signals: then the base rate."""
    curve: tuple[tuple[float, float], ...]
    """Points (score, probability), both rising in 0..1; straight lines between them."""
    n_labels: int

    def of(self, signals: Signals) -> float:
        """The calibrated probability, 0..1."""
        return along(self.curve, self.score(signals))

    def score(self, signals: Signals) -> float:
        """The uncalibrated probability of the logistic model, 0..1."""
        known = features_of(signals)
        return _logistic(self.intercept + sum(_share(w, known[w.feature]) for w in self.weights))


def _share(weight: Weight, value: float | None) -> float:
    if value is None:
        return weight.when_unknown
    return weight.weight * (value - weight.mean) / weight.scale


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else 1 - 1 / (1 + math.exp(x))


def along(curve: tuple[tuple[float, float], ...], score: float) -> float:
    """Piecewise linear interpolation; flat beyond the ends. `curve` has at least one point."""
    if score <= curve[0][0]:
        return curve[0][1]
    for (left, low), (right, high) in pairwise(curve):
        if score <= right:
            return low + (high - low) * (score - left) / (right - left)
    return curve[-1][1]


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudRung:
    """What the labels say of the cloud's answers at one rung."""

    rung: Rung
    fixes: Chance
    """P(the cloud is right | the local answer is wrong, signals)."""
    keeps: float
    """P(the cloud is right | the local answer is right)."""
    verified: float
    """P(the cloud is right | its answer has a verified quote)."""
    unverified: float
    abstained: float
    """P("not in the document" is right | the cloud said so)."""
    noticed: float
    """P(a wrong answer is seen to be doubtful: abstained or without a verified quote)."""
    n_labels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FitQuality:
    """How well P(local answer is right) did on rows that it was not fitted on."""

    n: int
    ece: float
    """Expected calibration error, 10 bins."""
    brier: float
    auroc: float | None
    """None when all of those rows were right, or all wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """A fitted profile of one worker, and of one cloud where its answers were labelled too."""

    key: CalibrationKey
    local: Chance
    cloud_model: str | None
    """The cloud whose answers `rungs` describe."""
    rungs: tuple[CloudRung, ...]
    quality: FitQuality
    """Cross-validated by document."""
    risk_rows: tuple[RiskRow, ...]
    """Labelled rows that the fit never saw: thresholds for a stated loss come from them."""

    def check(self, key: CalibrationKey) -> None:
        """Raises StaleCalibration, naming what differs, when the running worker is another."""
        different = {
            f.name: (getattr(self.key, f.name), getattr(key, f.name))
            for f in fields(CalibrationKey)
            if getattr(self.key, f.name) != getattr(key, f.name)
        }
        if different:
            raise StaleCalibration(different)

    def to_json(self) -> dict[str, Any]:
        """As kept in a file."""
        return {"format": FORMAT, "features": FEATURES_VERSION, **asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Calibration:
        """The reverse of `to_json`. Raises StaleCalibration for a profile of other features, and
        ValueError for anything that is no profile."""
        if data.get("format") != FORMAT:
            raise ValueError(f"no calibration of format {FORMAT}: format {data.get('format')!r}")
        if data.get("features") != FEATURES_VERSION:
            raise StaleCalibration({"features": (data.get("features"), FEATURES_VERSION)})
        try:
            return _calibration(data)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no calibration: {type(error).__name__} {error}") from None


def _calibration(data: Mapping[str, Any]) -> Calibration:
    return Calibration(
        key=CalibrationKey(**data["key"]),
        local=_chance(data["local"]),
        cloud_model=data["cloud_model"],
        rungs=tuple(
            CloudRung(**{**r, "rung": Rung(r["rung"]), "fixes": _chance(r["fixes"])})
            for r in data["rungs"]
        ),
        quality=FitQuality(**data["quality"]),
        risk_rows=tuple(RiskRow(**row) for row in data["risk_rows"]),
    )


def _chance(data: Mapping[str, Any]) -> Chance:
    chance = Chance(
        intercept=data["intercept"],
        weights=tuple(Weight(**weight) for weight in data["weights"]),
        curve=tuple((float(score), float(p)) for score, p in data["curve"]),
        n_labels=data["n_labels"],
    )
    unknown = {w.feature for w in chance.weights} - FEATURE_NAMES
    if unknown:
        raise ValueError(f"no calibration: unknown features {sorted(unknown)}")
    _check_curve(chance.curve)
    return chance


def _check_curve(curve: tuple[tuple[float, float], ...]) -> None:
    """Raises ValueError unless scores rise, probabilities don't fall, and all lie in 0..1."""
    pairs = list(pairwise(curve))
    rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairs)
    if not curve or not rising or not all(0 <= x <= 1 for point in curve for x in point):
        raise ValueError(f"no calibration: not a monotone curve of probabilities: {curve}")
