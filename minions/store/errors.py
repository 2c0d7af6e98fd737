"""What goes wrong below the store, in words that tell the user what to do."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError

from minions.errors import NotFound, StoreUnavailable

_CAUSES = {
    sqlite3.SQLITE_BUSY: "is locked by another process: wait for that one to end, or end it",
    sqlite3.SQLITE_LOCKED: "is locked by another process: wait for that one to end, or end it",
    sqlite3.SQLITE_CORRUPT: "is damaged: move it aside and restore a backup, or start a new one",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database: name another file",
    sqlite3.SQLITE_READONLY: "can't be written: check the rights of the file and its folder",
    sqlite3.SQLITE_PERM: "can't be opened: check the rights of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "can't be opened: check that the path names a file that you may write",
    sqlite3.SQLITE_FULL: "can't grow, the disk is full: free some space",
    sqlite3.SQLITE_IOERR: "can't be read or written, the disk reports an error: check the disk",
}
_PRIMARY_CODE = 0xFF
"""SQLite's extended result codes keep the primary one in their lowest byte."""


def unavailable(error: sqlite3.Error | DBAPIError, place: str) -> StoreUnavailable:
    """The error to show for what SQLite reported about the database at `place`."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", 0) & _PRIMARY_CODE
    advice = _CAUSES.get(code, "refused an operation: see the reason, and report it as a bug")
    return StoreUnavailable(f"the database {place} {advice} ({cause})")


def unknown(kind: str, identifier: str) -> NotFound:
    """The error for an id that is not in the store."""
    return NotFound(f"no {kind} {identifier!r} in the store: list what there is, or add it first")
