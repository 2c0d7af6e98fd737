"""From every old schema to the newest, and never backwards."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from minions.documents.model import Chunk, Document, Page
from minions.store import StoreUnavailable, open_store
from minions.store.database import Database, open_database
from minions.store.migrate import MIGRATIONS, bring_up_to_date, current_revision
from minions.store.tables import REVISIONS, metadata

TEXT = "Payment is due within thirty days."
DOCUMENT = Document(
    document_id="doc_1",
    sha256="0" * 64,
    name="terms.txt",
    media_type="text/plain",
    n_bytes=len(TEXT),
    text=TEXT,
    pages=(Page(number=1, start=0, end=len(TEXT)),),
)
CHUNK = Chunk(
    chunk_id="c1",
    document_id="doc_1",
    index=0,
    start=0,
    end=len(TEXT),
    text=TEXT,
    first_page=1,
    last_page=1,
    n_tokens=7,
)


def test_the_revisions_known_are_the_revisions_there_are() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    newest_first = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(script.revision for script in newest_first)[::-1] == REVISIONS


async def test_migrations_make_the_tables_that_the_code_names(tmp_path: Path) -> None:
    database = await open_database(tmp_path / "store.db", lock_timeout_s=1)

    def differences(connection: Connection) -> list[Any]:
        options = {"include_name": lambda name, *_: not str(name).startswith("chunk_index")}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))

    assert await database.read(differences) == []
    await database.close()


async def test_revision_1_is_brought_to_head_with_its_data(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _make_revision_1(path)
    store = await open_store(path)
    assert await store.database.read(current_revision, "here") == REVISIONS[-1]
    assert await store.get_chunks("doc_1", "key") == [CHUNK]
    hits = await store.search(["doc_1"], "key", "When are payments due?", 5)
    assert [hit.chunk_id for hit in hits] == ["c1"]
    await store.delete_document("doc_1")
    await store.close()


async def _make_revision_1(path: Path) -> None:
    """A store as the first schema had it, with a document cut into one chunk."""
    path.touch()
    database = Database(str(path), 1.0)
    await database.write(bring_up_to_date, "here", "0001")
    await database.close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "INSERT INTO documents (document_id, sha256, name, media_type, n_bytes, n_chars, "
            "n_pages, warnings, pages, text) VALUES (?, ?, ?, 'text/plain', ?, ?, 1, '[]', ?, ?)",
            (
                DOCUMENT.document_id,
                DOCUMENT.sha256,
                b"terms.txt",
                len(TEXT),
                len(TEXT),
                f'[{{"number": 1, "start": 0, "end": {len(TEXT)}}}]',
                TEXT.encode(),
            ),
        )
        connection.execute("INSERT INTO chunkings VALUES (7, 'doc_1', 'key')")
        connection.execute(
            "INSERT INTO chunks VALUES (3, 7, 'c1', 0, 0, ?, 1, 1, 7, ?)", (len(TEXT), TEXT)
        )
    connection.close()


async def test_a_migration_that_fails_leaves_the_old_schema(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await _make_revision_1(path)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE chunk_index (in_the_way)")
    connection.close()
    with pytest.raises(StoreUnavailable, match="chunk_index already exists"):
        await open_store(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
    connection.close()


async def test_a_store_of_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await (await open_store(path)).close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="revision '0999', newer than this version"):
        await open_store(path)
    assert path.read_bytes() == before


async def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()
    with pytest.raises(StoreUnavailable, match="belongs to another program"):
        await open_store(path)
