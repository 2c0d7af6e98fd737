"""Documents, their chunks and search, as work on a connection."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, delete, insert, select
from sqlalchemy.exc import IntegrityError

from minions.documents.model import Chunk, Document, Page
from minions.store.codec import from_plain, to_plain
from minions.store.errors import unknown
from minions.store.fulltext import Search
from minions.store.listing import part_of
from minions.store.model import SearchHit
from minions.store.rules import require_same_text
from minions.store.service import Listed, Wanted
from minions.store.sql_runs import forget_derived
from minions.store.summary import DocumentSummary
from minions.store.tables import (
    chunkings,
    chunks,
    collection_documents,
    collections,
    document_owners,
    documents,
    files,
)
from minions.store.upsert import insert_or
from minions.store.words import searchable

_SUMMARY_COLUMNS = (
    documents.c.document_id,
    documents.c.sha256,
    document_owners.c.name,
    documents.c.media_type,
    documents.c.n_bytes,
    documents.c.n_chars,
    documents.c.n_pages,
    documents.c.warnings,
    document_owners.c.created_at,
)


def put_document(connection: Connection, document: Document, owner: str) -> bool:
    """False when that owner has it already."""
    statement = insert_or(connection, documents)
    row = _document_row(document)
    connection.execute(statement.on_conflict_do_nothing(index_elements=["document_id"]), row)
    link = insert_or(connection, document_owners).on_conflict_do_nothing(
        index_elements=["owner", "document_id"]
    )
    owned = {
        "owner": owner,
        "document_id": document.document_id,
        "name": document.name,
        "created_at": time.time(),
    }
    added = connection.execute(link.returning(document_owners.c.row_id), owned)
    return added.first() is not None


def get_document(connection: Connection, document_id: str, owner: str | None = None) -> Document:
    """Under its owner's name, or, whoever owns it, under its first. Raises NotFound."""
    statement = select(documents).where(documents.c.document_id == document_id)
    if owner is not None:
        statement = (
            statement.join(document_owners)
            .where(document_owners.c.owner == owner)
            .add_columns(document_owners.c.name.label("own_name"))
        )
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise unknown("document", document_id)
    return _document(row, row["name"] if owner is None else row["own_name"])


def list_documents(connection: Connection) -> list[Document]:
    """All of them with their texts, in the order in which they came."""
    rows = connection.execute(select(documents).order_by(documents.c.row_id))
    return [_document(row, row["name"]) for row in rows.mappings()]


def list_summaries(connection: Connection) -> list[DocumentSummary]:
    """All of them, for each of their owners, in the order in which they came; no text is read
    from the disk."""
    rows = connection.execute(_summaries().order_by(document_owners.c.row_id))
    return [_summary(row) for row in rows.mappings()]


def document_page(connection: Connection, owner: str, wanted: Wanted) -> Listed[DocumentSummary]:
    """Of one owner, in the order of adding. Raises NotFound for an unknown `after`."""
    position = None
    if wanted.after is not None:
        position = connection.execute(
            select(document_owners.c.row_id).where(_owned(wanted.after, owner))
        ).one_or_none()
        if position is None:
            raise unknown("document", wanted.after)
    statement = _summaries().where(document_owners.c.owner == owner)
    rows, has_more = part_of(connection, statement, (document_owners.c.row_id,), position, wanted)
    return Listed(items=tuple(_summary(row) for row in rows), has_more=has_more)


def document_summary(connection: Connection, document_id: str, owner: str) -> DocumentSummary:
    """Raises NotFound."""
    found = connection.execute(_summaries().where(_owned(document_id, owner)))
    row = found.mappings().one_or_none()
    if row is None:
        raise unknown("document", document_id)
    return _summary(row)


def put_file(connection: Connection, document_id: str, content: bytes) -> None:
    """Kept once. Raises NotFound."""
    try:
        connection.execute(
            insert_or(connection, files).on_conflict_do_nothing(index_elements=["document_id"]),
            {"document_id": document_id, "content": content},
        )
    except IntegrityError as error:
        raise unknown("document", document_id) from error


def get_file(connection: Connection, document_id: str) -> bytes:
    """Raises NotFound."""
    content: bytes | None = connection.scalar(
        select(files.c.content).where(files.c.document_id == document_id)
    )
    if content is None:
        raise unknown("original file of document", document_id)
    return content


def delete_document(
    connection: Connection, full_text: Search, document_id: str, owner: str
) -> None:
    """Raises NotFound. With the last owner go file, chunkings and chunks, by foreign keys."""
    gone = connection.execute(delete(document_owners).where(_owned(document_id, owner)))
    if gone.rowcount == 0:
        raise unknown("document", document_id)
    forget_derived(connection, document_id, owner)
    own = select(collections.c.collection_id).where(collections.c.owner == owner)
    connection.execute(
        delete(collection_documents).where(
            collection_documents.c.document_id == document_id,
            collection_documents.c.collection_id.in_(own),
        )
    )
    others = select(document_owners.c.owner).where(document_owners.c.document_id == document_id)
    if connection.scalar(others.limit(1)) is None:
        for chunking_id in _chunking_ids(connection, [document_id]):
            full_text.remove(connection, chunking_id)
        connection.execute(delete(documents).where(documents.c.document_id == document_id))


def _owned(document_id: str, owner: str) -> ColumnElement[bool]:
    return and_(document_owners.c.document_id == document_id, document_owners.c.owner == owner)


def _summaries() -> Select[Any]:
    return select(*_SUMMARY_COLUMNS).select_from(documents.join(document_owners))


def put_chunks(
    connection: Connection,
    full_text: Search,
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
    full_text: Search,
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


def _document(row: RowMapping, name: str) -> Document:
    return Document(
        document_id=row["document_id"],
        sha256=row["sha256"],
        name=name,
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
