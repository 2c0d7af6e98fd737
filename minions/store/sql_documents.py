"""Documents, their chunks and search, as work on a connection."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, delete, insert, select
from sqlalchemy.dialects.sqlite import insert as insert_or

from minions.documents.model import Chunk, Document, Page
from minions.store.codec import from_plain, to_plain
from minions.store.errors import unknown
from minions.store.fulltext import FullText
from minions.store.model import SearchHit
from minions.store.rules import require_same_text
from minions.store.summary import DocumentSummary
from minions.store.tables import chunkings, chunks, documents
from minions.store.words import searchable

_SUMMARY_COLUMNS = (
    documents.c.document_id,
    documents.c.sha256,
    documents.c.name,
    documents.c.media_type,
    documents.c.n_bytes,
    documents.c.n_chars,
    documents.c.n_pages,
    documents.c.warnings,
)


def put_document(connection: Connection, document: Document) -> bool:
    """False when the same one was there already."""
    statement = insert_or(documents).on_conflict_do_nothing(index_elements=["document_id"])
    return connection.execute(statement, _document_row(document)).rowcount == 1


def get_document(connection: Connection, document_id: str) -> Document:
    """Raises NotFound."""
    found = connection.execute(select(documents).where(documents.c.document_id == document_id))
    row = found.mappings().one_or_none()
    if row is None:
        raise unknown("document", document_id)
    return _document(row)


def list_documents(connection: Connection) -> list[Document]:
    """All of them with their texts, in the order in which they came."""
    rows = connection.execute(select(documents).order_by(documents.c.row_id))
    return [_document(row) for row in rows.mappings()]


def list_summaries(connection: Connection) -> list[DocumentSummary]:
    """All of them, in the order in which they came; no text is read from the disk."""
    rows = connection.execute(select(*_SUMMARY_COLUMNS).order_by(documents.c.row_id))
    return [_summary(row) for row in rows.mappings()]


def delete_document(connection: Connection, full_text: FullText, document_id: str) -> None:
    """Raises NotFound. Chunkings and chunks go with the document, by foreign keys."""
    for chunking_id in _chunking_ids(connection, [document_id]):
        full_text.remove(connection, chunking_id)
    deleted = connection.execute(delete(documents).where(documents.c.document_id == document_id))
    if deleted.rowcount == 0:
        raise unknown("document", document_id)


def put_chunks(
    connection: Connection,
    full_text: FullText,
    document_id: str,
    chunking_key: str,
    pieces: Sequence[Chunk],
) -> None:
    """Replace the chunking. Raises NotFound, and BadRequest for chunks of another text."""
    require_same_text(get_document(connection, document_id), pieces)
    for chunking_id in _chunking_ids(connection, [document_id], chunking_key):
        full_text.remove(connection, chunking_id)
        connection.execute(delete(chunkings).where(chunkings.c.chunking_id == chunking_id))
    chunking_id = _new_chunking(connection, document_id, chunking_key)
    if pieces:
        connection.execute(insert(chunks), [_chunk_row(piece, chunking_id) for piece in pieces])
    full_text.add(connection, chunking_id)


def get_chunks(connection: Connection, document_id: str, chunking_key: str) -> list[Chunk] | None:
    """None when not chunked under that key. Raises NotFound for an unknown document."""
    document = get_document(connection, document_id)
    chunking_ids = _chunking_ids(connection, [document_id], chunking_key)
    if not chunking_ids:
        return None
    rows = connection.execute(
        select(chunks).where(chunks.c.chunking_id == chunking_ids[0]).order_by(chunks.c.position)
    )
    return [_chunk(row, document) for row in rows.mappings()]


def search(
    connection: Connection,
    full_text: FullText,
    document_ids: Sequence[str],
    chunking_key: str,
    query: str,
    limit: int,
) -> list[SearchHit]:
    """Best first; nothing for documents that are unknown or not chunked under that key."""
    chunking_ids = _chunking_ids(connection, document_ids, chunking_key)
    return full_text.search(connection, chunking_ids, query, limit)


def _chunking_ids(
    connection: Connection, document_ids: Sequence[str], chunking_key: str | None = None
) -> list[int]:
    """Of these documents' chunkings, the one under that key or all."""
    statement = select(chunkings.c.chunking_id).where(chunkings.c.document_id.in_(document_ids))
    if chunking_key is not None:
        statement = statement.where(chunkings.c.chunking_key == chunking_key)
    return list(connection.scalars(statement))


def _new_chunking(connection: Connection, document_id: str, chunking_key: str) -> int:
    statement = insert(chunkings).returning(chunkings.c.chunking_id)
    row = {"document_id": document_id, "chunking_key": chunking_key}
    chunking_id: int = connection.execute(statement, row).scalar_one()
    return chunking_id


def _document_row(document: Document) -> dict[str, object]:
    return {
        "document_id": document.document_id,
        "sha256": document.sha256,
        "name": document.name,
        "media_type": document.media_type,
        "n_bytes": document.n_bytes,
        "n_chars": len(document.text),
        "n_pages": len(document.pages),
        "warnings": to_plain(document.warnings),
        "pages": to_plain(document.pages),
        "text": document.text,
    }


def _document(row: RowMapping) -> Document:
    return Document(
        document_id=row["document_id"],
        sha256=row["sha256"],
        name=row["name"],
        media_type=row["media_type"],
        n_bytes=row["n_bytes"],
        text=row["text"],
        pages=tuple(from_plain(Page, page) for page in row["pages"]),
        warnings=tuple(row["warnings"]),
    )


def _summary(row: RowMapping) -> DocumentSummary:
    return DocumentSummary(**{**row, "warnings": tuple(row["warnings"])})


def _chunk_row(chunk: Chunk, chunking_id: int) -> dict[str, object]:
    return {
        "chunking_id": chunking_id,
        "chunk_id": chunk.chunk_id,
        "position": chunk.index,
        "start": chunk.start,
        "end": chunk.end,
        "first_page": chunk.first_page,
        "last_page": chunk.last_page,
        "n_tokens": chunk.n_tokens,
        "indexed_text": searchable(chunk.text),
    }


def _chunk(row: RowMapping, document: Document) -> Chunk:
    return Chunk(
        chunk_id=row["chunk_id"],
        document_id=document.document_id,
        index=row["position"],
        start=row["start"],
        end=row["end"],
        text=document.text[row["start"] : row["end"]],
        first_page=row["first_page"],
        last_page=row["last_page"],
        n_tokens=row["n_tokens"],
    )
