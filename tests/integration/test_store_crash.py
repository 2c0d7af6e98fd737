"""Processes that are killed, and processes that come at once: nothing acknowledged is lost."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import minions
from minions.store import open_store
from minions.store.tables import REVISIONS

ROOT = Path(minions.__file__).parents[1]
N_KILLS = 10
SEED = 20250117

WRITER = """
import asyncio, itertools, sys
from minions.cloud.model import CloudResponse, CloudUsage
from minions.store import open_store
from minions.store.model import RunRecord, RunStatus
from workers.jobs import JobResult, JobStatus

def response(key):
    return CloudResponse(idempotency_key=key, model="m", text="paid " + key, finish_reason="stop",
                         usage=CloudUsage(), attempts=(), elapsed_s=1.0)

async def main(path, first):
    store = await open_store(path)
    run = await store.open_run(RunRecord(run_id=f"run {first}", fingerprint="print",
        status=RunStatus.RUNNING, question={}, reply=None, error=None,
        created_at=1.0, updated_at=1.0))
    print("run", run.run_id, flush=True)
    for n in itertools.count(first):
        result = JobResult(job_id=f"job {n}", chunk_id="c", status=JobStatus.ANSWERED,
                           answer=f"answer {n}" * 40)
        await store.record_job_results(run.run_id, [result])
        print("job", n, flush=True)
        if n % 5 == 0:
            await store.record_cloud_response(run.run_id, response(f"call {n}"))
            print("call", n, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""

OPENER = """
import asyncio, sys
from minions.store import open_store
from minions.store.model import RunRecord, RunStatus

async def main(path):
    print("ready", flush=True)
    sys.stdin.readline()
    store = await open_store(path)
    run = await store.open_run(RunRecord(run_id=sys.argv[2], fingerprint="print",
        status=RunStatus.QUEUED, question={}, reply=None, error=None,
        created_at=1.0, updated_at=1.0))
    print(run.run_id, flush=True)
    await store.close()

asyncio.run(main(sys.argv[1]))
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def acknowledged_before_kill(path: Path, first: int, chance: random.Random) -> list[str]:
    """Lines that a writer printed, each after a write had returned, until it was killed."""
    writer = start(WRITER, path, first)
    assert writer.stdout is not None
    lines = [writer.stdout.readline() for _ in range(chance.randint(2, 60))]
    time.sleep(chance.uniform(0, 0.01))  # anywhere within the next writes
    writer.kill()
    rest, _ = writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    # The last line may be cut in the middle; then it was not acknowledged.
    return [line for line in (*lines, *rest.splitlines(keepends=True)) if line.endswith("\n")]


async def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    chance = random.Random(SEED)
    acknowledged: set[str] = set()
    for _ in range(N_KILLS):
        first = 1 + max((int(line.split()[1]) for line in acknowledged), default=-1)
        lines = acknowledged_before_kill(path, first, chance)
        assert lines[0] == "run run 0\n"  # the killed run is taken up, not opened anew
        acknowledged.update(lines[1:])
        await _check(path, acknowledged)


async def _check(path: Path, acknowledged: set[str]) -> None:
    store = await open_store(path)
    results = await store.job_results("run 0")
    for line in acknowledged:
        kind, n = line.split()
        if kind == "job":
            assert results[f"job {n}"].answer == f"answer {n}" * 40
        else:
            bought = await store.cloud_response("run 0", f"call {n}")
            assert bought is not None
            assert bought.text == f"paid call {n}"
    await store.close()
    _check_rows(path, len(results))


def _check_rows(path: Path, n_results: int) -> None:
    """Each entry is there once, and the file is whole."""
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM job_results").fetchone() == (n_results,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_processes_that_make_the_store_at_once_agree(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    openers = [start(OPENER, path, f"run_{n}") for n in range(3)]
    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == "ready\n"
    answers = set()
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    for opener in openers:
        output, _ = opener.communicate(timeout=60)
        assert opener.returncode == 0
        answers.add(output)
    assert len(answers) == 1  # one made the run, the others resumed it
    connection = sqlite3.connect(path)
    version = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    connection.close()
    assert version == [(REVISIONS[-1],)]
