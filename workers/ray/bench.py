"""What a pool costs: efficiency over more and more workers, and the driver's time per job.

The engine has a fixed service time, so that the machine's own speed plays no part as long as its
cores are not all taken.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import psutil

from workers.jobs import Job
from workers.ray.pool import FleetPool
from workers.ray.process import temporary_cluster
from workers.ray.ray_fleet import RayCluster, RayFleet
from workers.ray.recipe import TimedRecipe

SIZES = (1, 2, 4, 8)
JOBS_PER_CHUNK = 4
WARM_UP_JOBS = 8
"""Per worker, before the clock runs."""
CHUNK_TEXT = "The monthly fee is 400 dollars, payable in advance. " * 100


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeFigures:
    """One number of workers."""

    n_workers: int
    n_jobs: int
    wall_s: float
    lost: int
    doubled: int
    driver_cpu_s: float
    """CPU time of this process and of the bridge."""

    @property
    def jobs_per_s(self) -> float:
        return self.n_jobs / self.wall_s

    @property
    def driver_ms_per_job(self) -> float:
        return 1000 * self.driver_cpu_s / self.n_jobs


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolFigures:
    """All that was measured."""

    sizes: tuple[SizeFigures, ...]
    service_s: float
    n_slots: int

    def efficiency(self, figures: SizeFigures) -> float:
        """Throughput per worker, as a share of that of the first (smallest) size."""
        base = self.sizes[0]
        alone = base.jobs_per_s / base.n_workers
        return figures.jobs_per_s / figures.n_workers / alone

    @property
    def driver_ms_per_job(self) -> float:
        """At the largest size, where the driver has most to do. What it needs when there is little
        to do (heartbeats, looking for nodes) is in it."""
        return self.sizes[-1].driver_ms_per_job


async def measure(
    sizes: Sequence[int] = SIZES, *, service_s: float, n_slots: int, jobs_per_worker: int
) -> PoolFigures:
    """Start a cluster of one node, measure each size on it, and stop it.

    Raises EngineUnavailable when Ray is not there or does not start."""
    recipe = TimedRecipe(service_s=service_s, n_slots=n_slots)
    with temporary_cluster(max(sizes)) as cluster:
        figures = [await _measure(cluster, recipe, n, jobs_per_worker) for n in sizes]
    return PoolFigures(sizes=tuple(figures), service_s=service_s, n_slots=n_slots)


async def _measure(
    cluster: RayCluster, recipe: TimedRecipe, n_workers: int, jobs_per_worker: int
) -> SizeFigures:
    fleet = RayFleet(replace(cluster, max_workers=n_workers), recipe)
    pool = FleetPool(fleet)
    try:
        await _warm_up(pool, n_workers)
        bridge = psutil.Process(fleet.bridge_pid)
        cpu_before, began_at = _cpu_s(bridge), time.monotonic()
        n_jobs = n_workers * jobs_per_worker
        ended = await _ended_ids(pool, _jobs(n_jobs))
        wall_s, cpu_s = time.monotonic() - began_at, _cpu_s(bridge) - cpu_before
    finally:
        await pool.close()
    return SizeFigures(
        n_workers=n_workers,
        n_jobs=n_jobs,
        wall_s=wall_s,
        lost=n_jobs - len(ended),
        doubled=ended.total() - len(ended),
        driver_cpu_s=cpu_s,
    )


async def _warm_up(pool: FleetPool, n_workers: int) -> None:
    """Wait for all workers, and let each do a few jobs."""
    await pool.ready()
    while len(await pool.statuses()) < n_workers:
        await _ended_ids(pool, _jobs(1))
    await _ended_ids(pool, _jobs(n_workers * WARM_UP_JOBS))


async def _ended_ids(pool: FleetPool, jobs: Sequence[Job]) -> Counter[str]:
    async with aclosing(pool.run(jobs)) as results:
        return Counter([result.job_id async for result in results])


def _jobs(n: int) -> list[Job]:
    return [
        Job(
            job_id=str(i),
            chunk_id=f"chunk {i // JOBS_PER_CHUNK}",
            chunk_text=CHUNK_TEXT,
            task="What is the monthly fee?",
        )
        for i in range(n)
    ]


def _cpu_s(bridge: psutil.Process) -> float:
    times = bridge.cpu_times()
    return time.process_time() + float(times.user) + float(times.system)
