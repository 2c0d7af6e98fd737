"""The composition root: the one place where concrete parts are made and put together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minions.asking import Desk
from minions.audit import Auditor, rows_file
from minions.budget import DayBudget, SpentSince
from minions.chat.desk import ChatDesk
from minions.cloud.model import CloudClient
from minions.cloud.prices import GenaiPrices, ModelPrice
from minions.documents import Document, ReadLimits, read_document
from minions.errors import DocumentTooLarge, NotFound
from minions.evidence.relevance import DEFAULT_PROFILE, Profile, load_profile
from minions.keys import KeyRing, OwnerBudgets
from minions.offers import CloudTerms
from minions.profiles import read_calibration, read_chat_profile
from minions.redaction import PatternRedactor
from minions.runlock import file_locks
from minions.settings import Settings
from minions.store import LOCAL_OWNER, ServiceStore, open_store
from router import Calibration
from workers import WorkerError, WorkerPool
from workers.cluster_models import Shelf, model_files
from workers.inline_pool import InlinePool
from workers.models import KvBudget, build_engine, resolve_model
from workers.ray.pool import FleetPool, worker_facts
from workers.ray.ray_fleet import RayCluster, RayFleet
from workers.ray.recipe import ModelRecipe, local_tokenizer, on_any_machine

MAX_READERS = 4
"""Files read at the same time; each may take a process of up to `ReadLimits.memory_bytes`."""
CHUNK_TOKENS = 1500
NANO_CHUNK_TOKENS = 448
"""nano learned on chunks of up to about this length (see its model card)."""


@dataclass(kw_only=True)
class PoolKeeper:
    """Loads the worker at the first question that needs one, and once only."""

    settings: Settings
    _pool: WorkerPool | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def open(self) -> WorkerPool:
        async with self._opening:
            if self._pool is None:
                pool = self._make()
                try:
                    await pool.ready()
                except WorkerError:
                    await pool.close()
                    raise
                self._pool = pool
            return self._pool

    def check(self) -> None:
        """Raises a WorkerError when the model is neither loaded nor there to be loaded."""
        if self._pool is None and self.settings.pool == "inline":
            resolve_model(self.settings.model, self.settings.models_dir)

    def nodes(self) -> list[dict[str, Any]]:
        """The machines that read, as the faces show them: this one, or the cluster's."""
        if isinstance(self._pool, FleetPool):
            return [worker_facts(status) for status in self._pool.snapshot()]
        node = {"id": "local", "object": "node", "worker": self.settings.model}
        if self._pool is None:
            return [{**node, "state": "idle", "engine": None, "model": None}]
        info = self._pool.info
        facts = {
            "engine": info.engine,
            "model": info.model,
            "quantisation": info.quantisation,
            "context_tokens": info.context_tokens,
            "slots": info.n_slots,
        }
        return [{**node, "state": "loaded", **facts}]

    def _make(self) -> InlinePool | FleetPool:
        """Raises a WorkerError when the model isn't there."""
        settings = self.settings
        if settings.pool == "ray":
            return cluster_pool(settings)
        spec = resolve_model(settings.model, settings.models_dir)
        build = functools.partial(
            build_engine,
            spec,
            n_threads=settings.threads,
            n_slots=settings.slots,
            kv=kv_budget(settings),
            own_process=bool(settings.worker_process),
        )
        return InlinePool(build)

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()


@dataclass(frozen=True, kw_only=True)
class App:
    """Everything a face needs."""

    settings: Settings
    store: ServiceStore
    desk: Desk
    chat: ChatDesk
    pools: PoolKeeper
    ring: KeyRing
    limits: ReadLimits = field(default_factory=ReadLimits)
    readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_READERS))

    async def add_document(self, data: bytes, name: str, owner: str = LOCAL_OWNER) -> Document:
        """Read a file and keep it with its bytes; the same bytes give the owner's document that is
        there already."""
        async with self.readers:
            document = await read_document(data, name, self.limits)
        is_new = await self.store.put_document(document, owner)
        await self.store.put_file(document.document_id, data)
        if is_new:
            return document
        return await self.store.get_document(document.document_id, owner)

    async def add_file(self, path: Path, owner: str = LOCAL_OWNER) -> Document:
        """Read a file from disk. Raises NotFound and DocumentTooLarge before reading it whole."""
        if not path.is_file():
            raise NotFound(f"There is no file {path}. Check the path.")
        if path.stat().st_size > self.limits.max_bytes:
            raise DocumentTooLarge(
                f"{path.name} has {path.stat().st_size:,} bytes; the limit is "
                f"{self.limits.max_bytes:,}. Split the file, or raise the limit (max_bytes)."
            )
        return await self.add_document(await asyncio.to_thread(path.read_bytes), path.name, owner)


def chunk_tokens(settings: Settings) -> int:
    """Tokens per chunk as set, or what suits the worker."""
    if settings.chunk_tokens is not None:
        return settings.chunk_tokens
    return NANO_CHUNK_TOKENS if settings.model == "nano" else CHUNK_TOKENS


def cloud_terms(settings: Settings) -> CloudTerms:
    """Model, prices and limits of the cloud as set."""
    return CloudTerms(
        model=settings.cloud_model,
        prices=price_book(settings),
        max_output_tokens=settings.cloud_output_tokens,
        reachable=settings.has_cloud,
    )


def kv_budget(settings: Settings) -> KvBudget:
    """What the worker may take to keep what it read."""
    return KvBudget(
        ram_bytes=settings.kv_ram_bytes,
        folder=settings.kv_folder,
        disk_bytes=settings.kv_disk_bytes,
    )


def cluster_pool(settings: Settings) -> FleetPool:
    """The pool of all nodes of a cluster. Each node keeps models and KV in its own folders."""
    recipe = ModelRecipe(
        model=settings.model,
        models_dir=on_any_machine(settings.models_dir),
        n_threads=settings.threads,
        n_slots=settings.slots,
        kv=dataclasses.replace(
            kv_budget(settings),
            folder=on_any_machine(settings.kv_folder) if settings.kv_folder else None,
        ),
    )
    cluster = RayCluster(address=settings.cluster, token_file=settings.cluster_token)
    tokenizer = local_tokenizer(settings.model, settings.models_dir)
    shelf = Shelf(files=model_files(settings.model, settings.models_dir), folder=recipe.models_dir)
    return FleetPool(RayFleet(cluster, recipe, shelf), tokenizer=tokenizer)


def read_limits(settings: Settings) -> ReadLimits:
    """Bounds on one file: the defaults, and what the user set."""
    return ReadLimits(**settings.limits.model_dump(exclude_none=True))


def price_book(settings: Settings) -> GenaiPrices:
    """The bundled price list, and the user's own prices before it."""
    own = {name: ModelPrice(**price.model_dump()) for name, price in settings.prices.items()}
    return GenaiPrices(own)


def relevance_profile(settings: Settings) -> Profile:
    """The user's fitted profile (`minions eval evidence --save`), or the shipped default."""
    path = settings.relevance_profile
    return DEFAULT_PROFILE if path is None else load_profile(path)


def open_cloud(settings: Settings) -> CloudClient | None:
    """A client of the cloud as set; None when there is none."""
    if not settings.has_cloud:
        return None
    from minions.cloud.client import OpenAICloud  # the SDK takes a second: only for those who ask

    key = settings.cloud_api_key
    return OpenAICloud(
        settings.cloud_base_url,
        key.get_secret_value() if key else None,
        api=settings.cloud_api,
    )


def open_auditor(settings: Settings, calibration: Calibration | None) -> Auditor | None:
    """The shadow audit as set; None when it is off."""
    if not settings.audit_rate:
        return None
    rows = rows_file(settings.state_dir)
    return Auditor(rate=settings.audit_rate, rows=rows, calibration=calibration)


def chat_desk(settings: Settings, desk: Desk) -> ChatDesk:
    """Plain chat beside the desk of questions."""
    path = settings.chat_profile
    return ChatDesk(
        desk=desk,
        profile=None if path is None else read_chat_profile(path),
        share=settings.chat_cloud_share,
        cloud_takes_stop=settings.cloud_api == "chat",
    )


@contextlib.asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[App]:
    """Open store and cloud; the worker is loaded when it is first needed. Closes all at the end."""
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # also without a database
    store = await open_store(settings.database)
    client = open_cloud(settings)
    pools = PoolKeeper(settings=settings)
    terms = cloud_terms(settings)
    calibration = read_calibration(settings.calibration) if settings.calibration else None
    ring = KeyRing(store=store)
    spent = SpentSince(store=store, terms=terms)
    day = DayBudget(cap_usd=settings.max_usd_per_day, store=store, spent_since=spent)
    desk = Desk(
        store=store,
        worker_name=settings.model,
        open_pool=pools.open,
        terms=terms,
        client=client,
        chunk_tokens=chunk_tokens(settings),
        relevance=relevance_profile(settings),
        calibration=calibration,
        locks=store.run_lock or file_locks(settings.state_dir / "locks"),
        day=day,
        budget_of=OwnerBudgets(ring=ring, house=day, spent=spent).of,
        redactor=PatternRedactor(terms=settings.redact_terms, region=settings.redact_region),
        auditor=open_auditor(settings, calibration),
    )
    try:
        yield App(
            settings=settings,
            store=store,
            desk=desk,
            chat=chat_desk(settings, desk),
            pools=pools,
            ring=ring,
            limits=read_limits(settings),
        )
    finally:
        if desk.auditor is not None:
            await desk.auditor.close()
        await pools.close()
        if client is not None:
            await client.close()
        await store.close()
