"""Calibrated chances, stated losses, values and deadlines, on the path of a real question."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from minions.cloud.model import CloudUsage
from minions.cloud.recorded import RecordedCloud, Recording
from minions.question import Reply
from minions.signals import calibration_key
from router import Calibration, RiskRow, Rung
from router.profile import Chance, FitQuality
from tests.house import open_house
from workers import Job
from workers.scripted import ScriptedEngine, ScriptedReply

LAW = "Which state's laws govern this agreement?"
QUOTE = "This agreement is governed by the laws of the State of Oregon."


def finds_the_law(job: Job) -> ScriptedReply:
    found = "Oregon" in job.chunk_text
    return ScriptedReply(answer="Oregon", citation=QUOTE, margin=9.0) if found else ScriptedReply()


def calibration(p_local: float, rows: tuple[RiskRow, ...] = ()) -> Calibration:
    """Every answer has the same chance; the key is the scripted worker's."""
    always = Chance(intercept=0.0, weights=(), curve=((0.5, p_local),), n_labels=100)
    return Calibration(
        key=calibration_key(ScriptedEngine().info),
        local=always,
        cloud_model=None,
        rungs=(),
        quality=FitQuality(n=100, ece=0.0, brier=0.0, auroc=None),
        risk_rows=rows,
    )


def oregon() -> RecordedCloud:
    text = json.dumps({"answer": "Oregon", "citations": [QUOTE], "sufficient": True})
    usage = CloudUsage(prompt_tokens=400, completion_tokens=30)
    return RecordedCloud([Recording(text=text, usage=usage)])


async def ask(folder: Path, profile: Calibration | None, **options: object) -> Reply:
    house_of = open_house(folder, client=oregon(), script=finds_the_law, calibration=profile)
    async with house_of as house:
        return await house.desk.ask(house.question(LAW, **options))


async def test_a_calibrated_chance_decides_and_says_so(tmp_path: Path) -> None:
    trusted = await ask(tmp_path, calibration(0.9))
    doubted = await ask(tmp_path, calibration(0.1))
    assert (trusted.rung, trusted.p_correct) == (Rung.LOCAL, 0.9)
    assert trusted.p_correct_source == "calibrated"
    assert doubted.rung is not Rung.LOCAL
    assert doubted.p_correct_source == "prior"


async def test_a_stale_calibration_is_refused_not_used(tmp_path: Path) -> None:
    fitted = calibration(0.1)
    stale = replace(fitted, key=replace(fitted.key, prompt_version="another"))
    reply = await ask(tmp_path, stale)
    assert reply.p_correct_source == "prior"
    assert any("stale" in w and "prompt_version" in w for w in reply.warnings)


async def test_alpha_sets_the_threshold_from_the_users_labels(tmp_path: Path) -> None:
    """Half of the confident answers were lost against the cloud: none can be kept at 5%."""
    rows = tuple(RiskRow(p_correct=0.9, lost=i % 2 == 0) for i in range(100))
    harmless = tuple(RiskRow(p_correct=0.9, lost=False) for _ in range(100))
    strict = await ask(tmp_path, calibration(0.9, rows), alpha=0.05)
    easy = await ask(tmp_path, calibration(0.9, harmless), alpha=0.05)
    assert strict.rung is not Rung.LOCAL
    assert easy.rung is Rung.LOCAL


@pytest.mark.parametrize("profile", [None, calibration(0.9, (RiskRow(p_correct=0.9, lost=False),))])
async def test_alpha_without_enough_labels_says_so(
    tmp_path: Path, profile: Calibration | None
) -> None:
    reply = await ask(tmp_path, profile, alpha=0.05)
    assert any("alpha 0.05 can't be kept" in warning for warning in reply.warnings)


async def test_nothing_is_bought_that_is_not_worth_its_price(tmp_path: Path) -> None:
    poor = await ask(tmp_path, calibration(0.1), value_usd=Decimal("0.0000001"))
    rich = await ask(tmp_path, calibration(0.1), value_usd=Decimal(10))
    assert poor.rung is Rung.LOCAL and poor.receipt.cloud_usd == 0
    assert rich.rung is not Rung.LOCAL


async def test_nothing_is_bought_that_comes_too_late(tmp_path: Path) -> None:
    late = await ask(tmp_path, calibration(0.1), max_latency_s=0.5)
    in_time = await ask(tmp_path, calibration(0.1), max_latency_s=600.0)
    assert late.rung is Rung.LOCAL
    assert "s are left" in late.reason
    assert in_time.rung is not Rung.LOCAL
