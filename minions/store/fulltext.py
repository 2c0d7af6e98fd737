"""Full-text search inside the database.

`Search` is all that the store asks of an index; `FullText` is SQLite's FTS5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection, bindparam, text

from minions.store.model import SearchHit
from minions.store.words import query_words

_ADD = text(
    "INSERT INTO chunk_index(rowid, indexed_text) "
    "SELECT row_id, indexed_text FROM chunks WHERE chunking_id = :chunking_id"
)
_REMOVE = text(
    "INSERT INTO chunk_index(chunk_index, rowid, indexed_text) "
    "SELECT 'delete', row_id, indexed_text FROM chunks WHERE chunking_id = :chunking_id"
)
_SEARCH = text(
    # CROSS JOIN is SQLite's way to say "the index first"; else it asks the index once per chunk.
    "SELECT chunks.chunk_id, -bm25(chunk_index) AS score "
    "FROM chunk_index CROSS JOIN chunks ON chunks.row_id = chunk_index.rowid "
    "WHERE chunk_index MATCH :words AND chunks.chunking_id IN :chunking_ids "
    # Said twice, because only a range of rows keeps FTS5 from ranking every document there is.
    "AND chunk_index.rowid BETWEEN "
    "(SELECT min(row_id) FROM chunks WHERE chunking_id IN :chunking_ids) AND "
    "(SELECT max(row_id) FROM chunks WHERE chunking_id IN :chunking_ids) "
    "ORDER BY score DESC, chunks.row_id LIMIT :limit"
).bindparams(bindparam("chunking_ids", expanding=True))


class Search(Protocol):
    """Full-text search over `chunks.indexed_text`."""

    def add(self, connection: Connection, chunking_id: int) -> None:
        """Index the chunks of a chunking, which are in the table and not in the index."""
        ...

    def remove(self, connection: Connection, chunking_id: int) -> None:
        """Forget the chunks of a chunking, which are still in the table."""
        ...

    def search(
        self, connection: Connection, chunking_ids: Sequence[int], query: str, limit: int
    ) -> list[SearchHit]:
        """The best chunks of these chunkings for the words of `query`, best first."""
        ...


class FullText:
    """The index over `chunks.indexed_text`: English stems, no diacritics, BM25."""

    def add(self, connection: Connection, chunking_id: int) -> None:
        """Index the chunks of a chunking, which are in the table and not in the index."""
        connection.execute(_ADD, {"chunking_id": chunking_id})

    def remove(self, connection: Connection, chunking_id: int) -> None:
        """Forget the chunks of a chunking, which are still in the table."""
        connection.execute(_REMOVE, {"chunking_id": chunking_id})

    def search(
        self, connection: Connection, chunking_ids: Sequence[int], query: str, limit: int
    ) -> list[SearchHit]:
        """The best chunks of these chunkings for the words of `query`, best first.

        Words are weighed by how rare they are in the whole index, other documents included.
        """
        # Quoted, a word is a word to FTS5, be it AND or NEAR; `query_words` leaves no quote in it.
        words = " OR ".join(f'"{word}"' for word in query_words(query))
        if not words or not chunking_ids or limit < 1:
            return []
        parameters = {"words": words, "chunking_ids": list(chunking_ids), "limit": limit}
        rows = connection.execute(_SEARCH, parameters)
        return [SearchHit(chunk_id=row.chunk_id, score=row.score) for row in rows]
