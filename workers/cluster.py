"""The machines of a cluster: how a head and its nodes are started, and when they are refused.

Everything that would be unsafe or would fail late is refused here first: a head that others can
reach without a token, a token that others can read, another version of Ray or Python than the
head's.
"""

from __future__ import annotations

import json
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from workers.errors import EngineUnavailable
from workers.ray.environment import (
    RAY_LOCALHOST,
    is_loopback,
    python_module,
    ray_variables,
    with_variables,
)
from workers.ray.orders import NAME_LABEL, WORKER_RESOURCE

DEFAULT_PORT = 6379
OBJECT_STORE_BYTES = 100_000_000
"""Jobs and results are small and travel in messages; the store holds next to nothing."""
FIRST_WORKER_PORT, LAST_WORKER_PORT = 11_000, 11_999


@dataclass(frozen=True, kw_only=True, slots=True)
class NodePlan:
    """One machine of the cluster, head or not."""

    head: str
    """`HOST:PORT` of the head."""
    host: str
    """This machine's own address, by which the others reach it."""
    name: str
    """By which people know it."""
    n_gpus: int
    n_workers: int
    """Workers that may run here: one per GPU, or one on the CPU; 0 for a head that only heads."""
    token_file: Path
    is_head: bool = False
    temp_dir: Path | None = None
    """Of Ray's logs and sockets; a short path, since sockets have a limit of 107 characters."""
    fixed_ports: bool = False
    """Ports that a firewall can be opened for, in place of random ones. One node per machine."""

    @property
    def port(self) -> int:
        return int(self.head.rpartition(":")[2])


def start_command(plan: NodePlan) -> list[str]:
    """The command that runs a node until it is told to end. Raises EngineUnavailable when it must
    not be started so (see `check`)."""
    check(plan)
    options = [*_role_options(plan), *_resource_options(plan), *_port_options(plan)]
    command = python_module("ray.scripts.scripts", "start", "--block", *options)
    return with_variables(ray_variables(plan.head, plan.token_file), command)


def check(plan: NodePlan) -> None:
    """Raises EngineUnavailable for a plan that is unsafe or can't work."""
    ray_version()
    check_token(plan.token_file)
    head_host = plan.head.rpartition(":")[0]
    if not plan.is_head and head_host in RAY_LOCALHOST:
        raise EngineUnavailable(
            f"a head on {head_host} is for its own machine alone: start it with `minions cluster "
            "up --host ADDRESS`, with its address in your network, and join that"
        )
    if is_loopback(head_host) != is_loopback(plan.host):
        raise EngineUnavailable(
            f"the head is {head_host} and this machine {plan.host}: one is loopback, where no "
            "other machine reaches it. Give both their addresses in your network (--host)"
        )


def check_token(token_file: Path) -> None:
    """Raises EngineUnavailable unless there is a token that nobody else can read."""
    if not token_file.is_file() or token_file.stat().st_size < 32:
        raise EngineUnavailable(
            f"there is no token in {token_file}: without one, whoever reaches the port could run "
            "programs here. `minions cluster up` makes it; copy it to each machine"
        )
    if token_file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise EngineUnavailable(
            f"{token_file} can be read by other users of this machine: chmod 600 {token_file}"
        )


def make_token(token_file: Path) -> bool:
    """Write a new token, for this user's eyes only; False when there is one already."""
    if token_file.exists():
        return False
    token_file.parent.mkdir(parents=True, exist_ok=True)
    token_file.touch(mode=0o600)
    token_file.write_text(secrets.token_hex(32))
    return True


def ray_version() -> str:
    """Raises EngineUnavailable where Ray isn't installed."""
    try:
        return metadata.version("ray")
    except metadata.PackageNotFoundError:
        raise EngineUnavailable(
            "Ray is not installed here: pip install 'minions[cluster]', on every machine"
        ) from None


def explain_start_failure(output: str) -> str:
    """What to do about the output of a node that ended."""
    if "Version mismatch" in output or "version mismatch" in output.lower():
        lines = [
            line.strip() for line in output.splitlines() if "Ray:" in line or "Python:" in line
        ]
        return (
            f"its versions are not the head's ({'; '.join(lines)}): all machines need the same Ray "
            "and the same Python, to the last number"
        )
    if "authentication" in output.lower() or "Unauthenticated" in output:
        return "the head has another token: copy its token file to this machine"
    last = [line.strip() for line in output.splitlines() if line.strip()]
    return last[-1][:300] if last else "it ended without a word"


def _role_options(plan: NodePlan) -> list[str]:
    if not plan.is_head:
        return ["--address", plan.head, "--node-ip-address", plan.host]
    options = ["--head", "--port", str(plan.port), "--node-ip-address", plan.host]
    options += ["--include-dashboard", "false"]
    if plan.temp_dir is not None:
        options += ["--temp-dir", str(plan.temp_dir)]
    return options


def _resource_options(plan: NodePlan) -> list[str]:
    return [
        *("--num-cpus", "1"),
        *("--num-gpus", str(plan.n_gpus)),
        *("--resources", json.dumps({WORKER_RESOURCE: plan.n_workers} if plan.n_workers else {})),
        *("--labels", f"{NAME_LABEL}={plan.name}"),
        *("--object-store-memory", str(OBJECT_STORE_BYTES)),
        *("--include-log-monitor", "false"),
        "--disable-usage-stats",
    ]


def _port_options(plan: NodePlan) -> Sequence[str]:
    if not plan.fixed_ports:
        return ("--ray-client-server-port", str(_client_port(plan))) if plan.is_head else ()
    base = DEFAULT_PORT
    return (
        *("--node-manager-port", str(base + 1)),
        *("--object-manager-port", str(base + 2)),
        *("--runtime-env-agent-port", str(base + 3)),
        *("--dashboard-agent-grpc-port", str(base + 4)),
        *("--dashboard-agent-listen-port", str(base + 5)),
        *("--metrics-export-port", str(base + 6)),
        *("--min-worker-port", str(FIRST_WORKER_PORT)),
        *("--max-worker-port", str(LAST_WORKER_PORT)),
        *(("--ray-client-server-port", str(_client_port(plan))) if plan.is_head else ()),
    )


def _client_port(plan: NodePlan) -> int:
    """Ray's head also opens a port for remote clients, and it can't be turned off; with its own
    number two heads can share a machine. It asks for the token like every other port."""
    return 20_000 + plan.port % 10_000
