"""Recorded evidence on made-up runs of the recorded form: what is counted, what is claimed."""

from __future__ import annotations

import gzip
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from eval.datasets.recorded_answers import FILE, load_pair
from eval.evidence import left_out_profiles
from eval.recorded import (
    INPUT_USD,
    OUTPUT_USD,
    RecordedRun,
    compare,
    load_recorded,
    pack,
    shows_gold,
)
from eval.recorded_pairs import STRONG, WEAK, all_pairs, pair_figures
from eval.replay import chances_of
from minions.cli.eval_recorded import recorded
from minions.cloud.prices import GenaiPrices
from minions.cloud.tokens import count_tokens
from minions.errors import NotFound

DATA = Path(os.environ.get("MINIONS_DATA", Path(__file__).parents[3] / "shared" / "data"))
COMMAND = typer.Typer()
COMMAND.command()(recorded)
CONFIG = "minionS_3_rounds"


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def gold(n: int) -> str:
    return f"Pump number {n} was sold to Birch Valves in March for the price of {n}50 dollars."


def noise(n: int, chunk: int) -> str:
    return f"Report {n}, page {chunk}: the weather over the harbour was fair and the staff rested."


def folder_of_runs(folder: Path, n: int = 6) -> Path:
    """`n` questions of as many companies; the supervisor was shown the gold of the even ones, and
    was right on these alone."""
    runs, chunks, jobs, turns = [], [], [], []
    for i in range(n):
        key = {"config": CONFIG, "financebench_id": f"q{i}"}
        shown = i % 2 == 0
        runs.append(
            {**key, "question": f"What was the price of pump {i}?", "is_correct": shown}
            | {"remote_input_tokens": 9_000, "remote_output_tokens": 700}
        )
        for c in range(4):
            text = gold(i) if c == 0 else noise(i, c)
            chunks.append(
                {"financebench_id": f"q{i}", "chunk_hash": f"{i}.{c}", "chunk_id": c, "text": text}
                | {"gold_overlap": [float(c == 0)]}
            )
            jobs.append(
                {**key, "round": 1, "job_id": c, "task": "Find the price.", "citation": text}
                | {"chunk_hash": f"{i}.{c}", "answer": f"{i}50 dollars" if c == 0 else "fair"}
            )
        read = gold(i) if shown else noise(i, 1)
        for step, (after, prompt, output) in enumerate(
            [
                (0, "Advise.", "Look for prices."),
                (0, "Plan.", "def prepare_jobs(): ..."),
                (1, f"What came back:\n{read}", "It is known."),
                (1, "Say it as JSON.", '{"answer": 1}'),
                (1, "An error was told.", None),
            ]
        ):
            turns.append(
                {**key, "step": step, "after_worker_round": after, "prompt": prompt}
                | {"output": output}
            )
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "runs.jsonl", runs)
    write(folder / "chunks.jsonl.gz", chunks)
    write(folder / "worker_jobs.jsonl.gz", jobs)
    write(folder / "supervisor_turns.jsonl.gz", turns)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RecordedRun]:
    return load_recorded(folder_of_runs(tmp_path_factory.mktemp("runs")))


def test_what_was_paid_is_told_apart_by_purpose(runs: list[RecordedRun]) -> None:
    run = runs[0]
    assert run.usd == Decimal("0.0295")
    planning = ("Advise.", "Plan."), ("Look for prices.", "def prepare_jobs(): ...")
    prompts, outputs = (sum(map(count_tokens, texts)) for texts in planning)
    assert run.planning_usd == prompts * INPUT_USD + outputs * OUTPUT_USD
    assert len(run.turns) == 4 and len(run.readings) == 2 and run.n_rounds == 1


def test_gold_is_shown_where_its_citation_stands(runs: list[RecordedRun]) -> None:
    assert [shows_gold(run) for run in runs] == [n % 2 == 0 for n in range(6)]


def test_our_packing_is_a_real_request_at_the_recorded_price(runs: list[RecordedRun]) -> None:
    profile = left_out_profiles([run.replay for run in runs])(runs[1].replay)
    found = pack(runs[1], profile, 2_000)
    assert found.gold
    assert found.reading_usd == found.prompt_tokens * INPUT_USD + 150 * OUTPUT_USD
    nothing = pack(runs[1], profile, 0)
    assert not nothing.gold and nothing.prompt_tokens < found.prompt_tokens


def test_both_sides_and_what_may_be_claimed(runs: list[RecordedRun]) -> None:
    found = compare(runs)
    assert (found.n_runs, found.n_companies, found.n_with_gold_answers) == (6, 6, 6)
    assert found.recorded.gold_shown.value == 0.5
    assert (found.accuracy_when_gold_shown.value, found.accuracy_otherwise.value) == (1.0, 0.0)
    ours = found.ours["2000"]
    assert ours.gold_shown.value == 1.0
    assert ours.reading_usd.value is not None and found.recorded.reading_usd.value is not None
    assert ours.reading_usd.value < found.recorded.reading_usd.value / 5
    assert found.recorded.usd_of_recorded.value == 1.0
    assert found.accuracy_projected["2000"].value == 1.0
    assert "no measurement" in found.note


def folder_of_answers(folder: Path) -> Path:
    """Every pair; weak systems are right where they do not refuse; of ten filings five are here."""
    answers = [
        {"financebench_id": f"q{n}", "config": config, "question": f"What is figure {n}?"}
        | {"model_answer": _answer(n, config), "correct": config in STRONG or n % 3 == 0}
        for n in range(60)
        for config in (*WEAK, *STRONG)
    ]
    names = [
        {"financebench_id": f"q{n}", "company": f"company {n % 10}", "doc_name": f"filing {n % 10}"}
        | {"question": f"What is figure {n}?"}
        for n in range(60)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / FILE, answers)
    write(folder / "questions.jsonl", names)
    pages = [{"doc_name": f"filing {n}", "page": 0, "text": "word " * 900} for n in range(5)]
    write(folder / "pages.jsonl.gz", pages)
    return folder


def _answer(n: int, config: str) -> str:
    if config in STRONG or n % 3 == 0:
        return f"The figure is {n}."
    return "I'm sorry, but I cannot find this in the context that was given to me."


def test_pairs_are_measured_and_dollars_only_where_they_can_be_known(tmp_path: Path) -> None:
    folder, weak = folder_of_answers(tmp_path), ("llama2_singleStore", "gpt-4_singleStore")
    home, bought = all_pairs(folder, GenaiPrices(), weak=weak, strong=STRONG[:1])
    assert (home.n, home.n_companies, home.chance_source) == (60, 10, "cross-fitted")
    assert home.weak_accuracy.value == pytest.approx(1 / 3) and home.strong_accuracy.value == 1
    assert home.auroc == 1.0 and home.apgr.value == pytest.approx(2 / 3)
    assert home.n_quoted == 30 and home.quoted_usd is not None
    assert home.quoted_usd == pytest.approx(30 * 0.0136, rel=0.1)
    assert home.cpt_usd["0.5"].value == pytest.approx(1 / 3, abs=0.05)
    assert bought.n_quoted == 0 and bought.quoted_usd is None and bought.apgr_usd.value is None
    assert bought.apgr.value == home.apgr.value


def test_the_command_shows_the_runs_and_names_what_is_missing(tmp_path: Path) -> None:
    folder_of_runs(tmp_path / "minions_runs", n=4)
    made = CliRunner().invoke(COMMAND, [str(tmp_path), "--json"])
    assert made.exit_code == 0, made.output
    figures = json.loads(made.stdout)
    assert figures["minions_runs"]["n_runs"] == 4 and figures["pairs"] == []
    shown = CliRunner().invoke(COMMAND, [str(tmp_path / "minions_runs")])
    assert "as recorded" in shown.output and "no measurement" in " ".join(shown.output.split())
    missing = CliRunner().invoke(COMMAND, [str(tmp_path / "none")])
    assert isinstance(missing.exception, NotFound)


def test_a_real_pair() -> None:
    folder = DATA / "financebench"
    if not (folder / FILE).is_file():
        pytest.skip(f"no {FILE} under {folder}: set MINIONS_DATA to the data's folder")
    runs = load_pair(folder, "gpt-4_singleStore", STRONG[0])
    found = pair_figures(runs, {}, chances_of(runs, None))
    assert found.apgr.low is not None and found.apgr.low > 0.5
    assert found.weak_accuracy.value is not None and found.strong_accuracy.value is not None
    assert found.weak_accuracy.value < found.strong_accuracy.value
    assert found.apgr_usd.value is None
