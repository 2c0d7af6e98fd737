"""The machines that read, and what each is doing."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from minions.rest.access import Administering
from minions.rest.errors import ERRORS
from minions.rest.listing import whole_list
from minions.rest.office import OfficeOf

router = APIRouter(prefix="/v1/nodes", tags=["machines"], responses=ERRORS)


@router.get("", dependencies=[Administering])
async def list_nodes(office: OfficeOf) -> dict[str, Any]:
    """Every node with its model; one whose model was not needed yet says so."""
    return whole_list([dict(node) for node in office.app.pools.nodes()])
