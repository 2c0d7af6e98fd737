"""The composition root: the one place where concrete parts are made and put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from minions.asking import Desk
from minions.budget import DayBudget, SpentSince
from minions.cloud.model import CloudClient
from minions.cloud.prices import GenaiPrices, ModelPrice
from minions.documents import Document, ReadLimits, read_document
from minions.errors import DocumentTooLarge, NotFound
from minions.evidence.relevance import DEFAULT_PROFILE, Profile, load_profile
from minions.offers import CloudTerms
from minions.profiles import read_calibration
from minions.redaction import PatternRedactor
from minions.settings import Settings
from minions.store import open_store
from minions.store.model import Store
from workers import WorkerError, WorkerPool
from workers.inline_pool import InlinePool
from workers.models import ModelSpec, build_engine, resolve_model

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
                spec = resolve_model(self.settings.model, self.settings.models_dir)
                self._pool = await self._build(spec)
            return self._pool

    async def _build(self, spec: ModelSpec) -> WorkerPool:
        """Raises a WorkerError when the model can't be loaded."""
        threads, slots = self.settings.threads, self.settings.slots
        pool = InlinePool(lambda: build_engine(spec, n_threads=threads, n_slots=slots))
        try:
            await pool.ready()
        except WorkerError:
            await pool.close()
            raise
        return pool

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()


@dataclass(frozen=True, kw_only=True)
class App:
    """Everything a face needs."""

    settings: Settings
    store: Store
    desk: Desk
    pools: PoolKeeper
    limits: ReadLimits = field(default_factory=ReadLimits)
    readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_READERS))

    async def add_document(self, data: bytes, name: str) -> Document:
        """Read a file and keep it; the same bytes give the document that is there already."""
        async with self.readers:
            document = await read_document(data, name, self.limits)
        await self.store.put_document(document)
        return document

    async def add_file(self, path: Path) -> Document:
        """Read a file from disk. Raises NotFound and DocumentTooLarge before reading it whole."""
        if not path.is_file():
            raise NotFound(f"There is no file {path}. Check the path.")
        if path.stat().st_size > self.limits.max_bytes:
            raise DocumentTooLarge(
                f"{path.name} has {path.stat().st_size:,} bytes; the limit is "
                f"{self.limits.max_bytes:,}. Split the file, or raise the limit (max_bytes)."
            )
        return await self.add_document(await asyncio.to_thread(path.read_bytes), path.name)


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


@contextlib.asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[App]:
    """Open store and cloud; the worker is loaded when it is first needed. Closes all at the end."""
    store = await open_store(settings.database)
    client = open_cloud(settings)
    pools = PoolKeeper(settings=settings)
    terms = cloud_terms(settings)
    desk = Desk(
        store=store,
        worker_name=settings.model,
        open_pool=pools.open,
        terms=terms,
        client=client,
        chunk_tokens=chunk_tokens(settings),
        relevance=relevance_profile(settings),
        calibration=read_calibration(settings.calibration) if settings.calibration else None,
        locks=settings.state_dir / "locks",
        day=DayBudget(
            cap_usd=settings.max_usd_per_day, spent_since=SpentSince(store=store, terms=terms)
        ),
        redactor=PatternRedactor(terms=settings.redact_terms, region=settings.redact_region),
    )
    try:
        yield App(
            settings=settings, store=store, desk=desk, pools=pools, limits=read_limits(settings)
        )
    finally:
        await pools.close()
        if client is not None:
            await client.close()
        await store.close()
