"""`minions serve` and `minions cloud-sim`. Each imports its server itself, so that no other command
waits for it."""

from __future__ import annotations

from typing import Annotated

import typer

from minions.cli.common import (
    CloudOption,
    CloudUrlOption,
    ModelOption,
    StateOption,
    err,
)
from minions.errors import BadRequest
from minions.settings import load_settings

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    host: Annotated[str, typer.Option(help="Loopback only: there are no keys yet.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8600,
    model: ModelOption = None,
    cloud: CloudOption = None,
    cloud_url: CloudUrlOption = None,
    state_dir: StateOption = None,
) -> None:
    """Serve the REST API: POST /v1/questions, GET /v1/questions/{id}; docs at /docs."""
    if host not in LOOPBACK:
        raise BadRequest(
            f"Refusing to listen on {host}: anyone who reaches it could read your documents and "
            "spend your money. Use --host 127.0.0.1, and a proxy with authentication in front."
        )
    import uvicorn

    from minions.rest import create_app

    settings = load_settings(
        model=model, cloud_model=cloud, cloud_url=cloud_url, state_dir=state_dir
    )
    err.print(f"[dim]minions on http://{host}:{port} (docs at /docs); Ctrl-C stops it[/]")
    uvicorn.run(create_app(settings), host=host, port=port, log_level="warning")


def cloud_sim(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 9080,
    fault_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of calls that fail in some way.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the faults.")] = 0,
    key: Annotated[str | None, typer.Option(help="Require this API key.")] = None,
    latency_ms: Annotated[int, typer.Option(min=0, help="Delay of each answer.")] = 0,
) -> None:
    """Serve a simulated cloud that speaks the OpenAI API, for trying things out and for tests.

    It is no language model: it answers only from the text it is sent, by matching words.
    """
    from minions.cloud.sim import SimPlan
    from minions.cloud.sim import serve as serve_sim

    plan = SimPlan(fault_rate=fault_rate, seed=seed, api_key=key, latency_s=latency_ms / 1000)
    err.print(f"[dim]simulated cloud on http://127.0.0.1:{port}/v1; Ctrl-C stops it[/]")
    serve_sim("127.0.0.1", port, plan)
