"""The variables with which Ray's processes must start, and how a command gets them.

They are set in the command line of the new process and never in ours: Ray reads some of them when
it is imported, and we do not import it.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HEAD_GONE_S = 20
"""How long a node that can't reach the head goes on alone. Then it ends, and its unit starts it
again: a head that has restarted does not know it any more."""
RAY_LOCALHOST = ("localhost", "127.0.0.1", "::1")


def ray_variables(address: str, token_file: Path) -> dict[str, str]:
    """For a process that takes part in the cluster at `address` (`HOST:PORT`).

    The token is always asked for. Ray takes 127.0.0.1 to mean the machine's outer address; the last
    variable keeps it to itself, and to one node. (127.0.0.2 and so on are taken as they are.)"""
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(HEAD_GONE_S),
    }
    if address.rpartition(":")[0] in RAY_LOCALHOST:
        variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return variables


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def with_variables(variables: Mapping[str, str], command: Sequence[str]) -> list[str]:
    """The command, started by `env` with these variables on top of ours."""
    return ["env", *(f"{name}={value}" for name, value in variables.items()), *command]


def python_module(module: str, *arguments: str) -> list[str]:
    """A command that runs a module with this very Python."""
    return [sys.executable, "-m", module, *arguments]
