"""The full-text index over chunks (SQLite's FTS5), filled from the chunks that are there."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """External content: the index holds no second copy of the text, `rebuild` reads the chunks."""
    if op.get_bind().dialect.name == "postgresql":
        return  # it is searched without an index: see `minions.store.postgres`
    op.execute(
        "CREATE VIRTUAL TABLE chunk_index USING fts5("
        "indexed_text, content='chunks', content_rowid='row_id', "
        "tokenize='porter unicode61 remove_diacritics 2')"
    )
    op.execute("INSERT INTO chunk_index(chunk_index) VALUES ('rebuild')")
