"""The dataset adapters on the real files, where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eval.answers import score_answer
from eval.datasets.registry import load_dataset
from eval.items import AnswerType, DatasetName

DATA = Path(os.environ.get("MINIONS_DATA", Path(__file__).parents[3] / "shared" / "data"))
MAX_MISPLACED = 10
"""Spans whose recorded text differs from the document's in white space."""


@pytest.mark.parametrize("name", ["cuad", "qmsum", "covidqa", "tatqa", "financebench"])
def test_every_real_item_is_usable(name: str) -> None:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}: set MINIONS_DATA to the folder of the datasets")
    dataset = load_dataset(DatasetName(name), folder)
    misplaced = 0
    for item in dataset.items:
        assert item.question.strip() and item.documents
        for gold in item.evidence:
            if gold.start is not None:
                found = item.document_text[gold.start : gold.end].strip()
                misplaced += found != gold.text.strip()
    assert misplaced <= MAX_MISPLACED
    answerable = [item for item in dataset.items if item.answerable]
    assert answerable
    # A gold answer given back is right by the item's own rule.
    sample = answerable[:: max(1, len(answerable) // 200)]
    wrong = [
        item.item_id
        for item in sample
        if not score_answer(item, _gold_given_back(item.answer_type, item.gold_answers)).correct
    ]
    assert len(wrong) <= 0.02 * len(sample), wrong


def _gold_given_back(kind: AnswerType, golds: tuple[str, ...]) -> str:
    return "; ".join(golds) if kind is AnswerType.LIST else golds[0]
