"""Responses that clients may come back to by id, in the store: they outlive the process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from minions.chat.conversation import Said
from minions.errors import NotFound
from minions.store.codec import from_plain, to_plain
from minions.store.rules import RESPONSE_DAYS
from minions.store.service import ServiceStore, StoredResponse


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelved:
    """A finished response and the conversation that led to it, its answer included."""

    body: dict[str, Any]
    said: tuple[Said, ...]
    """Without instructions: they are not carried over. Files are kept by their ids only."""
    documents: tuple[str, ...] = ()
    """What it was answered from: it is forgotten with any of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponseShelf:
    """The responses of all owners, each shown to its own."""

    store: ServiceStore

    async def put(self, owner: str, response_id: str, shelved: Shelved) -> None:
        """Keep a response for its owner; the same id again is kept as it was."""
        await self.store.put_response(
            StoredResponse(
                response_id=response_id,
                owner=owner,
                body=shelved.body,
                said=tuple(to_plain(one) for one in shelved.said),
                document_ids=shelved.documents,
                created_at=time.time(),
            )
        )

    async def get(self, owner: str, response_id: str) -> Shelved:
        """Raises NotFound for what is not there, or belongs to others."""
        try:
            kept = await self.store.get_response(response_id, owner)
        except NotFound as error:
            raise _not_here(response_id) from error
        said = tuple(from_plain(Said, one) for one in kept.said)
        return Shelved(body=kept.body, said=said, documents=kept.document_ids)

    async def delete(self, owner: str, response_id: str) -> None:
        """Forget a response. Raises NotFound."""
        try:
            await self.store.delete_response(response_id, owner)
        except NotFound as error:
            raise _not_here(response_id) from error


def _not_here(response_id: str) -> NotFound:
    return NotFound(
        f"There is no response {response_id} here: it was not stored, was deleted (itself or a "
        f"document of it), or is older than {RESPONSE_DAYS} days. Send the whole conversation "
        "instead."
    )
