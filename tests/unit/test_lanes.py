"""Several engines behind the seam of one: where chunks go, and what a crash or a bug does."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from workers.errors import EngineCrashed, EngineUnavailable
from workers.jobs import Job, JobResult
from workers.lanes import LanedEngine
from workers.llama.sizing import lanes_for
from workers.scripted import Fault, ScriptedEngine, ScriptedReply
from workers.seams import Engine


def job(chunk: str, task: str = "t") -> Job:
    return Job(job_id=f"{chunk}-{task}", chunk_id=chunk, chunk_text=f"text of {chunk}", task=task)


class Threads:
    """A script that notes which thread read which chunk."""

    def __init__(self) -> None:
        self.of_chunk: dict[str, set[int]] = {}

    def __call__(self, asked: Job) -> ScriptedReply:
        self.of_chunk.setdefault(asked.chunk_id, set()).add(threading.get_ident())
        return ScriptedReply(answer="yes")

    @property
    def used(self) -> set[int]:
        return set().union(*self.of_chunk.values())


def drain(engine: Engine) -> Iterator[JobResult]:
    for _ in range(2000):
        if not engine.n_pending:
            return
        yield from (output for output in engine.step() if isinstance(output, JobResult))
    raise AssertionError("the engine does not come to an end")


def test_chunks_are_spread_and_each_keeps_its_lane() -> None:
    seen = Threads()
    engine = LanedEngine(lambda: ScriptedEngine(seen), 3)
    for task in ("first", "second"):
        asked = [job(chunk, task) for chunk in "abcdef"]
        for each in asked:
            engine.submit(each)
        assert sorted(r.job_id for r in drain(engine)) == sorted(j.job_id for j in asked)
    engine.close()
    assert len(seen.used) == 3
    assert all(len(threads) == 1 for threads in seen.of_chunk.values())


def test_slots_are_those_of_all_lanes() -> None:
    engine = LanedEngine(lambda: ScriptedEngine(n_slots=4), 2)
    assert engine.info.n_slots == 8
    engine.close()


def test_a_crash_in_one_lane_is_a_crash_of_the_engine() -> None:
    def script(asked: Job) -> ScriptedReply:
        return (
            ScriptedReply(fault=Fault.CRASH)
            if asked.chunk_id == "b"
            else ScriptedReply(answer="yes")
        )

    engine = LanedEngine(lambda: ScriptedEngine(script), 2)
    for chunk in "ab":
        engine.submit(job(chunk))
    with pytest.raises(EngineCrashed):
        list(drain(engine))
    engine.close()


def test_a_bug_in_one_lane_does_not_hang_the_engine() -> None:
    def script(asked: Job) -> ScriptedReply:
        raise KeyError(asked.job_id)

    engine = LanedEngine(lambda: ScriptedEngine(script), 2)
    engine.submit(job("a"))
    with pytest.raises(EngineCrashed, match="KeyError"):
        list(drain(engine))
    engine.close()


def test_what_building_raises_is_raised_and_nothing_is_left_running() -> None:
    before = threading.active_count()
    built: list[Engine] = []

    def build() -> Engine:
        if built:
            raise EngineUnavailable("no room for another one")
        built.append(ScriptedEngine())
        return built[0]

    with pytest.raises(EngineUnavailable, match="no room"):
        LanedEngine(build, 2)
    assert threading.active_count() == before


def test_there_is_at_least_one_lane() -> None:
    with pytest.raises(ValueError, match="n_lanes is 0"):
        LanedEngine(ScriptedEngine, 0)


def test_only_small_models_are_laned() -> None:
    assert lanes_for(10_000_000, 3) == 3
    assert lanes_for(10_000_000, 100) == 8
    assert lanes_for(1_000_000_000, 3) == 1
    assert lanes_for(10_000_000, None) >= 1
