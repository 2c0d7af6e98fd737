"""COVID-QA: questions of experts about biomedical papers, each answered by a span.

Licence: Apache-2.0, deepset (Möller et al. 2020, ACL workshop NLP-COVID19). Read from a folder
that holds `documents.jsonl.gz` and `questions.jsonl`; never copied into the project. Rows look like
this:

    documents: {"doc_id": "630", "text": "Functional Genetic Variants in DC-SIGNR Are …"}
    questions: {"item_id": "630::262", "doc_id": "630",
                "question": "What is the main cause of HIV-1 infection in children?",
                "answer": "Mother-to-child transmission (MTCT) is the main cause of HIV-1 …",
                "is_impossible": false, "split": "dev",
                "evidence": [{"text": "Mother-to-child transmission (MTCT) is the main cause …",
                              "start": 370, "end": 466, "orig_start": 370}]}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.datasets.files import json_lines, require_files
from eval.items import DatasetCard, GoldEvidence, Item, ItemDocument

FILES = ("documents.jsonl.gz", "questions.jsonl")
CARD = DatasetCard(
    name="covidqa",
    source="deepset, COVID-QA (Möller et al. 2020)",
    licence="Apache-2.0",
    metric="token-F1 with the gold span",
)


def load(folder: Path) -> list[Item]:
    """Every question. Raises NotFound when a file is missing."""
    require_files(folder, FILES)
    papers = {
        row["doc_id"]: ItemDocument(name=f"{row['doc_id']}.txt", text=row["text"])
        for row in json_lines(folder / FILES[0])
    }
    return [_item(row, papers[row["doc_id"]]) for row in json_lines(folder / FILES[1])]


def _item(row: dict[str, Any], paper: ItemDocument) -> Item:
    answer = row["answer"].strip()
    return Item(
        item_id=row["item_id"],
        documents=(paper,),
        question=row["question"],
        gold_answers=() if row["is_impossible"] or not answer else (answer,),
        kind="paper",
        evidence=tuple(
            GoldEvidence(text=span["text"], start=span["start"], end=span["end"])
            for span in row["evidence"]
        ),
    )
