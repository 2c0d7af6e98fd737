"""The ASGI application: routers, middleware, and what lives as long as the service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from minions.app import App, open_app, read_limits
from minions.eventlog import EventLog, writing
from minions.rest import (
    collections,
    documents,
    evals,
    follow,
    health,
    money,
    nodes,
    openai_chat,
    openai_files,
    openai_models,
    openai_responses,
    questions,
)
from minions.rest.errors import add_errors
from minions.rest.office import Office
from minions.rest.page import mount_page
from minions.rest.rates import RateLimits
from minions.rest.requests import RequestRecords
from minions.rest.sizes import DeclaredSizes
from minions.settings import Settings
from minions.telemetry.metrics import Meters
from minions.telemetry.tracing import open_sink

ROUTERS = (
    documents.router,
    collections.router,
    questions.router,
    follow.router,
    money.router,
    nodes.router,
    evals.router,
    openai_models.router,
    openai_chat.router,
    openai_responses.router,
    openai_files.router,
    health.router,
)
"""In the order in which the API's description lists them."""
LOOPBACK_NAMES = ["127.0.0.1", "localhost", "[::1]"]
FORM_BYTES = 1024**2
"""What a request may hold beside its file."""


def create_app(settings: Settings, *, loopback: bool = True) -> FastAPI:
    """The ASGI application. Opens store and cloud at start, loads the worker at first need.

    Not on `loopback`, every request needs a key."""
    meters = Meters()

    @contextlib.asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with open_app(settings) as app, writing(EventLog(store=app.store)) as events:
            office = _office(app, events, meters)
            api.state.office = office
            if app.desk.auditor is not None:
                app.desk.auditor.open(meters.watch)
            await office.resume()
            try:
                yield
            finally:
                await office.drain(grace_s=0)
                office.spans.close()

    api = FastAPI(
        title="Minions",
        version="0.1.0",
        lifespan=lifespan,
        # Traces are ours to send or not: the framework must not find an exporter by itself.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
    )
    api.state.needs_key = not loopback
    api.state.rates = RateLimits()
    _limit_bodies(api, read_limits(settings).max_bytes + FORM_BYTES)
    _add_middleware(api, meters, loopback=loopback)
    add_errors(api)
    for router in ROUTERS:
        api.include_router(router)
    mount_page(api)
    return api


def _office(app: App, events: EventLog, meters: Meters) -> Office:
    spans = open_sink(app.settings.otel_endpoint)
    return Office(app=app, events=events, meters=meters, spans=spans)


def _limit_bodies(api: FastAPI, max_bytes: int) -> None:
    """By what they say of themselves, and else by counting what comes."""
    api.add_middleware(RequestBodyLimitMiddleware, max_body_size=max_bytes)
    api.add_middleware(DeclaredSizes, max_bytes=max_bytes)


def _add_middleware(api: FastAPI, meters: Meters, *, loopback: bool) -> None:
    """The last one added is the outermost."""
    if loopback:
        # A page elsewhere must not reach this service through a name that it points at loopback.
        # Where keys are needed there is nothing to reach without one.
        api.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_NAMES)
    api.add_middleware(RequestRecords, meters=meters)
