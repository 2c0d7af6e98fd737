"""Money set aside for cloud calls, as work on a connection that is the only writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Select, and_, delete, func, insert, or_, select

from minions.store.model import DayCap, Reservation
from minions.store.rules import CALL_S
from minions.store.tables import ledger, reservations, runs

_SAME = and_(
    ledger.c.run_id == reservations.c.run_id,
    ledger.c.call_key == reservations.c.call_key,
    ledger.c.attempt == reservations.c.attempt,
)


def reserve(connection: Connection, wanted: Reservation, caps: Sequence[DayCap]) -> DayCap | None:
    """The first cap that would be passed; without one the reservation is kept."""
    for cap in caps:
        committed = committed_nano_usd(connection, cap.since, cap.owner)
        if committed + wanted.nano_usd > cap.nano_usd:
            return cap
    connection.execute(insert(reservations), asdict(wanted))
    return None


def release(connection: Connection, unused: Reservation) -> None:
    """It need not be there."""
    connection.execute(
        delete(reservations).where(
            reservations.c.run_id == unused.run_id,
            reservations.c.call_key == unused.call_key,
            reservations.c.attempt == unused.attempt,
        )
    )


def list_reservations(
    connection: Connection, run_id: str | None, since: float
) -> list[Reservation]:
    """In the order of their making."""
    statement = select(reservations).where(reservations.c.created_at >= since)
    if run_id is not None:
        statement = statement.where(reservations.c.run_id == run_id)
    rows = connection.execute(statement.order_by(reservations.c.created_at))
    return [Reservation(**row) for row in rows.mappings()]


def committed_nano_usd(connection: Connection, since: float, owner: str | None) -> int:
    """Of known prices and of reservations that no known price has settled."""
    known = select(func.coalesce(func.sum(ledger.c.cost_nano_usd), 0)).where(
        ledger.c.kind == "cloud", ledger.c.created_at >= since
    )
    under_way = and_(ledger.c.row_id.is_(None), reservations.c.created_at >= since - CALL_S)
    unpriced = and_(
        ledger.c.row_id.is_not(None),
        ledger.c.cost_nano_usd.is_(None),
        ledger.c.created_at >= since,
    )
    held = (
        select(func.coalesce(func.sum(reservations.c.nano_usd), 0))
        .select_from(reservations.outerjoin(ledger, _SAME))
        .where(reservations.c.created_at >= since - CALL_S, or_(under_way, unpriced))
    )
    if owner is not None:
        known = known.where(ledger.c.run_id.in_(_runs_of(owner)))
        held = held.where(reservations.c.run_id.in_(_runs_of(owner)))
    # PostgreSQL sums integers as Decimal.
    return int(connection.scalar(known) or 0) + int(connection.scalar(held) or 0)


def _runs_of(owner: str) -> Select[Any]:
    return select(runs.c.run_id).where(runs.c.owner == owner)
