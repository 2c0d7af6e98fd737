"""Collections of documents, as work on a connection."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, delete, insert, select

from minions.store.errors import unknown
from minions.store.listing import part_of
from minions.store.service import Collection, Listed, Wanted
from minions.store.tables import collection_documents, collections, document_owners
from minions.store.upsert import insert_or


def put_collection(connection: Connection, collection: Collection) -> None:
    """The same id again is kept as it was. Raises NotFound for a document of nobody or others."""
    _require_owned(connection, collection)
    row = {
        "collection_id": collection.collection_id,
        "owner": collection.owner,
        "name": collection.name,
        "created_at": collection.created_at,
    }
    statement = insert_or(connection, collections).on_conflict_do_nothing(
        index_elements=["collection_id"]
    )
    kept = connection.execute(statement.returning(collections.c.collection_id), row).first()
    links = [
        {"collection_id": collection.collection_id, "document_id": document_id}
        for document_id in dict.fromkeys(collection.document_ids)
    ]
    if kept is not None and links:
        connection.execute(insert(collection_documents), links)


def get_collection(connection: Connection, collection_id: str, owner: str) -> Collection:
    """Raises NotFound."""
    statement = select(collections).where(
        collections.c.collection_id == collection_id, collections.c.owner == owner
    )
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise unknown("collection", collection_id)
    return _collection(row, _members(connection, [collection_id])[collection_id])


def collection_page(connection: Connection, owner: str, wanted: Wanted) -> Listed[Collection]:
    """Of one owner. Raises NotFound for an unknown `after`."""
    order = (collections.c.created_at, collections.c.collection_id)
    position = None
    if wanted.after is not None:
        after = get_collection(connection, wanted.after, owner)
        position = (after.created_at, after.collection_id)
    statement = select(collections).where(collections.c.owner == owner)
    rows, has_more = part_of(connection, statement, order, position, wanted)
    members = _members(connection, [row["collection_id"] for row in rows])
    items = tuple(_collection(row, members[row["collection_id"]]) for row in rows)
    return Listed(items=items, has_more=has_more)


def delete_collection(connection: Connection, collection_id: str, owner: str) -> None:
    """Raises NotFound."""
    statement = delete(collections).where(
        collections.c.collection_id == collection_id, collections.c.owner == owner
    )
    if connection.execute(statement).rowcount == 0:
        raise unknown("collection", collection_id)


def _require_owned(connection: Connection, collection: Collection) -> None:
    owned = select(document_owners.c.document_id).where(
        document_owners.c.owner == collection.owner,
        document_owners.c.document_id.in_(collection.document_ids),
    )
    known = set(connection.scalars(owned))
    for document_id in collection.document_ids:
        if document_id not in known:
            raise unknown("document", document_id)


def _members(connection: Connection, collection_ids: Sequence[str]) -> dict[str, list[str]]:
    """Document ids by collection, in the order in which they were given."""
    members: dict[str, list[str]] = {collection_id: [] for collection_id in collection_ids}
    statement = (
        select(collection_documents.c.collection_id, collection_documents.c.document_id)
        .where(collection_documents.c.collection_id.in_(collection_ids))
        .order_by(collection_documents.c.row_id)
    )
    for collection_id, document_id in connection.execute(statement):
        members[collection_id].append(document_id)
    return members


def _collection(row: RowMapping, document_ids: Sequence[str]) -> Collection:
    return Collection(**row, document_ids=tuple(document_ids))
