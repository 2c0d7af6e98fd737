"""Retrieval figures: datasets in their file formats, what counts as gold, and real material."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from eval.retrieval import (
    Corpus,
    find_corpora,
    load_corpus,
    overlaps,
    score_corpus,
    shares_half,
)
from minions.cli.eval_retrieval import retrieval
from minions.errors import BadRequest, NotFound
from tests.unit.test_chunking import WordTokenizer
from tests.unit.test_retrieval import chunks_of
from workers.vocabulary import TiktokenTokenizer

DATA = Path(os.environ.get("MINIONS_DATA", Path(__file__).parents[3] / "shared" / "data"))
PAGES = ("A cover page.\r\n", "Kettles sold well.\r\n", "Total assets 5 4\r\n")


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def evidence(page: int, text: str) -> dict[str, Any]:
    return {
        "doc_name": "K",
        "evidence_page_num": page,
        "evidence_text": text,
        "evidence_text_full_page": text,
    }


def write_financebench(folder: Path, pieces: list[dict[str, Any]]) -> None:
    pages = [{"doc_name": "K", "page": n, "text": text} for n, text in enumerate(PAGES)]
    question = {"doc_name": "K", "question": "What are the assets?", "evidence": pieces}
    write_rows(folder / "pages.jsonl.gz", pages)
    write_rows(
        folder / "questions.jsonl",
        [
            {"financebench_id": "q1", **question},
            {"financebench_id": "q2", **question, "doc_name": "not among the pages"},
        ],
    )


def write_spans(folder: Path, documents: str, questions: str) -> None:
    asked = {"doc_id": "d", "question": "Where do fish swim?"}
    write_rows(folder / documents, [{"doc_id": "d", "text": "Birds fly. Fish swim in rivers."}])
    write_rows(
        folder / questions,
        [
            {"item_id": "q1", **asked, "evidence": [{"text": "in", "start": 21, "end": 31}]},
            {"item_id": "q2", **asked, "evidence": []},
        ],
    )


def gold_texts(corpus: Corpus) -> list[list[str]]:
    return [
        [corpus.documents[q.document_id].text[start:end] for start, end in q.gold]
        for q in corpus.questions
    ]


# --- datasets ---


@pytest.mark.parametrize("counted_from", [0, 1])
def test_evidence_pages_are_checked_by_their_text(tmp_path: Path, counted_from: int) -> None:
    write_financebench(tmp_path, [evidence(2 + counted_from, "Total assets\n5\n4")])
    corpus = load_corpus("financebench", tmp_path)
    assert gold_texts(corpus) == [["Total assets 5 4\n"]]
    assert [page.number for page in corpus.documents["K"].pages] == [1, 2, 3]


def test_evidence_that_is_on_no_page_near_is_no_gold(tmp_path: Path) -> None:
    write_financebench(tmp_path, [evidence(0, "Total assets 5 4")])
    with pytest.raises(BadRequest, match="No question"):
        load_corpus("financebench", tmp_path)


def test_turns_become_spans(tmp_path: Path) -> None:
    turns = [{"speaker": s, "content": c} for s, c in (("A", "Hi ."), ("B", "Yes ."), ("A", "Bye"))]
    write_rows(tmp_path / "meetings.jsonl.gz", [{"doc_id": "m", "turns": turns}])
    asked = {"doc_id": "m", "question": "What did B say?"}
    write_rows(
        tmp_path / "questions.jsonl",
        [
            {"item_id": "general", **asked, "evidence_turns": []},
            {"item_id": "specific", **asked, "evidence_turns": [[1, 2]]},
        ],
    )
    assert gold_texts(load_corpus("qmsum", tmp_path)) == [["B: Yes .\nA: Bye\n"]]


@pytest.mark.parametrize(
    ("name", "documents", "questions"),
    [
        ("cuad", "contracts.jsonl.gz", "questions.jsonl.gz"),
        ("covidqa", "documents.jsonl.gz", "questions.jsonl"),
    ],
)
def test_marked_spans_are_gold(tmp_path: Path, name: str, documents: str, questions: str) -> None:
    write_spans(tmp_path, documents, questions)
    assert find_corpora(tmp_path) == {name: tmp_path}
    assert gold_texts(load_corpus(name, tmp_path)) == [["in rivers."]]


def test_datasets_are_found_one_folder_down(tmp_path: Path) -> None:
    write_financebench(tmp_path / "fb", [])
    write_spans(tmp_path / "papers", "documents.jsonl.gz", "questions.jsonl")
    assert find_corpora(tmp_path) == {
        "financebench": tmp_path / "fb",
        "covidqa": tmp_path / "papers",
    }


def test_two_of_a_kind_are_refused(tmp_path: Path) -> None:
    for folder in ("dev", "test"):
        write_financebench(tmp_path / folder, [])
    with pytest.raises(BadRequest, match="financebench is in"):
        find_corpora(tmp_path)


def test_a_folder_without_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="meetings"):
        find_corpora(tmp_path)


# --- figures ---


def test_touching_is_less_than_sharing_half() -> None:
    _, second = chunks_of("0123456789", "0123456789")
    assert not overlaps(second, (0, 10))
    assert overlaps(second, (0, 11))
    assert not shares_half(second, (0, 11))
    assert shares_half(second, (14, 16))
    assert shares_half(second, (15, 99))


def test_names_that_only_the_lexicon_knows_are_found_where_words_are_not(tmp_path: Path) -> None:
    names = ("Net sales", "Cost of goods sold", "Gross profit", "Net income", "Diluted")
    statement = "Statements of Income\n" + "".join(f"{name} 5 4\n" for name in names)
    pages = ["We say COGS, and COGS again.\n", "Filler. " * 150, statement]
    rows = ({"doc_name": "K", "page": n, "text": text} for n, text in enumerate(pages))
    write_rows(tmp_path / "pages.jsonl.gz", rows)
    asked = {"financebench_id": "q", "doc_name": "K", "question": "What are COGS?"}
    write_rows(tmp_path / "questions.jsonl", [{**asked, "evidence": [evidence(2, statement)]}])
    figures = score_corpus(load_corpus("financebench", tmp_path), WordTokenizer(), 100)
    assert figures["n"] == 1
    assert figures["any_at_1"] == 1.0
    assert figures["bm25_any_at_1"] == 0.0


def test_the_command_prints_one_object_or_one_per_dataset(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(retrieval)
    folder = tmp_path / "covidqa"
    write_spans(folder, "documents.jsonl.gz", "questions.jsonl")
    one = CliRunner().invoke(app, ["--score", str(folder), "--json"])
    many = CliRunner().invoke(app, ["--score", str(tmp_path), "--json"])
    table = CliRunner().invoke(app, ["--score", str(folder)])
    assert json.loads(one.stdout)["any_at_5"] == 1.0
    assert json.loads(many.stdout) == {"covidqa": json.loads(one.stdout)}
    assert "bm25_any_at_5" in table.stdout


# --- real material ---


def require(name: str) -> Path:
    if not (DATA / name / "questions.jsonl").exists():
        pytest.skip(f"no {name} under {DATA}: set MINIONS_DATA to the data's folder")
    return DATA / name


def part_of(corpus: Corpus, n_documents: int) -> Corpus:
    """The questions of every so-manieth document, so that the test stays quick."""
    ids = sorted({question.document_id for question in corpus.questions})
    kept = set(ids[:: max(1, len(ids) // n_documents)])
    return replace(corpus, questions=tuple(q for q in corpus.questions if q.document_id in kept))


@pytest.mark.parametrize(
    ("name", "n_documents", "least"), [("financebench", 4, 0.6), ("qmsum", 20, 0.85)]
)
def test_gold_is_found_on_real_documents(name: str, n_documents: int, least: float) -> None:
    corpus = part_of(load_corpus(name, require(name)), n_documents)
    figures = score_corpus(corpus, TiktokenTokenizer())
    assert figures["any_at_5"] >= least
    assert figures["any_at_5"] >= figures["bm25_any_at_5"]
