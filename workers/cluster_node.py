"""This machine's part in a cluster: which node runs here, and what the cluster's head knows.

One node per state folder: `node.json` says which process it is, and is believed only while that
very process (by its start time) lives.
"""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from workers.cluster import NodePlan, explain_start_failure
from workers.errors import EngineUnavailable
from workers.ray.environment import python_module, ray_variables, with_variables
from workers.ray.process import start_node, stop_node, wait_until_up

REPORT_S = 40.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningNode:
    """The node of this machine."""

    pid: int
    started_at: float
    """When the process began, as the kernel says: another process of the same number differs."""
    head: str
    name: str
    is_head: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeReport:
    """A node as the head knows it."""

    name: str
    address: str
    alive: bool
    is_head: bool
    n_workers: int
    n_gpus: int
    why_gone: str


def start_here(plan: NodePlan, folder: Path) -> RunningNode:
    """Start this machine's node and wait until it is up.

    Raises EngineUnavailable when one runs already, or this one does not start."""
    known = running_here(folder)
    if known is not None:
        raise EngineUnavailable(
            f"this machine is {known.name} in the cluster of {known.head} already: "
            "`minions cluster down` ends that"
        )
    log = folder / "node.log"
    pid = start_node(plan, log)
    wait_until_up(plan, pid, log)
    node = RunningNode(
        pid=pid,
        started_at=psutil.Process(pid).create_time(),
        head=plan.head,
        name=plan.name,
        is_head=plan.is_head,
    )
    _node_file(folder).write_text(json.dumps(_as_facts(node)), "utf-8")
    return node


def running_here(folder: Path) -> RunningNode | None:
    """The node that runs on this machine; None when there is none."""
    try:
        node = RunningNode(**json.loads(_node_file(folder).read_text("utf-8")))
        alive = psutil.Process(node.pid).create_time() == node.started_at
    except (OSError, ValueError, TypeError, psutil.NoSuchProcess):
        return None
    return node if alive else None


def stop_here(folder: Path) -> RunningNode | None:
    """End this machine's node; returns which one it was, None when there was none."""
    node = running_here(folder)
    if node is not None:
        stop_node(node.pid)
    _node_file(folder).unlink(missing_ok=True)
    return node


def report_of(head: str, token_file: Path) -> list[NodeReport]:
    """All nodes that the head knows, also those that are gone. Takes seconds.

    Raises EngineUnavailable when the head can't be reached, saying why."""
    command = with_variables(
        ray_variables(head, token_file), python_module("workers.ray.report", head)
    )
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=REPORT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise EngineUnavailable(
            f"the head {head} did not answer within {REPORT_S:g} s: does it run, and is the port "
            "open in its firewall?"
        ) from None
    if done.returncode:
        raise EngineUnavailable(
            f"the head {head} can't be asked: {explain_start_failure(done.stderr)}"
        )
    return [NodeReport(**facts) for facts in json.loads(done.stdout.splitlines()[-1])]


def own_address(head: str) -> str:
    """This machine's address as the head sees it. Raises EngineUnavailable when there is no way to
    the head's network."""
    host, _, port = head.rpartition(":")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, int(port)))  # sends nothing: it only asks for the route
            address: str = probe.getsockname()[0]
    except OSError as error:
        raise EngineUnavailable(f"there is no way from here to {head}: {error}") from error
    return address


def _node_file(folder: Path) -> Path:
    return folder / "node.json"


def _as_facts(node: RunningNode) -> dict[str, object]:
    return {
        "pid": node.pid,
        "started_at": node.started_at,
        "head": node.head,
        "name": node.name,
        "is_head": node.is_head,
    }
