"""Parts of a list after a given item, the same in both stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, tuple_

from minions.store.errors import unknown
from minions.store.service import Listed, Wanted

T = TypeVar("T")


def part_of(
    connection: Connection,
    statement: Select[Any],
    order: Sequence[ColumnElement[Any]],
    position: Sequence[Any] | None,
    wanted: Wanted,
) -> tuple[list[RowMapping], bool]:
    """Rows after `position` (values of the `order` columns) and whether there are more. A position
    is kept when rows come and go, which an offset is not."""
    if position is not None:
        here, there = tuple_(*order), tuple_(*position)
        statement = statement.where(here < there if wanted.newest_first else here > there)
    directed = [column.desc() if wanted.newest_first else column.asc() for column in order]
    found = connection.execute(statement.order_by(*directed).limit(wanted.limit + 1))
    rows = list(found.mappings())
    return rows[: wanted.limit], len(rows) > wanted.limit


def listed(items: Sequence[T], id_of: Callable[[T], str], kind: str, wanted: Wanted) -> Listed[T]:
    """The same for items in memory, oldest first. Raises NotFound for an unknown `after`."""
    directed = list(reversed(items)) if wanted.newest_first else list(items)
    start = 0
    if wanted.after is not None:
        ids = [id_of(item) for item in directed]
        if wanted.after not in ids:
            raise unknown(kind, wanted.after)
        start = ids.index(wanted.after) + 1
    end = start + wanted.limit
    return Listed(items=tuple(directed[start:end]), has_more=len(directed) > end)
