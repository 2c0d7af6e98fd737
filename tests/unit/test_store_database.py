"""Opening, closing and failing of the embedded database, and how durable its connections are."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, text

from minions.cloud.model import CloudResponse, CloudUsage
from minions.errors import MinionsError
from minions.store import StoreUnavailable, open_store
from minions.store.database import Database, open_database
from minions.store.errors import unavailable
from minions.store.model import EgressEntry, RunRecord, RunStatus
from workers.jobs import JobResult, JobStatus

RUN = RunRecord(
    run_id="run_1",
    fingerprint="print",
    status=RunStatus.RUNNING,
    question={},
    reply=None,
    error=None,
    created_at=1.0,
    updated_at=1.0,
)
RESULT = JobResult(job_id="a", chunk_id="c", status=JobStatus.ABSTAINED)
RESPONSE = CloudResponse(
    idempotency_key="call",
    model="m",
    text="{}",
    finish_reason="stop",
    usage=CloudUsage(),
    attempts=(),
    elapsed_s=1.0,
)
EGRESS = EgressEntry(
    run_id="run_1",
    call_key="call",
    destination="https://api.example.com",
    rung="document",
    content=b"text",
    spans=(),
    created_at=1.0,
)


def pragma(connection: Connection, name: str) -> object:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "sqlite+aiosqlite:///{}"])
async def test_path_and_url_name_the_same_store(tmp_path: Path, form: str) -> None:
    path = tmp_path / "store.db"
    store = await open_store(form.format(path))
    await store.open_run(RUN)
    await store.close()
    again = await open_store(path)
    assert await again.list_runs() == [RUN]
    await again.close()


async def test_folder_and_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    store = await open_store(path)
    await store.open_run(RUN)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await store.close()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("mysql://me:secret@host/db", r"mysql://me:\*\*\*@host/db must be a path"),
        ("sqlite:///x.db?mode=ro", "no parameters"),
        ("://", "can't be read"),
    ],
)
async def test_a_url_of_another_kind_is_refused(place: str, reason: str) -> None:
    with pytest.raises(StoreUnavailable, match=reason):
        await open_store(place)


async def test_a_folder_a_text_file_and_a_place_below_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but long enough to look at " * 50)
    for place, reason in [
        (tmp_path, "can't be opened"),
        (tmp_path / "notes.txt", "is not a SQLite database"),
        (tmp_path / "notes.txt" / "store.db", "can't be made"),
    ]:
        with pytest.raises(StoreUnavailable, match=reason) as caught:
            await open_store(place)
        assert str(place) in str(caught.value)


async def test_a_damaged_store_says_so(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await (await open_store(path)).close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(StoreUnavailable, match=r"store\.db is damaged"):
        await open_store(path)


async def test_a_locked_store_says_so_after_the_timeout(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await open_store(path, lock_timeout_s=0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreUnavailable, match="is locked by another process"):
            await store.open_run(RUN)
        assert await store.list_runs() == []  # readers don't wait for the writer
    finally:
        other.close()
    assert await store.open_run(RUN) == RUN
    await store.close()


def _fill(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA max_page_count=3")
    connection.execute("INSERT INTO t VALUES (zeroblob(100000))")


def _forbid(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only=ON")
    connection.execute("INSERT INTO t VALUES (1)")


def _misspell(connection: sqlite3.Connection) -> None:
    connection.execute("SELEKT")


@pytest.mark.parametrize(
    ("fail", "advice"),
    [(_fill, "disk is full"), (_forbid, "check the rights"), (_misspell, 'bug (near "SELEKT"')],
)
def test_what_sqlite_reports_becomes_advice(
    fail: Callable[[sqlite3.Connection], None], advice: str
) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (x)")
    with pytest.raises(sqlite3.Error) as caught:
        fail(connection)
    connection.close()
    error = unavailable(caught.value, "/data/store.db")
    assert isinstance(error, MinionsError)
    assert (error.status, error.code) == (503, "store_unavailable")
    assert "/data/store.db" in str(error)
    assert advice in str(error)


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store.db")
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable, match="is closed"):
        await store.list_runs()


async def test_connections_are_as_durable_as_their_names(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "store.db", lock_timeout_s=1)
    normal, full = 1, 2
    assert await database.write(pragma, "synchronous") == normal
    assert await database.write_durably(pragma, "synchronous") == full
    for transact in (database.read, database.write, database.write_durably):
        assert await transact(pragma, "journal_mode") == "wal"
        assert await transact(pragma, "foreign_keys") == 1
        assert await transact(pragma, "busy_timeout") == 1000
    await database.close()


def commits_of(engine: Engine) -> list[Connection]:
    """Filled with a connection at each commit on this engine."""
    seen: list[Connection] = []
    event.listen(engine, "commit", seen.append)
    return seen


async def test_what_must_survive_power_loss_goes_through_the_durable_connection(
    tmp_path: Path,
) -> None:
    store = await open_store(tmp_path / "store.db")
    durable = commits_of(store.database.durable)
    await store.open_run(RUN)
    await store.record_job_results("run_1", [RESULT])
    assert len(durable) == 0
    await store.record_egress(EGRESS)
    await store.record_cloud_response("run_1", RESPONSE)
    assert len(durable) == 2
    await store.close()


async def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store.db")

    def insert_and_fail(connection: Connection) -> None:
        connection.execute(text("INSERT INTO chunk_index(rowid, indexed_text) VALUES (1, 'x')"))
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        await store.database.write(insert_and_fail)
    count = "SELECT count(*) FROM chunk_index WHERE chunk_index MATCH 'x'"
    assert await store.database.read(lambda connection: connection.scalar(text(count))) == 0
    await store.close()


@pytest.mark.parametrize("place", ["store.db", ":memory:"])
async def test_a_cancelled_caller_waits_for_its_write(tmp_path: Path, place: str) -> None:
    store = await open_store(place if place == ":memory:" else tmp_path / place)
    await store.open_run(RUN)
    n_cancelled = 0
    for turn in range(12):  # each lets the write get a little further before the cancellation
        key = f"call {turn}"
        response = replace(RESPONSE, idempotency_key=key)
        task = asyncio.create_task(store.record_cloud_response("run_1", response))
        for _ in range(turn + 1):
            await asyncio.sleep(0)
        if task.cancel():
            n_cancelled += 1
            with pytest.raises(asyncio.CancelledError):
                await task
        await asyncio.wait([task])
        assert await store.cloud_response("run_1", key) == response
    assert n_cancelled > 0
    await store.close()


async def test_many_readers_and_writers_at_once(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store.db")
    await store.open_run(RUN)

    async def write(n: int) -> None:
        result = JobResult(job_id=str(n), chunk_id="c", status=JobStatus.ABSTAINED)
        await store.record_job_results("run_1", [result])
        await store.record_egress(EGRESS)
        await store.job_results("run_1")

    await asyncio.gather(*(write(n) for n in range(40)))
    assert len(await store.job_results("run_1")) == 40
    assert len(await store.egress("run_1")) == 40
    await store.close()


async def test_errors_do_not_quote_what_was_written(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store.db")
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("CREATE TRIGGER no_runs BEFORE INSERT ON runs BEGIN SELECT no_such(); END")
    other.close()
    with pytest.raises(StoreUnavailable, match="no such function") as caught:
        await store.open_run(replace(RUN, question={"text": "a secret"}))
    assert "a secret" not in f"{caught.value} {caught.value.__cause__}"
    await store.close()


async def test_a_memory_database_is_its_own(tmp_path: Path) -> None:
    first, second = Database(":memory:", 1.0), Database(":memory:", 1.0)
    await first.prepare()
    tables = text("SELECT count(*) FROM sqlite_master")
    assert await second.read(lambda connection: connection.scalar(tables)) == 0
    await first.close()
    await second.close()
    assert list(tmp_path.iterdir()) == []
