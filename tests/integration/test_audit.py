"""Shadow audit: after the reply, by the one door, under ceiling and budgets, beside the sums."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eval.labelled import read_labelled
from eval.rows import read_rows
from minions.audit import Auditor, expectations, is_drawn, read_audits, says_the_same
from minions.cloud.model import AttemptOutcome, CloudUsage
from minions.cloud.recorded import RecordedCloud, Recording
from minions.drift import watch
from minions.errors import BadRequest
from minions.question import Reply, StrategyName
from minions.receipt import AUDIT
from minions.savings import LocalRates, savings
from router import Rung
from tests.house import House, open_house
from workers.scripted import Rule, RuleTable, ScriptedReply

USAGE = CloudUsage(prompt_tokens=400, completion_tokens=30)
LAW = "This agreement is governed by the laws of the State of Oregon."
SURE = RuleTable(
    rules=(
        Rule(contains="Governing law", reply=ScriptedReply(answer="Oregon", citation=LAW)),
        Rule(contains="", reply=ScriptedReply()),
    )
)
QUESTION = "Which state's law governs?"


def said(answer: str | None) -> Recording:
    return Recording(text=json.dumps({"answer": answer, "citations": [LAW]}), usage=USAGE)


async def ask(
    folder: Path, recordings: Sequence[Recording], rate: float = 1.0, **options: Any
) -> tuple[House, RecordedCloud, Auditor, Reply]:
    """One question in a service that audits; returns when its audit has ended."""
    cloud = RecordedCloud(recordings)
    async with open_house(folder, client=cloud, script=SURE) as house:
        auditor = house.desk.auditor = Auditor(rate=rate, rows=folder / "audit" / "rows.jsonl")
        auditor.open()
        reply = await house.desk.ask(house.question(QUESTION, **{"target": 0.3, **options}))
        assert not cloud.requests or reply.rung is not Rung.LOCAL  # nothing before the reply
        await auditor.close()
        return house, cloud, auditor, reply


async def test_an_answer_kept_local_is_asked_of_the_cloud_after_the_reply(tmp_path: Path) -> None:
    house, cloud, auditor, reply = await ask(tmp_path, [said("the State of Oregon")])
    assert reply.rung is Rung.LOCAL and reply.receipt.cloud_usd == 0
    assert len(cloud.requests) == 1 and "Birch Valves" in cloud.requests[0].content
    (entry,) = [e for e in await house.store.ledger() if e.kind == "cloud"]
    assert (entry.purpose, entry.outcome) == (AUDIT, AttemptOutcome.OK.value)
    (left,) = await house.store.egress(reply.trace_id)
    assert left.rung == Rung.DOCUMENT.value
    (row,) = read_audits(auditor.rows)
    assert row["correct"] and row["outcomes"]["document"]["correct"]


async def test_rows_are_those_of_eval_and_hold_no_text(tmp_path: Path) -> None:
    _, _, auditor, reply = await ask(tmp_path, [said("Ohio")])
    (row,) = read_rows(auditor.rows)
    assert (row.item_id, row.rung, row.correct) == (reply.trace_id, "local", False)
    assert row.outcomes is not None and set(row.outcomes) == {"local", "document"}
    kept = auditor.rows.read_text()
    assert not any(word in kept for word in ("Oregon", "Ohio", "governs"))
    (labelled,) = read_labelled([auditor.rows.parent])
    assert not labelled.local_correct and labelled.outcomes[Rung.DOCUMENT].correct
    assert labelled.signals.answered and labelled.cloud_model == "gpt-4.1"


async def test_its_cost_is_beside_the_receipt_and_the_savings(tmp_path: Path) -> None:
    house, _, _, _ = await ask(tmp_path, [said("Oregon")])
    found = savings(await house.store.ledger(), await house.store.list_runs(), LocalRates())
    (question,) = found.questions
    assert question.cloud_usd == 0 and question.saved_usd == question.cloud_only_usd
    assert found.audit_usd == question.audit_usd == Decimal("0.00104")
    assert found.to_json()["audit"] == {"usd": 0.00104, "n_unpriced": 0}


@pytest.mark.parametrize(
    "options",
    [
        {"privacy": Rung.LOCAL},
        {"strategy": StrategyName.LOCAL},
        {"max_cost_usd": Decimal("0.0000001")},
    ],
)
async def test_no_wish_is_passed_for_an_audit(tmp_path: Path, options: dict[str, Any]) -> None:
    house, cloud, auditor, _ = await ask(tmp_path, [said("Oregon")], **options)
    assert not cloud.requests and not auditor.rows.exists()
    assert not await house.store.egress()


async def test_under_a_ceiling_the_highest_rung_below_it_is_asked(tmp_path: Path) -> None:
    _, cloud, auditor, _ = await ask(tmp_path, [said("Oregon")], privacy=Rung.EVIDENCE)
    assert len(cloud.requests) == 1 and "Birch Valves" not in cloud.requests[0].content
    (row,) = read_audits(auditor.rows)
    assert set(row["outcomes"]) == {"local", "evidence"}


async def test_answers_bought_and_answers_not_drawn_are_not_audited(tmp_path: Path) -> None:
    _, cloud, auditor, reply = await ask(
        tmp_path / "bought", [said("Oregon")] * 2, rung=Rung.DOCUMENT
    )
    assert reply.rung is Rung.DOCUMENT and len(cloud.requests) == 1
    assert not auditor.rows.exists()
    _, cloud, auditor, _ = await ask(tmp_path / "none", [said("Oregon")], rate=0.0)
    assert not cloud.requests and not auditor.rows.exists()


async def test_a_command_that_is_no_service_audits_nothing(tmp_path: Path) -> None:
    cloud = RecordedCloud([said("Oregon")])
    async with open_house(tmp_path, client=cloud, script=SURE) as house:
        house.desk.auditor = Auditor(rate=1.0, rows=tmp_path / "rows.jsonl")
        await house.desk.ask(house.question(QUESTION, target=0.3))
        await asyncio.sleep(0.05)
        await house.desk.auditor.close()
    assert not cloud.requests


async def test_a_failed_audit_is_counted_and_costs_no_reply(tmp_path: Path) -> None:
    refused = Recording(outcome=AttemptOutcome.TIMEOUT)
    _, _, auditor, reply = await ask(tmp_path, [refused])
    assert reply.answer == "Oregon" and not auditor.rows.exists()
    assert auditor.n_failed == 1 and auditor.last_failure
    _, _, auditor, _ = await ask(
        tmp_path / "unreadable", [Recording(text="no JSON at all", usage=USAGE)]
    )
    assert auditor.n_failed == 1 and not auditor.rows.exists()


async def test_an_alarm_is_a_warning_on_every_reply(tmp_path: Path) -> None:
    _, _, auditor, _ = await ask(tmp_path, [said("Ohio")])
    (row,) = read_audits(auditor.rows)
    bad = [{**row, "p_correct": 0.9}] * 60
    auditor.rows.write_text("".join(json.dumps(one) + "\n" for one in bad))
    async with open_house(tmp_path, client=RecordedCloud([]), script=SURE) as house:
        house.desk.auditor = Auditor(rate=0.0, rows=auditor.rows)
        reply = await house.desk.ask(house.question(QUESTION, target=0.3))
    assert any("stated chances are too high" in warning for warning in reply.warnings)


def test_the_share_that_is_drawn_is_the_rate_and_never_changes() -> None:
    ids = [f"run_{n}" for n in range(4_000)]
    drawn = [one for one in ids if is_drawn(one, 0.1)]
    assert 320 < len(drawn) < 480 and drawn == [one for one in ids if is_drawn(one, 0.1)]
    assert {one for one in ids if is_drawn(one, 0.05)} <= set(drawn)
    assert not any(is_drawn(one, 0.0) for one in ids) and all(is_drawn(one, 1.0) for one in ids)


def test_agreement_is_of_what_is_said() -> None:
    assert says_the_same("$4,250", "It is $4,250.")
    assert says_the_same("$4,250", "Birch shall pay Alder $4,250 for each pump delivered to it.")
    assert says_the_same("Governed by the laws of the State of Oregon, it says.", "Oregon")
    assert not says_the_same("It is not governed by the laws of the State of Oregon.", "Oregon")
    assert not says_the_same("$4,250", "Birch shall pay Alder $4,350 for each pump delivered.")
    assert says_the_same(None, None)
    assert not says_the_same(None, "Oregon") and not says_the_same("Oregon", "Ohio")


def test_files_that_are_no_audits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_audits(path) == []
    for text in ("{\n", "[]\n", "{}\n"):
        path.write_text(text)
        with pytest.raises(BadRequest, match="line 1"):
            read_audits(path)
    path.write_text('{"p_correct": 0.5, "correct": true, "worker": null}\n{"p_corr')
    assert len(read_audits(path)) == 1
    assert watch(expectations(read_audits(path), None)).n == 1
