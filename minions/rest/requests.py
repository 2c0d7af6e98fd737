"""Around every request: its id in and out, one log line, its figures."""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minions.telemetry.metrics import Meters

REQUEST_ID = "x-request-id"
_GIVEN = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""Ids of clients that are passed on: what could forge a log line or a header is replaced."""
UNROUTED = "none"
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RequestRecords:
    """Middleware: the outermost, so that refusals of the others are recorded too."""

    app: ASGIApp
    meters: Meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Only HTTP is recorded; start and end of the service pass through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = _Record(request_id=_request_id(scope), send=send)
        structlog.contextvars.clear_contextvars()
        with structlog.contextvars.bound_contextvars(request_id=record.request_id):
            try:
                await self.app(scope, receive, record.pass_on)
            finally:
                self._note(scope, record)

    def _note(self, scope: Scope, record: _Record) -> None:
        elapsed_s = time.monotonic() - record.began
        route = getattr(scope.get("route"), "path", UNROUTED)
        self.meters.request_ended(scope["method"], route, record.status, elapsed_s)
        log.info(
            "request",
            method=scope["method"],
            route=route,
            status=record.status,
            elapsed_ms=round(elapsed_s * 1000, 2),
        )


@dataclass(kw_only=True)
class _Record:
    request_id: str
    send: Send
    status: int = 499
    """Stays so when the client leaves before any answer."""
    began: float = field(default_factory=time.monotonic)

    async def pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = self.request_id
        await self.send(message)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(REQUEST_ID, "")
    return given if _GIVEN.fullmatch(given) else f"req_{uuid.uuid4().hex}"
