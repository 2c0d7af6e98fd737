"""`minions eval evidence` on invented runs, and on recorded ones where the data is present."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from eval.datasets.minions_runs import load_replays
from eval.evidence import BUDGETS, fit_profile, left_out_profiles, score_replays
from minions.cli.eval_evidence import evidence
from minions.errors import BadRequest, NotFound
from minions.evidence.relevance import DEFAULT_PROFILE, load_profile

DATA = Path(os.environ.get("MINIONS_DATA", Path(__file__).parents[3] / "shared" / "data"))
RECORDED = DATA / "minions_runs"
FILES = ("runs.jsonl", "chunks.jsonl.gz", "worker_jobs.jsonl.gz")
COMPANIES = ("Alder Pumps", "Birch Valves", "Cedar Rail", "Dogwood Foods")

Row = dict[str, Any]


def write(path: Path, rows: Iterable[Row]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def texts_of(number: int) -> list[str]:
    company, base = COMPANIES[number], 100 * (number + 1)
    return [
        f"{company} is a maker of parts. It was founded by two sisters in Ohio.\n",
        f"Risk factors of {company}. Inventories may lose value when prices fall.\n",
        f"Balance sheet of {company}\n2021 2020\nCash {base + 1} {base + 2}\n"
        f"Inventories {base + 3} {base + 4}\nTotal current assets {base + 9} {base + 8}\n",
        f"The board of {company} met six times. The chair was elected in May 2021.\n",
        f"Exhibits. The bylaws of {company} are filed as exhibit 3.\n",
    ]


def calls_of(number: int) -> list[Row]:
    """The workers answer from the gold chunk (2) and invent or refuse elsewhere."""
    found = f"Inventories {100 * (number + 1) + 3} {100 * (number + 1) + 4}"
    said = [
        ("Inventories are not mentioned in the text.", ""),
        ("The inventories may lose value.", "Inventories may lose value when prices fall."),
        (str(100 * (number + 1) + 3), found),
        ("None", ""),
        ("$77 million", "Inventories: $77 million"),
    ]
    return [
        {
            "config": "plain",
            "financebench_id": f"q{number}",
            "round": 1,
            "job_id": index,
            "task": "Extract the inventories of 2021.",
            "chunk_hash": f"{number}.{index}",
            "answer": answer,
            "citation": citation,
        }
        for index, (answer, citation) in enumerate(said)
    ]


def write_runs(folder: Path, numbers: Iterable[int]) -> Path:
    runs, chunks, calls = [], [], []
    for number in numbers:
        question = f"What were the inventories of {COMPANIES[number]} in 2021?"
        runs.append({"config": "plain", "financebench_id": f"q{number}", "question": question})
        calls += calls_of(number)
        chunks += [
            {
                "financebench_id": f"q{number}",
                "chunk_hash": f"{number}.{index}",
                "chunk_id": index,
                "text": text,
                "gold_overlap": [0.9 if index == 2 else 0.1],
            }
            for index, text in enumerate(texts_of(number))
        ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(FILES, (runs, chunks, calls), strict=True):
        write(folder / name, rows)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_runs(tmp_path_factory.mktemp("runs"), range(4))


def test_replay_is_what_the_product_would_see(folder: Path) -> None:
    replay = load_replays(folder)[1]
    assert [claim.chunk_id for claim in replay.claims] == ["1.0", "1.1", "1.2", "1.4"]
    assert replay.labels == [False, False, True, False]
    cited = replay.claims[2].citation
    assert cited is not None
    assert cited.quote == "Inventories 203 204"
    assert replay.source.document.text[cited.start : cited.end] == cited.quote
    assert replay.claims[3].citation is None
    assert replay.source.gold == (frozenset({"1.2"}),)


def test_companies_are_found_beside_the_runs(tmp_path: Path) -> None:
    write_runs(tmp_path / "minions_runs", [0, 1])
    (tmp_path / "financebench").mkdir()
    listed = [{"financebench_id": f"q{n}", "company": COMPANIES[n]} for n in range(4)]
    write(tmp_path / "financebench" / "questions.jsonl", listed)
    assert [r.source.group for r in load_replays(tmp_path)] == ["Alder Pumps", "Birch Valves"]


def test_files_may_be_unpacked(tmp_path: Path, folder: Path) -> None:
    for name in FILES:
        data = (folder / name).read_bytes()
        plain = gzip.decompress(data) if name.endswith(".gz") else data
        (tmp_path / name.removesuffix(".gz")).write_bytes(plain)
    assert [r.labels for r in load_replays(tmp_path)] == [r.labels for r in load_replays(folder)]


def test_no_company_is_scored_by_a_profile_that_saw_it(folder: Path) -> None:
    replays = load_replays(folder)
    profile_of = left_out_profiles(replays)
    for replay in replays[:2]:
        others = [other for other in replays if other is not replay]
        assert profile_of(replay) == fit_profile(others)


def test_new_companies_are_scored_by_the_profile_of_all(folder: Path, tmp_path: Path) -> None:
    fitted_on = load_replays(write_runs(tmp_path, [0, 1, 2]))
    new = load_replays(folder)[3]
    assert left_out_profiles(fitted_on)(new) == fit_profile(fitted_on)


def test_gold_is_kept_and_told_apart(folder: Path) -> None:
    replays = load_replays(folder)
    score = score_replays(replays, left_out_profiles(replays))
    assert score.gold_kept == {str(budget): 1.0 for budget in BUDGETS}
    assert score.auroc == 1.0
    assert (score.n_runs, score.n_answers, score.n_gold_answers) == (4, 16, 4)
    assert 0 < score.all_answers_tokens < 200


def test_runs_without_a_gold_answer_count_in_the_second_share_only(tmp_path: Path) -> None:
    write_runs(tmp_path, range(4))
    calls = [row for number in range(4) for row in calls_of(number)]
    calls[2]["answer"] = "None"
    write(tmp_path / "worker_jobs.jsonl.gz", calls)
    score = score_replays(load_replays(tmp_path), lambda _: DEFAULT_PROFILE)
    assert score.n_runs_with_gold_answers == 3
    assert score.gold_kept["2000"] == 1.0
    assert score.gold_kept_of_all_runs["2000"] == 0.75


def test_missing_files_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(NotFound, match=r"no .*runs\.jsonl"):
        load_replays(tmp_path)
    (tmp_path / "runs.jsonl").write_bytes((folder / "runs.jsonl").read_bytes())
    with pytest.raises(NotFound, match=r"no .*chunks\.jsonl"):
        load_replays(tmp_path)


def test_one_company_is_too_few_to_fit(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="of 1 companies"):
        fit_profile(load_replays(write_runs(tmp_path, [0])))


def test_nothing_answered_is_said(tmp_path: Path) -> None:
    write_runs(tmp_path, [0])
    write(tmp_path / "worker_jobs.jsonl.gz", [{**row, "answer": ""} for row in calls_of(0)])
    with pytest.raises(BadRequest, match="No worker call"):
        load_replays(tmp_path)


@pytest.fixture
def app() -> typer.Typer:
    commands = typer.Typer()
    commands.command("evidence")(evidence)
    return commands


def test_command_prints_one_object_and_saves_a_profile(
    app: typer.Typer, folder: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "relevance.json"
    arguments = ["--fit", str(folder), "--score", str(folder), "--json", "--save", str(saved)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["gold_kept"] == {"500": 1.0, "1000": 1.0, "2000": 1.0, "4000": 1.0}
    assert {"auroc", "all_answers_tokens", "default_profile"} <= figures.keys()
    assert load_profile(saved) == fit_profile(load_replays(folder))


def test_command_shows_a_table(app: typer.Typer, folder: Path) -> None:
    result = CliRunner().invoke(app, ["--fit", str(folder), "--score", str(folder)])
    assert result.exit_code == 0, result.output
    assert "gold_kept in 2000 tokens" in result.stdout


def test_recorded_runs_keep_their_gold(tmp_path: Path) -> None:
    """A few questions of the real runs, by the shipped profile: fitting needs more of them."""
    if not RECORDED.is_dir():
        pytest.skip(f"no {RECORDED}: set MINIONS_DATA to the data's folder")
    kept: set[str] = set()
    for name in FILES:
        rows = _recorded_rows(RECORDED / name)
        kept = kept or set(sorted({row["financebench_id"] for row in rows})[::9][:2])
        write(tmp_path / name, (row for row in rows if row["financebench_id"] in kept))
    score = score_replays(load_replays(tmp_path), lambda _: DEFAULT_PROFILE)
    assert score.n_gold_answers > 0
    assert score.gold_kept["4000"] >= 0.8
    assert score.auroc >= 0.75


def _recorded_rows(path: Path) -> list[Row]:
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).decode().splitlines()
    return [json.loads(line) for line in lines]
