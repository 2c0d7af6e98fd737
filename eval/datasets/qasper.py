"""QASPER: questions about papers on language processing, asked by readers of the abstract alone.

Licence: CC BY 4.0 (Dasigi et al. 2021, arXiv 2105.03011). Read from the official release, such as
`qasper-dev-v0.3.json`; never copied into the project. A paper looks like this:

    {"1909.00694": {"title": "Minimally Supervised Learning of Affective Events Using Discourse
                              Relations",
                    "abstract": "Recognizing affective events that trigger positive or negative …",
                    "full_text": [{"section_name": "Introduction", "paragraphs": ["…", "…"]}],
                    "qas": [{"question": "What is the seed lexicon?",
                             "question_id": "753990d0b621d390ed58f20c4d9e4f065f0dc672",
                             "answers": [{"answer": {"unanswerable": false, "extractive_spans": [],
                                          "yes_no": null, "free_form_answer": "a vocabulary …",
                                          "evidence": ["…"], "highlighted_evidence": ["…"]},
                                          "annotation_id": "31e85022…", "worker_id": "…"}]}]}}

As in the official evaluator, an answer's text is its spans joined by commas, its free form, Yes or
No, and any annotator's answer is right. A question counts as unanswerable when half of its
annotators or more say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.datasets.files import field, json_object
from eval.items import AnswerType, DatasetCard, GoldEvidence, Item, ItemDocument
from minions.errors import NotFound

CARD = DatasetCard(
    name="qasper",
    source="Dasigi et al. 2021, QASPER, arXiv 2105.03011",
    licence="CC BY 4.0",
    metric="token-F1 with the best annotator's answer",
)
UNANSWERABLE, YES_NO, EXTRACTIVE, FREE_FORM = "unanswerable", "yes/no", "extractive", "free form"


def load(path: Path) -> list[Item]:
    """Every question of every paper. `path` is the file, or a folder with one `qasper*.json`.

    Raises NotFound when there is no file, and BadRequest naming the paper that is not in the
    format."""
    file = _file(path)
    papers = json_object(file.read_text(encoding="utf-8"), str(file))
    return [item for paper_id, paper in papers.items() for item in _items(paper_id, paper)]


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("qasper*.json"))
    if len(found) != 1:
        raise NotFound(
            f"{path} holds {len(found)} files qasper*.json. Give one file of the official release."
        )
    return found[0]


def _items(paper_id: str, paper: dict[str, Any]) -> Iterator[Item]:
    document = ItemDocument(name=f"{paper_id}.txt", text=_text(paper, f"Paper {paper_id}"))
    for row in field(paper, "qas", f"Paper {paper_id}"):
        yield _item(row, document)


def _text(paper: dict[str, Any], where: str) -> str:
    parts = [field(paper, "title", where), field(paper, "abstract", where)]
    for section in field(paper, "full_text", where):
        parts += [section["section_name"] or "", *section["paragraphs"]]
    return "\n\n".join(part for part in parts if part)


def _item(row: dict[str, Any], document: ItemDocument) -> Item:
    answers = [each["answer"] for each in row["answers"]]
    kinds = [_kind(answer) for answer in answers]
    missing = 2 * kinds.count(UNANSWERABLE) >= len(kinds)
    told = [(kind, a) for kind, a in zip(kinds, answers, strict=True) if kind != UNANSWERABLE]
    kind = UNANSWERABLE if missing else told[0][0]
    return Item(
        item_id=row["question_id"],
        documents=(document,),
        question=row["question"],
        gold_answers=() if missing else tuple(dict.fromkeys(_answer(*each) for each in told)),
        kind=kind,
        answer_type=AnswerType.YES_NO if kind == YES_NO else AnswerType.SPAN,
        evidence=() if missing else tuple(_evidence([answer for _, answer in told])),
    )


def _kind(answer: dict[str, Any]) -> str:
    if answer["unanswerable"]:
        return UNANSWERABLE
    if answer["yes_no"] is not None:
        return YES_NO
    return EXTRACTIVE if answer["extractive_spans"] else FREE_FORM


def _answer(kind: str, answer: dict[str, Any]) -> str:
    if kind == YES_NO:
        return "Yes" if answer["yes_no"] else "No"
    return ", ".join(answer["extractive_spans"]) or str(answer["free_form_answer"])


def _evidence(answers: list[dict[str, Any]]) -> Iterator[GoldEvidence]:
    texts = (text for answer in answers for text in answer["evidence"])
    for text in dict.fromkeys(texts):
        if not text.startswith("FLOAT SELECTED"):  # a figure or table, which is not in the text
            yield GoldEvidence(text=text)
