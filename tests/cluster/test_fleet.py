"""What travels, what waits at the far end, and a pool whose workers come and go."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.chat import ChatJob, ChatResult, Message, Role
from workers.errors import EngineUnavailable
from workers.jobs import Job, JobResult, JobStatus
from workers.ray.fence import Fence, wait_for_memory
from workers.ray.host import EngineHost
from workers.ray.local_fleet import LocalFleet
from workers.ray.pool import FleetPool
from workers.ray.wire import pack, unpack
from workers.scripted import Fault, ScriptedEngine, ScriptedReply
from workers.seams import Work


def job(number: int, chunk: str = "c") -> Job:
    return Job(job_id=str(number), chunk_id=chunk, chunk_text=f"text of {chunk}", task="?")


def jobs(n: int, per_chunk: int = 3) -> list[Job]:
    return [job(i, f"c{i // per_chunk}") for i in range(n)]


def answering(_: Job) -> ScriptedReply:
    return ScriptedReply(answer="yes", citation="yes")


def hanging(_: Job) -> ScriptedReply:
    return ScriptedReply(fault=Fault.HANG)


async def collect(pool: FleetPool, wanted: Sequence[Job]) -> list[JobResult]:
    async with aclosing(pool.run(wanted)) as results:
        return [result async for result in results]


# ---- the wire ----

texts = st.sampled_from(["", "one", "two", "the third text"])
some_jobs = st.builds(
    lambda number, text: replace(job(number), chunk_text=text), st.integers(0, 99), texts
)
chats = st.builds(
    lambda number, text: ChatJob(
        job_id=str(number), messages=(Message(role=Role.USER, content=text),)
    ),
    st.integers(0, 99),
    texts,
)


@given(st.lists(st.one_of(some_jobs, chats), max_size=12))
def test_a_batch_arrives_as_it_was_and_holds_each_text_once(work: list[Work]) -> None:
    batch = pack(work)
    assert unpack(batch) == work
    assert len(set(batch.texts)) == len(batch.texts)
    assert all(item.chunk_text == "" for _, item in batch.work if isinstance(item, Job))


# ---- the far end ----


async def test_the_host_gives_one_outcome_for_a_ticket_that_comes_twice() -> None:
    host = EngineHost(lambda: ScriptedEngine(answering))
    host.submit(pack(jobs(4)))
    host.submit(pack(jobs(6)))
    seen: list[str] = []
    confirmed = 0
    while len(seen) < 6:
        mail = await host.collect(confirmed, 1.0)
        seen += [output.job_id for output in mail.outputs]
        confirmed = mail.number
    host.submit(pack(jobs(6)))
    assert (await host.collect(confirmed, 0.05)).outputs == ()
    await host.close()
    assert sorted(seen) == [str(i) for i in range(6)]


async def test_the_host_repeats_what_was_not_confirmed() -> None:
    host = EngineHost(lambda: ScriptedEngine(answering))
    host.submit(pack(jobs(1)))
    first = await host.collect(0, 1.0)
    again = await host.collect(0, 1.0)
    assert again.outputs == first.outputs
    assert len(first.outputs) == 1
    assert (await host.collect(first.number, 0.05)).outputs == ()
    await host.close()


async def test_a_cancelled_ticket_has_its_outcome_too() -> None:
    """Also one that is cancelled in the very moment in which it came."""
    host = EngineHost(lambda: ScriptedEngine(hanging))
    host.submit(pack(jobs(3)))
    host.cancel(["0"])
    await asyncio.sleep(0.05)
    host.cancel(["1", "2", "unknown"])
    seen: Counter[str] = Counter()
    confirmed = 0
    while seen.total() < 3:
        mail = await host.collect(confirmed, 1.0)
        confirmed = mail.number
        for output in mail.outputs:
            assert isinstance(output, JobResult)
            assert (output.status, output.error) == (JobStatus.FAILED, "cancelled by the caller")
            seen[output.job_id] += 1
    await host.close()
    assert seen == Counter({"0": 1, "1": 1, "2": 1})


# ---- the pool ----


async def test_workers_come_and_go_in_mid_run() -> None:
    fleet = LocalFleet(lambda: ScriptedEngine(answering, step_s=0.01), n_workers=2)
    pool = FleetPool(fleet)
    await pool.ready()
    loop = pool._loop
    running = asyncio.create_task(collect(pool, jobs(300)))
    await asyncio.sleep(0.1)
    for action in (
        fleet.dismiss("local 1"),
        fleet.hire(lambda: ScriptedEngine(answering, step_s=0.002)),
        fleet.dismiss("local 2", crashed=True),
    ):
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(action, loop))
        await asyncio.sleep(0.05)
    results = await asyncio.wait_for(running, 20)
    statuses = await pool.statuses()
    await pool.close()
    assert Counter(r.job_id for r in results) == Counter(str(i) for i in range(300))
    assert {r.status for r in results} == {JobStatus.ANSWERED}
    assert [status.worker_id for status in statuses] == ["local 3"]


async def test_jobs_wait_for_a_worker_that_is_away_but_not_for_ever() -> None:
    fleet = LocalFleet(lambda: ScriptedEngine(hanging))
    pool = FleetPool(fleet, patience_s=0.5)
    await pool.ready()
    running = asyncio.create_task(collect(pool, jobs(5)))
    await asyncio.sleep(0.1)
    gone = asyncio.run_coroutine_threadsafe(fleet.dismiss("local 1"), pool._loop)
    await asyncio.wrap_future(gone)
    results = await asyncio.wait_for(running, 10)
    await pool.close()
    assert len(results) == 5
    assert all("no worker for 0.5 s" in (result.error or "") for result in results)
    assert all("minions cluster status" in (result.error or "") for result in results)


async def test_a_worker_with_another_model_is_turned_away() -> None:
    fleet = LocalFleet(lambda: ScriptedEngine(answering))
    pool = FleetPool(fleet)
    await pool.ready()
    other = fleet.hire(lambda: ScriptedEngine(answering, model="other"))
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(other, pool._loop))
    statuses, troubles = await pool.statuses(), await pool.troubles()
    await pool.close()
    assert len(statuses) == 1
    assert "its model is other, that of the others scripted" in troubles[0]


async def test_a_straggler_at_the_tail_is_done_by_another() -> None:
    """The first worker never ends its last job; the run does."""

    def slow_at_last(work: Job) -> ScriptedReply:
        return hanging(work) if work.job_id == "0" else answering(work)

    fleet = LocalFleet(lambda: ScriptedEngine(slow_at_last, step_s=0.005, n_slots=1))
    pool = FleetPool(fleet)
    await pool.ready()
    sound = fleet.hire(lambda: ScriptedEngine(answering, step_s=0.005, n_slots=1))
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(sound, pool._loop))
    results = await asyncio.wait_for(collect(pool, jobs(40, per_chunk=1)), 10)
    await pool.close()
    assert Counter(r.job_id for r in results) == Counter(str(i) for i in range(40))
    assert {r.status for r in results} == {JobStatus.ANSWERED}


async def test_several_loops_may_use_one_pool() -> None:
    pool = FleetPool(LocalFleet(lambda: ScriptedEngine(answering), n_workers=2))
    await pool.ready()
    counts = await asyncio.gather(
        *(asyncio.to_thread(lambda: len(asyncio.run(collect(pool, jobs(20))))) for _ in range(3))
    )
    await pool.close()
    assert counts == [20, 20, 20]


async def test_a_chat_speaks_through_the_pool() -> None:
    pool = FleetPool(LocalFleet(lambda: ScriptedEngine(answering)))
    pieces: list[str] = []
    turn = ChatJob(job_id="turn", messages=(Message(role=Role.USER, content="Hello there"),))
    said = await asyncio.wait_for(pool.chat(turn, pieces.append), 10)
    await pool.close()
    assert isinstance(said, ChatResult)
    assert (said.job_id, said.status) == ("turn", JobStatus.ANSWERED)
    assert said.text.startswith("".join(pieces))
    assert pieces


# ---- one device, one process ----

HOLD = """
import sys, time
from pathlib import Path
from workers.ray.fence import Fence
fence = Fence(Path(sys.argv[1]), "gpu:0")
fence.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_a_device_is_free_at_the_moment_its_holder_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        fence = Fence(tmp_path, "gpu:0")
        with pytest.raises(EngineUnavailable, match=rf"pid {holder.pid}\) still has the device"):
            fence.acquire(wait_s=0.3)
        Fence(tmp_path, "gpu:1").acquire(wait_s=0)
        os.kill(holder.pid, signal.SIGKILL)
        fence.acquire(wait_s=5)
        assert fence.held
        fence.release()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_a_new_worker_waits_until_the_memory_of_a_dead_one_is_given_back() -> None:
    began = time.monotonic()
    wait_for_memory(lambda: 12_000_000_000 if time.monotonic() > began + 0.4 else 0, 10**10, 5)
    assert time.monotonic() - began >= 0.4
    with pytest.raises(EngineUnavailable, match=r"1\.0 GB free, 12\.0 GB are needed"):
        wait_for_memory(lambda: 10**9, 12 * 10**9, wait_s=0.3)
