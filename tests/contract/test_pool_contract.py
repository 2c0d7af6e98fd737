"""What every worker pool must do. Law 1: every job yields exactly one result.

`PoolKit` is what an implementation brings; a pool over several processes or machines adds its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.conftest import EngineKit
from workers.errors import EngineUnavailable, ModelNotFound
from workers.inline_pool import MAX_CRASHES_IN_A_ROW, InlinePool
from workers.jobs import Job, JobResult, JobStatus
from workers.ray.local_fleet import LocalFleet
from workers.ray.pool import FleetPool
from workers.scripted import Fault, Script, ScriptedEngine, ScriptedReply
from workers.seams import Engine, WorkerPool

ANSWER = ScriptedReply(answer="yes", citation="yes")
ABSTAIN = ScriptedReply()

PoolMaker = Callable[[Callable[[], Engine]], WorkerPool]


def fleet_pool(build: Callable[[], Engine]) -> WorkerPool:
    """The pool of a cluster, over one worker of this process."""
    return FleetPool(LocalFleet(build))


@pytest.fixture(scope="session", params=[InlinePool, fleet_pool])
def make_pool(request: pytest.FixtureRequest) -> PoolMaker:
    maker: PoolMaker = request.param
    return maker


@asynccontextmanager
async def open_pool(
    make_pool: PoolMaker, script: Script | None = None, *, n_slots: int = 2
) -> AsyncIterator[WorkerPool]:
    pool = make_pool(partial(ScriptedEngine, script, n_slots=n_slots))
    try:
        yield pool
    finally:
        await pool.close()


def job(job_id: str, chunk: str = "c", *, deadline_s: float | None = None) -> Job:
    return Job(
        job_id=job_id, chunk_id=chunk, chunk_text=chunk, task="Is it?", deadline_s=deadline_s
    )


def jobs(n: int, chunk: str = "c") -> list[Job]:
    return [job(str(number), chunk) for number in range(n)]


async def collect(pool: WorkerPool, wanted: Sequence[Job]) -> list[JobResult]:
    async with aclosing(pool.run(wanted)) as results:
        return [result async for result in results]


@dataclass
class Behaviour:
    """A script that looks up each job's replies by its chunk: the n-th attempt gets the n-th."""

    replies: dict[str, list[ScriptedReply]]
    attempts: Counter[str] = field(default_factory=Counter)

    def __call__(self, job: Job) -> ScriptedReply:
        replies = self.replies[job.chunk_text]
        attempt = self.attempts[job.chunk_text]
        self.attempts[job.chunk_text] += 1
        return replies[min(attempt, len(replies) - 1)]


def crash(steps: int = 1) -> ScriptedReply:
    return ScriptedReply(fault=Fault.CRASH, steps=steps)


# ---- Law 1 as a property ----

steps = st.integers(1, 4)
innocent = st.builds(lambda n: [ScriptedReply(answer="yes", steps=n)], steps)
abstaining = st.builds(lambda n: [ScriptedReply(steps=n)], steps)
failing = st.builds(lambda n: [ScriptedReply(fault=Fault.FAIL, steps=n)], steps)
crashing_once = st.builds(lambda n: [crash(n), ANSWER], steps)
poisoned = st.builds(lambda n: [crash(n)], steps)
behaviours = st.lists(
    st.one_of(innocent, innocent, abstaining, failing, crashing_once, poisoned), max_size=12
)


def possible_statuses(replies: list[ScriptedReply]) -> set[JobStatus]:
    """A job that crashes once may be failed: it may have been in another's crash before."""
    last = replies[-1]
    if last.fault is not None:
        return {JobStatus.FAILED}
    end = JobStatus.ANSWERED if last.answer else JobStatus.ABSTAINED
    return {end} if len(replies) == 1 else {end, JobStatus.FAILED}


@settings(max_examples=60, deadline=None)
@given(behaviours=behaviours, n_slots=st.integers(1, 4), n_chunks=st.integers(1, 3))
def test_every_job_has_exactly_one_result_whatever_happens(
    make_pool: PoolMaker, behaviours: list[list[ScriptedReply]], n_slots: int, n_chunks: int
) -> None:
    """Also: a job is failed only for its own faults, as long as the engine isn't given up."""
    script = Behaviour({f"text {i}": replies for i, replies in enumerate(behaviours)})
    wanted = [
        Job(job_id=f"job {i}", chunk_id=f"c{i % n_chunks}", chunk_text=f"text {i}", task="?")
        for i in range(len(behaviours))
    ]

    async def scenario() -> list[JobResult]:
        async with open_pool(make_pool, script, n_slots=n_slots) as pool:
            return await asyncio.wait_for(collect(pool, wanted), timeout=30)

    results = asyncio.run(scenario())
    assert Counter(r.job_id for r in results) == Counter(j.job_id for j in wanted)
    n_crashes = sum(1 for replies in behaviours if replies[0].fault is Fault.CRASH)
    if n_crashes < MAX_CRASHES_IN_A_ROW - 1:
        statuses = {result.job_id: result.status for result in results}
        for i, replies in enumerate(behaviours):
            assert statuses[f"job {i}"] in possible_statuses(replies)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    stop_after=st.integers(0, 5),
    crashes=st.booleans(),
)
def test_closing_one_run_drops_nothing_of_the_others(
    make_pool: PoolMaker, sizes: list[int], stop_after: int, crashes: bool
) -> None:
    """The first run hangs in part and is closed early; all have the same job ids."""
    hang = ScriptedReply(fault=Fault.HANG)
    script = Behaviour({"closed": [ANSWER, hang], "kept": [crash() if crashes else ANSWER, ANSWER]})

    async def read_some(pool: WorkerPool) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02), aclosing(pool.run(jobs(6, "closed"))) as results:
                seen = 0
                async for _ in results:
                    seen += 1
                    if seen > stop_after:
                        return

    async def scenario() -> list[list[JobResult]]:
        async with open_pool(make_pool, script) as pool:
            kept = [collect(pool, jobs(size, "kept")) for size in sizes]
            closed = asyncio.create_task(read_some(pool))
            results = await asyncio.wait_for(asyncio.gather(*kept), 30)
            await closed
            return results

    for size, results in zip(sizes, asyncio.run(scenario()), strict=True):
        assert sorted(r.job_id for r in results) == sorted(str(i) for i in range(size))
        assert all(result.status is JobStatus.ANSWERED for result in results)


# ---- single cases ----


async def test_is_a_pool_and_knows_its_engine(make_pool: PoolMaker) -> None:
    async with open_pool(make_pool, n_slots=3) as pool:
        assert isinstance(pool, WorkerPool)
        assert await collect(pool, []) == []
        assert pool.info.n_slots == 3
        assert pool.tokenizer.count("two words") == len(pool.tokenizer.encode("two words")) == 2
        assert pool.prompt_overhead_tokens("Is it?") > 2


async def test_results_stream_in_completion_order(make_pool: PoolMaker) -> None:
    script = Behaviour({"slow": [ScriptedReply(steps=50)], "quick": [ANSWER]})
    async with open_pool(make_pool, script) as pool:
        results = await collect(pool, [job("1", "slow"), job("2", "quick"), job("3", "quick")])
    assert [result.job_id for result in results] == ["2", "3", "1"]


async def test_doubled_job_ids_are_refused(make_pool: PoolMaker) -> None:
    async with open_pool(make_pool) as pool:
        with pytest.raises(ValueError, match="'7'"):
            pool.run([job("7"), job("8"), job("7")])


async def test_jobs_of_a_chunk_stay_together(make_pool: PoolMaker) -> None:
    order: list[str] = []

    def script(job: Job) -> ScriptedReply:
        order.append(job.chunk_id)
        return ANSWER

    mixed = [job(str(i), f"chunk {i % 5}") for i in range(40)]
    async with open_pool(make_pool, script) as pool:
        await collect(pool, mixed)
    assert order == [f"chunk {c}" for c in range(5) for _ in range(8)]


async def test_runs_are_served_in_turn(make_pool: PoolMaker) -> None:
    """A run of one job does not wait for a run of a thousand that came first."""
    script = Behaviour({"big": [ScriptedReply(steps=2)], "small": [ANSWER]})
    big = [Job(job_id=str(i), chunk_id=str(i), chunk_text="big", task="?") for i in range(1000)]
    async with open_pool(make_pool, script, n_slots=1) as pool, aclosing(pool.run(big)) as results:
        await anext(results)
        small = asyncio.create_task(collect(pool, [job("0", "small")]))
        n_before = 0
        async for _ in results:
            n_before += 1
            if small.done():
                break
        assert n_before < 500


async def test_cancelling_the_task_frees_the_engine(make_pool: PoolMaker) -> None:
    script = Behaviour({"hang": [ScriptedReply(fault=Fault.HANG)], "quick": [ANSWER]})
    async with open_pool(make_pool, script) as pool:
        stuck = asyncio.create_task(collect(pool, jobs(10, "hang")))
        await asyncio.sleep(0.05)
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck
        results = await asyncio.wait_for(collect(pool, jobs(3, "quick")), 10)
    assert len(results) == 3


async def test_deadlines_hold_in_the_engine_and_in_the_queue(make_pool: PoolMaker) -> None:
    """Two jobs fill the slots and hang; the third waits, behind them, past its own deadline."""
    script = Behaviour({"hang": [ScriptedReply(fault=Fault.HANG)]})
    stuck = [job(str(i), "hang", deadline_s=0.1) for i in range(9)]
    async with open_pool(make_pool, script) as pool:
        results = await asyncio.wait_for(collect(pool, stuck), 10)
    assert len(results) == 9
    assert all("deadline" in (result.error or "") for result in results)
    assert all(0.1 <= result.elapsed_s < 5 for result in results)


async def test_a_poisoned_job_fails_alone(make_pool: PoolMaker) -> None:
    script = Behaviour({"poison": [crash(2)], "fine": [ScriptedReply(answer="yes", steps=3)]})
    wanted = [*jobs(7, "fine"), job("poison", "poison")]
    async with open_pool(make_pool, script, n_slots=8) as pool:
        results = await collect(pool, wanted)
        again = await collect(pool, jobs(2, "fine"))
    failed = [result for result in results if result.status is JobStatus.FAILED]
    assert [result.job_id for result in failed] == ["poison"]
    assert "crashed 2 times in this job" in (failed[0].error or "")
    assert {result.status for result in again} == {JobStatus.ANSWERED}


async def test_an_engine_that_always_crashes_is_given_up_for_the_run(
    make_pool: PoolMaker,
) -> None:
    script = Behaviour({"c": [crash()], "fine": [ANSWER]})
    async with open_pool(make_pool, script) as pool:
        results = await collect(pool, jobs(200))
        after = await collect(pool, jobs(2, "fine"))
    assert len(results) == 200
    assert any("minions doctor" in (result.error or "") for result in results)
    assert script.attempts["c"] < 100
    assert {result.status for result in after} == {JobStatus.ANSWERED}


async def test_an_error_of_the_engine_itself_counts_as_a_crash(make_pool: PoolMaker) -> None:
    def script(job: Job) -> ScriptedReply:
        raise KeyError("a bug")

    async with open_pool(make_pool, script) as pool:
        results = await collect(pool, jobs(3))
    assert {result.status for result in results} == {JobStatus.FAILED}


async def test_closing_the_pool_fails_what_is_unfinished(make_pool: PoolMaker) -> None:
    script = Behaviour({"c": [ScriptedReply(fault=Fault.HANG)]})
    pool = make_pool(partial(ScriptedEngine, script))
    running = asyncio.create_task(collect(pool, jobs(20)))
    await asyncio.sleep(0.05)
    await pool.close()
    await pool.close()
    results = await asyncio.wait_for(running, 10)
    assert len(results) == 20
    assert {result.error for result in results} == {
        "the worker pool was closed before this job ended"
    }
    with pytest.raises(EngineUnavailable, match="closed"):
        await collect(pool, jobs(1))


# ---- InlinePool's own ----


async def test_a_factory_that_fails_is_everyones_error() -> None:
    def factory() -> Engine:
        raise ModelNotFound("no such model")

    pool = InlinePool(factory)
    with pytest.raises(ModelNotFound):
        await pool.ready()
    with pytest.raises(ModelNotFound):
        _ = pool.info
    with pytest.raises(ModelNotFound):
        await collect(pool, jobs(1))
    await pool.close()


async def test_an_engine_that_cannot_be_rebuilt_fails_its_jobs_until_it_can() -> None:
    script = Behaviour({"c": [crash(), ANSWER]})
    built = 0

    def factory() -> Engine:
        nonlocal built
        built += 1
        if built == 2:
            raise EngineUnavailable("the memory is taken")
        return ScriptedEngine(script)

    pool = InlinePool(factory)
    failed = await collect(pool, jobs(5))
    assert all("the memory is taken" in (result.error or "") for result in failed)
    answered = await collect(pool, jobs(5))
    assert {result.status for result in answered} == {JobStatus.ANSWERED}
    await pool.close()


@pytest.mark.parametrize("per_chunk", [1, 3, 50])
async def test_the_engine_is_never_flooded(per_chunk: int) -> None:
    most = 0

    class Watched(ScriptedEngine):
        def submit(self, job: Job) -> None:
            nonlocal most
            super().submit(job)
            most = max(most, self.n_pending)

    pool = InlinePool(Watched, max_in_engine=4)
    wanted = [job(str(i), f"chunk {i // per_chunk}") for i in range(100)]
    assert len(await collect(pool, wanted)) == 100
    await pool.close()
    assert 4 <= most < 8


async def test_an_engine_that_loses_or_doubles_results_cannot_break_the_law() -> None:
    class Careless(ScriptedEngine):
        def step(self) -> list[JobResult]:
            ended = super().step()
            return [*ended[1:], *ended[1:]]

    pool = InlinePool(lambda: Careless(n_slots=3))
    results = await asyncio.wait_for(collect(pool, jobs(9)), 10)
    await pool.close()
    assert sorted(result.job_id for result in results) == [str(i) for i in range(9)]


async def test_a_closed_event_loop_does_not_stop_the_others() -> None:
    pool = InlinePool(lambda: ScriptedEngine(Behaviour({"c": [ScriptedReply(steps=20)]})))

    async def start_and_leave() -> None:
        results = pool.run(jobs(4))
        asyncio.get_running_loop().create_task(anext(results))
        await asyncio.sleep(0.01)

    await asyncio.to_thread(lambda: asyncio.run(start_and_leave()))
    assert len(await asyncio.wait_for(collect(pool, jobs(4)), 10)) == 4
    await pool.close()


async def test_close_leaves_no_thread() -> None:
    pool = InlinePool(ScriptedEngine)
    await collect(pool, jobs(3))
    await pool.close()
    assert "minions-engine" not in {thread.name for thread in threading.enumerate()}


async def test_every_engine_runs_in_the_pool(engine_kit: EngineKit) -> None:
    pool = InlinePool(engine_kit.build)
    chunk = "The monthly fee is 400 dollars."
    wanted = [
        Job(job_id=str(i), chunk_id=f"c{i % 2}", chunk_text=chunk * (1 + i % 2), task="The fee?")
        for i in range(4)
    ]
    first, second = await asyncio.gather(collect(pool, wanted), collect(pool, wanted))
    await pool.close()
    assert sorted(result.job_id for result in first) == ["0", "1", "2", "3"]
    assert sorted(result.job_id for result in second) == ["0", "1", "2", "3"]
