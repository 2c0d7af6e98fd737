"""The pool's contract, kept by the pool of a real Ray cluster: a head, a bridge and one actor.

The tests are those of `tests.contract.test_pool_contract`, but for the ones that look into the
engine from the test's own process. Properties with many examples run against the same pool over
workers of this process there; what they can't see, lost nodes and networks, is in `test_storm`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.machines import Lab, lab
from tests.contract.test_pool_contract import (  # noqa: F401 - collected here, with our `make_pool`
    PoolMaker,
    test_a_poisoned_job_fails_alone,
    test_an_engine_that_always_crashes_is_given_up_for_the_run,
    test_cancelling_the_task_frees_the_engine,
    test_closing_the_pool_fails_what_is_unfinished,
    test_deadlines_hold_in_the_engine_and_in_the_queue,
    test_is_a_pool_and_knows_its_engine,
    test_runs_are_served_in_turn,
)
from workers.ray.pool import FleetPool
from workers.ray.ray_fleet import RayFleet
from workers.seams import Engine, WorkerPool

pytest.importorskip("ray", reason="Ray is not installed: pip install 'minions[cluster]'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pickled:
    """Builds what a test would build."""

    factory: bytes

    def build(self) -> Engine:
        engine: Engine = pickle.loads(self.factory)()
        return engine


@pytest.fixture(scope="module")
def cluster() -> Iterator[Lab]:
    with lab(n_workers=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def make_pool(cluster: Lab) -> PoolMaker:
    def make(build: Callable[[], Engine]) -> WorkerPool:
        pool = FleetPool(RayFleet(cluster.cluster, Pickled(factory=pickle.dumps(build))))
        assert pool.info.n_slots, "the contract's time limits are not meant for a cluster's start"
        return pool

    return make
