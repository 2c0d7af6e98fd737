"""Collections over HTTP: documents under one name, to be asked together."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Path

from minions.rest.access import Filing, Seeing
from minions.rest.bodies import CollectionBody
from minions.rest.errors import ERRORS, MAY_FAIL
from minions.rest.idempotency import IdempotencyKey, claimed_id
from minions.rest.listing import WantedOf, list_json
from minions.rest.office import OfficeOf
from minions.store.service import Collection

router = APIRouter(prefix="/v1/collections", tags=["collections"], responses=ERRORS)
CollectionId = Annotated[str, Path(max_length=200, examples=["col_0123456789abcdef01234567"])]


@router.post("", status_code=201, responses=MAY_FAIL)
async def create_collection(
    office: OfficeOf, caller: Filing, body: CollectionBody, key: IdempotencyKey = None
) -> dict[str, Any]:
    """Put documents of yours under one name."""
    store = office.app.store
    claimed = await claimed_id(store, caller.owner, key, body.model_dump_json(), "col")
    collection = Collection(
        collection_id=claimed or f"col_{uuid.uuid4().hex[:24]}",
        owner=caller.owner,
        name=body.name,
        document_ids=tuple(dict.fromkeys(body.documents)),
        created_at=time.time(),
    )
    await store.put_collection(collection)
    return collection_json(await store.get_collection(collection.collection_id, caller.owner))


@router.get("")
async def list_collections(office: OfficeOf, caller: Seeing, wanted: WantedOf) -> dict[str, Any]:
    """Your collections, the newest first."""
    return list_json(await office.app.store.collection_page(caller.owner, wanted), collection_json)


@router.get("/{collection_id}")
async def get_collection(
    office: OfficeOf, caller: Seeing, collection_id: CollectionId
) -> dict[str, Any]:
    """A collection with the ids of its documents."""
    return collection_json(await office.app.store.get_collection(collection_id, caller.owner))


@router.delete("/{collection_id}")
async def delete_collection(
    office: OfficeOf, caller: Filing, collection_id: CollectionId
) -> dict[str, Any]:
    """Forget a collection. Its documents stay."""
    await office.app.store.delete_collection(collection_id, caller.owner)
    return {"id": collection_id, "object": "collection", "deleted": True}


def collection_json(collection: Collection) -> dict[str, Any]:
    """A collection as clients see it."""
    return {
        "id": collection.collection_id,
        "object": "collection",
        "name": collection.name,
        "documents": list(collection.document_ids),
        "created_at": collection.created_at,
    }
