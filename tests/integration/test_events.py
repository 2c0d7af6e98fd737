"""Events of runs: numbered without gaps, kept before they are told, replayed from any point."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.errors import StoreUnavailable
from minions.event_json import event_json
from minions.eventlog import EventLog, writing
from minions.events import JobEnded, ReadingStarted, RungChosen
from minions.rest import create_app
from minions.settings import load_settings
from minions.store import MemoryStore, ServiceStore, open_store
from minions.store.model import RunRecord, RunStatus
from minions.store.service import RunEvent
from router import Rung
from tests.house import CONTRACT
from workers.jobs import JobStatus


def run(run_id: str = "run_1", status: RunStatus = RunStatus.RUNNING) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        fingerprint=run_id,
        status=status,
        question={"question": "What?", "documents": []},
        reply=None,
        error=None,
        created_at=1.0,
        updated_at=1.0,
    )


class CountingStore(MemoryStore):
    """Says how often it was written to, and can refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.n_writes = 0
        self.is_full = False

    async def record_events(self, events: Sequence[RunEvent]) -> None:
        self.n_writes += 1
        if self.is_full:
            raise StoreUnavailable("the disk is full")
        await super().record_events(events)


@contextlib.asynccontextmanager
async def log_of(store: ServiceStore, *run_ids: str) -> AsyncIterator[EventLog]:
    """A log beside which its writer runs, with these runs open."""
    async with writing(EventLog(store=store)) as events:
        for run_id in run_ids:
            await store.open_run(run(run_id))
            await events.open(run_id)
        yield events


async def followed(events: EventLog, run_id: str, after: int = 0) -> list[RunEvent]:
    return [event async for event in events.follow(run_id, after)]


def numbers(events: Sequence[RunEvent]) -> list[int]:
    return [event.sequence for event in events]


async def test_three_hundred_jobs_cost_a_handful_of_writes() -> None:
    store = CountingStore()
    async with log_of(store, "run_1") as events:
        following = asyncio.create_task(followed(events, "run_1"))
        for n in range(300):
            events.add("run_1", "job", {"n": n})
            if n % 50 == 0:
                await asyncio.sleep(0.01)
        events.add("run_1", "done", {})
        told = await following
    assert numbers(told) == list(range(1, 302))
    assert store.n_writes < 30


async def test_an_event_is_on_disk_before_it_is_told(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "store.db")
    async with log_of(store, "run_1") as events:
        events.add("run_1", "status", {})
        async for event in events.follow("run_1"):
            assert await store.events("run_1") == [event]
            break
    await store.close()


STEPS = st.lists(
    st.tuples(st.sampled_from(["job", "cloud_delta"]), st.sampled_from("ab"), st.booleans()),
    max_size=30,
)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(steps=STEPS, after=st.integers(0, 35))
async def test_whoever_comes_back_misses_nothing(
    steps: list[tuple[str, str, bool]], after: int
) -> None:
    """However writes fall, and with a new process in the middle: no gap, no double, no loss."""
    store = MemoryStore()
    half = len(steps) // 2
    for part in (steps[:half], steps[half:]):
        async with log_of(store, "a", "b") as events:
            for kind, run_id, flushes in part:
                events.add(run_id, kind, {"text": "x"})
                if flushes:
                    await events.flush()
    for run_id in "ab":
        kept = await store.events(run_id)
        assert numbers(kept) == list(range(1, len(kept) + 1))
        n_jobs = sum(step[:2] == ("job", run_id) for step in steps)
        assert sum(event.kind == "job" for event in kept) == n_jobs
        text = "".join(event.data["text"] for event in kept if event.kind == "cloud_delta")
        assert len(text) == sum(step[:2] == ("cloud_delta", run_id) for step in steps)
        assert await followed(EventLog(store=store), run_id, after) == kept[after:]


async def test_neighbouring_pieces_of_an_answer_become_one_event() -> None:
    store = MemoryStore()
    async with log_of(store, "run_1") as events:
        for word in ("The ", "laws ", "of ", "Oregon"):
            events.add("run_1", "cloud_delta", {"text": word})
        events.add("run_1", "done", {})
        first, last = await followed(events, "run_1")
    assert (first.data, last.kind) == ({"text": "The laws of Oregon"}, "done")


async def test_all_who_follow_are_told_the_same_from_where_they_are() -> None:
    store = MemoryStore()
    async with log_of(store, "run_1") as events:
        following = [asyncio.create_task(followed(events, "run_1", after)) for after in (0, 2, 9)]
        for n in range(12):
            events.add("run_1", "job", {"n": n})
            await asyncio.sleep(0.01)
        late = asyncio.create_task(followed(events, "run_1", 5))
        events.add("run_1", "done", {})
        told = [numbers(await task) for task in [*following, late]]
    assert told == [list(range(after + 1, 14)) for after in (0, 2, 9, 5)]


async def test_a_run_that_is_stopped_without_an_end_lets_its_followers_go() -> None:
    async with log_of(MemoryStore(), "run_1") as events:
        following = asyncio.create_task(followed(events, "run_1"))
        events.add("run_1", "status", {})
        await events.close("run_1")
        assert [event.kind for event in await following] == ["status"]


async def test_events_wait_for_a_disk_that_is_full() -> None:
    store = CountingStore()
    async with log_of(store, "run_1") as events:
        store.is_full = True
        events.add("run_1", "job", {})
        with pytest.raises(StoreUnavailable):
            await events.flush()
        store.is_full = False
        events.add("run_1", "done", {})
        assert [event.kind for event in await followed(events, "run_1")] == ["job", "done"]


async def test_what_is_told_of_a_run_that_was_deleted_is_dropped() -> None:
    store = MemoryStore()
    async with log_of(store, "run_1") as events:
        events.add("nobody", "job", {})
        events.add("run_1", "done", {})
        assert numbers(await followed(events, "run_1")) == [1]
    assert await store.events("nobody") == []


def test_events_are_json_objects_with_the_promised_names() -> None:
    reading = event_json(ReadingStarted(n_jobs=3, n_resumed=1))
    assert reading == ("reading", {"n_jobs": 3, "n_resumed": 1, "n_cached": 0, "chunks": []})
    ended = JobEnded(chunk_id="c", status=JobStatus.ABSTAINED)
    assert event_json(ended) == ("job", {"chunk_id": "c", "status": "abstained"})
    cached = JobEnded(chunk_id="c", status=JobStatus.ANSWERED, cached=True)
    assert event_json(cached)[1]["status"] == "cached"
    assert event_json(RungChosen(rung=Rung.EVIDENCE, reason="r"))[1]["rung"] == "evidence"
    assert event_json(RungChosen(rung=None, reason="r"))[1]["rung"] is None


# over HTTP


@pytest.fixture
def client(tmp_path: Path) -> Any:
    chosen = load_settings(state_dir=tmp_path, model="scripted")
    with TestClient(create_app(chosen), base_url="http://127.0.0.1") as client:
        yield client


def told(client: TestClient, path: str, **headers: str) -> list[tuple[int, str]]:
    """(number, kind) of each event of a stream."""
    blocks = client.get(path, headers=headers).text.strip().split("\n\n")
    fields = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks if block]
    return [(int(field["id"]), field["event"]) for field in fields]


def test_a_stream_goes_on_after_the_last_event_that_arrived(client: TestClient) -> None:
    body = {"question": "Which state's laws govern?", "wait": True, "privacy": "local"}
    body |= {"documents": [{"name": "c.txt", "text": CONTRACT}]}
    path = f"/v1/questions/{client.post('/v1/questions', json=body).json()['id']}/events"
    whole = told(client, path)
    kinds = [kind for _, kind in whole]
    assert kinds[:3] == ["status", "status", "reading"]
    assert kinds[-3:] == ["reply", "status", "done"]
    assert [number for number, _ in whole] == list(range(1, len(whole) + 1))
    assert told(client, path + "?after=3") == whole[3:]
    assert told(client, path, **{"Last-Event-ID": "4"}) == whole[4:]
    assert told(client, path, **{"Last-Event-ID": "what?"}) == whole
    assert told(client, f"{path}?after={len(whole)}") == []


def test_a_run_of_the_command_line_has_an_end_to_tell(client: TestClient) -> None:
    """It kept no events; whoever asks is told its outcome, twice the same."""
    store: ServiceStore = client.app.state.office.app.store  # type: ignore[attr-defined]

    async def make() -> None:
        await store.open_run(run(status=RunStatus.FAILED))
        error = {"code": "x", "message": "why"}
        await store.update_run("run_1", RunStatus.FAILED, error=error)

    client.portal.call(make)  # type: ignore[union-attr]
    path = "/v1/questions/run_1/events"
    assert told(client, path) == [(1, "error"), (2, "status"), (3, "done")]
    assert told(client, path) == told(client, path)


def test_a_stream_of_nothing_is_a_404_before_it_begins(client: TestClient) -> None:
    missing = client.get("/v1/questions/run_nobody/events")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "not_found"
