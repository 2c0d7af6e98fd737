"""Answers over OpenAI's API that are kept, as work on a connection."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from minions.store.errors import unknown
from minions.store.rules import RESPONSE_S
from minions.store.service import StoredResponse
from minions.store.tables import response_documents, responses
from minions.store.upsert import insert_or


def put_response(connection: Connection, kept: StoredResponse) -> None:
    """The same id again is kept as it was; what is older than `RESPONSE_S` goes."""
    old = responses.c.created_at < kept.created_at - RESPONSE_S
    connection.execute(delete(responses).where(old))
    row = {
        "response_id": kept.response_id,
        "owner": kept.owner,
        "body": kept.body,
        "said": list(kept.said),
        "created_at": kept.created_at,
    }
    statement = insert_or(connection, responses).on_conflict_do_nothing(
        index_elements=["response_id"]
    )
    if connection.execute(statement, row).rowcount == 0 or not kept.document_ids:
        return
    connection.execute(
        insert(response_documents),
        [
            {"response_id": kept.response_id, "document_id": document_id}
            for document_id in dict.fromkeys(kept.document_ids)
        ],
    )


def get_response(connection: Connection, response_id: str, owner: str) -> StoredResponse:
    """Raises NotFound, also for what belongs to others."""
    statement = select(responses).where(
        responses.c.response_id == response_id, responses.c.owner == owner
    )
    row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise unknown("response", response_id)
    documents = connection.scalars(
        select(response_documents.c.document_id).where(
            response_documents.c.response_id == response_id
        )
    )
    fields = {**row, "said": tuple(row["said"])}
    return StoredResponse(**fields, document_ids=tuple(sorted(documents)))


def delete_response(connection: Connection, response_id: str, owner: str) -> None:
    """Raises NotFound."""
    statement = delete(responses).where(
        responses.c.response_id == response_id, responses.c.owner == owner
    )
    if connection.execute(statement).rowcount == 0:
        raise unknown("response", response_id)


def forget_responses(connection: Connection, document_id: str, owner: str) -> None:
    """Remove the answers that this owner got from a document."""
    of_document = select(response_documents.c.response_id).where(
        response_documents.c.document_id == document_id
    )
    connection.execute(
        delete(responses).where(
            responses.c.owner == owner, responses.c.response_id.in_(of_document)
        )
    )
