"""How often an LLM judge agrees with people, on recorded answers that people labelled.

The rows are those of `eval.grader_agreement`. Each verdict is bought once, under an id that follows
from the judge, its prompt and the answer: the same command goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.datasets.files import json_lines
from eval.grader_agreement import FILE, kappa
from eval.judge import Judge, Verdict, judge_prompt
from eval.judge_trust import Standing

N_RESAMPLES = 1_000
SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A verdict beside people's."""

    verdict: Verdict
    right: bool
    """People's verdict."""
    question: str
    """Answers to one question stand or fall together."""


async def judge_labelled(
    judge: Judge,
    folder: Path,
    limit: int | None,
    seed: int,
    on_verdict: Callable[[Judged, int], None],
) -> list[Judged]:
    """Verdicts on `limit` recorded answers drawn with `seed`; on all for None. `on_verdict` is told
    of each with how many there are to be."""
    rows = list(json_lines(folder / FILE))
    random.Random(seed).shuffle(rows)
    chosen = rows[:limit]
    found = []
    for row in chosen:
        gold, answer = str(row["gold_answer"]), str(row["model_answer"])
        run_id = _run_id(judge.model, row["question"], gold, answer)
        verdict = await judge.verdict(run_id, row["question"], [gold], answer)
        judged = Judged(verdict=verdict, right=bool(row["correct"]), question=row["question"])
        found.append(judged)
        on_verdict(judged, len(chosen))
    return found


def judge_figures(judged: Sequence[Judged]) -> dict[str, Any]:
    """Agreement and kappa over the scored ones; the unscored are counted, never guessed. None where
    nothing was scored."""
    pairs = [(each.verdict.score == 1, each.right) for each in _scored(judged)]
    prices = [each.verdict.usd for each in judged]
    known = [usd for usd in prices if usd is not None]
    interval = _kappa_interval(list(_scored(judged)))
    return {
        "model": judged[0].verdict.model if judged else None,
        "prompt_version": judge_prompt().version,
        "n": len(judged),
        "n_unscored": len(judged) - len(pairs),
        "agreement": sum(ours == right for ours, right in pairs) / len(pairs) if pairs else None,
        "kappa": kappa(pairs) if pairs else None,
        "kappa_interval": interval,
        "usd": sum(known) if len(known) == len(prices) else None,
    }


def standing_of(figures: Mapping[str, Any]) -> Standing:
    """The figures as what a later run needs to know of the judge."""
    low, high = figures["kappa_interval"] or (None, None)
    names = ("model", "prompt_version", "n", "n_unscored", "kappa")
    return Standing(low=low, high=high, **{name: figures[name] for name in names})


def _scored(judged: Sequence[Judged]) -> Iterator[Judged]:
    return (each for each in judged if each.verdict.score is not None)


def _kappa_interval(scored: Sequence[Judged]) -> list[float] | None:
    """Percentile bootstrap (95%) over questions; None for fewer than two."""
    by_question: dict[str, list[tuple[bool, bool]]] = {}
    for each in scored:
        pair = (each.verdict.score == 1, each.right)
        by_question.setdefault(each.question, []).append(pair)
    groups = list(by_question.values())
    if len(groups) < 2:
        return None
    draw = random.Random(SEED)
    found = [
        kappa([pair for group in draw.choices(groups, k=len(groups)) for pair in group])
        for _ in range(N_RESAMPLES)
    ]
    ends = statistics.quantiles(found, n=40)  # in steps of 2.5%
    return [ends[0], ends[-1]]


def _run_id(model: str, question: str, gold: str, answer: str) -> str:
    identity = json.dumps([model, judge_prompt().version, question, gold, answer])
    return f"judge_{hashlib.sha256(identity.encode()).hexdigest()[:24]}"
