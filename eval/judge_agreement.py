"""How often an LLM judge agrees with people, on recorded answers that people labelled.

The rows are those of `eval.grader_agreement`. Each verdict is bought once, under an id that follows
from the judge, its prompt and the answer: the same command goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.datasets.files import json_lines
from eval.grader_agreement import FILE, kappa
from eval.judge import Judge, Verdict, judge_prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A verdict beside people's."""

    verdict: Verdict
    right: bool
    """People's verdict."""


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
        found.append(Judged(verdict=verdict, right=bool(row["correct"])))
        on_verdict(found[-1], len(chosen))
    return found


def judge_figures(judged: Sequence[Judged]) -> dict[str, Any]:
    """Agreement and kappa over the scored ones; the unscored are counted, never guessed. None where
    nothing was scored."""
    pairs = list(_scored(judged))
    prices = [each.verdict.usd for each in judged]
    known = [usd for usd in prices if usd is not None]
    return {
        "model": judged[0].verdict.model if judged else None,
        "prompt_version": judge_prompt().version,
        "n": len(judged),
        "n_unscored": len(judged) - len(pairs),
        "agreement": sum(ours == right for ours, right in pairs) / len(pairs) if pairs else None,
        "kappa": kappa(pairs) if pairs else None,
        "usd": sum(known) if len(known) == len(prices) else None,
    }


def _scored(judged: Sequence[Judged]) -> Iterator[tuple[bool, bool]]:
    for each in judged:
        if each.verdict.score is not None:
            yield each.verdict.score == 1, each.right


def _run_id(model: str, question: str, gold: str, answer: str) -> str:
    identity = json.dumps([model, judge_prompt().version, question, gold, answer])
    return f"judge_{hashlib.sha256(identity.encode()).hexdigest()[:24]}"
