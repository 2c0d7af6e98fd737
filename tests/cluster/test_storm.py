"""A real Ray cluster through a storm of faults: every job has exactly one result.

Longer ones: MINIONS_STORMS=20 pytest tests/cluster/test_storm.py, or one by hand:
python -m tests.cluster.faults --network --seed 7 --n-jobs 5000
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.network import why_not

pytest.importorskip("ray", reason="Ray is not installed: pip install 'minions[cluster]'")

ROOT = Path(__file__).parents[2]
N_STORMS = int(os.environ.get("MINIONS_STORMS", "1"))
FIRST_SEED = int(os.environ.get("MINIONS_SEED", random.SystemRandom().randrange(10_000)))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(N_STORMS))
def test_a_thousand_jobs_have_one_result_each_whatever_breaks(number: int) -> None:
    """Worker processes, raylets, the Ray driver and the head are killed with -9, a worker sleeps, a
    machine joins in mid-run and, where there are network namespaces, a cable is out for 30 s."""
    reason = why_not()
    network = [] if reason else ["--network"]
    outcome, log = storm(FIRST_SEED + number, *network)
    assert (outcome["lost"], outcome["doubled"]) == (0, 0), log
    assert outcome["faults_failed"] == [], log
    statuses = outcome["statuses"]
    failed = statuses.get("failed", 0)
    assert failed <= 0.02 * outcome["n_jobs"], log
    assert all("crashed 2 times" in error or "lost" in error for error in outcome["errors"]), log


def storm(seed: int, *options: str) -> tuple[dict[str, Any], str]:
    """Run one in processes of its own; the outcome, and all that was said of it."""
    command = [sys.executable, "-m", "tests.cluster.faults", "--seed", str(seed), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    log = f"seed {seed}:\n{done.stdout}\n{done.stderr[-3000:]}"
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    outcome: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    assert "lost" in outcome, log
    return outcome, log
