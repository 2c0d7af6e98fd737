"""Capacity: the queue against theory and a real pool, dollars, rates from a run, wrong input."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from eval.capacity import (
    DAY_S,
    Arrivals,
    Asked,
    Card,
    CloudShare,
    Costs,
    Load,
    Simulation,
    ask,
    fewest_cards,
    plan,
)
from eval.capacity_check import check_pool
from eval.capacity_rates import rates_of
from eval.rows import read_run, write_trace
from minions.cli.capacity import parse_card, plan_capacity
from minions.errors import BadRequest, MinionsError
from tests.runs import a_row, write_run

QUICK = settings(max_examples=50, deadline=None)

CARD = Card(name="card", prefill_tokens_per_s=3_000, decode_tokens_per_s=200)
LOAD = Load(documents_per_day=100, pages_per_document=20, questions_per_document=2)
COMMAND = typer.Typer()
COMMAND.command()(plan_capacity)
QUESTIONS = st.lists(
    st.builds(Asked, at_s=st.floats(0, 50), n_chunks=st.integers(1, 9), follow_up=st.booleans()),
    min_size=1,
    max_size=20,
)


def test_waiting_is_that_of_queueing_theory() -> None:
    """One slot, one chunk per question, Poisson: Pollaczek-Khinchine for fixed service."""
    draw, at, asked = random.Random(3), 0.0, []
    for _ in range(20_000):
        at += draw.expovariate(0.7)
        asked.append(Asked(at_s=at, n_chunks=1, follow_up=False))
    latency = Simulation([CARD], [(1.0, 1.0)]).serve(asked).latency_s
    assert sum(latency) / len(latency) == pytest.approx(1 + 0.7 / (2 * 0.3), rel=0.08)


@QUICK
@given(QUESTIONS, st.integers(1, 3), st.integers(1, 4))
def test_every_chunk_is_read_once_and_no_answer_comes_before_it_can(
    asked: list[Asked], n_cards: int, slots: int
) -> None:
    cards = [replace(CARD, slots=slots)] * n_cards
    served = Simulation(cards, [(2.0, 1.0)] * n_cards).serve(asked)
    work = sum(one.n_chunks * (1.0 if one.follow_up else 2.0) for one in asked)
    assert sum(served.busy_s) == pytest.approx(work)
    for one, latency in zip(asked, served.latency_s, strict=True):
        service = 1.0 if one.follow_up else 2.0
        at_best = service * -(-one.n_chunks // (n_cards * slots))
        assert at_best - 1e-6 <= latency <= work + 50


def test_questions_are_served_in_turn_so_that_a_short_one_is_not_held_up() -> None:
    long, short = (Asked(at_s=at, n_chunks=n, follow_up=False) for at, n in ((0, 100), (0.5, 2)))
    latency = Simulation([CARD], [(1.0, 1.0)]).serve([long, short]).latency_s
    assert latency[0] == 102 and latency[1] < 7


async def test_a_real_pool_agrees() -> None:
    """The tolerance is for a machine that is busy with other work."""
    found = await check_pool(n_questions=12, seed=1)
    assert found.n_jobs > 60
    assert 0.6 < found.ratio < 1.5


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(list(Arrivals)), st.integers(0, 5))
def test_as_many_questions_come_as_are_wanted(arrivals: Arrivals, seed: int) -> None:
    load = replace(LOAD, documents_per_day=300, arrivals=arrivals, questions_per_document=1.5)
    asked = list(ask(load, CloudShare(share=0.5), days=4, seed=seed))
    assert len(asked) == pytest.approx(4 * 450, rel=0.12)
    assert [one.at_s for one in asked] == sorted(one.at_s for one in asked)
    assert sum(one.cloud_s > 0 for one in asked) == pytest.approx(len(asked) / 2, rel=0.2)
    assert sum(not one.follow_up for one in asked) == pytest.approx(1200, rel=0.12)


def test_more_cards_answer_sooner_and_cost_more() -> None:
    load = replace(LOAD, documents_per_day=1_000, pages_per_document=25)
    costs = Costs(usd_per_kwh=0.3)
    cards = replace(CARD, watts=300, idle_watts=20, usd=1_800)
    found = [plan(load, [cards] * n, costs=costs, days=1) for n in (1, 2, 4)]
    p95 = [one.latency_s[0.95] for one in found if one.latency_s]
    assert p95 == sorted(p95, reverse=True) and len(p95) == 3
    usd = [one.usd_per_day for one in found if one.usd_per_day is not None]
    assert usd == sorted(usd)
    assert found[0].utilisation == pytest.approx(found[0].offered, rel=0.1)
    needed = fewest_cards(load, cards, p95[1] * 1.01)
    assert needed == 2


def test_too_much_work_has_no_latency_and_unknown_prices_stay_unknown() -> None:
    heavy = replace(LOAD, documents_per_day=3_000, pages_per_document=200)
    found = plan(heavy, [CARD], cloud=CloudShare(share=0.1, usd_per_question=None), days=1)
    assert found.offered > 1 and found.latency_s is None
    assert found.cloud_usd_per_day is None and found.usd_per_day is None
    assert found.electricity_usd_per_day is None
    assert found.chunks_per_event > 1
    with pytest.raises(ValueError, match="No card"):
        plan(LOAD, [])


def test_dollars_by_hand() -> None:
    """One card of $1,095 over three years, 100 W always, and a cent per question."""
    card = replace(CARD, watts=100, idle_watts=100, usd=1_095)
    cloud = CloudShare(share=0.1, usd_per_question=0.01)
    found = plan(LOAD, [card], cloud=cloud, costs=Costs(usd_per_kwh=0.5), days=1)
    assert found.cards_usd_per_day == 1
    assert found.electricity_usd_per_day == Decimal("1.2")
    assert found.cloud_usd_per_day == 2 and found.usd_per_day == Decimal("4.2")


def test_what_is_in_memory_need_not_be_read_again() -> None:
    first = CARD.service_s(LOAD, follow_up=False)
    again = CARD.service_s(replace(LOAD, reuse=1.0), follow_up=True)
    assert again < first / 2
    assert again == pytest.approx(60 / 3_000 + 60 / 200)


def test_all_at_once_waits_for_all() -> None:
    load = replace(LOAD, arrivals=Arrivals.NIGHTLY, questions_per_document=1)
    found = plan(load, [CARD], days=1)
    assert found.latency_s is not None
    assert found.latency_s[0.99] > 0.9 * found.offered * DAY_S


def read_trace(prefilled: int, output: int, elapsed_s: float) -> dict[str, Any]:
    job = {"prefilled_tokens": prefilled // 4, "output_tokens": output // 4}
    jobs = [{**job, "elapsed_s": elapsed_s * share} for share in (0.2, 0.5, 0.7, 1.0)]
    steps = [
        {"name": "read", "elapsed_s": elapsed_s, "facts": {"jobs": jobs}},
        {"name": "cloud", "elapsed_s": 2.5, "facts": {}},
    ]
    return {"steps": steps}


def test_rates_come_from_the_traces_of_a_run(tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = [
        a_row(f"q{n}", "ladder@0.75", cloud_usd=0.01 * (n % 2), cloud_tokens=900 * (n % 2))
        for n in range(20)
    ]
    run = write_run(tmp_path, rows)
    for row in rows:
        prefilled, output = draw.randrange(1000, 9000, 4), draw.randrange(40, 400, 4)
        seconds = prefilled / 2_000 + output / 100
        write_trace(run, row.trace_id or "", read_trace(prefilled, output, seconds))
    reused = read_trace(8_000, 400, 9.0)
    reused["steps"][0]["elapsed_s"] = 0.01
    write_trace(run, rows[0].trace_id or "", reused)
    rates = rates_of(read_run(run))
    assert rates.prefill_tokens_per_s == pytest.approx(2_000, rel=1e-3)
    assert rates.decode_tokens_per_s == pytest.approx(100, rel=1e-3)
    assert rates.explained == pytest.approx(1) and rates.n_readings == 19
    assert (rates.cloud.share, rates.cloud.latency_s) == (0.5, 2.5)
    assert rates.cloud.usd_per_question == pytest.approx(0.005)
    shown = CliRunner().invoke(COMMAND, ["--run", str(run), "--json"])
    assert shown.exit_code == 0, shown.output
    with pytest.raises(BadRequest, match="0 recorded readings"):
        rates_of(read_run(write_run(tmp_path / "empty", rows)))


def test_cards_as_typed() -> None:
    assert [card.name for card in parse_card("2x4090=2800/180")] == ["4090"] * 2
    (xeon,) = parse_card("xeon=90/12.5")
    assert (xeon.prefill_tokens_per_s, xeon.decode_tokens_per_s) == (90, 12.5)
    for text in ("4090", "=1/2", "4090=1", "4090=0/5", "4090=a/b", "0x4090=1/2", "a=inf/1"):
        with pytest.raises(BadRequest, match="--card"):
            parse_card(text)


def test_the_command_plans_and_says_what_is_wrong() -> None:
    options = ["--card", "2x4090=2800/180", "--usd-per-kwh", "0.3", "--max-latency-s", "60"]
    made = CliRunner().invoke(COMMAND, [*options, "--json"])
    assert made.exit_code == 0, made.output
    figures = json.loads(made.output)
    assert len(figures["cards"]) == 2 and figures["cards_needed"] >= 1
    assert figures["latency_s"]["0.5"] <= figures["latency_s"]["0.95"]
    shown = CliRunner().invoke(COMMAND, options)
    assert "answers in" in shown.output and "95% of the questions within 60 s" in shown.output
    both = ["--prefill-rate", "9", "--decode-rate", "9"]
    for wrong in ([], ["--prefill-rate", "9"], [*options, *both], ["--run", "nowhere"]):
        result = CliRunner().invoke(COMMAND, wrong)
        assert isinstance(result.exception, MinionsError), wrong
