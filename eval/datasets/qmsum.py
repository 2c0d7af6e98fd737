"""QMSum: questions about meetings, whole or in part, answered by a summary of some sentences.

Licence: MIT (Zhong et al. 2021, arXiv 2104.05938). Read from a folder that holds
`meetings.jsonl.gz` and `questions.jsonl`; never copied into the project. Rows look like this:

    meetings:  {"doc_id": "Bed002", "orig_split": "val", "topics": [{"topic": "Setting up …",
                "relevant_text_span": [["0", "90"]]}, …],
                "turns": [{"speaker": "Grad E", "content": "I guess ."}, …]}
    questions: {"item_id": "Bed002::specific::1", "doc_id": "Bed002", "type": "specific",
                "question": "What did C think about setting up the recording equipment?",
                "answer": "C began by asking some questions about the recording procedure …",
                "evidence_turns": [[14, 22], [31, 62]], "split": "dev"}

A meeting becomes a text with one line per turn; turns named as evidence (both ends included) become
spans of that text. Questions about the whole meeting name none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.datasets.files import json_lines, require_files
from eval.items import AnswerType, DatasetCard, GoldEvidence, Item, ItemDocument

FILES = ("meetings.jsonl.gz", "questions.jsonl")
CARD = DatasetCard(
    name="qmsum",
    source="Zhong et al. 2021, QMSum, arXiv 2104.05938",
    licence="MIT",
    metric="ROUGE-L with the gold summary",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Meeting:
    document: ItemDocument
    text: str
    starts: tuple[int, ...]
    """Offset of each turn's line, and the text's length at the end."""

    def evidence(self, first: int, last: int) -> GoldEvidence:
        """Turns `first` to `last`, both included; numbers past the end are taken as the end."""
        last_turn = len(self.starts) - 2
        start = self.starts[min(first, last_turn)]
        end = self.starts[min(last, last_turn) + 1]
        return GoldEvidence(text=self.text[start:end].strip(), start=start, end=end)


def load(folder: Path) -> list[Item]:
    """Every question. Raises NotFound when a file is missing."""
    require_files(folder, FILES)
    meetings = {row["doc_id"]: _meeting(row) for row in json_lines(folder / FILES[0])}
    return [_item(row, meetings[row["doc_id"]]) for row in json_lines(folder / FILES[1])]


def _meeting(row: dict[str, Any]) -> _Meeting:
    lines = [f"{turn['speaker']}: {turn['content']}\n" for turn in row["turns"]]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    text = "".join(lines)
    document = ItemDocument(name=f"{row['doc_id']}.txt", text=text)
    return _Meeting(document=document, text=text, starts=tuple(starts))


def _item(row: dict[str, Any], meeting: _Meeting) -> Item:
    return Item(
        item_id=row["item_id"],
        documents=(meeting.document,),
        question=row["question"],
        gold_answers=(row["answer"],),
        kind=row["type"],
        answer_type=AnswerType.SUMMARY,
        evidence=tuple(meeting.evidence(first, last) for first, last in row["evidence_turns"]),
    )
