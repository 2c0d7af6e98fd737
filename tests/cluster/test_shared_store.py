"""Several services on one PostgreSQL database: one run is worked on once, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from minions.errors import StoreUnavailable
from minions.settings import load_settings
from minions.store import SqlStore, open_store
from tests.command import command, environment, free_port
from tests.postgres import make_template, server, server_programs

pytest.importorskip("psycopg", reason="pip install 'minions[postgres]'")
ROOT = Path(__file__).parents[2]

HOLD = """
import asyncio, sys
from minions.store import open_store

async def main():
    store = await open_store(sys.argv[1])
    async with store.run_lock("one run"):
        print("held", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if server_programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with server() as found:
        make_template(found)
        yield found.replace("/postgres?", "/template_of_tests?")


async def test_a_run_has_one_worker_among_all_machines_also_after_kill_9(url: str) -> None:
    command = [sys.executable, "-c", HOLD, url]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)  # noqa: ASYNC220
    assert holder.stdout is not None
    store = await open_store(url)
    assert isinstance(store, SqlStore)
    assert store.run_lock is not None
    try:
        assert await asyncio.to_thread(holder.stdout.readline) == b"held\n"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), store.run_lock("one run"):
                pass
        async with asyncio.timeout(5), store.run_lock("another run"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        async with asyncio.timeout(10), store.run_lock("one run"):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
        await store.close()


async def test_the_ledger_refuses_changes_in_the_database_itself(url: str) -> None:
    store = await open_store(url)
    for table in ("ledger", "egress"):
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET run_id = 'x'"):
            with pytest.raises((StoreUnavailable, DBAPIError), match="append-only"):
                await store.database.write(lambda c, s=statement: c.execute(text(s)))
    await store.close()


async def test_many_writers_at_once_lose_nothing(url: str) -> None:
    stores = [await open_store(url) for _ in range(3)]
    names = [f"lock test {number}" for number in range(30)]
    insert = "INSERT INTO collections VALUES (:name, 'local', '', 0)"

    def add(connection: object, name: str) -> None:
        connection.execute(text(insert), {"name": name})  # type: ignore[attr-defined]

    await asyncio.gather(*(stores[i % 3].database.write(add, name) for i, name in enumerate(names)))
    kept = await stores[0].database.read(
        lambda c: list(c.scalars(text("SELECT collection_id FROM collections")))
    )
    for store in stores:
        await store.close()
    assert set(names) <= set(kept)


async def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    with pytest.raises(StoreUnavailable) as told:
        await open_store("postgresql://me:secret@127.0.0.1:9/db")
    assert "secret" not in str(told.value)
    assert "check host, port, user and password" in str(told.value)


def test_the_database_is_a_setting(tmp_path: Path) -> None:
    settings = load_settings(database_url="postgresql://me:secret@db/minions")
    assert settings.database == "postgresql://me:secret@db/minions"
    assert "secret" not in repr(settings)


@pytest.mark.timeout(240)
def test_two_services_share_documents_and_answers(url: str, tmp_path: Path) -> None:
    """What one was given, the other answers about."""
    with ExitStack() as opened:
        first, second = (opened.enter_context(service(url, tmp_path / n)) for n in "ab")
        body = b"The monthly fee is 400 dollars.\n\nThe term ends on 1 May 2031."
        added = first.post("/v1/documents", files={"file": ("terms.txt", body)})
        assert added.status_code < 300, added.text
        listed = second.get("/v1/documents").json()
        assert added.json()["id"] in json.dumps(listed)
        question = {"documents": [added.json()["id"]], "question": "What is the monthly fee?"}
        asked = second.post("/v1/questions", json=question)
        assert asked.status_code == 202, asked.text
        path = f"/v1/questions/{asked.json()['id']}"
        deadline = time.monotonic() + 120
        while (seen := first.get(path).json())["status"] not in ("finished", "failed"):
            assert time.monotonic() < deadline, seen
            time.sleep(0.2)
    assert seen["status"] == "finished", seen
    assert "400" in json.dumps(seen)


@contextlib.contextmanager
def service(url: str, folder: Path) -> Iterator[httpx.Client]:
    """A service on that database; yields a client of it."""
    port = free_port()
    process = subprocess.Popen(
        command(["serve", "--port", str(port), "--model", "scripted"]),
        env={**environment(folder), "MINIONS_DATABASE_URL": url},
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_until_ready(client, process)
            yield client
    finally:
        _end(process)


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, "the service ended at its start"
        with contextlib.suppress(httpx.TransportError):
            if client.get("/readyz").status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("the service was not ready")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
