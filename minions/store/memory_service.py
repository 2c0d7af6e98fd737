"""The service's part of the store in plain dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from minions.documents.model import Document
from minions.errors import BadRequest
from minions.store.errors import unknown
from minions.store.listing import listed
from minions.store.model import RunRecord
from minions.store.rules import RESPONSE_S, UNFINISHED
from minions.store.service import (
    ApiKey,
    Claim,
    Collection,
    Listed,
    RunEvent,
    StoredResponse,
    Wanted,
)
from minions.store.summary import DocumentSummary, summarise


class MemoryService:
    """What `ServiceStore` has beyond `Store`."""

    def __init__(self) -> None:
        self._documents: dict[str, Document] = {}
        self._owned: dict[tuple[str, str], tuple[str, float]] = {}
        """(owner, document id) -> that owner's name for it, and when it was added."""
        self._files: dict[str, bytes] = {}
        self._runs: dict[str, RunRecord] = {}
        self._events: dict[str, dict[int, RunEvent]] = {}
        self._collections: dict[str, Collection] = {}
        self._keys: dict[str, ApiKey] = {}
        self._claims: dict[tuple[str, str], Claim] = {}
        self._responses: dict[str, StoredResponse] = {}

    async def check(self) -> None:
        """A dictionary can always be written."""

    async def document_page(self, owner: str, wanted: Wanted) -> Listed[DocumentSummary]:
        """In the order in which the owner added them. NotFound for an unknown `after`."""
        own = [self._summary(*key) for key in self._owned if key[0] == owner]
        return listed(own, lambda summary: summary.document_id, "document", wanted)

    async def document_summary(self, document_id: str, owner: str) -> DocumentSummary:
        """Raises NotFound."""
        if (owner, document_id) not in self._owned:
            raise unknown("document", document_id)
        return self._summary(owner, document_id)

    async def put_file(self, document_id: str, content: bytes) -> None:
        """Raises NotFound."""
        if document_id not in self._documents:
            raise unknown("document", document_id)
        self._files.setdefault(document_id, content)

    async def get_file(self, document_id: str) -> bytes:
        """Raises NotFound, also for a document whose file was never kept."""
        if document_id not in self._files:
            raise unknown("original file of document", document_id)
        return self._files[document_id]

    async def run_page(self, owner: str, wanted: Wanted) -> Listed[RunRecord]:
        """By time of asking. Raises NotFound for an unknown `after`."""
        own = sorted(
            (run for run in self._runs.values() if run.owner == owner),
            key=lambda run: (run.created_at, run.run_id),
        )
        return listed(own, lambda run: run.run_id, "question", wanted)

    async def unfinished_runs(self) -> list[RunRecord]:
        """Everybody's queued and running ones, the oldest first."""
        unfinished = [run for run in self._runs.values() if run.status in UNFINISHED]
        return sorted(unfinished, key=lambda run: (run.created_at, run.run_id))

    async def record_events(self, events: Sequence[RunEvent]) -> None:
        """A sequence number that is there already stays as it was."""
        for event in events:
            if event.run_id in self._runs:
                self._events.setdefault(event.run_id, {}).setdefault(event.sequence, event)

    async def events(self, run_id: str, after: int = 0) -> list[RunEvent]:
        """Those with a sequence number above `after`, in order."""
        kept = self._events.get(run_id, {})
        return [kept[sequence] for sequence in sorted(kept) if sequence > after]

    async def put_collection(self, collection: Collection) -> None:
        """The same id again is kept as it was. Raises NotFound for an unknown document."""
        for document_id in collection.document_ids:
            if (collection.owner, document_id) not in self._owned:
                raise unknown("document", document_id)
        distinct = tuple(dict.fromkeys(collection.document_ids))
        kept = replace(collection, document_ids=distinct)
        self._collections.setdefault(collection.collection_id, kept)

    async def get_collection(self, collection_id: str, owner: str) -> Collection:
        """Raises NotFound."""
        found = self._collections.get(collection_id)
        if found is None or found.owner != owner:
            raise unknown("collection", collection_id)
        return found

    async def collection_page(self, owner: str, wanted: Wanted) -> Listed[Collection]:
        """By time of making. Raises NotFound for an unknown `after`."""
        own = sorted(
            (kept for kept in self._collections.values() if kept.owner == owner),
            key=lambda kept: (kept.created_at, kept.collection_id),
        )
        return listed(own, lambda kept: kept.collection_id, "collection", wanted)

    async def delete_collection(self, collection_id: str, owner: str) -> None:
        """Its documents stay. Raises NotFound."""
        await self.get_collection(collection_id, owner)
        del self._collections[collection_id]

    async def put_key(self, key: ApiKey) -> None:
        """Raises BadRequest for a key that is there already."""
        if key.key_id in self._keys or await self.find_key(key.token_sha256) is not None:
            raise BadRequest(f"key {key.key_id!r} exists already: make a new one")
        self._keys[key.key_id] = key

    async def find_key(self, token_sha256: str) -> ApiKey | None:
        """The key with this hash, also when it is revoked."""
        found = (key for key in self._keys.values() if key.token_sha256 == token_sha256)
        return next(found, None)

    async def list_keys(self) -> list[ApiKey]:
        """Oldest first, revoked ones too."""
        return sorted(self._keys.values(), key=lambda key: (key.created_at, key.key_id))

    async def revoke_key(self, key_id: str, at: float) -> None:
        """The first revocation stands. Raises NotFound."""
        if key_id not in self._keys:
            raise unknown("key", key_id)
        key = self._keys[key_id]
        self._keys[key_id] = replace(
            key, revoked_at=at if key.revoked_at is None else key.revoked_at
        )

    async def put_response(self, response: StoredResponse) -> None:
        """The same id again is kept as it was."""
        oldest = response.created_at - RESPONSE_S
        self._responses = {
            key: kept for key, kept in self._responses.items() if kept.created_at >= oldest
        }
        ids = tuple(sorted(set(response.document_ids)))
        self._responses.setdefault(response.response_id, replace(response, document_ids=ids))

    async def get_response(self, response_id: str, owner: str) -> StoredResponse:
        """Raises NotFound."""
        found = self._responses.get(response_id)
        if found is None or found.owner != owner:
            raise unknown("response", response_id)
        return found

    async def delete_response(self, response_id: str, owner: str) -> None:
        """Raises NotFound."""
        await self.get_response(response_id, owner)
        del self._responses[response_id]

    async def claim(self, claim: Claim) -> Claim:
        """The claim that stands under this owner and key."""
        return self._claims.setdefault((claim.owner, claim.claim_key), claim)

    def _summary(self, owner: str, document_id: str) -> DocumentSummary:
        return summarise(self._documents[document_id], *self._owned[owner, document_id])
