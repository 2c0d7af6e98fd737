"""kill -9 in the middle of `minions eval run`: it goes on, and the provider bills nothing again."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minions.cloud.sim import Fault, FaultKind, SimPlan, running
from tests.cloud import Sim
from tests.command import minions, started
from tests.house import CONTRACT

WAIT_S = 120.0
QUESTIONS = (
    ("Which state's laws govern this agreement?", "State of Oregon"),
    ("How long is the term of this agreement?", "five years"),
    ("Whose statutes apply to disputes about pumps between companies?", ""),
)
STRATEGIES = ("cloud", "ladder@0.99", "minions")
N_ROWS = len(QUESTIONS) * len(STRATEGIES)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "contract.txt").write_text(CONTRACT + "The weather was mild that day. " * 300)
    path = tmp_path / "questions.jsonl"
    rows = [{"question": q, "answer": a, "file": "contract.txt"} for q, a in QUESTIONS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def eval_run(table: Path, url: str, *more: str) -> tuple[str, ...]:
    strategies = [part for name in STRATEGIES for part in ("--strategy", name)]
    where = ("--data", str(table), "--out", str(table.parent / "run"))
    models = ("--model", "scripted", "--cloud-url", url)
    return ("eval", "run", "own", *where, *strategies, *models, *more)


def rows_of(table: Path) -> list[dict[str, Any]]:
    path = table.parent / "run" / "rows.jsonl"
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.split("\n")] if whole else []


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def test_killed_while_the_cloud_is_asked(tmp_path: Path, table: Path) -> None:
    """A provider that bills every repeated call, and no kept responses: only the product's own
    journal is between the user and a second bill."""
    state = tmp_path / "state"
    with running(SimPlan(replays=False)) as url:
        provider = Sim(base_url=url)
        asked = eval_run(table, url, "--no-cache")
        with started(*asked, state_dir=state) as process:
            wait_for(lambda: len(rows_of(table)) >= 2)
            provider.fail_with(Fault(kind=FaultKind.TIMEOUT))
            wait_for(lambda: provider.n_faults_waiting == 0)
            os.kill(process.pid, signal.SIGKILL)
        before = rows_of(table)
        second = minions(*asked, "--json", state_dir=state)
        billed = [call["idempotency_key"] for call in provider.ledger()]
    assert second.returncode == 0, second.stderr
    rows = rows_of(table)
    assert 2 <= len(before) < N_ROWS and rows[: len(before)] == before
    assert len({(row["item_id"], row["strategy"]) for row in rows}) == len(rows) == N_ROWS
    assert len(billed) == len(set(billed))
    assert json.loads(second.stdout)["stopped"] is None


def test_killed_at_any_moment_every_row_is_there_once(tmp_path: Path, table: Path) -> None:
    state, rng = tmp_path / "state", random.Random(0)
    with running(SimPlan(latency_s=0.1)) as url:
        asked = eval_run(table, url, "--no-cache", "--parallel", "2")
        for n_rows in (1, 4):
            with started(*asked, state_dir=state) as process:
                wait_for(lambda n=n_rows: len(rows_of(table)) >= n)  # type: ignore[misc]
                time.sleep(rng.uniform(0, 0.3))
                os.kill(process.pid, signal.SIGKILL)
        done = minions(*asked, "--json", state_dir=state)
        billed = Sim(base_url=url).ledger()
    assert done.returncode == 0, done.stderr
    rows = rows_of(table)
    assert len({(row["item_id"], row["strategy"]) for row in rows}) == len(rows) == N_ROWS
    paid = sum(row["paid_usd"] for row in rows)
    keys = [call["idempotency_key"] for call in billed]
    assert len(keys) == len(set(keys)) and paid > 0
    told = [call["usage"]["prompt_tokens"] + call["usage"]["completion_tokens"] for call in billed]
    assert sum(row["cloud_tokens"] for row in rows) == sum(told)
