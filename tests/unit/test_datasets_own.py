"""The user's own tables of questions, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.datasets import own
from eval.datasets.registry import load_dataset
from eval.items import AnswerType, DatasetName, GoldEvidence
from minions.errors import BadRequest, NotFound


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("contract.txt", "annex.txt"):
        (tmp_path / name).write_text(f"The {name} is governed by the laws of Oregon.")
    return tmp_path


def write_lines(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_csv_with_several_answers_and_files(folder: Path) -> None:
    table = folder / "questions.csv"
    table.write_text(
        "question,answer,file\n"
        "Which law?,Oregon|the laws of Oregon,contract.txt;annex.txt\n"
        "How much?,$1.5 million,contract.txt\n"
        '"Is it void, yes or no?",No,contract.txt\n'
        "Who signs?,,contract.txt\n",
        encoding="utf-8-sig",
    )
    law, amount, void, signs = own.load(table)
    assert law.gold_answers == ("Oregon", "the laws of Oregon")
    assert [document.name for document in law.documents] == ["contract.txt", "annex.txt"]
    assert law.documents[0].path == folder / "contract.txt"
    assert (law.answer_type, void.answer_type) == (AnswerType.SPAN, AnswerType.YES_NO)
    assert amount.gold_answers == ("$1.5 million",)
    assert not signs.answerable


def test_json_lines_with_every_column(folder: Path) -> None:
    path = write_lines(
        folder,
        {
            "id": "q1",
            "question": "Who signs?",
            "answer": "the mayor",
            "file": "contract.txt",
            "type": "choice",
            "choices": ["the mayor", "the council"],
            "evidence": ["signed by the mayor"],
            "page": 3,
            "kind": "law",
        },
        {"question": "When?", "answer": ["2019", "2020"], "file": "annex.txt", "type": "list"},
        {"question": "On which page?", "answer": "12", "file": "annex.txt", "page": "2"},
    )
    choice, years, page = own.load(path)
    assert (choice.item_id, choice.kind) == ("q1", "law")
    assert choice.evidence == (GoldEvidence(text="signed by the mayor", page=3),)
    assert "A. the mayor\nB. the council" in choice.asked
    assert (years.answer_type, years.gold_answers) == (AnswerType.LIST, ("2019", "2020"))
    assert page.evidence == (GoldEvidence(text="", page=2),)
    assert page.answer_type is AnswerType.NUMBER


def test_ids_follow_from_the_question_and_survive_other_rows(folder: Path) -> None:
    row = {"question": "Which law?", "answer": "Oregon", "file": "contract.txt"}
    (alone,) = own.load(write_lines(folder, row))
    other = {**row, "question": "Which court?"}
    _, second = own.load(write_lines(folder, other, {**row, "answer": "the laws of Oregon"}))
    assert alone.item_id == second.item_id


GOOD = {"question": "Which law?", "answer": "Oregon", "file": "contract.txt"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": " "}, "row 1: the question is empty"),
        ({"file": ""}, "no file is named"),
        ({"file": "missing.pdf"}, "there is no file"),
        ({"type": "essay"}, "'essay' is none of span"),
        ({"type": "choice"}, "needs the column `choices`"),
        ({"choices": ["Ohio"]}, "none of the choices"),
        ({"page": 0}, "whole number from 1"),
        ({"page": "iv"}, "whole number from 1"),
        ({"colour": "red"}, "unknown columns: colour"),
    ],
)
def test_wrong_rows_are_named(folder: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        own.load(write_lines(folder, {**GOOD, **change}))


def test_missing_columns_and_empty_tables(folder: Path) -> None:
    with pytest.raises(BadRequest, match="missing columns: answer, file"):
        own.load(write_lines(folder, {"question": "Which law?"}))
    with pytest.raises(BadRequest, match="no rows"):
        own.load(write_lines(folder))
    with pytest.raises(NotFound, match="no table"):
        own.load(folder / "nothing.csv")


def test_two_rows_with_one_id_are_refused(folder: Path) -> None:
    path = write_lines(folder, {**GOOD, "id": "q"}, {**GOOD, "id": "q"})
    with pytest.raises(BadRequest, match="'q' stands there more than once"):
        load_dataset(DatasetName.OWN, path)
