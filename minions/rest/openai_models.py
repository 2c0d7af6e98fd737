"""`/v1/models`: the names that OpenAI's clients may ask for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from minions.chat.turn import Route
from minions.errors import NotFound
from minions.rest.access import Seeing
from minions.rest.errors import ERRORS
from minions.rest.listing import whole_list
from minions.rest.office import OfficeOf
from minions.rest.openai_wishes import routes
from minions.settings import Settings

router = APIRouter(prefix="/v1/models", tags=["openai"], responses=ERRORS)
_ABOUT = {
    Route.LADDER: "The local model, or the cloud where that pays off.",
    Route.LOCAL: "The local model only: nothing leaves the machine.",
    Route.CLOUD: "The cloud at once.",
}


@router.get("")
async def list_models(office: OfficeOf, _caller: Seeing) -> dict[str, Any]:
    """Who may be asked."""
    return whole_list(_models(office.app.settings))


@router.get("/{model:path}")
async def get_model(office: OfficeOf, _caller: Seeing, model: str) -> dict[str, Any]:
    """One of them."""
    for known in _models(office.app.settings):
        if known["id"] == model:
            return known
    raise NotFound(f"There is no model {model!r} here. `/v1/models` lists all.")


def _models(settings: Settings) -> list[dict[str, Any]]:
    """The routes first, then the models by their own names; the cloud's only where there is one."""
    named = [(name, route) for name, route in routes(settings).items()]
    named.sort(key=lambda pair: (pair[0] not in set(Route), list(Route).index(pair[1])))
    return [
        {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "minions",
            "description": _ABOUT[route],
        }
        for name, route in named
        if route is not Route.CLOUD or settings.has_cloud
    ]
