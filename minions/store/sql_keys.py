"""Keys of the service and clients' idempotency keys, as work on a connection."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal

from sqlalchemy import Connection, RowMapping, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from minions.errors import BadRequest
from minions.store.errors import unknown
from minions.store.service import ApiKey, Claim
from minions.store.tables import api_keys, claims
from minions.store.upsert import insert_or


def put_key(connection: Connection, key: ApiKey) -> None:
    """Raises BadRequest for an id or a token that is there already."""
    usd = None if key.usd_per_day is None else str(key.usd_per_day)
    row = asdict(key) | {"scopes": list(key.scopes), "usd_per_day": usd}
    try:
        connection.execute(insert(api_keys), row)
    except IntegrityError as error:
        raise BadRequest(f"key {key.key_id!r} exists already: make a new one") from error


def find_key(connection: Connection, token_sha256: str) -> ApiKey | None:
    """The key with this hash, also when it is revoked."""
    statement = select(api_keys).where(api_keys.c.token_sha256 == token_sha256)
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else _key(row)


def list_keys(connection: Connection) -> list[ApiKey]:
    """Oldest first, revoked ones too."""
    statement = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id)
    return [_key(row) for row in connection.execute(statement).mappings()]


def revoke_key(connection: Connection, key_id: str, at: float) -> None:
    """The first revocation stands. Raises NotFound."""
    earlier = func.coalesce(api_keys.c.revoked_at, at)
    statement = update(api_keys).where(api_keys.c.key_id == key_id).values(revoked_at=earlier)
    if connection.execute(statement).rowcount == 0:
        raise unknown("key", key_id)


def claim(connection: Connection, wanted: Claim) -> Claim:
    """The claim that stands under this owner and key."""
    statement = insert_or(connection, claims).on_conflict_do_nothing(
        index_elements=["owner", "claim_key"]
    )
    connection.execute(statement, asdict(wanted))
    row = connection.execute(
        select(claims).where(claims.c.owner == wanted.owner, claims.c.claim_key == wanted.claim_key)
    )
    return Claim(**row.mappings().one())


def _key(row: RowMapping) -> ApiKey:
    usd = row["usd_per_day"]
    return ApiKey(
        **{
            **row,
            "scopes": tuple(row["scopes"]),
            "usd_per_day": None if usd is None else Decimal(usd),
        }
    )
