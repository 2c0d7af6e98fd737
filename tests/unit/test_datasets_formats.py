"""Every dataset format read from tiny files of our own, and refused in words when it is another."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.datasets import covidqa, cuad, financebench, longhealth, qasper, qmsum, tatqa
from eval.datasets.files import home_of
from eval.datasets.generated import QUESTIONS_PER_DOCUMENT, load
from eval.datasets.registry import load_dataset
from eval.items import AnswerType, DatasetName, Item
from minions.errors import BadRequest, NotFound
from tests.files import pdf

Rows = Sequence[dict[str, Any]]


def write_rows(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")


def located(item: Item) -> list[str]:
    """What stands where the item's evidence says it stands."""
    text = item.document_text
    return [text[each.start : each.end] for each in item.evidence]


LEASE = "THE LEASE\n\nThe tenant is Ada Quill. The rent is $900."


def test_cuad(tmp_path: Path) -> None:
    start = LEASE.index("Ada")
    span = {"text": "Ada Quill", "start": start, "end": start + 9}
    row = {"doc_id": "lease", "question": "Who is the tenant?", "category": "Parties"}
    write_rows(tmp_path / "contracts.jsonl.gz", [{"doc_id": "lease", "text": LEASE}])
    write_rows(
        tmp_path / "questions.jsonl.gz",
        [
            {**row, "item_id": "a", "answerable": True, "answer": "Yes", "evidence": [span]},
            {**row, "item_id": "b", "answerable": False, "answer": "", "evidence": []},
        ],
    )
    stated, absent = cuad.load(tmp_path)
    assert stated.gold_answers == ("Ada Quill",)
    assert located(stated) == ["Ada Quill"]
    assert absent.gold_answers == () and not absent.evidence
    assert stated.documents == absent.documents


def test_covidqa(tmp_path: Path) -> None:
    write_rows(tmp_path / "documents.jsonl.gz", [{"doc_id": "7", "text": "Soap kills it."}])
    span = {"text": "Soap", "start": 0, "end": 4, "orig_start": 0}
    row = {"doc_id": "7", "question": "What kills it?", "answer": "Soap ", "evidence": [span]}
    write_rows(
        tmp_path / "questions.jsonl",
        [
            {**row, "item_id": "7::1", "is_impossible": False},
            {**row, "item_id": "7::2", "is_impossible": True},
        ],
    )
    possible, impossible = covidqa.load(tmp_path)
    assert possible.gold_answers == ("Soap",) and located(possible) == ["Soap"]
    assert not impossible.answerable


def test_qmsum(tmp_path: Path) -> None:
    turns = [{"speaker": name, "content": text} for name, text in (("A", "Hi ."), ("B", "Ho ."))]
    write_rows(tmp_path / "meetings.jsonl.gz", [{"doc_id": "m", "turns": turns}])
    row = {"doc_id": "m", "type": "specific", "question": "What did B say?", "answer": "B said ho."}
    write_rows(
        tmp_path / "questions.jsonl",
        [
            {**row, "item_id": "m::1", "evidence_turns": [[1, 1]]},
            {**row, "item_id": "m::2", "evidence_turns": [[0, 9]]},
            {**row, "item_id": "m::3", "evidence_turns": []},
        ],
    )
    one, past_the_end, whole = qmsum.load(tmp_path)
    assert one.document_text == "A: Hi .\nB: Ho .\n"
    assert located(one) == ["B: Ho .\n"] and one.answer_type is AnswerType.SUMMARY
    assert located(past_the_end) == [one.document_text]
    assert whole.evidence == ()


def tatqa_question(**fields: Any) -> dict[str, Any]:
    plain = {"scale": "", "answer_from": "table", "rel_paragraphs": [], "facts": [], "uid": "q"}
    return {"question": "What?", **plain, **fields}


@pytest.mark.parametrize(
    ("fields", "kind", "golds"),
    [
        (
            {"answer_type": "arithmetic", "answer": -217, "scale": "thousand"},
            "number",
            "-217 thousand",
        ),
        ({"answer_type": "arithmetic", "answer": 22.2, "scale": "percent"}, "number", "22.2%"),
        ({"answer_type": "span", "answer": ["$8.7"], "scale": "million"}, "number", "$8.7 million"),
        ({"answer_type": "span", "answer": ["a method"]}, "span", "a method"),
        ({"answer_type": "multi-span", "answer": ["2019", "2018"]}, "list", "2019;2018"),
        ({"answer_type": "count", "answer": "3"}, "number", "3"),
    ],
)
def test_tatqa(tmp_path: Path, fields: dict[str, Any], kind: str, golds: str) -> None:
    question = tatqa_question(**fields, facts=["3.1", "-5"], rel_paragraphs=["1"])
    context = {
        "table": {
            "uid": "t",
            "table": [["", "2019"], ["Cash", "$3.1"], ["Debt", "(5)"], ["X", "7"]],
        },
        "paragraphs": [{"uid": "p", "order": 1, "text": "Cash rose."}],
        "questions": [question],
    }
    write_rows(tmp_path / "contexts_with_questions.jsonl.gz", [context])
    (item,) = tatqa.load(tmp_path)
    assert (item.answer_type.value, item.gold_answers) == (kind, tuple(golds.split(";")))
    assert [each.text for each in item.evidence] == ["Cash rose.", "Cash | $3.1", "Debt | (5)"]
    assert "Cash | $3.1\nDebt | (5)" in item.document_text


def test_financebench(tmp_path: Path) -> None:
    evidence = [{"evidence_text": "Sales were 5", "evidence_page_num": 1, "doc_name": "ACME"}]
    row = {
        "question": "Sales?",
        "answer": "$5.00",
        "question_type": "metrics",
        "evidence": evidence,
    }
    names = {"a": "ACME", "b": "BOLT", "c": "NOWHERE"}
    write_rows(
        tmp_path / "questions.jsonl",
        [{**row, "financebench_id": key, "doc_name": name} for key, name in names.items()],
    )
    pages = [{"doc_name": "ACME", "page": n, "text": f"page {n}\fx"} for n in (0, 2)]
    write_rows(tmp_path / "pages.jsonl.gz", pages)
    (tmp_path / "pdfs").mkdir()
    (tmp_path / "pdfs" / "BOLT.pdf").write_bytes(pdf(["Sales were 5"]))
    text, file = financebench.load(tmp_path)
    assert text.document_text == "page 0 x\f\fpage 2 x"
    assert (text.evidence[0].page, text.answer_type) == (2, AnswerType.FREE)
    assert file.documents[0].path == tmp_path / "pdfs" / "BOLT.pdf"


PATIENT = {
    "name": "N. N.",
    "birthday": "1970-01-01",
    "diagnosis": "Gout",
    "texts": {"text_0": "0123456789", "text_1": "The knee hurts."},
    "questions": [
        {
            "No": 4,
            "question": "What hurts?",
            **{
                f"answer_{letter}": f"the {part}"
                for letter, part in zip("abcde", ("knee", "hip", "toe", "arm", "back"), strict=True)
            },
            "correct": "the knee",
            "answer_location": {
                "text_0": {"start": [0.2], "end": [0.5]},
                "text_1": {"start": [4], "end": [8]},
                "text_9": {"start": [0], "end": [1]},
            },
        }
    ],
}


def test_longhealth(tmp_path: Path) -> None:
    path = tmp_path / longhealth.FILE
    path.write_text(json.dumps({"patient_01": PATIENT, "canary": "keep out"}))
    (item,) = longhealth.load(tmp_path)
    assert [document.name for document in item.documents] == [
        "patient_01-text_0.txt",
        "patient_01-text_1.txt",
    ]
    assert [(e.document, e.text) for e in item.evidence] == [
        ("patient_01-text_0.txt", "234"),
        ("patient_01-text_1.txt", "knee"),
    ]
    assert item.gold_answers == ("the knee",) and len(item.choices) == 5
    assert longhealth.load(path) == [item]


def test_longhealth_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / longhealth.FILE
    question = {**PATIENT["questions"][0], "correct": "the nose"}  # type: ignore[index]
    for record, message in (
        ({"name": "N. N."}, "patient_01 has no `texts`"),
        ({**PATIENT, "questions": [{"No": 1}]}, "Question 1 of patient_01 has no `answer_a`"),
        ({**PATIENT, "questions": [question]}, "none of its five choices"),
    ):
        path.write_text(json.dumps({"patient_01": record}))
        with pytest.raises(BadRequest, match=message):
            longhealth.load(path)


def qasper_answer(**fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "unanswerable": False,
        "extractive_spans": [],
        "yes_no": None,
        "free_form_answer": "",
        "evidence": [],
        "highlighted_evidence": [],
    }
    return {"answer": plain | fields, "annotation_id": "a", "worker_id": "w"}


UNANSWERABLE = qasper_answer(unanswerable=True)
SPANS = qasper_answer(extractive_spans=["BLEU", "ROUGE"], evidence=["By BLEU and ROUGE."])
FREE = qasper_answer(free_form_answer="Two", evidence=["FLOAT SELECTED: Table 1", "Two of them."])


BY, TWO = "By BLEU and ROUGE.", "Two of them."


@pytest.mark.parametrize(
    ("answers", "kind", "golds", "evidence"),
    [
        ([SPANS, FREE], "extractive", ("BLEU, ROUGE", "Two"), [BY, TWO]),
        ([qasper_answer(yes_no=False)], "yes/no", ("No",), []),
        ([FREE, UNANSWERABLE], "unanswerable", (), []),
        ([FREE, UNANSWERABLE, SPANS], "free form", ("Two", "BLEU, ROUGE"), [TWO, BY]),
    ],
)
def test_qasper(
    tmp_path: Path,
    answers: list[dict[str, Any]],
    kind: str,
    golds: tuple[str, ...],
    evidence: list[str],
) -> None:
    section = {"section_name": "Setup", "paragraphs": ["By BLEU and ROUGE.", "Two of them."]}
    paper = {
        "title": "On scores",
        "abstract": "We score.",
        "full_text": [section, {"section_name": None, "paragraphs": ["End."]}],
        "qas": [{"question": "Which scores?", "question_id": "q", "answers": answers}],
    }
    (tmp_path / "qasper-dev.json").write_text(json.dumps({"1909.1": paper}))
    (item,) = qasper.load(tmp_path)
    assert (item.kind, item.gold_answers) == (kind, golds)
    assert [each.text for each in item.evidence] == evidence
    assert item.document_text.startswith("On scores\n\nWe score.\n\nSetup\n\nBy BLEU")
    assert (item.answer_type is AnswerType.YES_NO) == (kind == "yes/no")


def test_qasper_needs_one_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds 0 files"):
        qasper.load(tmp_path)


@pytest.mark.parametrize(
    "name", [name for name in DatasetName if name not in (DatasetName.GENERATED, DatasetName.OWN)]
)
def test_a_folder_without_the_files(tmp_path: Path, name: DatasetName) -> None:
    with pytest.raises(NotFound, match="Give"):
        load_dataset(name, tmp_path)
    with pytest.raises(BadRequest, match="--data"):
        load_dataset(name, None)


def test_generated_documents_are_the_same_every_time() -> None:
    items = load(2)
    assert items == load(2)
    assert len(items) == 2 * QUESTIONS_PER_DOCUMENT
    for item in items:
        assert located(item) == [each.text for each in item.evidence]
        assert bool(item.evidence) == item.answerable
        assert all(gold in " ".join(item.document_text.split()) for gold in item.gold_answers)
    kinds = {item.kind for item in items}
    assert kinds == {"stated", "near miss"}


def test_generated_documents_take_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="leave out --data"):
        load_dataset(DatasetName.GENERATED, tmp_path)


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path / "documents.jsonl.gz", [])
    (tmp_path / "questions.jsonl").write_text('{"item_id": "1"\n')
    with pytest.raises(BadRequest, match="line 1 is no JSON"):
        covidqa.load(tmp_path)


def test_a_dataset_is_found_one_folder_further_down(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "rows.jsonl").write_text("{}\n")
    assert home_of(tmp_path, ["rows.jsonl"]) == home_of(tmp_path / "set", ["rows.jsonl"])
    assert home_of(tmp_path, ["rows.jsonl"]) == tmp_path / "set"
    assert home_of(tmp_path, ["other.jsonl"]) == tmp_path
