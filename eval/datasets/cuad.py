"""CUAD: clause questions of commercial contracts, most of them unanswerable.

Licence: CC BY 4.0, The Atticus Project (arXiv 2103.06268). Read from a folder that holds
`contracts.jsonl.gz` and `questions.jsonl.gz`; never copied into the project. Rows look like this:

    contracts: {"doc_id": "…_Hosting Agreement", "n_chars": 46187, "text": "Exhibit 10.2 …"}
    questions: {"item_id": "…_Hosting Agreement::Document Name", "doc_id": "…_Hosting Agreement",
                "category": "Document Name", "question": "The name of the contract",
                "answerable": true, "answer": "SERVICES AND HOSTING AGREEMENT",
                "evidence": [{"text": "SERVICES AND HOSTING AGREEMENT", "start": 17, "end": 47}]}

The gold answers are the `answer` column, unless it says only "Yes" or "No" (which no extractive
reader can give), each marked span, and all spans together.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.items import Item
from minions.errors import NotFound

FILES = ("contracts.jsonl.gz", "questions.jsonl.gz")


def load_cuad(folder: Path, n_contracts: int | None = None, seed: int = 0) -> list[Item]:
    """Every clause question of `n_contracts` contracts (all by default), drawn with `seed`.

    Raises NotFound when a file is missing."""
    for name in FILES:
        if not (folder / name).is_file():
            raise NotFound(f"There is no {folder / name}. Give the folder that holds {FILES}.")
    texts = {row["doc_id"]: row["text"] for row in _rows(folder / FILES[0])}
    drawn = sorted(texts)
    random.Random(seed).shuffle(drawn)
    kept = set(drawn[:n_contracts])
    return [
        _item(row, texts[row["doc_id"]])
        for row in _rows(folder / FILES[1])
        if row["doc_id"] in kept
    ]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _item(row: dict[str, Any], text: str) -> Item:
    return Item(
        item_id=row["item_id"],
        document_name=f"{row['doc_id']}.txt",
        document_text=text,
        question=row["question"],
        gold_answers=_gold_answers(row) if row["answerable"] else (),
        kind=row["category"],
    )


def _gold_answers(row: dict[str, Any]) -> tuple[str, ...]:
    spans = [span["text"] for span in row["evidence"]]
    short = [] if row["answer"] in ("Yes", "No", "") else [row["answer"]]
    return tuple(dict.fromkeys([*short, *spans, " ".join(spans)]))
