"""Brings a database's schema to the newest revision."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from minions.errors import StoreUnavailable
from minions.store.tables import REVISIONS

MIGRATIONS = Path(__file__).parent / "migrations"


def current_revision(connection: Connection, place: str) -> str | None:
    """The revision of the database; None for an empty one.

    Raises StoreUnavailable when it belongs to a newer version, or to another program.
    """
    tables = inspect(connection).get_table_names()
    if "alembic_version" not in tables:
        if tables:
            raise StoreUnavailable(f"the database {place} belongs to another program: name another")
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if revision is not None and revision not in REVISIONS:
        raise StoreUnavailable(
            f"the database {place} is at revision {revision!r}, newer than this version of "
            f"minions knows ({REVISIONS[-1]!r}): upgrade minions, or name another database"
        )
    return revision


def bring_up_to_date(connection: Connection, place: str, target: str = REVISIONS[-1]) -> None:
    """Run what is missing up to `target`, within the caller's transaction: all of it or nothing.

    The caller holds the write lock, so the revision is looked at again: another process may have
    done the work while this one waited.
    """
    if current_revision(connection, place) != target:
        _upgrade(connection, target)


def _upgrade(connection: Connection, target: str) -> None:
    # Here because importing it takes 0.1 s, and a database at the newest revision never needs it.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, target)
