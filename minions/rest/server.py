"""Runs the service: log lines from the start, and an end that lets running questions finish."""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI

from minions.rest.office import Office
from minions.settings import Settings
from minions.telemetry.logs import configure_logs

CLOSE_S = 2
"""Seconds that open connections get once the questions have ended or were stopped."""


class DrainingServer(uvicorn.Server):
    """On SIGTERM and Ctrl-C: accept nothing more, let questions end within the grace, stop the
    rest where the next start takes it up, then close the connections."""

    def __init__(self, config: uvicorn.Config, api: FastAPI, drain_s: float) -> None:
        super().__init__(config)
        self._api = api
        self._drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn when it was told to stop."""
        for server in self.servers:
            server.close()
        office: Office | None = getattr(self._api.state, "office", None)
        if office is not None:
            await office.drain(self._drain_s)
        await super().shutdown(sockets)


def serve(api: FastAPI, settings: Settings, host: str, port: int) -> None:
    """Serve until told to stop."""
    configure_logs(settings.log_format)
    config = uvicorn.Config(
        api,
        host=host,
        port=port,
        log_config=None,
        access_log=False,  # every request has a line of ours, with its ids
        timeout_graceful_shutdown=CLOSE_S,
        server_header=False,
    )
    DrainingServer(config, api, settings.drain_s).run()
