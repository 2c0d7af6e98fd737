"""Real Ray clusters on this host: a head and nodes as processes of their own, that tests can hurt.

Each node is one process group, started by the command that `minions` itself starts nodes with, and
ended by its own id. With `namespace`, a node lives in a network namespace, whose cable can be cut.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.cluster.engines import STEP_VARIABLE
from tests.cluster.network import Network
from workers.cluster import NodePlan, make_token, start_command
from workers.ray.ray_fleet import RayCluster

START_S = 60.0


@dataclass(kw_only=True)
class Machine:
    """A node, which can be killed and started again."""

    plan: NodePlan
    log: Path
    step_s: float | None = None
    namespace: str | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._forget_last_start()
        command = start_command(self.plan)
        if self.step_s is not None:
            command = ["env", f"{STEP_VARIABLE}={self.step_s}", *command]
        if self.namespace:
            command = ["ip", "netns", "exec", self.namespace, *command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def _forget_last_start(self) -> None:
        """Ray refuses to start a head while raylets of its last life are on the host, as those of
        the other nodes are in these tests."""
        if self.plan.temp_dir is not None:
            (self.plan.temp_dir / "ray_current_cluster").unlink(missing_ok=True)

    def processes(self) -> list[psutil.Process]:
        """Everything that this node runs."""
        if self.process is None or self.process.poll() is not None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def named(self, name: str) -> list[psutil.Process]:
        """This node's processes of that name, e.g. `raylet`."""
        return [p for p in self.processes() if _name(p) == name]

    def kill(self, name: str) -> bool:
        """kill -9 a process of the node; False when there is none."""
        found = self.named(name)
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return bool(found)

    def stop(self) -> None:
        """End the node and all that it started, at once."""
        if self.process is None:
            return
        processes = self.processes()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        psutil.wait_procs(processes, timeout=5)

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


@dataclass(kw_only=True)
class Lab:
    """A cluster and the means to hurt it."""

    folder: Path
    head: Machine
    nodes: list[Machine] = field(default_factory=list)

    @property
    def cluster(self) -> RayCluster:
        plan = self.head.plan
        return RayCluster(
            address=plan.head, token_file=plan.token_file, locks_dir=self.folder / "locks"
        )

    cables: Network | None = None

    def add_node(self, name: str, *, n_workers: int = 1, step_s: float | None = None) -> Machine:
        number = len(self.nodes) + 2
        plan = NodePlan(
            head=self.head.plan.head,
            host=self.cables.address(number) if self.cables else f"127.0.0.{number + 1}",
            name=name,
            n_gpus=0,
            n_workers=n_workers,
            token_file=self.head.plan.token_file,
        )
        node = Machine(
            plan=plan,
            log=self.folder / f"{name}.log",
            step_s=step_s,
            namespace=self.cables.namespace(number) if self.cables else None,
        )
        node.start()
        self.nodes.append(node)
        return node


@contextlib.contextmanager
def lab(*, n_workers: int = 1, cables: Network | None = None) -> Iterator[Lab]:
    """A cluster that starts as a head with `n_workers`: on loopback, where each node has an address
    of its own, or in the namespaces of a network, in whose first one this process must run."""
    with tempfile.TemporaryDirectory(prefix="mray", dir="/tmp") as name:
        folder = Path(name)
        head = _head(folder, n_workers, cables.address(1) if cables else "127.0.0.2")
        opened = Lab(folder=folder, head=head, cables=cables)
        try:
            head.start()
            wait_for_port(head.plan, head)
            yield opened
        finally:
            for machine in [*opened.nodes, head]:
                machine.stop()


def _head(folder: Path, n_workers: int, host: str) -> Machine:
    token_file = folder / "token"
    make_token(token_file)
    plan = NodePlan(
        head=f"{host}:{free_port()}",
        host=host,
        name="head",
        n_gpus=0,
        n_workers=n_workers,
        token_file=token_file,
        is_head=True,
        temp_dir=folder / "ray",
    )
    return Machine(plan=plan, log=folder / "head.log")


def wait_for_port(plan: NodePlan, machine: Machine) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert not machine.ended(), machine.log.read_text()[-2000:]
        with contextlib.suppress(OSError), socket.create_connection((plan.host, plan.port), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"no head within {START_S} s: {machine.log.read_text()[-2000:]}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.name()
    return ""
