"""A turn while it is answered: streamed, waited for, and given up when its client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from minions.chat.turn import ChatReply
from minions.errors import Cancelled, MinionsError
from minions.rest.errors import MAY_FAIL, error_json
from minions.rest.openai_answer import Work

BEGIN_S = 1.0
"""A failure within so long of the start is told by the response's status; a later one, when the
stream has begun, as an event."""
KEEPALIVE_S = 10.0
"""Longest silence in a stream: proxies and clients hang up on a mute one."""
POLL_S = 0.1
KEEPALIVE = ": keep-alive\n\n"
DONE = "data: [DONE]\n\n"
MEDIA_TYPE = "text/event-stream"
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}, MEDIA_TYPE: {}}},
    **MAY_FAIL,
}
"""What a route that may stream can answer, for the API's description."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""No proxy may hold the pieces back."""


@dataclass(kw_only=True)
class Answering:
    """A turn that is being answered."""

    work: Work
    keepalive_s: float = KEEPALIVE_S
    task: asyncio.Task[ChatReply] = field(init=False)
    _pieces: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue, init=False)
    """None is the end."""
    _begun: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def __post_init__(self) -> None:
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> ChatReply:
        try:
            return await self.work(self._hear)
        finally:
            self._begun.set()
            self._pieces.put_nowait(None)

    def _hear(self, piece: str) -> None:
        self._pieces.put_nowait(piece)
        self._begun.set()

    async def begin(self) -> None:
        """Wait for the first piece, for a moment. Raises what has ended it before."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._begun.wait(), BEGIN_S)
        if self.task.done():
            self.reply()

    def reply(self) -> ChatReply:
        """The finished turn. Raises what has ended it instead."""
        if self.task.cancelled():
            raise Cancelled("The turn was cancelled before its answer was there.")
        return self.task.result()

    async def pieces(self) -> AsyncGenerator[str, None]:
        """The pieces as they come, an empty one after each long silence. Leaving it early gives the
        turn up."""
        try:
            while (piece := await self._next()) is not None:
                yield piece
        finally:
            await self._give_up()

    async def _next(self) -> str | None:
        try:
            return await asyncio.wait_for(self._pieces.get(), self.keepalive_s)
        except TimeoutError:
            return ""

    async def whole(self, request: Request) -> ChatReply:
        """The finished turn. Raises Cancelled when the client leaves before, and ends the work."""
        try:
            while not self.task.done():
                await asyncio.wait({self.task}, timeout=POLL_S)
                if not self.task.done() and await request.is_disconnected():
                    raise Cancelled("The client left before the answer was there.")
            return self.reply()
        finally:
            await self._give_up()

    async def _give_up(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


def data_line(payload: dict[str, Any]) -> str:
    """A nameless server-sent event."""
    return f"data: {json.dumps(payload)}\n\n"


def failure_json(error: Exception) -> dict[str, Any]:
    """What an error is called within a stream. A defect of ours shows its kind only."""
    if isinstance(error, MinionsError):
        return error_json(error.status, str(error), error.code)
    message = f"A defect of the service ({type(error).__name__}). Its log has more."
    return error_json(500, message, MinionsError.code)
