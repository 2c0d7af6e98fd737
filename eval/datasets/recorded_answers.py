"""Recorded answers of several model configurations to the same questions, judged by people.

FinanceBench's human evaluation (arXiv 2311.11944), licence CC BY-NC 4.0: for measuring only. Read
from a folder that holds `recorded_answers.jsonl` and, to know the companies, `questions.jsonl`;
never copied into the project. The columns that count here:

    recorded_answers: {"financebench_id", "config", "question", "model_answer", "correct"}
    questions:        {"financebench_id", "company"}

Any two configurations make a weak and a strong one: the weak one stands for the local model, the
strong one for the cloud with the whole document. All that is known of the weak answer is its text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.labelled import LabelledRun, RungOutcome
from minions.errors import BadRequest, NotFound
from router import CalibrationKey, Rung, Signals, is_hedged, question_type

FILE = "recorded_answers.jsonl"


def load_pair(folder: Path, weak: str, strong: str) -> list[LabelledRun]:
    """The questions that both configurations answered, grouped by company, without prices.

    Raises NotFound for a missing file and BadRequest for an unknown configuration, naming those
    that there are."""
    answers: dict[str, dict[str, dict[str, Any]]] = {}
    for row in _rows(folder / FILE):
        answers.setdefault(row["config"], {})[row["financebench_id"]] = row
    for name in (weak, strong):
        if name not in answers:
            raise BadRequest(
                f"No configuration {name!r} in {folder / FILE}; there are "
                f"{', '.join(sorted(answers))}."
            )
    companies = _companies(folder)
    return [
        _labelled(row, answers[strong][key], companies.get(key, key))
        for key, row in answers[weak].items()
        if key in answers[strong]
    ]


def _labelled(weak: dict[str, Any], strong: dict[str, Any], group: str) -> LabelledRun:
    return LabelledRun(
        item_id=weak["financebench_id"],
        group=group,
        key=CalibrationKey(
            model=weak["config"],
            model_sha256=None,
            quantisation="unknown",
            prompt_version="as recorded",
        ),
        cloud_model=strong["config"],
        signals=_signals(weak["question"], str(weak["model_answer"])),
        outcomes={
            Rung.LOCAL: RungOutcome(correct=weak["correct"]),
            Rung.DOCUMENT: RungOutcome(correct=strong["correct"]),
        },
    )


def _signals(question: str, answer: str) -> Signals:
    """What the text alone tells: nothing was cited, sampled or measured."""
    return Signals(
        answered=True,
        verified=False,
        answer_in_quote=False,
        agreement=1.0,
        margin=None,
        coverage=1.0,
        n_answered=1,
        n_abstained=0,
        n_failed=0,
        hedged=is_hedged(answer),
        answer_words=len(answer.split()),
        question_type=question_type(question),
    )


def _companies(folder: Path) -> dict[str, str]:
    """Company by question; empty without a list of questions, so that each stands for itself."""
    path = folder / "questions.jsonl"
    if not path.is_file():
        return {}
    return {row["financebench_id"]: row["company"] for row in _rows(path)}


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise NotFound(f"There is no {path}. Give the folder that holds {FILE}.")
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
