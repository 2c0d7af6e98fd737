"""Who is asking: the caller of a request, and what that caller may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from minions.errors import Forbidden, Unauthorized
from minions.keys import TOKEN_PREFIX, Scope
from minions.rest.office import OfficeOf
from minions.rest.rates import RateLimits
from minions.store.model import LOCAL_OWNER

BEARER = HTTPBearer(auto_error=False, description=f"A key of this service: `{TOKEN_PREFIX}...`")
"""Not needed where the service asks for no key, so it raises nothing itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who is asking. Everything that is made belongs to `owner`, and is shown to no other."""

    owner: str
    scopes: frozenset[Scope]


LOCAL_CALLER = Caller(owner=LOCAL_OWNER, scopes=frozenset(Scope))


async def caller_of(
    request: Request,
    office: OfficeOf,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
) -> Caller:
    """The caller. Without any key in the store it is the local user. Raises Unauthorized, and
    TooMany for a key that asks too often."""
    ring = office.app.ring
    if not request.app.state.needs_key and not await ring.required():
        return LOCAL_CALLER
    if credentials is None:
        raise Unauthorized(
            f"This service needs a key: send `Authorization: Bearer {TOKEN_PREFIX}...`. "
            "`minions keys create` makes one."
        )
    key = await ring.find(credentials.credentials)
    if key is None:
        raise Unauthorized("This key is unknown or was revoked. `minions keys create` makes one.")
    structlog.contextvars.bind_contextvars(key_id=key.key_id)
    rates: RateLimits = request.app.state.rates
    await rates.count(key)
    return Caller(owner=key.key_id, scopes=frozenset(map(Scope, key.scopes)))


CallerOf = Annotated[Caller, Depends(caller_of)]


def may(*scopes: Scope) -> Callable[[Caller], Awaitable[Caller]]:
    """A dependency that yields the caller if that one has one of `scopes`. Raises Forbidden."""

    async def allowed(caller: CallerOf) -> Caller:
        if caller.scopes.isdisjoint(scopes):
            needed = " or ".join(scope.value for scope in scopes)
            raise Forbidden(f"This key may not do that: it lacks the scope {needed}.")
        return caller

    return allowed


Asking = Annotated[Caller, Depends(may(Scope.ASK))]
Filing = Annotated[Caller, Depends(may(Scope.DOCUMENTS))]
Seeing = Annotated[Caller, Depends(may(Scope.ASK, Scope.DOCUMENTS))]
"""Reading what is there takes either scope."""
Administering = Depends(may(Scope.ADMIN))
"""For routes that need the right and not the name."""
