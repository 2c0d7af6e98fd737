"""The bridge: the one process that is a Ray driver, between the pool's process and the cluster.

`python -m workers.ray.bridge FD` is started by `RayFleet` with one end of a socket pair. Ray aborts
its driver when the head restarts with an empty memory; here that ends this process only, and the
pool starts another, which connects to the new head.

It keeps one actor on every device that the nodes offer, carries orders to them and outputs back.
Ray is told never to restart an actor nor to repeat a call: the pool's leases do that, and know why.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from workers.cluster_models import Shelf
from workers.ray.actor import EngineActor, Librarian
from workers.ray.fleet import (
    BEAT_S,
    FleetEvent,
    FleetTrouble,
    Heard,
    Place,
    WorkerDown,
    WorkerRefused,
    WorkerUp,
)
from workers.ray.frames import read_frames, write_frame
from workers.ray.orders import NAME_LABEL, WORKER_RESOURCE, Answer, Ask, Cancel, Connect, Send

POLL_S = 2.0
"""How often the nodes are looked at."""
RETRY_S = 0.5
"""Before a call to an actor that can't be reached just now is made again."""
MIN_WAIT_S, MAX_WAIT_S = 1.0, 30.0
"""Before a worker that was refused is tried again; doubled each time."""
CRASH_TEXT = "worker process has died"
"""In what Ray says of an actor whose process died while its node lives."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Berth:
    """A device of a node, which may have one worker."""

    node_id: str
    index: int
    host: str
    has_card: bool

    @property
    def place(self) -> Place:
        device = f"gpu:{self.index}" if self.has_card else "cpu"
        if not self.has_card and self.index:
            device = f"cpu:{self.index}"
        return Place(node_id=self.node_id, host=self.host, device=device)


@dataclass(kw_only=True, slots=True)
class Crewman:
    """A worker that is being started, or is up."""

    worker_id: str
    berth: Berth
    actor: ActorHandle[Any]
    orders: asyncio.Queue[Send | Cancel] = field(default_factory=asyncio.Queue)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class Refusals:
    """How often a berth refused in a row, and when it may be tried again."""

    n: int = 0
    not_before: float = 0.0


class Bridge:
    """Belongs to the event loop of its process."""

    def __init__(self, order: Connect, writer: asyncio.StreamWriter) -> None:
        self._order = order
        self._writer = writer
        self._numbers = itertools.count(1)
        self._crew: dict[Berth, Crewman] = {}
        self._refusals: dict[Berth, Refusals] = {}
        self._questions: set[asyncio.Task[None]] = set()
        self._librarian = _librarian(order.shelf) if order.shelf else None

    async def watch(self) -> None:
        """Keep a worker on every berth, as nodes come and go. Never ends by itself."""
        while True:
            nodes = await asyncio.to_thread(ray.nodes)
            for berth in _berths(nodes):
                if berth not in self._crew and self._has_room() and self._may_start(berth):
                    self._start(berth)
            await asyncio.sleep(POLL_S)

    def obey(self, order: object) -> None:
        """Carry an order out, in the background."""
        if isinstance(order, Ask):
            task = asyncio.create_task(self._ask(order))
            self._questions.add(task)
            task.add_done_callback(self._questions.discard)
        elif isinstance(order, Send | Cancel):
            crewman = self._find(order.worker_id)
            if crewman is not None:
                crewman.orders.put_nowait(order)

    def _find(self, worker_id: str) -> Crewman | None:
        return next((c for c in self._crew.values() if c.worker_id == worker_id), None)

    def _has_room(self) -> bool:
        most = self._order.max_workers
        return most is None or len(self._crew) < most

    def _may_start(self, berth: Berth) -> bool:
        refusals = self._refusals.get(berth)
        return refusals is None or time.monotonic() >= refusals.not_before

    def _start(self, berth: Berth) -> None:
        order = self._order
        remote: Any = ray.remote(EngineActor)
        actor: ActorHandle[Any] = remote.options(
            num_cpus=0,
            num_gpus=1 if berth.has_card else 0,
            resources={WORKER_RESOURCE: 1},
            scheduling_strategy=NodeAffinitySchedulingStrategy(berth.node_id, soft=False),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=100,
        ).remote(order, berth.place, self._librarian)
        worker_id = f"{berth.host} {berth.place.device} #{next(self._numbers)}"
        crewman = Crewman(worker_id=worker_id, berth=berth, actor=actor)
        self._crew[berth] = crewman
        crewman.tasks.append(asyncio.create_task(self._live(crewman)))

    async def _live(self, crewman: Crewman) -> None:
        """One worker's life, from its start to its end."""
        try:
            info, place = await crewman.actor.ready.remote()
        except RayError as error:
            self._refuse(crewman, error)
            return
        self._refusals.pop(crewman.berth, None)
        self._report(WorkerUp(worker_id=crewman.worker_id, place=place, info=info))
        sender = asyncio.create_task(self._forward(crewman))
        crewman.tasks.append(sender)
        try:
            await self._relay(crewman)
        except RayError as error:
            self._bury(crewman, error)
        finally:
            sender.cancel()

    async def _relay(self, crewman: Crewman) -> None:
        """Bring outputs back until the worker is gone, which is raised as RayError."""
        confirmed = 0
        while True:
            try:
                mail = await crewman.actor.collect.remote(confirmed, BEAT_S)
            except ActorUnavailableError:
                await asyncio.sleep(RETRY_S)
                continue
            self._report(
                Heard(
                    worker_id=crewman.worker_id,
                    outputs=mail.outputs,
                    n_given_up=mail.n_given_up,
                )
            )
            confirmed = mail.number

    async def _forward(self, crewman: Crewman) -> None:
        """Take orders to the worker, in their order and until they have arrived."""
        actor = crewman.actor
        while True:
            order = await crewman.orders.get()
            if isinstance(order, Send):
                await _deliver(lambda batch=order.batch: actor.submit.remote(batch))
            else:
                await _deliver(lambda tickets=order.tickets: actor.cancel.remote(list(tickets)))

    async def _ask(self, question: Ask) -> None:
        crewman = self._find(question.worker_id)
        if crewman is None:
            self._send(Answer(number=question.number, value=None, error="the worker is gone"))
            return
        try:
            method = getattr(crewman.actor, question.method)
            answer = Answer(number=question.number, value=await method.remote(question.text))
        except RayError as error:
            answer = Answer(number=question.number, value=None, error=str(error))
        self._send(answer)

    def _refuse(self, crewman: Crewman, error: RayError) -> None:
        """The engine could not be built: tell why, and try again later."""
        refusals = self._refusals.setdefault(crewman.berth, Refusals())
        wait_s = min(MIN_WAIT_S * 2**refusals.n, MAX_WAIT_S)
        refusals.n += 1
        refusals.not_before = time.monotonic() + wait_s
        ray.kill(crewman.actor)
        self._crew.pop(crewman.berth, None)
        self._report(WorkerRefused(place=crewman.berth.place, error=_cause(error)))

    def _bury(self, crewman: Crewman, error: RayError) -> None:
        self._crew.pop(crewman.berth, None)
        crashed = isinstance(error, RayActorError) and CRASH_TEXT in str(error)
        self._report(WorkerDown(worker_id=crewman.worker_id, crashed=crashed, error=_cause(error)))

    def _report(self, event: FleetEvent) -> None:
        self._send(event)

    def _send(self, message: FleetEvent | Answer) -> None:
        write_frame(self._writer, message)


def _librarian(shelf: Shelf) -> ActorHandle[Any]:
    """An actor beside this process, since here the files are."""
    remote: Any = ray.remote(Librarian)
    here = ray.get_runtime_context().get_node_id()
    actor: ActorHandle[Any] = remote.options(
        num_cpus=0,
        max_concurrency=4,
        scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
    ).remote(shelf)
    return actor


async def _deliver(call: Any) -> None:
    """Make a call until it has arrived; it may arrive twice. Gives up when the actor is dead."""
    while True:
        try:
            await call()
        except ActorUnavailableError:
            await asyncio.sleep(RETRY_S)
            continue
        except RayActorError:
            return
        return


def _berths(nodes: list[dict[str, Any]]) -> list[Berth]:
    """The devices of the nodes that are alive, as many as each offers to workers."""
    return [
        Berth(
            node_id=node["NodeID"],
            index=index,
            host=node["Labels"].get(NAME_LABEL, node["NodeManagerHostname"]),
            has_card=node["Resources"].get("GPU", 0) > index,
        )
        for node in nodes
        if node["Alive"]
        for index in range(int(node["Resources"].get(WORKER_RESOURCE, 0)))
    ]


def _cause(error: RayError) -> str:
    """What a person needs of Ray's error: the line with the reason, or the last one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "died" in line or "dead because" in line]
    return (telling or lines or ["no reason given"])[-1][:300]


def _connect(address: str) -> None:
    """Become a driver of the cluster. Raises what Ray raises."""
    ray.init(
        address=address,
        namespace="minions",
        log_to_driver=False,
        configure_logging=False,
        logging_level=logging.ERROR,
    )


async def _main(fd: int) -> int:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    frames = read_frames(reader)
    order = await anext(frames)
    assert isinstance(order, Connect)
    try:
        await asyncio.to_thread(_connect, order.address)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        write_frame(writer, FleetTrouble(error=f"{order.address}: {error}"))
        await writer.drain()
        return 1
    return await _serve(Bridge(order, writer), frames)


async def _serve(bridge: Bridge, frames: Any) -> int:
    watching = asyncio.create_task(bridge.watch())
    try:
        async for order in frames:
            bridge.obey(order)
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    return 0  # the pool is gone or wants no more: the actors end with their driver


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(int(sys.argv[1]))))
