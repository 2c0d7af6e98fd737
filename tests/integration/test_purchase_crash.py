"""Killed between the provider's answer and our disk: the answer is paid and counted once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

import minions
from minions.budget import Budget, DayBudget
from minions.cloud.client import OpenAICloud
from minions.cloud.model import CloudRequest
from minions.cloud.prices import GenaiPrices
from minions.cloud.sim import SimPlan
from minions.events import ignore_events
from minions.offers import PreparedRung
from minions.purchase import Purchaser
from minions.store import SqlStore, open_store
from minions.store.model import RunRecord, RunStatus
from router import Offer, Rung
from tests.cloud import CONTENT, INSTRUCTIONS, Sim, sim_running
from tests.postgres import copy_of_template, make_template, server, server_programs

ROOT = Path(minions.__file__).parents[1]
RUN = "run_1"
KEY = "call_1"
BUYER = """
import asyncio, os, signal, sys
from minions.cloud.client import OpenAICloud
from minions.store import SqlStore, open_store
from tests.integration.test_purchase_crash import bought, keep_run

moment, place, cloud_url = sys.argv[1:]

async def die(after_s):
    await asyncio.sleep(after_s)  # whatever is under way gets to the disk
    os.kill(os.getpid(), signal.SIGKILL)

class Dying(OpenAICloud):
    async def complete(self, request, *, on_attempt, on_delta=None):
        response = await super().complete(request, on_attempt=on_attempt, on_delta=on_delta)
        if moment == "answer arrived":
            os.kill(os.getpid(), signal.SIGKILL)
        if moment == "row on disk":
            await die(0.5)
        return response

async def main():
    store = await open_store(place)
    keep = store.record_cloud_response
    async def record(run_id, response, entries=()):
        if moment == "at the disk":
            await die(0.5)
        await keep(run_id, response, entries)
        await die(0)
    store.record_cloud_response = record
    await keep_run(store)
    await bought(store, Dying(cloud_url, "key"))

asyncio.run(main())
"""
"""Fails at one point, after which the process is no more."""
MOMENTS = ("answer arrived", "row on disk", "at the disk", "answer on disk")


async def keep_run(store: SqlStore) -> None:
    """The run that buys, as the desk keeps it before anything is bought."""
    record = RunRecord(
        run_id=RUN,
        fingerprint=RUN,
        status=RunStatus.RUNNING,
        question={},
        reply=None,
        error=None,
        created_at=0.0,
        updated_at=0.0,
    )
    await store.open_run(record)


async def bought(store: SqlStore, cloud: OpenAICloud) -> str:
    """One purchase under a day's cap; its text."""
    request = CloudRequest(
        model="gpt-4.1",
        instructions=INSTRUCTIONS,
        content=CONTENT,
        max_output_tokens=400,
        idempotency_key=KEY,
    )
    prices = GenaiPrices()
    offer = Offer(
        rung=Rung.DOCUMENT, p_correct=0.9, prompt_tokens=0, expected_usd=None, worst_usd=Decimal(1)
    )
    purchaser = Purchaser(
        run_id=RUN,
        ceiling=Rung.DOCUMENT,
        budget=Budget(cap_usd=None),
        client=cloud,
        prices=prices,
        store=store,
        observe=ignore_events,
        day=DayBudget(cap_usd=Decimal(10), store=store),
    )
    response = await purchaser.buy(PreparedRung(offer=offer, request=request, spans=()))
    return response.text


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    if server_programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="pip install 'minions[postgres]'")
    with server() as url:
        make_template(url)
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the store is."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    return asyncio.run(copy_of_template(request.getfixturevalue("postgres_url")))


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_answer_is_paid_and_counted_once_whenever_its_process_dies(
    place: str, moment: str
) -> None:
    with sim_running(SimPlan()) as sim:
        buyer = subprocess.run(
            [sys.executable, "-c", BUYER, moment, place, sim.base_url], cwd=ROOT, check=False
        )
        assert buyer.returncode == -signal.SIGKILL
        asyncio.run(check(place, sim, moment))


async def check(place: str, sim: Sim, moment: str) -> None:
    store = await open_store(place)
    on_disk = await store.cloud_response(RUN, KEY)
    n_rows = len(await store.ledger())
    assert (on_disk is not None) == (moment == "answer on disk")
    assert n_rows == (1 if moment in ("row on disk", "answer on disk") else 0)
    cloud = OpenAICloud(sim.base_url, "key")
    text = await bought(store, cloud)
    rows, (call,) = await store.ledger(), sim.ledger()
    assert "New York" in text
    assert call["n_replays"] == (0 if moment == "answer on disk" else 1)
    usage = call["usage"]
    assert sum(row.prompt_tokens for row in rows) == usage["prompt_tokens"]
    assert sum(row.completion_tokens for row in rows) == usage["completion_tokens"]
    assert sum(row.cost_nano_usd > 0 for row in rows if row.cost_nano_usd is not None) == 1
    assert all(row.cost_nano_usd is not None for row in rows)
    await cloud.close()
    await store.close()
