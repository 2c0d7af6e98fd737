"""Idempotency-Key: a request that is sent twice makes one thing.

The id of what is made is fixed before it is made, so a crash in between loses nothing: the second
request makes, or finds, the same thing under the same id.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from typing import Annotated

from fastapi import Header

from minions.errors import KeyReused
from minions.store.service import Claim, ServiceStore

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Any text of yours: sent again with it, the request is done once.",
    ),
]


async def claimed_id(
    store: ServiceStore, owner: str, key: str | None, request: str | bytes, prefix: str
) -> str | None:
    """The id for what `request` makes: the same for the same key; None without one.

    Raises KeyReused when the key came with another request before."""
    standing = await claimed(store, owner, key, request, prefix)
    return None if standing is None else standing.resource_id


def number_of(claim: Claim | None) -> str:
    """What the ids of all that a request makes have in common, after their prefix."""
    return uuid.uuid4().hex[:24] if claim is None else claim.resource_id.partition("_")[2]


async def claimed(
    store: ServiceStore,
    owner: str,
    key: str | None,
    request: str | bytes,
    prefix: str = "run",
) -> Claim | None:
    """What `claimed_id` names, with the time of the first request."""
    if key is None:
        return None
    content = request.encode(errors="surrogatepass") if isinstance(request, str) else request
    claim = Claim(
        owner=owner,
        claim_key=key,
        digest=hashlib.sha256(content).hexdigest(),
        resource_id=f"{prefix}_{uuid.uuid4().hex[:24]}",
        created_at=time.time(),
    )
    standing = await store.claim(claim)
    if standing.digest != claim.digest:
        raise KeyReused(
            "This Idempotency-Key came with another request before. Use a new key for each request."
        )
    return standing
