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

from pathlib import Path
from typing import Any

from eval.datasets.files import home_of, json_lines, require_files
from eval.items import DatasetCard, GoldEvidence, Item, ItemDocument

FILES = ("contracts.jsonl.gz", "questions.jsonl.gz")
CARD = DatasetCard(
    name="cuad",
    source="The Atticus Project, CUAD v1, arXiv 2103.06268",
    licence="CC BY 4.0",
    metric="token-F1 with the best gold span; an abstention is right on absent clauses",
)


def load(folder: Path) -> list[Item]:
    """Every clause question of every contract. Raises NotFound when a file is missing."""
    folder = home_of(folder, FILES[:1])
    require_files(folder, FILES)
    contracts = {
        row["doc_id"]: ItemDocument(name=f"{row['doc_id']}.txt", text=row["text"])
        for row in json_lines(folder / FILES[0])
    }
    return [_item(row, contracts[row["doc_id"]]) for row in json_lines(folder / FILES[1])]


def _item(row: dict[str, Any], contract: ItemDocument) -> Item:
    return Item(
        item_id=row["item_id"],
        documents=(contract,),
        question=row["question"],
        gold_answers=_gold_answers(row) if row["answerable"] else (),
        kind=row["category"],
        evidence=tuple(
            GoldEvidence(text=span["text"], start=span["start"], end=span["end"])
            for span in row["evidence"]
        ),
    )


def _gold_answers(row: dict[str, Any]) -> tuple[str, ...]:
    spans = [span["text"] for span in row["evidence"]]
    short = [] if row["answer"] in ("Yes", "No", "") else [row["answer"]]
    return tuple(dict.fromkeys([*short, *spans, " ".join(spans)]))
