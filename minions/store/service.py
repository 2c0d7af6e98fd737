"""What a service keeps beside the path of a question: lists, files, events, keys, claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, Protocol, TypeVar

from minions.store.model import RunRecord, Store
from minions.store.summary import DocumentSummary

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which part of a list is asked for."""

    limit: int = 20
    after: str | None = None
    """Id of the last item of the part before; None for the beginning."""
    newest_first: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed(Generic[T]):
    """Part of a list."""

    items: tuple[T, ...]
    has_more: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEvent:
    """One thing that happened in a run, as clients are told."""

    run_id: str
    sequence: int
    """From 1, without gaps."""
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Collection:
    """Documents under one name, to be asked together."""

    collection_id: str
    owner: str
    name: str
    document_ids: tuple[str, ...]
    created_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """A key of the service. The token itself is shown once, at its creation, and kept nowhere."""

    key_id: str
    """Also the owner of all that is made with the key."""
    token_sha256: str
    name: str
    scopes: tuple[str, ...]
    requests_per_minute: int | None
    """None for no limit."""
    usd_per_day: Decimal | None
    """What its questions of a UTC day may cost; None for no cap."""
    created_at: float
    revoked_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A client's idempotency key: the first request under it decides what it stands for."""

    owner: str
    claim_key: str
    digest: str
    """SHA-256 of the request: another request under the same key is an error of the client's."""
    resource_id: str
    """Id of what the request makes, fixed before it is made."""
    created_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredResponse:
    """A finished answer over OpenAI's API, kept for who comes back to it."""

    response_id: str
    owner: str
    body: dict[str, Any]
    """As it was sent."""
    said: tuple[dict[str, Any], ...] = ()
    """The conversation that led to it, its answer included, as its writer reads it."""
    document_ids: tuple[str, ...] = ()
    """What it was answered from: it is forgotten with any of them."""
    created_at: float


class ServiceStore(Store, Protocol):
    """`Store`, and what the service needs of it. Owned things of others are NotFound."""

    async def check(self) -> None:
        """Raises StoreUnavailable when nothing could be written now."""
        ...

    async def document_page(self, owner: str, wanted: Wanted) -> Listed[DocumentSummary]:
        """In the order in which the owner added them. NotFound for an unknown `after`."""
        ...

    async def document_summary(self, document_id: str, owner: str) -> DocumentSummary: ...
    async def put_file(self, document_id: str, content: bytes) -> None:
        """Keep the original bytes of a document; they go with it. Raises NotFound."""
        ...

    async def get_file(self, document_id: str) -> bytes:
        """Raises NotFound, also for a document whose file was never kept."""
        ...

    async def run_page(self, owner: str, wanted: Wanted) -> Listed[RunRecord]: ...
    async def unfinished_runs(self) -> list[RunRecord]:
        """Everybody's queued and running ones, the oldest first."""
        ...

    async def record_events(self, events: Sequence[RunEvent]) -> None:
        """Of any runs, in one transaction; a sequence number that is there already stays as it
        was, and events of a run that is not known are left out."""
        ...

    async def events(self, run_id: str, after: int = 0) -> list[RunEvent]:
        """Those with a sequence number above `after`, in order."""
        ...

    async def put_collection(self, collection: Collection) -> None:
        """Keep; the same id again is kept as it was. Raises NotFound for a document that its owner
        does not have."""
        ...

    async def get_collection(self, collection_id: str, owner: str) -> Collection: ...
    async def collection_page(self, owner: str, wanted: Wanted) -> Listed[Collection]: ...
    async def delete_collection(self, collection_id: str, owner: str) -> None:
        """Forget the collection; its documents stay."""
        ...

    async def put_key(self, key: ApiKey) -> None: ...
    async def find_key(self, token_sha256: str) -> ApiKey | None:
        """The key with this hash, also when it is revoked."""
        ...

    async def list_keys(self) -> list[ApiKey]:
        """Oldest first, revoked ones too."""
        ...

    async def revoke_key(self, key_id: str, at: float) -> None:
        """From now on it opens nothing; a key that was revoked earlier stays so. NotFound."""
        ...

    async def put_response(self, response: StoredResponse) -> None:
        """Keep; the same id again is kept as it was. Those of over `RESPONSE_DAYS` go."""
        ...

    async def get_response(self, response_id: str, owner: str) -> StoredResponse:
        """Raises NotFound."""
        ...

    async def delete_response(self, response_id: str, owner: str) -> None:
        """Raises NotFound."""
        ...

    async def claim(self, claim: Claim) -> Claim:
        """The claim that stands under this owner and key: the given one when it is the first."""
        ...
