"""Bodies larger than any limit allows are refused before anything keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from minions.rest.errors import envelope

DRAINED = 2
"""Times the limit that is read and thrown away, so that a client which sends first and listens
later hears the refusal instead of a broken connection."""


@dataclass(frozen=True)
class DeclaredSizes:
    """Middleware: refuses what says of itself that it is too large. What says nothing is counted
    as it comes, by the framework."""

    app: ASGIApp
    max_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 413."""
        declared = _declared(scope) if scope["type"] == "http" else 0
        if declared <= self.max_bytes:
            await self.app(scope, receive, send)
            return
        await self._drain(receive)
        refusal = envelope(
            413,
            f"The request has {declared:,} bytes; the limit is {self.max_bytes:,}. Split the "
            "file, or raise the limit (max_bytes).",
            "request_too_large",
        )
        await refusal(scope, receive, send)

    async def _drain(self, receive: Receive) -> None:
        drained = 0
        while drained < DRAINED * self.max_bytes:
            message = await receive()
            drained += len(message.get("body", b""))
            if not message.get("more_body", False):
                return


def _declared(scope: Scope) -> int:
    text = Headers(scope=scope).get("content-length", "")
    return int(text) if text.isdecimal() else 0
