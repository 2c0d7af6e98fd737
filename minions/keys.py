"""Keys of the service: made, found by their hash, revoked; and the budget that each may spend.

A token is 256 random bits, so a plain SHA-256 of it is safe to keep: there is nothing to guess that
a slow hash would protect.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from minions.budget import DayBudget, SpentSince
from minions.store.service import ApiKey, ServiceStore

TOKEN_PREFIX = "mk_"
KEYS_FRESH_S = 1.0
"""How long keys are remembered: a revoked one opens nothing after this."""


class Scope(enum.StrEnum):
    """What a key may be used for."""

    ASK = "ask"
    """Questions, chat, estimates; and reading what came of them."""
    DOCUMENTS = "documents"
    """Uploading and deleting documents, files and collections."""
    ADMIN = "admin"
    """Nodes, evaluations and metrics of the whole service."""


def new_key(
    name: str,
    scopes: Iterable[Scope],
    *,
    requests_per_minute: int | None = None,
    usd_per_day: Decimal | None = None,
) -> tuple[ApiKey, str]:
    """A key to keep, and its token to show once."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        key_id=f"key_{secrets.token_hex(8)}",
        token_sha256=token_digest(token),
        name=name,
        scopes=tuple(sorted({scope.value for scope in scopes})),
        requests_per_minute=requests_per_minute,
        usd_per_day=usd_per_day,
        created_at=time.time(),
    )
    return key, token


def token_digest(token: str) -> str:
    """The hash under which a token is kept."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


@dataclass(kw_only=True)
class KeyRing:
    """The keys of a store, remembered for a second so that a request need not wait for the disk."""

    store: ServiceStore
    clock: Callable[[], float] = time.monotonic
    _keys: dict[str, ApiKey] = field(default_factory=dict, init=False)
    """By token hash, revoked ones too."""
    _read_at: float | None = field(default=None, init=False)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def required(self) -> bool:
        """Whether callers must show a key: from the first one on, and also when all were revoked,
        so that revoking never opens a door."""
        return bool(await self._fresh())

    async def find(self, token: str) -> ApiKey | None:
        """The key that this token is, unless it was revoked."""
        digest = token_digest(token)
        key = (await self._fresh()).get(digest)
        # The dictionary looked at a hash of 256 random bits: its timing tells nothing of use. The
        # comparison in constant time is the one that decides all the same.
        if key is None or not hmac.compare_digest(key.token_sha256, digest):
            return None
        return None if key.revoked_at is not None else key

    async def by_id(self, key_id: str) -> ApiKey | None:
        """The key with this id, also when it was revoked."""
        found = (key for key in (await self._fresh()).values() if key.key_id == key_id)
        return next(found, None)

    async def _fresh(self) -> dict[str, ApiKey]:
        async with self._reading:
            if self._read_at is None or self.clock() - self._read_at > KEYS_FRESH_S:
                self._keys = {key.token_sha256: key for key in await self.store.list_keys()}
                self._read_at = self.clock()
            return self._keys


@dataclass(kw_only=True)
class OwnerBudgets:
    """What each owner may spend in a day: the house's own cap, and within it that of the key."""

    ring: KeyRing
    house: DayBudget
    spent: SpentSince
    """Of the whole house; counted again for each key."""
    _budgets: dict[str, DayBudget] = field(default_factory=dict, init=False)

    async def of(self, owner: str) -> DayBudget:
        """The budget of one owner."""
        key = await self.ring.by_id(owner)
        if key is None or key.usd_per_day is None:
            return self.house
        return self._budgets.setdefault(owner, self._of_key(key, key.usd_per_day))

    def _of_key(self, key: ApiKey, usd_per_day: Decimal) -> DayBudget:
        return DayBudget(
            cap_usd=usd_per_day,
            store=self.ring.store,
            owner=key.key_id,
            spent_since=self.spent.of_owner(key.key_id),
            now=self.house.now,
            remedy=f"It is the cap of today (UTC) of the key {key.name!r}: lower --privacy, ask "
            "again tomorrow, or use a key with a higher cap.",
            unpriced_remedy="Choose a model with a known price, or use a key without a cap.",
            within=self.house,
        )
