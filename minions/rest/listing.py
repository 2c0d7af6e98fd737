"""Lists over HTTP, part by part: `limit`, `after`, `order` in, OpenAI's list object out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Query

from minions.store.service import Listed, Wanted

T = TypeVar("T")
MAX_LIMIT = 100


def wanted_of(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items in this part.")] = 20,
    after: Annotated[
        str | None, Query(max_length=200, description="`last_id` of the part before.")
    ] = None,
    order: Annotated[Literal["asc", "desc"], Query(description="By time.")] = "desc",
) -> Wanted:
    """The part of a list that a request wants."""
    return Wanted(limit=limit, after=after, newest_first=order == "desc")


WantedOf = Annotated[Wanted, Depends(wanted_of)]


def list_json(listed: Listed[T], item_json: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """Part of a list; every item has an `id`."""
    data = [item_json(item) for item in listed.items]
    return {
        "object": "list",
        "data": data,
        "has_more": listed.has_more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def whole_list(data: list[dict[str, Any]]) -> dict[str, Any]:
    """A list that is given at once."""
    return list_json(Listed(items=tuple(data), has_more=False), lambda item: item)
