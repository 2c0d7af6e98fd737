"""LongHealth: multiple-choice questions about the records of fictional patients.

Licence: Apache-2.0 (Adams et al. 2024, arXiv 2401.14490). Read from the official file
`benchmark_v5.json`; never copied into the project. The file asks to be kept out of training data,
so its shape is shown here and none of its rows:

    {"patient_01": {"name": "…", "birthday": "…", "diagnosis": "…",
                    "texts": {"text_0": "…", "text_1": "…"},
                    "questions": [{"No": 0, "question": "…", "answer_a": "…", "answer_b": "…",
                                   "answer_c": "…", "answer_d": "…", "answer_e": "…",
                                   "correct": "…",
                                   "answer_location": {"text_0": {"start": [0.1], "end": [0.2]}}}]}}

`correct` is the text of the right choice. Locations are shares of the text's length, or character
offsets; a value over 1 is taken for an offset. Each text is a document of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.datasets.files import field, json_object
from eval.items import AnswerType, DatasetCard, GoldEvidence, Item, ItemDocument
from minions.errors import BadRequest, NotFound

FILE = "benchmark_v5.json"
LETTERS = "abcde"
CARD = DatasetCard(
    name="longhealth",
    source="Adams et al. 2024, LongHealth, arXiv 2401.14490",
    licence="Apache-2.0",
    metric="share of questions with the right choice",
)


def load(path: Path) -> list[Item]:
    """Every question of every patient. `path` is the file or its folder.

    Raises NotFound when there is no file, and BadRequest naming the patient whose record is not in
    the format."""
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise NotFound(f"There is no {file}. Give the official {FILE}, or its folder.")
    patients = json_object(file.read_text(encoding="utf-8"), str(file))
    return [
        item
        for name, record in patients.items()
        if isinstance(record, dict)  # beside the patients stands a canary string
        for item in _items(name, record)
    ]


def _items(patient: str, record: dict[str, Any]) -> Iterator[Item]:
    where = f"Patient {patient}"
    texts = field(record, "texts", where)
    documents = {
        key: ItemDocument(name=f"{patient}-{key}.txt", text=text) for key, text in texts.items()
    }
    for row in field(record, "questions", where):
        yield _item(patient, row, documents)


def _item(patient: str, row: dict[str, Any], documents: dict[str, ItemDocument]) -> Item:
    where = f"Question {json.dumps(row.get('No'))} of {patient}"
    choices = tuple(field(row, f"answer_{letter}", where) for letter in LETTERS)
    correct = field(row, "correct", where)
    if correct not in choices:
        raise BadRequest(f"{where}: the correct answer is none of its five choices.")
    return Item(
        item_id=f"{patient}::{row['No']}",
        documents=tuple(documents.values()),
        question=field(row, "question", where),
        gold_answers=(correct,),
        kind="multiple choice",
        answer_type=AnswerType.CHOICE,
        choices=choices,
        evidence=tuple(_evidence(row.get("answer_location") or {}, documents)),
    )


def _evidence(
    locations: dict[str, Any], documents: dict[str, ItemDocument]
) -> Iterator[GoldEvidence]:
    for key, spans in locations.items():
        if key not in documents:
            continue
        document = documents[key]
        text = document.text or ""
        for first, last in zip(spans["start"], spans["end"], strict=True):
            start, end = _offset(first, text), _offset(last, text)
            yield GoldEvidence(
                text=text[start:end].strip(), start=start, end=end, document=document.name
            )


def _offset(place: float, text: str) -> int:
    return round(place * len(text)) if place <= 1 else int(place)
