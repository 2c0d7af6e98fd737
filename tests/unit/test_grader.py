"""The rule grader: its rules on a made-up company, its agreement with people on real labels."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from eval.grader import Kind, grade, kind_of
from eval.grader_agreement import figures, kappa, load_labelled
from minions.cli.eval_grader import grader
from minions.errors import BadRequest, NotFound

DATA = Path(os.environ.get("MINIONS_DATA", Path(__file__).parents[3] / "shared" / "data"))
HOW_MUCH = "What was the FY2020 revenue of Alder Pumps (in USD millions)?"
MARGIN = "Has the margin of Alder Pumps improved in FY2020?"
WHY = "Why did sales of Alder Pumps change in FY2020?"


@pytest.mark.parametrize(
    ("gold", "kind"),
    [
        ("2418", Kind.NUMBER),
        ("$2,418.00", Kind.NUMBER),
        ("(3.5%)", Kind.NUMBER),
        ("-0.02", Kind.NUMBER),
        ("No, it fell.", Kind.YES_NO),
        ("Notes due 2026", Kind.TEXT),
        ("9.5 times", Kind.TEXT),
    ],
)
def test_kinds_of_gold_answers(gold: str, kind: Kind) -> None:
    assert kind_of(gold) is kind


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("2418", "Revenue was $2,418 million.", True),
        ("2418", "Revenue was $2.418 billion.", True),
        ("2418", "Revenue was $2,418,000,000.", True),
        ("2418", "Revenue was $2,417.6 million in 2020.", True),
        ("2418", "Revenue was $2,918 million.", False),
        ("0.053", "So the share is 5.3%.", True),
        ("-0.02", "Return = -5 / 300 = -0.0167, rounded.", True),
        ("0.66", "The ratio is 0.66 when rounded to two decimals.", True),
        ("2", "It is given to two decimals.", False),
        ("412", f"{'Words. ' * 60}We had 412 pumps.{' Words.' * 60}", False),
        ("412", f"{'Words. ' * 60}It was 412.{' Words.' * 60}", True),
    ],
)
def test_numbers_in_any_notation(gold: str, answer: str, right: bool) -> None:
    assert grade(HOW_MUCH, gold, answer).correct is right


@pytest.mark.parametrize(
    ("question", "gold", "answer", "right"),
    [
        (MARGIN, "Yes, it did.", "Yes, clearly.", True),
        (MARGIN, "Yes, it did.", "No. It was flat.", False),
        (MARGIN, "Yes, from 10% to 12%.", "Yes, from 10% to 12%.", True),
        (MARGIN, "No, it declined by 2%.", "The margin decreased by 2 percent.", True),
        (MARGIN, "No, it declined slightly.", "The margin grew slightly.", False),
        (WHY, "New valves and a plant in Ohio", "Chiefly the new valves and Ohio plant.", True),
        (WHY, "New valves and a plant in Ohio", "Chiefly the price of steel.", False),
        (
            WHY,
            "31 plants opened. The answer takes FY2020 to end in May.",
            "31 plants opened.",
            True,
        ),
        (WHY, "31 plants opened.", "Pumps were dearer.", False),
        ("Did pumps or valves sell more?", "Valves", "The valves did.", True),
        ("Did pumps or valves sell more?", "Valves", "The pumps did.", False),
    ],
)
def test_texts_by_their_facts(question: str, gold: str, answer: str, right: bool) -> None:
    assert grade(question, gold, answer).correct is right


@pytest.mark.parametrize(
    "answer",
    [
        "The filing does not provide the revenue of 2418.",
        "I cannot determine this; perhaps 2418.",
        "I'm sorry, but I don't have access to filings of 2418.",
        "To answer 2418 we would need the income statement.",
    ],
)
def test_declining_is_not_right(answer: str) -> None:
    assert grade(HOW_MUCH, "2418", answer).reason == "declines to answer"


def test_a_later_reservation_is_no_refusal() -> None:
    answer = f"Revenue was $2,418 million. {'It rose. ' * 30} Segments are not disclosed."
    assert grade(HOW_MUCH, "2418", answer).correct


@given(st.text(max_size=150), st.text(max_size=60), st.text(max_size=150))
def test_any_text_is_graded(question: str, gold: str, answer: str) -> None:
    assert grade(question, gold, answer).reason


def test_kappa_by_hand() -> None:
    pairs = [(True, True)] * 4 + [(False, False)] * 4 + [(True, False)] * 2
    assert kappa(pairs) == pytest.approx((0.8 - 0.48) / (1 - 0.48))
    assert kappa([(True, True)]) == 1


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "recorded_answers.jsonl").write_text(lines)
    return folder


def row(answer: str, correct: bool, gold: Any = 2418, key: str = "q1") -> dict[str, Any]:
    return {
        "financebench_id": key,
        "question": HOW_MUCH,
        "gold_answer": gold,
        "model_answer": answer,
        "correct": correct,
    }


def test_figures_count_both_kinds_of_errors(tmp_path: Path) -> None:
    rows = [
        row("It is 2418.", True),
        row("It is 2418.", False),
        row("It is 12.", True, key="q2"),
        row("I cannot answer.", False, gold="Yes, it is.", key="q2"),
    ]
    found = figures(load_labelled(write(tmp_path, rows)))
    assert found["agreement"] == 0.5
    assert (found["wrongly_right"], found["wrongly_wrong"]) == (1, 1)
    assert found["by_kind"]["yes_no"] == {"agreement": 1.0, "n": 1}
    assert found["lesser"] == {"all_wrong": 0.5, "right_unless_it_declines": 0.75}
    assert found["agreement_interval"] == [0.5, 0.5]


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"recorded_answers\.jsonl"):
        load_labelled(tmp_path)
    with pytest.raises(BadRequest, match=r"Line 1 of .*KeyError"):
        load_labelled(write(tmp_path, [{"question": "?"}]))
    with pytest.raises(BadRequest, match="is empty"):
        load_labelled(write(tmp_path, []))


def test_the_command_tells_agreement(tmp_path: Path) -> None:
    folder = write(tmp_path, [row("It is 2418.", True), row("It is 12.", False)])
    face = typer.Typer()
    face.command()(grader)
    told = json.loads(CliRunner().invoke(face, ["--score", str(folder), "--json"]).stdout)
    assert told["agreement"] == 1.0
    assert "the rules" in CliRunner().invoke(face, ["--score", str(folder)]).stdout


def test_rules_agree_with_people() -> None:
    folder = DATA / "financebench"
    if not (folder / "recorded_answers.jsonl").exists():
        pytest.skip(f"no labelled answers in {folder}: set MINIONS_DATA to the data's folder")
    found = figures(load_labelled(folder))
    assert found["agreement"] >= 0.88
    assert found["agreement"] > max(found["lesser"].values())
