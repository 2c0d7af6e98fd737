"""Messages between the pool's process and its bridge: length-prefixed pickles on a socket pair.

Both ends are our own processes on one machine, joined by an inherited socket that nobody else can
open; pickle is safe there and nowhere else.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
from collections.abc import AsyncIterator

_LENGTH = struct.Struct("!Q")


def write_frame(writer: asyncio.StreamWriter, message: object) -> None:
    """Queue a message; never blocks."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    writer.write(_LENGTH.pack(len(body)) + body)


async def read_frames(reader: asyncio.StreamReader) -> AsyncIterator[object]:
    """Messages until the other end is gone."""
    while True:
        try:
            head = await reader.readexactly(_LENGTH.size)
            body = await reader.readexactly(_LENGTH.unpack(head)[0])
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        yield pickle.loads(body)
