"""What Ray runs on a node: an `EngineHost` with one device that is its own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from workers.cluster_models import Shelf, fetch_missing, read_piece
from workers.errors import PullFailed
from workers.machine import Gpu, probe_machine
from workers.ray.fence import Fence, wait_for_memory
from workers.ray.fleet import Place
from workers.ray.host import EngineHost
from workers.ray.orders import Connect
from workers.ray.wire import Batch, Mail
from workers.seams import Engine, EngineInfo


class EngineActor:
    """Made on its node by Ray, which has set apart a card for it where `place.device` says so."""

    def __init__(self, order: Connect, place: Place, librarian: ActorHandle[Any] | None) -> None:
        self._order = order
        self._librarian: Any = librarian
        self._card_number = _own_card()
        self._place = _described(place, self._card_number)
        self._fence = Fence(order.locks_dir.expanduser(), _device_key(self._place))
        self._host = EngineHost(self._build)

    async def ready(self) -> tuple[EngineInfo, Place]:
        """Wait for the engine; raises what building it raised."""
        return await self._host.ready(), self._place

    async def submit(self, batch: Batch) -> None:
        self._host.submit(batch)

    async def cancel(self, tickets: list[str]) -> None:
        self._host.cancel(tickets)

    async def collect(self, confirmed: int, wait_s: float) -> Mail:
        return await self._host.collect(confirmed, wait_s)

    async def encode(self, text: str) -> list[int]:
        return self._host.encode(text)

    async def overhead(self, text: str) -> int:
        return self._host.overhead(text)

    def _build(self) -> Engine:
        """Only once the device is free, of the process that had it before and of its memory."""
        self._fence.acquire()
        if self._order.shelf is not None:
            fetch_missing(self._order.shelf, self._read)
        number, reserve_bytes = self._card_number, self._order.reserve_bytes
        if number is not None and reserve_bytes:
            wait_for_memory(lambda: _card(number).free_bytes, reserve_bytes)
        return self._order.recipe.build()

    def _read(self, name: str, offset: int, n_bytes: int) -> bytes:
        """A piece of a file, from the machine that has it."""
        if self._librarian is None:
            raise PullFailed(f"{name} is not here, and no machine of the cluster offers it")
        try:
            piece: bytes = ray.get(self._librarian.read.remote(name, offset, n_bytes))
        except RayError as error:
            raise PullFailed(f"{name} can't be fetched from the cluster: {error}") from error
        return piece


class Librarian:
    """Hands out pieces of the model's files, on the machine that has them."""

    def __init__(self, shelf: Shelf) -> None:
        self._paths = {file.name: file.path for file in shelf.files}

    def read(self, name: str, offset: int, n_bytes: int) -> bytes:
        return read_piece(self._paths[name], offset, n_bytes)


def _device_key(place: Place) -> str:
    """What the lock is for: the card, or this node's share of main memory."""
    return place.device if place.card else f"{place.host}-{place.device}"


def _own_card() -> int | None:
    """The number of the card that Ray has set apart for this process; None for a CPU worker."""
    numbers = ray.get_gpu_ids()
    return int(numbers[0]) if numbers else None


def _card(number: int) -> Gpu:
    """The card as it is now. Raises IndexError when the driver does not show it."""
    return probe_machine(Path("/")).gpus[number]


def _described(place: Place, card_number: int | None) -> Place:
    """The place with what only its own machine knows."""
    if card_number is None:
        memory = psutil.virtual_memory().total
        return replace(place, memory_bytes=memory, pid=os.getpid())
    card = _card(card_number)
    return replace(
        place,
        device=f"gpu:{card_number}",
        card=card.name,
        memory_bytes=card.total_bytes,
        pid=os.getpid(),
    )
