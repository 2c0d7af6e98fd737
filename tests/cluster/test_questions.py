"""The product on a real cluster: its commands, and a question that is killed at work."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import command, environment, free_port, minions

pytest.importorskip("ray", reason="Ray is not installed: pip install 'minions[cluster]'")

N_PARTS = 240
QUESTION = "What is the monthly fee?"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder of a machine that is a cluster of its own."""
    folder = tmp_path_factory.mktemp("state")
    port = str(free_port())
    up = minions("cluster", "up", "--port", port, "--workers", "2", state_dir=folder)
    assert up.returncode == 0, up.stderr
    try:
        yield folder
    finally:
        down = minions("cluster", "down", state_dir=folder)
        assert "down:" in down.stdout, down.stderr
        assert "nothing to end" in minions("cluster", "down", state_dir=folder).stdout


def head_of(state: Path) -> str:
    head: str = json.loads((state / "cluster" / "node.json").read_text())["head"]
    return head


def on_cluster(state: Path, *words: str) -> list[str]:
    return [*words, "--pool", "ray", "--cluster", head_of(state), "--model", "scripted"]


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A long document, whose answer stands in its last part."""
    parts = [
        f"Part {n}. " + "The parties agree on many other things. " * 30 for n in range(N_PARTS)
    ]
    path = tmp_path / "report.txt"
    path.write_text("\n\n".join([*parts, "The monthly fee is 400 dollars."]))
    return path


@pytest.mark.timeout(240)
def test_the_head_knows_its_nodes(state: Path) -> None:
    done = minions("cluster", "status", "--json", state_dir=state)
    assert done.returncode == 0, done.stderr
    (node,) = json.loads(done.stdout)["nodes"]
    assert (node["alive"], node["is_head"], node["n_workers"]) == (True, True, 2)
    again = minions("cluster", "up", state_dir=state)
    assert again.returncode == 1
    assert "minions cluster down" in " ".join(again.stderr.split())


@pytest.mark.timeout(240)
def test_a_stranger_with_another_token_learns_nothing(state: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    token.chmod(0o600)
    done = minions("cluster", "status", "--token-file", str(token), state_dir=state)
    assert done.returncode == 1
    assert "another token" in " ".join(done.stderr.split())


@pytest.mark.timeout(240)
def test_a_question_goes_on_after_kill_9_where_it_was(state: Path, report: Path) -> None:
    """What the journal holds is not read again; every chunk has one result in it."""
    words = on_cluster(state, "ask", str(report), QUESTION, "--chunk-tokens", "128")
    asking = subprocess.Popen(
        command(words),
        env=environment(state),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        kept_before = wait_for_journal(state, asking)
        os.kill(asking.pid, signal.SIGKILL)
    finally:
        asking.kill()
        asking.wait()
    done = minions(*words, "--json", state_dir=state)
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert "400" in reply["answer"]
    assert reply["coverage"] == 1.0
    rows = journal(state)
    assert Counter(count for count in Counter(rows).values()) == Counter({1: len(rows)})
    assert kept_before < set(rows), "it was killed too late to prove anything"


def wait_for_journal(state: Path, asking: subprocess.Popen[bytes]) -> set[str]:
    """Wait until something has been read, and much is left; what the journal has then."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        rows = journal(state)
        if rows:
            return set(rows)
        assert asking.poll() is None, "the question ended before it could be killed"
        time.sleep(0.02)
    raise AssertionError("nothing was read")


def journal(state: Path) -> list[str]:
    """Job ids of all results on disk."""
    if not (state / "minions.db").exists():
        return []
    connection = sqlite3.connect(f"file:{state / 'minions.db'}?mode=ro", uri=True, timeout=10)
    try:
        return [row[0] for row in connection.execute("SELECT job_id FROM job_results")]
    except sqlite3.OperationalError:  # its tables are not there yet
        return []
    finally:
        connection.close()
