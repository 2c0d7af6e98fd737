"""The service's part of the store that ships: lists, files, collections, events, keys, claims."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from minions.store import sql_collections, sql_documents, sql_keys, sql_responses, sql_runs
from minions.store.database import AnyDatabase
from minions.store.model import RunRecord
from minions.store.service import (
    ApiKey,
    Claim,
    Collection,
    Listed,
    RunEvent,
    StoredResponse,
    Wanted,
)
from minions.store.summary import DocumentSummary


class SqlService:
    """What `ServiceStore` has beyond `Store`."""

    def __init__(self, database: AnyDatabase) -> None:
        """`database` is open and migrated."""
        self.database = database

    async def check(self) -> None:
        """Begins a write: SQLite takes its lock then, which a read-only database refuses."""
        await self.database.write(lambda connection: connection.execute(select(1)))

    async def document_page(self, owner: str, wanted: Wanted) -> Listed[DocumentSummary]:
        """In the order in which the owner added them. NotFound for an unknown `after`."""
        return await self.database.read(sql_documents.document_page, owner, wanted)

    async def document_summary(self, document_id: str, owner: str) -> DocumentSummary:
        """A document without its text. Raises NotFound."""
        return await self.database.read(sql_documents.document_summary, document_id, owner)

    async def put_file(self, document_id: str, content: bytes) -> None:
        """Keep the original bytes of a document. Raises NotFound."""
        await self.database.write(sql_documents.put_file, document_id, content)

    async def get_file(self, document_id: str) -> bytes:
        """Raises NotFound, also for a document whose file was never kept."""
        return await self.database.read(sql_documents.get_file, document_id)

    async def run_page(self, owner: str, wanted: Wanted) -> Listed[RunRecord]:
        """By time of asking. Raises NotFound for an unknown `after`."""
        return await self.database.read(sql_runs.run_page, owner, wanted)

    async def unfinished_runs(self) -> list[RunRecord]:
        """Everybody's queued and running ones, the oldest first."""
        return await self.database.read(sql_runs.unfinished_runs)

    async def record_events(self, events: Sequence[RunEvent]) -> None:
        """In one transaction; a sequence number that is there already stays as it was."""
        await self.database.write(sql_runs.record_events, events)

    async def events(self, run_id: str, after: int = 0) -> list[RunEvent]:
        """Those with a sequence number above `after`, in order."""
        return await self.database.read(sql_runs.list_events, run_id, after)

    async def put_collection(self, collection: Collection) -> None:
        """Keep; the same id again is kept as it was. Raises NotFound for an unknown document."""
        await self.database.write(sql_collections.put_collection, collection)

    async def get_collection(self, collection_id: str, owner: str) -> Collection:
        """Raises NotFound."""
        return await self.database.read(sql_collections.get_collection, collection_id, owner)

    async def collection_page(self, owner: str, wanted: Wanted) -> Listed[Collection]:
        """By time of making. Raises NotFound for an unknown `after`."""
        return await self.database.read(sql_collections.collection_page, owner, wanted)

    async def delete_collection(self, collection_id: str, owner: str) -> None:
        """Its documents stay. Raises NotFound."""
        await self.database.write(sql_collections.delete_collection, collection_id, owner)

    async def put_key(self, key: ApiKey) -> None:
        """Raises BadRequest for a key that is there already."""
        await self.database.write(sql_keys.put_key, key)

    async def find_key(self, token_sha256: str) -> ApiKey | None:
        """The key with this hash, also when it is revoked."""
        return await self.database.read(sql_keys.find_key, token_sha256)

    async def list_keys(self) -> list[ApiKey]:
        """Oldest first, revoked ones too."""
        return await self.database.read(sql_keys.list_keys)

    async def revoke_key(self, key_id: str, at: float) -> None:
        """Raises NotFound."""
        await self.database.write(sql_keys.revoke_key, key_id, at)

    async def put_response(self, response: StoredResponse) -> None:
        """The same id again is kept as it was."""
        await self.database.write(sql_responses.put_response, response)

    async def get_response(self, response_id: str, owner: str) -> StoredResponse:
        """Raises NotFound."""
        return await self.database.read(sql_responses.get_response, response_id, owner)

    async def delete_response(self, response_id: str, owner: str) -> None:
        """Raises NotFound."""
        await self.database.write(sql_responses.delete_response, response_id, owner)

    async def claim(self, claim: Claim) -> Claim:
        """The claim that stands under this owner and key."""
        return await self.database.write(sql_keys.claim, claim)
