"""How often the rule grader agrees with people, on recorded answers that people labelled.

FinanceBench's human evaluation (arXiv 2311.11944), licence CC BY-NC 4.0: for measuring only. Read
from a folder that holds `recorded_answers.jsonl`; never copied into the project. The columns that
count here: {"financebench_id", "question", "gold_answer", "model_answer", "correct"}, `correct`
being people's verdict; a refusal is not correct.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.datasets.files import home_of
from eval.grader import Kind, declines, grade, kind_of
from minions.errors import BadRequest, NotFound

FILE = "recorded_answers.jsonl"
N_RESAMPLES = 2_000
CONFIDENCE = 0.95
SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """One recorded answer, what people said of it, and what the rules say."""

    question_id: str
    kind: Kind
    right: bool
    """People's verdict."""
    ours: bool
    declines: bool


def load_labelled(folder: Path) -> list[Labelled]:
    """Every recorded answer, graded. Raises NotFound for a missing file and BadRequest for a row
    that lacks a column, or when there is no row."""
    path = home_of(folder, [FILE]) / FILE
    if not path.is_file():
        raise NotFound(f"There is no {path}. Give the folder that holds {FILE}.")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(_labelled(json.loads(line)))
        except (KeyError, ValueError) as error:
            raise BadRequest(
                f"Line {number} of {path} is no labelled answer ({type(error).__name__}: {error})."
            ) from None
    if not rows:
        raise BadRequest(f"{path} is empty: there is nothing to agree on.")
    return rows


def _labelled(row: dict[str, Any]) -> Labelled:
    gold, answer = str(row["gold_answer"]), str(row["model_answer"])
    return Labelled(
        question_id=row["financebench_id"],
        kind=kind_of(gold),
        right=bool(row["correct"]),
        ours=grade(row["question"], gold, answer).correct,
        declines=declines(answer),
    )


def figures(rows: Sequence[Labelled]) -> dict[str, Any]:
    """Agreement with its interval, kappa, both kinds of errors, each kind of gold answer, and what
    two lesser graders reach on the same rows."""
    return {
        "agreement": _agreement(rows, _ours),
        "agreement_interval": _interval(rows),
        "kappa": kappa([(row.ours, row.right) for row in rows]),
        "n": len(rows),
        "n_questions": len({row.question_id for row in rows}),
        "wrongly_right": sum(row.ours and not row.right for row in rows),
        "wrongly_wrong": sum(row.right and not row.ours for row in rows),
        "by_kind": {
            kind.value: {"agreement": _agreement(chosen, _ours), "n": len(chosen)}
            for kind in Kind
            if (chosen := [row for row in rows if row.kind is kind])
        },
        "lesser": {
            "all_wrong": _agreement(rows, lambda _: False),
            "right_unless_it_declines": _agreement(rows, lambda row: not row.declines),
        },
    }


def _ours(row: Labelled) -> bool:
    return row.ours


def _agreement(rows: Sequence[Labelled], verdict: Callable[[Labelled], bool]) -> float:
    return sum(verdict(row) == row.right for row in rows) / len(rows)


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float:
    """Cohen's kappa (1960): agreement beyond what chance would give, over the most there could be.

    1 when both are of one mind throughout, even if that leaves chance no room."""
    n = len(pairs)
    agreed = sum(a == b for a, b in pairs) / n
    ours, theirs = sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n
    by_chance = ours * theirs + (1 - ours) * (1 - theirs)
    return 1.0 if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def _interval(rows: Sequence[Labelled]) -> list[float]:
    """Percentile bootstrap (95%) over questions: answers to one question stand or fall together."""
    ids = sorted({row.question_id for row in rows})
    place = {question_id: i for i, question_id in enumerate(ids)}
    owner = np.array([place[row.question_id] for row in rows])
    agreed = np.bincount(owner, weights=[row.ours == row.right for row in rows])
    n_rows = np.bincount(owner)
    rng = np.random.default_rng(SEED)
    drawn = rng.integers(0, len(ids), size=(N_RESAMPLES, len(ids)))
    shares = agreed[drawn].sum(axis=1) / n_rows[drawn].sum(axis=1)
    tail = (1 - CONFIDENCE) / 2
    return [float(edge) for edge in np.quantile(shares, [tail, 1 - tail])]
