"""A Ray node as a process of this machine: started, waited for, and ended with all that it started.

`ray stop` would end every Ray process on the machine, other people's too; here only what descends
from the one process is ended.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from workers.cluster import NodePlan, explain_start_failure, make_token, start_command
from workers.errors import EngineUnavailable
from workers.ray.ray_fleet import RayCluster

START_S = 90.0
STOP_S = 8.0


def start_node(plan: NodePlan, log: Path) -> int:
    """Start a node beside this process, with its output in `log`; returns its pid.

    Raises EngineUnavailable for a plan that `workers.cluster.check` refuses."""
    command = start_command(plan)
    if plan.temp_dir is not None:
        # Ray takes the note of the last head for a sign that it still runs.
        (plan.temp_dir / "ray_current_cluster").unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return process.pid


def wait_until_up(plan: NodePlan, pid: int, log: Path, timeout_s: float = START_S) -> None:
    """Wait until the node says that it has started. Raises EngineUnavailable, with its own words
    and what to do, when it ended or took too long; then nothing of it is left."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if _ended(pid):
            reason = explain_start_failure(log.read_text("utf-8", "replace"))
            raise EngineUnavailable(f"the node did not start: {reason} (all of it: {log})")
        if b"--block" in log.read_bytes() and _answers(plan.head):
            return
        time.sleep(0.2)
    stop_node(pid)
    raise EngineUnavailable(
        f"the node was not up within {timeout_s:g} s (see {log}): is {plan.head} the head, does it "
        "run, and does its firewall let this machine in?"
    )


def stop_node(pid: int) -> None:
    """End a node and everything that descends from it. Safe to call when it has ended."""
    try:
        root = psutil.Process(pid)
        family = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        root.terminate()
    psutil.wait_procs([root], timeout=STOP_S)
    for process in family:  # psutil knows by their start time which of them are still the same
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=STOP_S)


@contextlib.contextmanager
def temporary_cluster(n_workers: int) -> Iterator[RayCluster]:
    """A cluster of one node on loopback that is gone at the end: for measuring and trying out."""
    with tempfile.TemporaryDirectory(prefix="mray", dir="/tmp") as name:
        folder = Path(name)
        make_token(folder / "token")
        plan = NodePlan(
            head=f"127.0.0.2:{_free_port()}",
            host="127.0.0.2",
            name="here",
            n_gpus=0,
            n_workers=n_workers,
            token_file=folder / "token",
            is_head=True,
            temp_dir=folder / "ray",
        )
        log = folder / "head.log"
        pid = start_node(plan, log)
        try:
            wait_until_up(plan, pid, log)
            yield RayCluster(
                address=plan.head, token_file=plan.token_file, locks_dir=folder / "locks"
            )
        finally:
            stop_node(pid)


def _ended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
