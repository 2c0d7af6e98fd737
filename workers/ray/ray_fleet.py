"""`RayFleet`: the workers of a Ray cluster, reached through a bridge process that may die.

When the bridge ends (the head restarted, someone killed it), its workers end with it. That is
reported, their jobs wait, and a new bridge is started until the head is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workers.cluster import ray_version
from workers.cluster_models import Shelf
from workers.errors import EngineUnavailable
from workers.ray.environment import python_module, ray_variables, with_variables
from workers.ray.fleet import (
    FleetEvent,
    FleetTrouble,
    Report,
    WorkerDown,
    WorkerUp,
)
from workers.ray.frames import read_frames, write_frame
from workers.ray.orders import Answer, Ask, Cancel, Connect, Send
from workers.ray.recipe import Recipe
from workers.ray.wire import pack
from workers.seams import Work

RESTART_S = 2.0
"""Between the end of a bridge and the start of the next."""
REPORTED = 1
"""Exit status of a bridge that has said itself why it can't connect."""
STOP_S = 10.0
"""How long a bridge may take to end by itself."""
LOCKS_DIR = Path("/tmp/minions-devices")
"""One place per machine, whoever runs the node."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RayCluster:
    """How to reach a cluster."""

    address: str
    """`HOST:PORT` of its head."""
    token_file: Path
    """The cluster's token, readable by this user only."""
    locks_dir: Path = LOCKS_DIR
    """Folder, on each node, of the locks on its devices."""
    reserve_bytes: int = 0
    """GPU memory that must be free before an engine is built on a card."""
    max_workers: int | None = None
    """No more workers than that; None for one on every device."""


@dataclass(kw_only=True, slots=True)
class _Line:
    """The connection to one bridge."""

    process: asyncio.subprocess.Process
    writer: asyncio.StreamWriter
    workers: set[str] = field(default_factory=set)
    questions: dict[int, asyncio.Future[list[int] | int]] = field(default_factory=dict)


class RayFleet:
    """`Fleet` over every device that the cluster's nodes offer."""

    def __init__(self, cluster: RayCluster, recipe: Recipe, shelf: Shelf | None = None) -> None:
        """`shelf`: files of the model, brought to the nodes that lack them."""
        self._cluster = cluster
        self._shelf = shelf
        self._recipe = recipe
        self._line: _Line | None = None
        self._numbers = itertools.count(1)
        self._closing = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def bridge_pid(self) -> int | None:
        """Process of the bridge; None while there is none."""
        return self._line.process.pid if self._line else None

    async def open(self, report: Report) -> None:
        """Raises EngineUnavailable when there is no Ray or no token here. A head that isn't there
        yet is no error: it is tried again until `close`."""
        ray_version()
        if not self._cluster.token_file.is_file():
            raise EngineUnavailable(
                f"there is no token file {self._cluster.token_file}: copy it from the head "
                "(`minions cluster up` prints where it is)"
            )
        self._keeper = asyncio.create_task(self._keep_bridge(report))

    def send(self, worker_id: str, work: Sequence[Work]) -> None:
        self._write(Send(worker_id=worker_id, batch=pack(work)))

    def cancel(self, worker_id: str, tickets: Sequence[str]) -> None:
        self._write(Cancel(worker_id=worker_id, tickets=tuple(tickets)))

    async def encode(self, worker_id: str, text: str) -> list[int]:
        value = await self._ask(worker_id, "encode", text)
        return value if isinstance(value, list) else [value]

    async def overhead(self, worker_id: str, task: str) -> int:
        value = await self._ask(worker_id, "overhead", task)
        return len(value) if isinstance(value, list) else value

    async def close(self) -> None:
        self._closing = True
        if self._line is not None:
            self._line.writer.close()  # the bridge sees the end of its orders, and ends
        if self._keeper is not None:
            await self._keeper

    # ---- the bridge ----

    async def _keep_bridge(self, report: Report) -> None:
        while not self._closing:
            try:
                await self._live_of_a_bridge(report)
            except OSError as error:
                report(FleetTrouble(error=f"the bridge to Ray can't be started: {error}"))
            await self._pause()

    async def _pause(self) -> None:
        for _ in range(10):
            if not self._closing:
                await asyncio.sleep(RESTART_S / 10)

    async def _live_of_a_bridge(self, report: Report) -> None:
        reader, line = await self._start_bridge()
        self._line = line
        if self._closing:
            line.writer.close()
        try:
            async for message in read_frames(reader):
                self._receive(line, message, report)
        finally:
            self._line = None
            line.writer.close()
            status = await _ended(line.process)
            self._mourn(line, status, report)

    async def _start_bridge(self) -> tuple[asyncio.StreamReader, _Line]:
        ours, theirs = socket.socketpair()
        with theirs:
            command = with_variables(
                ray_variables(self._cluster.address, self._cluster.token_file),
                python_module("workers.ray.bridge", str(theirs.fileno())),
            )
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the product: it closes the bridge itself
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        order = Connect(
            address=self._cluster.address,
            recipe=self._recipe,
            locks_dir=self._cluster.locks_dir,
            reserve_bytes=self._cluster.reserve_bytes,
            shelf=self._shelf,
            max_workers=self._cluster.max_workers,
        )
        write_frame(writer, order)
        return reader, _Line(process=process, writer=writer)

    def _receive(self, line: _Line, message: object, report: Report) -> None:
        if isinstance(message, Answer):
            self._take_answer(line, message)
            return
        if isinstance(message, WorkerUp):
            line.workers.add(message.worker_id)
        if isinstance(message, WorkerDown):
            line.workers.discard(message.worker_id)
        if isinstance(message, FleetEvent):
            report(message)

    def _take_answer(self, line: _Line, answer: Answer) -> None:
        question = line.questions.pop(answer.number, None)
        if question is None or question.done():
            return
        if answer.value is None:
            question.set_exception(EngineUnavailable(answer.error))
        else:
            question.set_result(answer.value)

    def _mourn(self, line: _Line, status: int, report: Report) -> None:
        """What a bridge leaves: workers that end with it, and questions without an answer."""
        error = f"the bridge to Ray ended (status {status}): its head has gone or restarted"
        if status not in (0, REPORTED):
            report(FleetTrouble(error=error))
        for worker_id in line.workers:
            report(WorkerDown(worker_id=worker_id, crashed=False, error=error))
        for question in line.questions.values():
            if not question.done():
                question.set_exception(EngineUnavailable(error))

    # ---- messages ----

    def _write(self, order: Send | Cancel | Ask) -> None:
        if self._line is not None and not self._line.writer.is_closing():
            write_frame(self._line.writer, order)

    async def _ask(self, worker_id: str, method: str, text: str) -> list[int] | int:
        line = self._line
        if line is None:
            raise EngineUnavailable("there is no connection to the cluster just now")
        number = next(self._numbers)
        future: asyncio.Future[list[int] | int] = asyncio.get_running_loop().create_future()
        line.questions[number] = future
        self._write(Ask(number=number, worker_id=worker_id, method=method, text=text))
        return await future


async def _ended(process: asyncio.subprocess.Process) -> int:
    """Wait for the end of a process that should end; end it when it does not."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_S):
            return await process.wait()
    process.kill()
    return await process.wait()
