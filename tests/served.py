"""The service in processes that start in no time: forked from one that has imported it already."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import httpx

from minions.cloud.client import OpenAICloud  # noqa: F401  # takes a second: once, not per start
from minions.cloud.tokens import count_tokens
from minions.rest import create_app
from minions.rest.server import serve
from minions.settings import load_settings
from tests.command import free_port

START_S = 60.0
STOP_S = 30.0
count_tokens("The vocabulary is loaded here, once, and is there in every fork.")
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.served"])


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running service."""

    url: str
    process: ForkServerProcess

    def client(self, **options: Any) -> httpx.Client:
        """A client of its own; close it."""
        return httpx.Client(base_url=self.url, **{"timeout": 60, **options})

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM, and wait for the end."""
        self._end(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal and do not wait."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self.process.is_alive():
            self.signal(number)
        self.process.join(STOP_S)
        assert not self.process.is_alive(), f"the service did not end on {number.name}"


def start(state_dir: Path, port: int, **settings: Any) -> Served:
    """Start a service and do not wait for it."""
    process = _FORKS.Process(target=_serve, args=(state_dir, port, settings))
    process.start()
    return Served(url=f"http://127.0.0.1:{port}", process=process)


@contextlib.contextmanager
def served(state_dir: Path, **settings: Any) -> Iterator[Served]:
    """A service that answers; ended at the end of the block, in good order where it still runs."""
    service = start(state_dir, free_port(), **settings)
    try:
        wait_until_alive(service)
        yield service
    finally:
        if service.process.is_alive():
            service.terminate()


def wait_until_alive(service: Served) -> None:
    """Until it answers that it lives."""
    deadline = time.monotonic() + START_S
    with service.client() as client:
        while time.monotonic() < deadline:
            assert service.process.is_alive(), "the service ended at its start"
            with contextlib.suppress(httpx.TransportError):
                if client.get("/healthz").status_code == 200:
                    return
            time.sleep(0.02)
    raise AssertionError(f"the service did not answer within {START_S} s")


def _serve(state_dir: Path, port: int, settings: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ["MINIONS_CONFIG"] = str(state_dir / "config.toml")
    chosen = load_settings(state_dir=state_dir, **{"model": "scripted", **settings})
    with (state_dir / "service.log").open("a") as log:
        os.dup2(log.fileno(), 2)
        serve(create_app(chosen), chosen, "127.0.0.1", port)
