"""Run the simulated provider: in the foreground, or beside other work in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn

from minions.cloud.sim.app import create_app
from minions.cloud.sim.plan import SimPlan

_START_S = 20.0
_STOP_S = 10.0
_POLL_S = 0.01


def serve(host: str, port: int, plan: SimPlan) -> None:
    """Serve until interrupted."""
    uvicorn.Server(_config(plan, host, port)).run()


@contextlib.contextmanager
def running(plan: SimPlan, *, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve in a thread on a free port; yields the base URL, which ends in `/v1`.

    Raises RuntimeError when the server does not come up in 20 s.
    """
    with socket.create_server((host, 0)) as listener:
        port = listener.getsockname()[1]
        server = uvicorn.Server(_config(plan, host, port))
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="cloud-sim", daemon=True
        )
        thread.start()
        try:
            _wait_for(server, thread)
            yield f"http://{host}:{port}/v1"
        finally:
            server.should_exit = True
            thread.join(_STOP_S)


def _config(plan: SimPlan, host: str, port: int) -> uvicorn.Config:
    # Requests that hang on purpose must not hold up the end.
    return uvicorn.Config(
        create_app(plan), host=host, port=port, log_level="error", timeout_graceful_shutdown=1
    )


def _wait_for(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("cloud-sim did not come up: see the log lines above")
        time.sleep(_POLL_S)
