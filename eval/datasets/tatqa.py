"""TAT-QA: questions of a table and the paragraphs around it, many of them to be calculated.

Licence: CC BY 4.0, NExT++ (Zhu et al. 2021, arXiv 2105.07624). Read from a folder that holds
`contexts_with_questions.jsonl.gz`; never copied into the project. A row looks like this:

    {"table": {"uid": "dc9d58a4…", "table": [["Current assets", "As Reported", …],
               ["Receivables, less allowance for doubtful accounts", "$831.7", "$8.7", "$840.4"]]},
     "paragraphs": [{"uid": "42024573…", "order": 1, "text": "We utilized a comprehensive …"}],
     "questions": [{"uid": "…", "question": "What was the change in stock-based compensation between
                    2018 and 2019?", "answer": -217, "derivation": "525-742", "scale": "thousand",
                    "answer_type": "arithmetic", "answer_from": "table", "rel_paragraphs": [],
                    "facts": ["525", "742"]}]}

A context becomes a text: the table as lines of cells, then its paragraphs. Gold evidence is the
paragraphs that a question names, and the table's lines that hold one of its facts. Figures must be
right to a thousandth, which leaves room for rounding: the two figures of an average are often
within a hundredth of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from eval.datasets.files import json_lines, require_files
from eval.grader import Kind, kind_of
from eval.items import AnswerType, DatasetCard, GoldEvidence, Item, ItemDocument

FILES = ("contexts_with_questions.jsonl.gz",)
CARD = DatasetCard(
    name="tatqa",
    source="NExT++, TAT-QA, arXiv 2105.07624",
    licence="CC BY 4.0",
    metric="numeric match for figures, list-F1 for lists, token-F1 for spans",
)
TOLERANCE = Decimal("0.001")
TYPES = {
    "span": AnswerType.SPAN,
    "multi-span": AnswerType.LIST,
    "arithmetic": AnswerType.NUMBER,
    "count": AnswerType.NUMBER,
}


def load(folder: Path) -> list[Item]:
    """Every question of every context. Raises NotFound when the file is missing."""
    require_files(folder, FILES)
    return [item for row in json_lines(folder / FILES[0]) for item in _items(row)]


def _items(row: dict[str, Any]) -> Iterator[Item]:
    table = [" | ".join(cells) for cells in row["table"]["table"]]
    paragraphs = {str(each["order"]): each["text"] for each in row["paragraphs"]}
    text = "\n\n".join(["\n".join(table), *paragraphs.values()])
    document = ItemDocument(name=f"{row['table']['uid']}.txt", text=text)
    for question in row["questions"]:
        yield _item(question, document, table, paragraphs)


def _item(
    row: dict[str, Any], document: ItemDocument, table: list[str], paragraphs: dict[str, str]
) -> Item:
    golds = _gold_answers(row)
    kind = TYPES[row["answer_type"]]
    if kind is AnswerType.SPAN and all(map(_is_number, _answers(row))):
        kind = AnswerType.NUMBER
    return Item(
        item_id=row["uid"],
        documents=(document,),
        question=row["question"],
        gold_answers=golds,
        kind=f"{row['answer_type']} from {row['answer_from']}",
        answer_type=kind,
        evidence=tuple(_evidence(row, table, paragraphs)),
        tolerance=TOLERANCE,
    )


def _gold_answers(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(_scaled(answer, row["scale"]) for answer in _answers(row))


def _answers(row: dict[str, Any]) -> list[str]:
    answer = row["answer"]
    return [str(each) for each in (answer if isinstance(answer, list) else [answer])]


def _is_number(text: str) -> bool:
    return kind_of(text) is Kind.NUMBER


def _scaled(gold: str, scale: str) -> str:
    """The figure with the scale that the dataset keeps beside it; words are left as they are."""
    if not scale or not _is_number(gold) or gold.rstrip().endswith("%"):
        return gold
    return f"{gold}%" if scale == "percent" else f"{gold} {scale}"


def _evidence(
    row: dict[str, Any], table: list[str], paragraphs: dict[str, str]
) -> Iterator[GoldEvidence]:
    for order in row["rel_paragraphs"]:
        if str(order) in paragraphs:
            yield GoldEvidence(text=paragraphs[str(order)])
    if "table" not in row["answer_from"]:
        return
    facts = {fact.replace(",", "") for fact in map(str, row["facts"])}
    for line in table:
        if facts & {_bare(cell) for cell in line.split(" | ")}:
            yield GoldEvidence(text=line)


def _bare(cell: str) -> str:
    """A cell's figure as the facts write it: without sign of currency, commas, parentheses."""
    figure = cell.replace(",", "").replace("$", "").replace("%", "").strip()
    return f"-{figure[1:-1]}" if figure.startswith("(") and figure.endswith(")") else figure
