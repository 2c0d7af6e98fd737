"""Recipes of scripted engines that travel to the nodes: they can be imported there."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from workers.jobs import Job
from workers.scripted import Script, ScriptedEngine, ScriptedReply
from workers.seams import Engine

STEP_VARIABLE = "MINIONS_TEST_STEP_S"
"""Set for a node to make it slower or faster than the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScriptedRecipe:
    """A scripted engine with the given script."""

    script: Script | None = None
    n_slots: int = 4
    step_s: float = 0.0

    def build(self) -> Engine:
        step_s = float(os.environ.get(STEP_VARIABLE, self.step_s))
        return ScriptedEngine(self.script, n_slots=self.n_slots, step_s=step_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Directed:
    """Does what the chunk says: `kill` ends its own process the hard way, `sleep 2` sleeps."""

    def __call__(self, job: Job) -> ScriptedReply:
        order, _, number = job.chunk_text.partition(" ")
        if order == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "sleep":
            time.sleep(float(number))
        return ScriptedReply(answer=job.chunk_text, citation=job.chunk_text)
