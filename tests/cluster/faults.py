"""A random schedule of faults against a real cluster while it works, from a seed.

    python -m tests.cluster.faults --seed 7 --n-jobs 1000 --network

prints what was done and what came of it, as lines of JSON. With `--network` the head and its nodes
live in network namespaces (root only), and cables are pulled too. Each node is started again after
it ended, as its systemd unit does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from tests.cluster.engines import ScriptedRecipe
from tests.cluster.machines import Lab, Machine, lab
from tests.cluster.network import Network, network
from workers.jobs import Job
from workers.ray.pool import FleetPool
from workers.ray.ray_fleet import RayFleet

STEPS_S = (0.2, 0.4, 0.8)
"""Seconds per step of the three nodes: unequal machines."""
N_MACHINES = 5
"""Head, three nodes, and one that joins in mid-run."""
REVIVE_S = 2.0
CUT_S = 30.0
SLEEP_S = 12.0
ACTOR = "ray::EngineActor"


@dataclass(kw_only=True)
class Harm:
    """Does one thing to the cluster at a time; each returns what it did."""

    lab: Lab
    fleet: RayFleet
    network: Network | None
    random: random.Random
    broken: list[Callable[[], None]] = field(default_factory=list)
    """What mends each thing that is to be mended later."""

    def kinds(self) -> list[Callable[[], str]]:
        """Each kind of fault once; the cable and the head take longest to mend, so they come
        early."""
        first = [self.head, self.cable] if self.network else [self.head]
        rest = [self.worker, self.raylet, self.bridge, self.join, self.sleep, self.worker]
        self.random.shuffle(first)
        self.random.shuffle(rest)
        return [*rest[:2], *first, *rest[2:]]

    def worker(self) -> str:
        machine = self.random.choice(self.lab.nodes)
        return f"kill -9 worker process of {machine.plan.name}: {machine.kill(ACTOR)}"

    def raylet(self) -> str:
        machine = self.random.choice(self.lab.nodes)
        return f"kill -9 raylet of {machine.plan.name}: {machine.kill('raylet')}"

    def bridge(self) -> str:
        pid = self.fleet.bridge_pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return f"kill -9 the Ray driver: {pid is not None}"

    def head(self) -> str:
        return f"kill -9 gcs of the head: {self.lab.head.kill('gcs_server')}"

    def join(self) -> str:
        self.lab.add_node("late", step_s=0.1)
        return "node late joins"

    def sleep(self) -> str:
        machine = self.random.choice(self.lab.nodes)
        frozen = machine.named(ACTOR)
        for process in frozen:
            process.suspend()
        self._in(SLEEP_S, lambda: _resume(frozen))
        return f"worker of {machine.plan.name} sleeps {SLEEP_S:g} s: {bool(frozen)}"

    def cable(self) -> str:
        assert self.network is not None
        plugged, number = self.network, self.random.randrange(2, 5)
        plugged.pull(number)
        self._in(CUT_S, lambda: plugged.plug(number))
        return f"cable of {self.lab.nodes[number - 2].plan.name} out for {CUT_S:g} s"

    def mend(self) -> None:
        """Whatever is still pulled or asleep comes back now."""
        for mend in self.broken:
            mend()

    def _in(self, seconds: float, mend: Callable[[], None]) -> None:
        self.broken.append(mend)
        asyncio.get_running_loop().call_later(seconds, mend)


def _resume(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def jobs(n: int) -> list[Job]:
    return [
        Job(
            job_id=f"job {i}",
            chunk_id=f"chunk {i // 3}",
            chunk_text=f"Part {i // 3}. The monthly fee is {i} dollars.",
            task="The monthly fee?",
        )
        for i in range(n)
    ]


async def revive(machines: Callable[[], list[Machine]]) -> None:
    """What systemd does with `Restart=always`."""
    while True:
        await asyncio.sleep(REVIVE_S)
        for machine in machines():
            if machine.ended():
                say(revived=machine.plan.name)
                machine.start()


async def harm(opened: Lab, fleet: RayFleet, cables: Network | None, seed: int) -> None:
    """All kinds of faults, in an order and at moments that the seed decides."""
    chance = random.Random(seed)
    harming = Harm(lab=opened, fleet=fleet, network=cables, random=chance)
    try:
        for kind in harming.kinds():
            await asyncio.sleep(chance.uniform(2, 7))
            say(fault=kind())
    finally:
        harming.mend()


async def storm(
    opened: Lab, cables: Network | None, *, seed: int, n_jobs: int
) -> dict[str, object]:
    """Work through a storm; returns what came of it."""
    reviving = asyncio.create_task(revive(lambda: [opened.head, *opened.nodes]))
    fleet = RayFleet(opened.cluster, ScriptedRecipe(n_slots=4, step_s=0.4))
    pool = FleetPool(fleet)
    await pool.ready()
    while len(await pool.statuses()) < len(STEPS_S):  # noqa: ASYNC110 - a pool has no such event
        await asyncio.sleep(0.2)
    say(working_with=[status.worker_id for status in await pool.statuses()])
    began_at = time.monotonic()
    harming = asyncio.create_task(harm(opened, fleet, cables, seed))
    results = [result async for result in pool.run(jobs(n_jobs))]
    took_s = time.monotonic() - began_at
    outlived = not harming.done()
    for task in (harming, reviving):
        task.cancel()
    done = await asyncio.gather(harming, reviving, return_exceptions=True)
    faults_failed = [repr(e) for e in done if isinstance(e, Exception)]
    await pool.close()
    counts = Counter(result.job_id for result in results)
    return {
        "seed": seed,
        "n_jobs": n_jobs,
        "lost": n_jobs - len(counts),
        "doubled": sum(counts.values()) - len(counts),
        "statuses": dict(Counter(str(result.status) for result in results)),
        "errors": sorted({result.error for result in results if result.error}),
        "wall_s": round(took_s, 1),
        "storm_outlived_work": outlived,
        "faults_failed": faults_failed,
    }


def say(**facts: object) -> None:
    sys.stdout.write(json.dumps({"at": round(time.monotonic(), 1), **facts}) + "\n")
    sys.stdout.flush()


def inside(seed: int, n_jobs: int, prefix: str | None) -> dict[str, object]:
    """The storm itself, in the head's namespace where there is one."""
    cables = Network(prefix=prefix) if prefix else None
    with lab(n_workers=0, cables=cables) as opened:
        for number, step_s in enumerate(STEPS_S):
            opened.add_node(f"pc{number + 1}", step_s=step_s)
        return asyncio.run(storm(opened, cables, seed=seed, n_jobs=n_jobs))


def outside(seed: int, n_jobs: int) -> int:
    """Build the network, and run the storm in the head's namespace."""
    with network(N_MACHINES) as cables:
        command = [sys.executable, "-m", "tests.cluster.faults", "--prefix", cables.prefix]
        command += ["--seed", str(seed), "--n-jobs", str(n_jobs)]
        head = ["ip", "netns", "exec", cables.namespace(1)]
        with subprocess.Popen([*head, *command]) as storming:
            try:
                return storming.wait()
            except BaseException:
                storming.send_signal(signal.SIGINT)  # it has machines to switch off
                storming.wait()
                raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-jobs", type=int, default=1000)
    parser.add_argument("--network", action="store_true")
    parser.add_argument("--prefix", help="of the namespaces that are there already")
    given = parser.parse_args()
    if given.network:
        return outside(given.seed, given.n_jobs)
    outcome = inside(given.seed, given.n_jobs, given.prefix)
    say(**outcome)
    return 0 if outcome["lost"] == outcome["doubled"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
