"""Runs on disk: written and read back, cut lines, and files that are none."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.rows import (
    ROWS,
    Manifest,
    Row,
    StrategySpec,
    append_row,
    drop_cut_line,
    read_rows,
    read_run,
    write_manifest,
    write_trace,
)
from minions.errors import BadRequest, NotFound

ROW = Row(
    item_id="q1",
    dataset="own",
    strategy="local",
    kind="law",
    outcome="answered",
    answerable=True,
    score=0.5,
    correct=True,
    scores={"f1": 0.5},
    gold_answers=("Oregon",),
    answer="Oregon\u2028\n",
    trace_id="eval_1",
)
MANIFEST = Manifest(
    dataset="own",
    source="the user",
    licence="own",
    strategies=(StrategySpec(label="local", options={"target": 0.75}),),
    worker="scripted",
    cloud="gpt-4.1",
    price_snapshot="p",
    seed=0,
    limit=None,
    n_items=2,
    kinds={"law": 2},
    items_sha256="0",
    created_at="2026-01-01T00:00:00+00:00",
    versions={"python": "3.11"},
)


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    write_manifest(tmp_path / "run", MANIFEST)
    append_row(tmp_path / "run" / ROWS, ROW)
    write_trace(tmp_path / "run", "eval_1", {"steps": []})
    run = read_run(tmp_path / "run")
    assert (run.manifest, run.rows) == (MANIFEST, (ROW,))
    assert run.n_missing("local") == 1
    assert run.trace(ROW) == {"steps": []}
    assert run.trace(replace(ROW, trace_id="eval_2")) is None
    assert run.trace(replace(ROW, trace_id=None)) is None


@given(answer=st.text(), n_cut=st.integers(1, 40))
def test_any_text_is_kept_and_a_cut_line_is_forgotten(
    tmp_path_factory: pytest.TempPathFactory, answer: str, n_cut: int
) -> None:
    path = tmp_path_factory.mktemp("run") / ROWS
    row = replace(ROW, answer=answer.encode(errors="replace").decode())
    append_row(path, row)
    append_row(path, ROW)
    path.write_bytes(path.read_bytes()[:-n_cut])
    assert read_rows(path) == [row]
    drop_cut_line(path)
    append_row(path, ROW)
    assert read_rows(path) == [row, ROW]


def test_what_is_no_run_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no manifest"):
        read_run(tmp_path)
    path = tmp_path / "manifest.json"
    for text, message in (
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ('{"format": 0}', "format 0"),
        ('{"format": 1}', "no manifest of a run"),
        (json.dumps({**asdict(MANIFEST), "colour": 1}), "no manifest of a run"),
    ):
        path.write_text(text)
        with pytest.raises(BadRequest, match=message):
            read_run(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"f1": 0.5}, "unknown: f1"),
        ({"item_id": None}, "missing: item_id"),
        ({"outcome": "lost"}, "'lost' is none of"),
    ],
)
def test_rows_of_another_version_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    data = {**asdict(ROW), **change}
    kept = {name: value for name, value in data.items() if (name, value) != ("item_id", None)}
    path = tmp_path / ROWS
    path.write_text(json.dumps(kept) + "\n")
    with pytest.raises(BadRequest, match=message):
        read_rows(path)


def test_rows_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="minions eval run"):
        read_rows(tmp_path / ROWS)
    assert read_rows(tmp_path / ROWS, missing_ok=True) == []
