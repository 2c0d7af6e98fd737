"""`minions serve` and `minions cloud-sim`. Each imports its server itself, so that no other command
waits for it."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from minions.cli.common import (
    CloudOption,
    CloudUrlOption,
    ClusterOption,
    ModelOption,
    PoolOption,
    StateOption,
    err,
)
from minions.errors import BadRequest
from minions.settings import Settings, load_settings
from minions.store import open_store

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    host: Annotated[
        str, typer.Option(help="Where to listen. Beyond this machine only with keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8600,
    model: ModelOption = None,
    cloud: CloudOption = None,
    cloud_url: CloudUrlOption = None,
    pool: PoolOption = None,
    cluster: ClusterOption = None,
    state_dir: StateOption = None,
    max_questions: Annotated[
        int | None, typer.Option(min=1, help="Questions held at once; more get a 429.")
    ] = None,
    max_running: Annotated[
        int | None, typer.Option(min=1, help="Questions worked on at the same time.")
    ] = None,
    drain_s: Annotated[
        float | None, typer.Option(min=0, help="Seconds that questions get at the end.")
    ] = None,
) -> None:
    """Serve the page and the REST API; docs at /docs. Questions that an earlier process left
    unfinished are taken up at once."""
    from minions.rest import create_app
    from minions.rest.server import serve as serve_rest

    settings = load_settings(
        model=model,
        cloud_model=cloud,
        cloud_url=cloud_url,
        pool=pool,
        cluster=cluster,
        state_dir=state_dir,
        max_questions=max_questions,
        max_running=max_running,
        drain_s=drain_s,
    )
    if settings.worker_process is None:  # a crash of llama.cpp must not end the service
        settings = settings.model_copy(update={"worker_process": True})
    loopback = host in LOOPBACK
    if not loopback:
        asyncio.run(_require_keys(settings, host))
    err.print(f"[dim]minions on http://{host}:{port} (docs at /docs); Ctrl-C stops it[/]")
    serve_rest(create_app(settings, loopback=loopback), settings, host, port)


async def _require_keys(settings: Settings, host: str) -> None:
    store = await open_store(settings.database)
    try:
        keys = await store.list_keys()
    finally:
        await store.close()
    if all(key.revoked_at is not None for key in keys):
        raise BadRequest(
            f"Refusing to listen on {host} without keys: anyone who reaches it could read your "
            "documents and spend your money. Make one with `minions keys create NAME`, or use "
            "--host 127.0.0.1."
        )


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
