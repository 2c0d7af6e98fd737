"""`LocalFleet`: several engines in this process, each in a thread of its own.

For a machine with more than one card, and for tests of all that does not need a network. A worker
can be dismissed and another hired while work is going on, as cards come and go in a cluster.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.errors import EngineUnavailable
from workers.ray.fleet import BEAT_S, Heard, Place, Report, WorkerDown, WorkerUp
from workers.ray.host import EngineHost
from workers.ray.wire import pack
from workers.seams import Engine, Work

HERE = Place(node_id="here", host="this process", device="cpu")


@dataclass(kw_only=True, slots=True)
class _Hired:
    host: EngineHost
    relay: asyncio.Task[None]


class LocalFleet:
    """`Fleet` over `n_workers` engines that `build` makes."""

    def __init__(self, build: Callable[[], Engine], *, n_workers: int = 1) -> None:
        if n_workers < 1:
            raise ValueError(f"n_workers is {n_workers}, must be at least 1")
        self._build = build
        self._n_workers = n_workers
        self._numbers = itertools.count(1)
        self._hired: dict[str, _Hired] = {}
        self._report: Report = _unheard

    async def open(self, report: Report) -> None:
        """Raises what building the first engine raises."""
        self._report = report
        for _ in range(self._n_workers):
            await self.hire(self._build)

    async def hire(self, build: Callable[[], Engine]) -> str:
        """One more worker; returns its id."""
        host = EngineHost(build)
        try:
            info = await host.ready()
        except Exception:
            await host.close()
            raise
        worker_id = f"local {next(self._numbers)}"
        relay = asyncio.create_task(self._relay(worker_id, host))
        self._hired[worker_id] = _Hired(host=host, relay=relay)
        self._report(WorkerUp(worker_id=worker_id, place=HERE, info=info))
        return worker_id

    async def dismiss(self, worker_id: str, *, crashed: bool = False) -> None:
        """Stop a worker at once; what it was doing is nobody's."""
        hired = self._hired.pop(worker_id)
        hired.relay.cancel()
        await asyncio.gather(hired.relay, return_exceptions=True)
        error = "it crashed" if crashed else "it was dismissed"
        self._report(WorkerDown(worker_id=worker_id, crashed=crashed, error=error))
        await hired.host.close()

    def send(self, worker_id: str, work: Sequence[Work]) -> None:
        hired = self._hired.get(worker_id)
        if hired is not None:
            hired.host.submit(pack(work))

    def cancel(self, worker_id: str, tickets: Sequence[str]) -> None:
        hired = self._hired.get(worker_id)
        if hired is not None:
            hired.host.cancel(list(tickets))

    async def encode(self, worker_id: str, text: str) -> list[int]:
        return self._host(worker_id).encode(text)

    async def overhead(self, worker_id: str, task: str) -> int:
        return self._host(worker_id).overhead(task)

    async def close(self) -> None:
        for worker_id in list(self._hired):
            await self.dismiss(worker_id)

    def _host(self, worker_id: str) -> EngineHost:
        hired = self._hired.get(worker_id)
        if hired is None:
            raise EngineUnavailable(f"the worker {worker_id} is gone; ask another")
        return hired.host

    async def _relay(self, worker_id: str, host: EngineHost) -> None:
        confirmed = 0
        while True:
            mail = await host.collect(confirmed, BEAT_S)
            self._report(
                Heard(worker_id=worker_id, outputs=mail.outputs, n_given_up=mail.n_given_up)
            )
            confirmed = mail.number


def _unheard(event: object) -> None:
    """Before `open` nobody listens."""
