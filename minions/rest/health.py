"""Whether the process lives, whether it can take work, and its figures."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from minions.app import App
from minions.errors import MinionsError
from minions.rest.access import Administering
from minions.rest.errors import ERRORS, in_json
from minions.rest.office import OfficeOf
from minions.telemetry.metrics import MEDIA_TYPE
from workers import WorkerError

router = APIRouter(tags=["health"])
MIN_FREE_BYTES = 64 * 1024**2
"""Of disk space: a question of a long document writes a few megabytes."""
OK = "ok"


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": OK}


@router.get("/readyz", responses={503: {"description": "What is wrong, check by check."}})
async def ready(office: OfficeOf) -> JSONResponse:
    """Whether a question could be accepted and answered: the store can be written, there is room
    on its disk, the model is loaded or there to be loaded, and the service is not stopping."""
    checks = await readiness(office.app)
    checks["accepting"] = "stopping" if office.draining else OK
    is_ready = all(found == OK for found in checks.values())
    body: dict[str, Any] = {"status": "ready" if is_ready else "not ready", "checks": checks}
    return JSONResponse(body, status_code=200 if is_ready else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **in_json(ERRORS)},
    dependencies=[Administering],
)
async def metrics(office: OfficeOf) -> Response:
    """Figures for Prometheus. Where keys are needed, with one of scope `admin`."""
    return Response(office.meters.exposition(), media_type=MEDIA_TYPE)


async def readiness(app: App) -> dict[str, str]:
    """Each check's name with `ok` or what is wrong."""
    return {
        "store": await _store(app),
        "disk": await asyncio.to_thread(_disk, app),
        "worker": await asyncio.to_thread(_worker, app),
    }


async def _store(app: App) -> str:
    try:
        await app.store.check()
    except MinionsError as error:
        return str(error)
    return OK


def _disk(app: App) -> str:
    free = shutil.disk_usage(app.settings.state_dir).free
    if free < MIN_FREE_BYTES:
        return f"only {free:,} bytes are free under {app.settings.state_dir}: make room"
    return OK


def _worker(app: App) -> str:
    try:
        app.pools.check()
    except (WorkerError, MinionsError) as error:
        return str(error)
    return OK
