"""`minions keys create|list|revoke`: who may use the service."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from minions.cli.common import JsonOption, StateOption, dollars, err, out
from minions.egress import iso
from minions.errors import BadRequest
from minions.keys import Scope, new_key
from minions.settings import Settings, load_settings
from minions.store import ServiceStore, open_store
from minions.store.service import ApiKey

keys = typer.Typer(no_args_is_help=True, help="Who may use the service, and for how much.")


@keys.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose it is: for you, shown in lists.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may do; may be given several times. Default: ask, documents."),
    ] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests in any minute.")] = None,
    usd_per_day: Annotated[
        str | None, typer.Option(help="What its questions of a UTC day may cost, in dollars.")
    ] = None,
    as_json: JsonOption = False,
    state_dir: StateOption = None,
) -> None:
    """Make a key. Its token is printed once, and kept nowhere: the store has only its hash.

    From the first key on, the service asks everyone for one."""
    if not name.strip():
        raise BadRequest("The name is empty. Say whose key it is.")
    key, token = new_key(
        name.strip(),
        scope or (Scope.ASK, Scope.DOCUMENTS),
        requests_per_minute=per_minute,
        usd_per_day=dollars("--usd-per-day", usd_per_day),
    )
    asyncio.run(_put(load_settings(state_dir=state_dir), key))
    if as_json:
        typer.echo(json.dumps({**key_json(key), "token": token}, indent=2))
        return
    err.print(f"[dim]{key.key_id} for {escape(key.name)}; this is the only time it is shown:[/]")
    typer.echo(token)


@keys.command("list")
def list_keys(as_json: JsonOption = False, state_dir: StateOption = None) -> None:
    """Every key, revoked ones too; no token is shown, because none is kept."""
    found = asyncio.run(_all(load_settings(state_dir=state_dir)))
    if as_json:
        typer.echo(json.dumps([key_json(key) for key in found], indent=2))
    elif not found:
        out.print("[dim]no keys: the service listens on this machine only, and asks for none[/]")
    else:
        out.print(_table(found))


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="As `minions keys list` shows it.")],
    state_dir: StateOption = None,
) -> None:
    """End a key. A running service notices within a second. What it made stays."""
    asyncio.run(_revoke(load_settings(state_dir=state_dir), key_id))
    err.print(f"[dim]{escape(key_id)} opens nothing any more[/]")


def key_json(key: ApiKey) -> dict[str, Any]:
    """A key without its hash."""
    return {
        "id": key.key_id,
        "object": "key",
        "name": key.name,
        "scopes": list(key.scopes),
        "requests_per_minute": key.requests_per_minute,
        "usd_per_day": None if key.usd_per_day is None else str(key.usd_per_day),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


def _table(found: list[ApiKey]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading in ("id", "name", "scopes", "per minute", "$ per day", "created", "revoked"):
        table.add_column(heading)
    for key in found:
        table.add_row(
            key.key_id,
            escape(key.name),
            ", ".join(key.scopes),
            str(key.requests_per_minute or "any"),
            "any" if key.usd_per_day is None else str(key.usd_per_day),
            iso(key.created_at),
            "" if key.revoked_at is None else iso(key.revoked_at),
        )
    return table


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[ServiceStore]:
    store = await open_store(settings.database)
    try:
        yield store
    finally:
        await store.close()


async def _put(settings: Settings, key: ApiKey) -> None:
    async with _opened(settings) as store:
        await store.put_key(key)


async def _all(settings: Settings) -> list[ApiKey]:
    async with _opened(settings) as store:
        return await store.list_keys()


async def _revoke(settings: Settings, key_id: str) -> None:
    async with _opened(settings) as store:
        await store.revoke_key(key_id, time.time())
