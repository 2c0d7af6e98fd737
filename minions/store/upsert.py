"""INSERT ... ON CONFLICT in the dialect of the connected database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_or(connection: Connection, table: Table) -> Any:
    """An insert that has `on_conflict_do_nothing` and `on_conflict_do_update`: SQLAlchemy has it
    once per dialect, with the same methods, and no common type."""
    if connection.dialect.name == "postgresql":
        # Its cursor is closed before anyone asks how many rows it wrote.
        return postgresql.insert(table).execution_options(preserve_rowcount=True)
    return sqlite.insert(table)
