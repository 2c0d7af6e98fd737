"""The strategy `rag`: passages by retrieval alone, no worker, the ceiling kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from minions.cloud.model import CloudUsage
from minions.cloud.recorded import RecordedCloud, Recording
from minions.errors import CeilingExceeded
from minions.offers import PASSAGES_TOKENS
from minions.question import StrategyName
from router import Rung
from tests.house import CONTRACT, open_house

LAW = "Which state's laws govern this agreement?"
USAGE = CloudUsage(prompt_tokens=5000, completion_tokens=40)
REPLY = '{"answer": "Oregon", "citations": ["the laws of the State of Oregon"], "sufficient": true}'
FILLER = "The weather was mild and the pumps were painted green in the yard. " * 12
LONG = "\n\n".join([*[f"Note {n}. {FILLER}" for n in range(80)], CONTRACT])


async def test_it_sends_the_best_passages_and_reads_nothing(tmp_path: Path) -> None:
    cloud = RecordedCloud([Recording(text=REPLY, usage=USAGE)])
    async with open_house(tmp_path, client=cloud, text=LONG) as house:
        reply = await house.desk.ask(house.question(LAW, strategy=StrategyName.RAG))
        ledger = await house.store.ledger(reply.trace_id)
        (sent,) = await house.store.egress(reply.trace_id)
    assert (reply.answer, reply.rung) == ("Oregon", Rung.PASSAGES)
    assert [citation.quote for citation in reply.citations] == ["the laws of the State of Oregon"]
    assert {entry.kind for entry in ledger} == {"cloud"}
    assert 0 < reply.coverage < 1
    assert b"State of Oregon" in sent.content
    (offer,) = reply.offers
    assert PASSAGES_TOKENS // 2 < offer.prompt_tokens < PASSAGES_TOKENS + 1000
    assert reply.receipt.cloud_only_usd is not None and reply.receipt.cloud_usd is not None
    assert reply.receipt.cloud_usd < reply.receipt.cloud_only_usd


async def test_the_ceiling_holds(tmp_path: Path) -> None:
    cloud = RecordedCloud([])
    async with open_house(tmp_path, client=cloud) as house:
        question = house.question(LAW, strategy=StrategyName.RAG, privacy=Rung.EVIDENCE)
        with pytest.raises(CeilingExceeded, match="Nothing was sent"):
            await house.desk.ask(question)
        assert await house.store.egress() == []
