"""The database itself refuses to change the ledger and the egress record."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from minions.store import open_store
from minions.store.model import EgressEntry, LedgerEntry, RunRecord, RunStatus

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
PAID = LedgerEntry(
    run_id="run_1",
    kind="cloud",
    model="m",
    purpose="document",
    outcome="ok",
    prompt_tokens=1,
    cached_tokens=0,
    completion_tokens=1,
    reasoning_tokens=0,
    cost_nano_usd=2**53 + 1,
    price_snapshot="s",
    usage_reported=True,
    call_key="call",
    attempt=1,
    created_at=1.0,
)
SENT = EgressEntry(
    run_id="run_1",
    call_key="call",
    destination="https://api.example.com",
    rung="document",
    content=b"what left",
    spans=(("doc_1", 0, 9),),
    created_at=1.0,
)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A closed store with one entry in each book."""
    store = await open_store(tmp_path / "store.db")
    await store.open_run(RUN)
    await store.record_ledger([PAID])
    await store.record_egress(SENT)
    await store.close()
    return tmp_path / "store.db"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET cost_nano_usd = 0",
        "DELETE FROM ledger",
        "UPDATE egress SET content = x''",
        "DELETE FROM egress WHERE run_id = 'run_1'",
    ],
)
async def test_a_book_can_not_be_changed(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="is append-only"):
        connection.execute(statement)
    connection.close()
    store = await open_store(path)
    assert await store.ledger() == [PAID]
    assert await store.egress() == [SENT]
    await store.close()


async def test_money_is_an_integer_and_content_has_its_hash(path: Path) -> None:
    connection = sqlite3.connect(path)
    kind, amount = connection.execute(
        "SELECT typeof(cost_nano_usd), cost_nano_usd FROM ledger"
    ).fetchone()
    (digest,) = connection.execute("SELECT content_sha256 FROM egress").fetchone()
    connection.close()
    assert (kind, amount) == ("integer", 2**53 + 1)  # one that a float can't hold
    assert digest == hashlib.sha256(SENT.content).hexdigest()
