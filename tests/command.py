"""Runs the real `minions` command in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

START_S = 60.0


def environment(state_dir: Path) -> dict[str, str]:
    """The environment of a command: no key of ours, no settings file, its own state."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    config = str(state_dir / "config.toml")
    return {**kept, "MINIONS_STATE_DIR": str(state_dir), "MINIONS_CONFIG": config, "COLUMNS": "100"}


def minions(*arguments: str, state_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(arguments),
        env=environment(state_dir),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "minions", *arguments]


def answer(*arguments: str, state_dir: Path) -> dict[str, Any]:
    """The JSON object of a command that must succeed."""
    done = minions(*arguments, "--json", state_dir=state_dir)
    assert done.returncode == 0, done.stderr
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


@contextlib.contextmanager
def started(*arguments: str, state_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that runs beside the test and is ended by its own pid.

    Its output goes to a file: a pipe that nobody reads fills up, and then the command stands still.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with output_of(state_dir).open("a") as output:
        process = subprocess.Popen(
            command(arguments),
            env=environment(state_dir),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell's background jobs ignore Ctrl-C, and so would what they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def output_of(state_dir: Path) -> Path:
    """Where `started` commands write."""
    return state_dir / "output.log"


@contextlib.contextmanager
def serving(*options: str, state_dir: Path) -> Iterator[httpx.Client]:
    """`minions serve` on a free port, ready; yields a client of it."""
    port = free_port()
    with (
        started("serve", "--port", str(port), *options, state_dir=state_dir) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        _wait_until_ready(client, process)
        yield client


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended at its start"
        with contextlib.suppress(httpx.TransportError):
            if client.get("/readyz").status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"the server was not ready within {START_S} s")
