"""kill -9 in the middle of an `ask`: the second run goes on, and pays for nothing again."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from minions.cloud.sim import Fault, FaultKind, SimPlan, running
from tests.cloud import Sim
from tests.command import answer, minions, output_of, started
from tests.house import CONTRACT
from tests.models import random_model_path

LAW = "Which state's laws govern this agreement?"
UNREADABLE = "Whose statutes apply to disputes about pumps between companies?"
"""A question that the scripted worker abstains on, so that the ladder climbs."""
FILLER = "Nothing of interest is said about the weather here. " * 6000
WAIT_S = 120.0


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """Long enough that `passages` is worth a try before `document`."""
    path = tmp_path / "contract.txt"
    path.write_text(FILLER + CONTRACT)
    return path


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def count(state_dir: Path, table: str) -> int:
    database = state_dir / "minions.db"
    if not database.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            rows: int = connection.execute(f"select count(*) from {table}").fetchone()[0]
    except sqlite3.OperationalError:  # not migrated yet
        return 0
    return rows


def test_killed_between_two_cloud_calls(tmp_path: Path, contract: Path) -> None:
    """The first call is paid and kept, the second hangs: kill, ask again, pay the second only.

    The provider here bills a repeated key again, so nothing but our journal protects the user."""
    state = tmp_path / "state"
    with running(SimPlan(replays=False)) as url:
        provider = Sim(base_url=url)
        provider.fail_with(Fault(kind=FaultKind.BAD_ANSWER), Fault(kind=FaultKind.TIMEOUT))
        ask = ("ask", str(contract), UNREADABLE, "--model", "scripted", "--cloud-url", url)
        with started(*ask, state_dir=state) as process:
            wait_for(lambda: provider.n_faults_waiting == 0)
            os.kill(process.pid, signal.SIGKILL)
        (paid,) = provider.ledger()
        provider.reset()
        second = minions(*ask, "--json", state_dir=state)
        billed_later = [call["idempotency_key"] for call in provider.ledger()]
    assert second.returncode == 0, second.stderr
    assert "taking up an unfinished run" in second.stderr
    assert len(billed_later) == 1
    assert paid["idempotency_key"] not in billed_later
    assert json.loads(second.stdout)["cost"]["cloud_tokens"] > paid["usage"]["prompt_tokens"]


def test_killed_while_reading(tmp_path: Path) -> None:
    """Jobs whose results are on disk are not run again."""
    state, contract = tmp_path / "state", tmp_path / "contract.txt"
    contract.write_text(CONTRACT * 6)
    ask = ("ask", str(contract), LAW, "--model", str(random_model_path()), "--chunk-tokens", "256")
    with started(*ask, state_dir=state) as process:
        wait_for(lambda: count(state, "job_results") > 0)
        os.kill(process.pid, signal.SIGKILL)
    kept = count(state, "job_results")
    again = minions(*ask, "--json", state_dir=state)
    assert again.returncode == 0, again.stderr
    assert f"taking up an unfinished run: {kept} of" in again.stderr


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, contract: Path) -> None:
    """The cloud hangs, the user gives up; later the same command takes the run up."""
    state = tmp_path / "state"
    with running(SimPlan()) as url:
        provider = Sim(base_url=url)
        provider.fail_with(Fault(kind=FaultKind.TIMEOUT))
        ask = ("ask", str(contract), UNREADABLE, "--model", "scripted", "--cloud-url", url)
        with started(*ask, state_dir=state) as process:
            wait_for(lambda: provider.n_faults_waiting == 0)
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
            told = output_of(state).read_text()
        provider.reset()
        again = minions(*ask, state_dir=state)
    assert process.returncode == 130, told
    assert "the same command goes on from here" in told
    assert again.returncode == 0, again.stderr
    assert "taking up an unfinished run" in again.stderr


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_nothing_is_billed_twice(
    tmp_path: Path, contract: Path, seed: int
) -> None:
    """A careful provider bills a key once; ours must then come out the same for every kill."""
    state, rng = tmp_path / "state", random.Random(seed)
    with running(SimPlan(latency_s=0.2)) as url:
        ask = ("ask", str(contract), UNREADABLE, "--model", "scripted", "--cloud-url", url)
        for _ in range(2):
            with started(*ask, state_dir=state) as process:
                time.sleep(rng.uniform(0.5, 2.5))
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGKILL)
        reply = answer(*ask, state_dir=state)
        calls = Sim(base_url=url).ledger()
    keys = [call["idempotency_key"] for call in calls]
    assert len(keys) == len(set(keys))
    assert reply["cost"]["cloud_usd"] > 0
