"""The whole path with the model that ships: a real contract, llama.cpp, a checked citation."""

from __future__ import annotations

from pathlib import Path

import pytest

from minions.cli.demo import QUESTIONS, contract_path
from tests.command import answer, minions


def test_nano_finds_the_governing_law_and_cites_its_page(tmp_path: Path) -> None:
    reply = answer("ask", str(contract_path()), QUESTIONS[0], state_dir=tmp_path)
    assert reply["answer"] == "New York"
    assert reply["rung"] == "local" and reply["coverage"] == 1.0
    assert reply["cost"]["cloud_usd"] == 0 and reply["cost"]["cloud_only_usd"] > 0.03
    (citation,) = reply["citations"]
    assert citation["page"] == 19 and "State of New York" in citation["quote"]
    assert sum(reply["jobs"].values()) > 50 and reply["jobs"]["failed"] == 0


def test_the_demo_runs_without_key_or_network(tmp_path: Path) -> None:
    shown = minions("demo", state_dir=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for words in ("New York", "page 19", "rung", "coverage", "receipt", "saved"):
        assert words in shown.stdout


def test_nano_says_itself_that_it_is_a_demonstration(tmp_path: Path) -> None:
    told = minions("ask", str(contract_path()), QUESTIONS[0], state_dir=tmp_path).stderr
    assert "demonstration model" in told


@pytest.mark.parametrize("document", ["text", "pdf"])
def test_both_forms_of_the_contract_give_the_same_answer(tmp_path: Path, document: str) -> None:
    path = contract_path().with_suffix(".txt" if document == "text" else ".pdf")
    reply = answer("ask", str(path), QUESTIONS[0], "--strategy", "local", state_dir=tmp_path)
    assert reply["answer"] == "New York"
    assert "laws of the State of New York" in reply["citations"][0]["quote"]
