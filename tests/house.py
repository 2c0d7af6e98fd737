"""A whole house of shipped stand-ins: scripted workers, a recorded or simulated cloud."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from minions.asking import Desk
from minions.cloud.model import CloudClient
from minions.cloud.prices import GenaiPrices
from minions.documents import Document, read_document
from minions.evidence.relevance import DEFAULT_PROFILE
from minions.offers import CloudTerms
from minions.question import Options, Question
from minions.runlock import file_locks
from minions.store import MemoryStore, Store
from router import Calibration
from workers.inline_pool import InlinePool
from workers.scripted import KeywordReader, Script, ScriptedEngine

CONTRACT = """\
SUPPLY AGREEMENT

This Supply Agreement is made on 3 March 2021 between Alder Pumps Inc. and Birch Valves LLC.

1. Price. Birch shall pay Alder $4,250 for each pump delivered under this agreement.

2. Governing law. This agreement is governed by the laws of the State of Oregon.

3. Term. The term of this agreement is five years from the date of signature.
"""


@dataclass(kw_only=True)
class House:
    """A desk and what it was built of."""

    desk: Desk
    store: Store
    document: Document

    def question(self, text: str, **options: object) -> Question:
        wishes = Options(**options)  # type: ignore[arg-type]
        return Question(text=text, document_ids=(self.document.document_id,), options=wishes)


@contextlib.asynccontextmanager
async def open_house(
    folder: Path,
    *,
    client: CloudClient | None = None,
    script: Script | None = None,
    store: Store | None = None,
    text: str = CONTRACT,
    cloud_model: str = "gpt-4.1",
    chunk_tokens: int = 64,
    calibration: Calibration | None = None,
) -> AsyncIterator[House]:
    """One document, scripted workers, and the cloud that is given."""
    script = script or KeywordReader()
    store = store or MemoryStore()
    pool = InlinePool(lambda: ScriptedEngine(script))
    document = await read_document(text.encode(), "contract.txt")
    await store.put_document(document)

    async def open_pool() -> InlinePool:
        return pool

    terms = CloudTerms(
        model=cloud_model,
        prices=GenaiPrices(),
        max_output_tokens=256,
        reachable=client is not None,
    )
    desk = Desk(
        store=store,
        worker_name="scripted",
        open_pool=open_pool,
        terms=terms,
        client=client,
        chunk_tokens=chunk_tokens,
        relevance=DEFAULT_PROFILE,
        calibration=calibration,
        locks=file_locks(folder / "locks"),
    )
    try:
        yield House(desk=desk, store=store, document=document)
    finally:
        await pool.close()
        await store.close()
