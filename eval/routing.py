"""How well the chat router orders plain questions, set by set, beside chance and an oracle.

Learned and scored per pair of models. Scored on the folder that it was fitted on, every question is
forecast by models that never saw it. Figures are those of the rows that RouteLLM does not mark as
contaminated, as in its own tables; `all_rows` adds the marked ones, which are never learned from.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from eval.datasets.routing import Duel, load_duels
from eval.deferral import Counts, Curve, Floats, deferral_curve, drawn_counts
from eval.routing_fit import (
    Forecasts,
    cross_fitted,
    fit_draft,
    fit_profile,
    fit_question,
    forecast_row,
    prepare,
)
from eval.score import expected_calibration_error
from minions.errors import BadRequest
from router.chat import Forecast
from router.chat_profile import ChatProfile

N_RESAMPLES = 1_000
CONFIDENCE = 0.95
SEED = 0
SHARES = {"cpt50": 0.5, "cpt80": 0.8}
"""Call-performance thresholds that are reported, with their share of the gap."""
DECIMALS = 4

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One set's rows with what one stage of the router (question or draft) says of them."""

    gains: Floats
    """Real gains; shape (n,)."""
    scores: Floats
    """Forecast gains; shape (n,)."""
    weak_usd: Floats | None
    """Dollars of each weak answer; None when one is unknown."""
    strong_usd: Floats | None
    pays_weak: bool
    """A call to the strong model comes after the weak one answered, which has been paid for too."""

    def curve(self, scores: Floats, counts: Counts | None = None) -> Curve:
        """Deferral by `scores`. Dollars are those of all answers that were asked for."""
        if self.weak_usd is None or self.strong_usd is None:
            return deferral_curve(scores, self.gains, counts=counts)
        call_usd = self.strong_usd if self.pays_weak else self.strong_usd - self.weak_usd
        return deferral_curve(scores, self.gains, self.weak_usd, call_usd, counts)


def fit_and_score(fit: Path, score: Path) -> dict[str, Any]:
    """Figures of each set in `score`, cross-validated when it is the folder of `fit`.

    Raises NotFound and BadRequest for folders without usable rows, and BadRequest when `score`
    holds a pair of models that `fit` lacks."""
    duels = by_pair(load_duels(fit))
    if fit.resolve() == score.resolve():
        forecast = {pair: cross_fitted(prepare(rows)) for pair, rows in duels.items()}
        return _figures(duels, forecast, "cross-validated")
    scored = by_pair(load_duels(score))
    if missing := sorted(set(scored) - set(duels)):
        raise BadRequest(
            f"{score} has answers of {missing[0][0]} and {missing[0][1]}, and {fit} has none to "
            "learn from. Give a --fit folder with recorded answers of the same models."
        )
    forecast = {pair: forecast_others(duels[pair], rows) for pair, rows in scored.items()}
    return _figures(scored, forecast, "fitted elsewhere")


def by_pair(duels: Sequence[Duel]) -> dict[Pair, list[Duel]]:
    """The rows of each pair of models."""
    pairs: dict[Pair, list[Duel]] = defaultdict(list)
    for duel in duels:
        pairs[duel.weak_model, duel.strong_model].append(duel)
    return pairs


def fit_main_profile(folder: Path) -> ChatProfile:
    """The profile of the pair of models with the most rows in `folder`."""
    return fit_profile(prepare(max(by_pair(load_duels(folder)).values(), key=len)))


def forecast_others(fitted_on: Sequence[Duel], duels: Sequence[Duel]) -> list[Forecasts]:
    """What models fitted on some rows say of others, of the same pair of models."""
    data = prepare(fitted_on)
    question, draft = fit_question(data, data.clean), fit_draft(data, data.clean)
    return [forecast_row(duel, question, draft) for duel in duels]


def _figures(
    duels: dict[Pair, list[Duel]], forecast: dict[Pair, list[Forecasts]], how: str
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for pair, rows in duels.items():
        said = list(zip(rows, forecast[pair], strict=True))
        for name in dict.fromkeys(duel.set_name for duel in rows):
            figures[name] = score_set([each for each in said if each[0].set_name == name])
            figures[name]["forecasts"] = how
    rounded: dict[str, Any] = _rounded(figures)
    return rounded


def score_set(said: Sequence[tuple[Duel, Forecasts]]) -> dict[str, Any]:
    """The figures of one set: those of the draft's forecasts where there are any, and then those of
    the question alone beside them."""
    clean = [each for each in said if not each[0].contaminated]
    if not clean:
        raise BadRequest(f"All {len(said)} rows of a set are marked contaminated: none to score.")
    figures = _set_figures([duel for duel, _ in clean])
    figures["n_contaminated"] = len(said) - len(clean)
    question = _stage_figures(clean, said, "question", _of_question)
    if all(forecasts.draft is not None for _, forecasts in said):
        figures |= _stage_figures(clean, said, "draft", _of_draft)
        figures["question_only"] = question
    else:
        figures |= question
    return figures


def _set_figures(duels: Sequence[Duel]) -> dict[str, Any]:
    return {
        "n": len(duels),
        "weak_model": duels[0].weak_model,
        "strong_model": duels[0].strong_model,
        "weak_score": _mean([duel.weak_score for duel in duels]),
        "strong_score": _mean([duel.strong_score for duel in duels]),
    }


def _of_question(forecasts: Forecasts) -> Forecast:
    return forecasts.question


def _of_draft(forecasts: Forecasts) -> Forecast:
    if forecasts.draft is None:
        raise ValueError("this row has no forecast from a draft")
    return forecasts.draft


def _stage_figures(
    clean: Sequence[tuple[Duel, Forecasts]],
    said: Sequence[tuple[Duel, Forecasts]],
    router: str,
    choose: Callable[[Forecasts], Forecast],
) -> dict[str, Any]:
    stage = make_stage(clean, choose, pays_weak=router == "draft")
    everything = make_stage(said, choose, pays_weak=router == "draft")
    return {
        "router": router,
        **points(stage, stage.scores),
        **intervals(stage),
        "random": points(stage, np.zeros(len(clean))),
        "oracle": points(stage, stage.gains),
        "all_rows": points(everything, everything.scores),
        "usd_per_1000": _usd_per_1000(stage),
        "local_ece": expected_calibration_error(
            [choose(forecasts).p_local for _, forecasts in clean],
            [duel.weak_score >= 0.5 for duel, _ in clean],
        ),
    }


def make_stage(
    said: Sequence[tuple[Duel, Forecasts]],
    choose: Callable[[Forecasts], Forecast],
    *,
    pays_weak: bool,
) -> Stage:
    """The columns of some rows, `choose` naming the forecast that is meant."""
    duels = [duel for duel, _ in said]
    return Stage(
        gains=np.array([duel.gain for duel in duels]),
        scores=np.array([choose(forecasts).gain for _, forecasts in said]),
        weak_usd=_dollars([duel.weak_usd for duel in duels]),
        strong_usd=_dollars([duel.strong_usd for duel in duels]),
        pays_weak=pays_weak,
    )


def _dollars(amounts: Sequence[Decimal | None]) -> Floats | None:
    """As floats, for shares only; None when any is unknown (Law 3)."""
    known = [float(amount) for amount in amounts if amount is not None]
    return np.array(known) if len(known) == len(amounts) else None


def points(stage: Stage, scores: Floats, counts: Counts | None = None) -> dict[str, float | None]:
    """APGR, and each CPT in calls (share of the questions) and in dollars (share of what the strong
    model alone costs for all questions). None where it is undefined: no gap, or no known price, or
    a strong model that is not the dearer one."""
    curve = stage.curve(scores, counts)
    figures: dict[str, float | None] = {"apgr": _known(curve.apgr())}
    for name, share in SHARES.items():
        figures[name] = _known(curve.cpt(share))
        figures[f"{name}_usd"] = _known(curve.usd_for(share) / _all_strong(stage, counts))
    return figures


def _all_strong(stage: Stage, counts: Counts | None) -> float:
    """Dollars of the strong model alone; NaN when unknown or not above those of the weak one."""
    if stage.strong_usd is None or stage.weak_usd is None:
        return math.nan
    times = np.ones(len(stage.gains)) if counts is None else counts
    strong, weak = float(stage.strong_usd @ times), float(stage.weak_usd @ times)
    return strong if strong > weak else math.nan


def intervals(stage: Stage) -> dict[str, list[float] | None]:
    """Percentile bootstrap intervals (95%, 1,000 resamples of the questions) of `points`, the
    router held fixed. None where a figure is undefined."""
    rng = np.random.default_rng(SEED)
    drawn = drawn_counts(len(stage.gains), N_RESAMPLES, rng)
    resampled = [points(stage, stage.scores, counts) for counts in drawn]
    return {
        f"{name}_interval": _interval([figures[name] for figures in resampled])
        for name in resampled[0]
    }


def _interval(values: Sequence[float | None]) -> list[float] | None:
    """Resamples in which a figure is undefined are left out; None when most are."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) / 2:
        return None
    tail = (1 - CONFIDENCE) / 2
    return [float(edge) for edge in np.quantile(known, [tail, 1 - tail])]


def _usd_per_1000(stage: Stage) -> dict[str, float | None]:
    """Dollars of a thousand questions: all weak, all strong, and at each CPT."""
    n_thousands = len(stage.gains) / 1_000
    curve = stage.curve(stage.scores)
    sums = {"weak": _total(stage.weak_usd), "strong": _total(stage.strong_usd)}
    sums |= {name: curve.usd_for(share) for name, share in SHARES.items()}
    return {name: _known(total / n_thousands) for name, total in sums.items()}


def _total(amounts: Floats | None) -> float:
    return math.nan if amounts is None else float(amounts.sum())


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, DECIMALS) if isinstance(value, float) else value
