"""The ledger and the egress record, as work on a connection. Both are append-only: the database's
own triggers refuse any change, and nothing here deletes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, insert, select
from sqlalchemy.exc import IntegrityError

from minions.store.codec import to_plain
from minions.store.errors import unknown
from minions.store.model import EgressEntry, LedgerEntry
from minions.store.tables import egress, ledger, runs
from minions.store.upsert import insert_or


def record_ledger(connection: Connection, entries: Sequence[LedgerEntry]) -> None:
    """Append what is not there yet."""
    statement = insert_or(connection, ledger).on_conflict_do_nothing(
        index_elements=["run_id", "call_key", "attempt"]
    )
    if entries:
        connection.execute(statement, [asdict(entry) for entry in entries])


def list_ledger(
    connection: Connection, run_id: str | None, owner: str | None = None
) -> list[LedgerEntry]:
    """Of one run or all, of one owner or all, in the order in which they were recorded."""
    statement = _of(ledger, run_id, owner)
    return [_ledger_entry(row) for row in connection.execute(statement).mappings()]


def record_egress(connection: Connection, entry: EgressEntry) -> None:
    """Raises NotFound for an unknown run, which is in time: nothing has left the machine yet."""
    try:
        connection.execute(insert(egress), _egress_row(entry))
    except IntegrityError as error:
        raise unknown("run", entry.run_id) from error


def list_egress(
    connection: Connection, run_id: str | None, owner: str | None = None
) -> list[EgressEntry]:
    """As `list_ledger`."""
    statement = _of(egress, run_id, owner)
    return [_egress_entry(row) for row in connection.execute(statement).mappings()]


def _of(table: Table, run_id: str | None, owner: str | None) -> Select[Any]:
    statement = select(table).order_by(table.c.row_id)
    if run_id is not None:
        statement = statement.where(table.c.run_id == run_id)
    if owner is not None:
        own = select(runs.c.run_id).where(runs.c.owner == owner)
        statement = statement.where(table.c.run_id.in_(own))
    return statement


def _ledger_entry(row: RowMapping) -> LedgerEntry:
    return LedgerEntry(**{name: value for name, value in row.items() if name != "row_id"})


def _egress_row(entry: EgressEntry) -> dict[str, object]:
    return {
        "run_id": entry.run_id,
        "call_key": entry.call_key,
        "destination": entry.destination,
        "rung": entry.rung,
        "created_at": entry.created_at,
        "spans": to_plain(entry.spans),
        "content_sha256": hashlib.sha256(entry.content).hexdigest(),
        "content": entry.content,
    }


def _egress_entry(row: RowMapping) -> EgressEntry:
    return EgressEntry(
        run_id=row["run_id"],
        call_key=row["call_key"],
        destination=row["destination"],
        rung=row["rung"],
        content=row["content"],
        spans=tuple((document_id, start, end) for document_id, start, end in row["spans"]),
        created_at=row["created_at"],
    )
