"""A random schedule of faults against a cluster while it works, from a seed.

`python -m tests.cluster.faults --seed 7 --n-jobs 1000` runs one and prints what it did; the suite
runs a short one. Each node is revived after it ended, as its systemd unit does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.cluster.engines import Directed, ScriptedRecipe
from tests.cluster.machines import Lab, Machine, lab
from workers.jobs import Job, JobResult, JobStatus
from workers.ray.pool import FleetPool
from workers.ray.ray_fleet import RayFleet

REVIVE_S = 2.0


@dataclass(kw_only=True)
class Harm:
    """Does one kind of thing to the cluster at a time, and tells what it did."""

    lab: Lab
    fleet: RayFleet
    random: random.Random
    done: list[str] = field(default_factory=list)

    def worker(self) -> str:
        """kill -9 of an actor's process."""
        machine = self.random.choice([self.lab.head, *self.lab.nodes])
        return f"worker process of {machine.plan.name}: {machine.kill('ray::EngineActor')}"

    def raylet(self) -> str:
        """kill -9 of a node's raylet, which takes the whole node down."""
        machine = self.random.choice(self.lab.nodes)
        return f"raylet of {machine.plan.name}: {machine.kill('raylet')}"

    def bridge(self) -> str:
        """kill -9 of the Ray driver."""
        pid = self.fleet.bridge_pid
        if pid is None:
            return "bridge: none there"
        with contextlib.suppress(ProcessLookupError):
            import os
            import signal

            os.kill(pid, signal.SIGKILL)
        return "bridge"

    def head(self) -> str:
        """kill -9 of the head's memory: it comes back empty."""
        return f"head: {self.lab.head.kill('gcs_server')}"

    def join(self) -> str:
        """Another machine joins in mid-run."""
        name = f"late{len(self.lab.nodes)}"
        self.lab.add_node(name, step_s=self.random.choice((0.02, 0.1)))
        return f"{name} joins"

    def freeze(self) -> str:
        """A worker's process stops for a while without ending, as a laptop that sleeps."""
        machine = self.random.choice(self.lab.nodes)
        frozen = machine.named("ray::EngineActor")
        for process in frozen:
            process.suspend()
        loop = asyncio.get_running_loop()
        loop.call_later(12.0, _resume, frozen)
        return f"{machine.plan.name} sleeps for 12 s: {bool(frozen)}"


def _resume(processes: list[object]) -> None:
    for process in processes:
        with contextlib.suppress(Exception):
            process.resume()  # type: ignore[attr-defined]
