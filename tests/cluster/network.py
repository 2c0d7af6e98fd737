"""Machines in network namespaces of this host, joined by a switch whose cables can be pulled."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

SUBNET = "10.77.0"


def why_not() -> str | None:
    """Why namespaces can't be had here; None when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the command `ip` (iproute2) is not installed"
    probe = f"mr{os.getpid()}p"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if done.returncode:
        return f"this machine gives no network namespaces: {done.stderr.strip()}"
    _ip("netns", "del", probe)
    return None


@dataclass(frozen=True, kw_only=True)
class Network:
    """`n` namespaces with addresses SUBNET.1 to SUBNET.n, and one more that is their switch."""

    prefix: str

    @property
    def switch(self) -> str:
        return f"{self.prefix}sw"

    def namespace(self, number: int) -> str:
        return f"{self.prefix}n{number}"

    def address(self, number: int) -> str:
        return f"{SUBNET}.{number}"

    def pull(self, number: int) -> None:
        """Pull a machine's cable out."""
        _ip("-n", self.switch, "link", "set", f"port{number}", "down")

    def plug(self, number: int) -> None:
        """Put it back."""
        _ip("-n", self.switch, "link", "set", f"port{number}", "up")

    def build(self, n_machines: int) -> None:
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "switch", "up")
        for number in range(1, n_machines + 1):
            self._add_machine(number)

    def remove(self) -> None:
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
        for line in listed.stdout.splitlines():
            if line.startswith(self.prefix):
                _ip("netns", "del", line.split()[0])

    def _add_machine(self, number: int) -> None:
        own, port = self.namespace(number), f"port{number}"
        _ip("netns", "add", own)
        _ip("-n", own, "link", "set", "lo", "up")
        cable = ("link", "add", "eth0", "netns", own, "type", "veth", "peer", "name", port)
        _ip(*cable, "netns", self.switch)
        _ip("-n", self.switch, "link", "set", port, "master", "switch", "up")
        _ip("-n", own, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
        _ip("-n", own, "link", "set", "eth0", "up")
        _ip("-n", own, "route", "add", "default", "dev", "eth0")  # Ray asks for its own address


@contextlib.contextmanager
def network(n_machines: int) -> Iterator[Network]:
    """A network that is gone at the end."""
    built = Network(prefix=f"mr{os.getpid()}")
    try:
        built.build(n_machines)
        yield built
    finally:
        built.remove()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
