"""What happens in runs, kept on disk in small batches and told to whoever follows, from any point.

An event gets its number when it is written, and is told only after that: whoever has seen number
n can come back after a crash, ask for what follows n, and miss nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from minions.errors import StoreUnavailable
from minions.store.service import RunEvent, ServiceStore

log = structlog.get_logger(__name__)

WRITE_EVERY_S = 0.05
"""Events of all runs wait this long for company: one transaction then holds many."""
RETRY_S = 1.0
"""Wait after a write that failed."""
DELTA = "cloud_delta"
DONE = "done"


@dataclass(kw_only=True)
class _Live:
    """A run that is being worked on here."""

    n_before: int = 0
    """Events that were on disk when work began; `told` follows them."""
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when `n_before` is known."""
    told: list[RunEvent] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    closing: bool = False

    @property
    def n_events(self) -> int:
        return self.n_before + len(self.told)

    def tell(self, events: Sequence[RunEvent]) -> None:
        """Wake all who follow; who comes later waits for the next time."""
        self.told += events
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(kw_only=True)
class EventLog:
    """The events of all runs. `write` must run beside it, or nothing is told."""

    store: ServiceStore
    _live: dict[str, _Live] = field(default_factory=dict, init=False)
    _waiting: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list, init=False)
    """(run id, kind, data), in order."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def expect(self, run_id: str, *, is_new: bool = False) -> None:
        """From now on whoever follows waits for what will be told; `open` comes next. Of a new run
        nobody has told anything yet."""
        live = self._live[run_id] = _Live()
        if is_new:
            live.opened.set()

    async def open(self, run_id: str) -> None:
        """Begin, or go on after what an earlier process told of the run."""
        live = self._live.setdefault(run_id, _Live())
        if live.opened.is_set():
            return
        kept = await self.store.events(run_id)
        live.n_before = kept[-1].sequence if kept else 0
        live.opened.set()

    def is_live(self, run_id: str) -> bool:
        """Whether more may be told of the run here."""
        return run_id in self._live

    def add(self, run_id: str, kind: str, data: dict[str, Any]) -> None:
        """Tell of something, soon. Only between `open` and `close`."""
        self._waiting.append((run_id, kind, data))
        self._wake.set()

    async def close(self, run_id: str) -> None:
        """Write what waits and end all who follow; without a `done` they may come back."""
        with contextlib.suppress(StoreUnavailable):  # said by the writer, which tries again
            await self.flush()
        self.drop(run_id)

    def drop(self, run_id: str) -> None:
        """End all who follow, with nothing more to tell."""
        live = self._live.pop(run_id, None)
        if live is not None:
            live.closing = True
            live.opened.set()
            live.changed.set()

    async def write(self) -> None:
        """Write events until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(WRITE_EVERY_S)
            try:
                await self.flush()
            except StoreUnavailable as error:
                log.error("events can't be written", error=str(error))
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    async def flush(self) -> None:
        """Write what waits now."""
        async with self._writing:
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            events = self._numbered(_joined(batch))
            try:
                await self.store.record_events(events)
            except StoreUnavailable:
                self._waiting[:0] = batch
                raise
            by_run: dict[str, list[RunEvent]] = defaultdict(list)
            for event in events:
                by_run[event.run_id].append(event)
            for run_id, own in by_run.items():
                self._live[run_id].tell(own)

    async def follow(self, run_id: str, after: int = 0) -> AsyncGenerator[RunEvent, None]:
        """All events with a number above `after`: those that were, then those that come, until the
        run is done or no longer worked on here."""
        while True:
            live = self._live.get(run_id)
            if live is not None:
                await live.opened.wait()
            changed = None if live is None else live.changed
            async for event in self._known(run_id, live, after):
                yield event
                after = event.sequence
                if event.kind == DONE:
                    return
            if live is None or changed is None:
                return
            if after < live.n_events:
                continue  # more was told while this was read
            if live.closing:
                return
            await changed.wait()

    async def _known(
        self, run_id: str, live: _Live | None, after: int
    ) -> AsyncGenerator[RunEvent, None]:
        if live is None or after < live.n_before:
            for event in await self.store.events(run_id, after):
                yield event
        else:
            for event in live.told[after - live.n_before :]:
                yield event

    def _numbered(self, batch: Sequence[tuple[str, str, dict[str, Any]]]) -> list[RunEvent]:
        last = {run_id: self._live[run_id].n_events for run_id, *_ in batch if run_id in self._live}
        events = []
        for run_id, kind, data in batch:
            if run_id in last:
                last[run_id] += 1
                events.append(RunEvent(run_id=run_id, sequence=last[run_id], kind=kind, data=data))
        return events


def _joined(
    batch: Sequence[tuple[str, str, dict[str, Any]]],
) -> list[tuple[str, str, dict[str, Any]]]:
    """Neighbouring pieces of one cloud answer become one: they come by the word."""
    joined: list[tuple[str, str, dict[str, Any]]] = []
    for run_id, kind, data in batch:
        if kind == DELTA and joined and joined[-1][:2] == (run_id, DELTA):
            joined[-1] = (run_id, DELTA, {"text": joined[-1][2]["text"] + data["text"]})
        else:
            joined.append((run_id, kind, data))
    return joined


@contextlib.asynccontextmanager
async def writing(events: EventLog) -> AsyncGenerator[EventLog, None]:
    """The log with its writer beside it; what waits at the end is written too."""
    writer = asyncio.create_task(events.write())
    try:
        yield events
    finally:
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
        with contextlib.suppress(StoreUnavailable):  # the runs are on record; only progress is lost
            await events.flush()
