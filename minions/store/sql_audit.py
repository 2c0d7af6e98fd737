"""The ledger and the egress record, as work on a connection. Both are append-only: the database's
own triggers refuse any change, and nothing here deletes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, RowMapping, insert, select
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.exc import IntegrityError

from minions.store.codec import to_plain
from minions.store.errors import unknown
from minions.store.model import EgressEntry, LedgerEntry
from minions.store.tables import egress, ledger


def record_ledger(connection: Connection, entries: Sequence[LedgerEntry]) -> None:
    """Append what is not there yet."""
    statement = insert_or(ledger).on_conflict_do_nothing(
        index_elements=["run_id", "call_key", "attempt"]
    )
    if entries:
        connection.execute(statement, [asdict(entry) for entry in entries])


def list_ledger(connection: Connection, run_id: str | None) -> list[LedgerEntry]:
    """Of one run or all, in the order in which they were recorded."""
    statement = select(ledger).order_by(ledger.c.row_id)
    if run_id is not None:
        statement = statement.where(ledger.c.run_id == run_id)
    return [_ledger_entry(row) for row in connection.execute(statement).mappings()]


def record_egress(connection: Connection, entry: EgressEntry) -> None:
    """Raises NotFound for an unknown run, which is in time: nothing has left the machine yet."""
    try:
        connection.execute(insert(egress), _egress_row(entry))
    except IntegrityError as error:
        raise unknown("run", entry.run_id) from error


def list_egress(connection: Connection, run_id: str | None) -> list[EgressEntry]:
    """Of one run or all, in the order in which they were recorded."""
    statement = select(egress).order_by(egress.c.row_id)
    if run_id is not None:
        statement = statement.where(egress.c.run_id == run_id)
    return [_egress_entry(row) for row in connection.execute(statement).mappings()]


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
