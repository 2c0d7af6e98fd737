"""Sums of money: exact, and never with an unknown amount taken for 0."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from minions.cli import cli
from minions.cli.demo import contract_path
from minions.cloud.sim import SimPlan, running
from minions.egress import EgressReport, covered
from minions.errors import BadRequest, NotFound
from minions.savings import METHOD, NO_RATES, LocalRates, Savings, day_start, savings
from minions.settings import load_settings
from minions.store.model import EgressEntry, LedgerEntry, RunRecord, RunStatus

FREE = LocalRates()
NANO = 10**9
TERMINAL_STATES = tuple(RunStatus)


def run(
    run_id: str,
    *,
    status: RunStatus = RunStatus.FINISHED,
    alone: float | None = 0.05,
    local_s: float | None = 36.0,
    abstained: bool = False,
    created_at: float = 1000.0,
) -> RunRecord:
    cost = {"cloud_only_usd": alone, "cloud_only_method": "one call", "local_s": local_s}
    reply = {"cost": cost, "abstained": abstained, "rung": "local"}
    return RunRecord(
        run_id=run_id,
        fingerprint=run_id,
        status=status,
        question={"question": f"What of {run_id}?"},
        reply=reply if status is RunStatus.FINISHED else None,
        error=None,
        created_at=created_at,
        updated_at=created_at,
    )


def paid(run_id: str, nano: int | None, *, kind: str = "cloud", attempt: int = 1) -> LedgerEntry:
    return LedgerEntry(
        run_id=run_id,
        kind=kind,
        model="m",
        purpose="document",
        outcome="ok",
        prompt_tokens=1,
        cached_tokens=0,
        completion_tokens=1,
        reasoning_tokens=0,
        cost_nano_usd=nano,
        price_snapshot="s",
        usage_reported=nano is not None,
        call_key="k",
        attempt=attempt,
        created_at=1000.0,
    )


def test_a_question_saves_what_the_cloud_alone_would_have_cost_more() -> None:
    ledger = [paid("a", 10_000_000), paid("a", None, kind="local")]
    result = savings(ledger, [run("a"), run("b", abstained=True)], FREE)
    assert [q.saved_usd for q in result.questions] == [Decimal("0.04"), Decimal("0.05")]
    assert (result.cloud_usd, result.cloud_only_usd) == (Decimal("0.01"), Decimal("0.10"))
    assert (result.saved_usd, result.savings_ratio) == (Decimal("0.09"), Decimal("0.9"))
    shown = result.to_json()
    assert shown["method"] == METHOD
    assert shown["n_abstained"] == 1
    assert shown["questions"][0]["method"] == "one call"


def test_the_unknown_is_in_no_sum_and_is_counted() -> None:
    runs = [run("known"), run("paid"), run("alone", alone=None)]
    ledger = [paid("paid", 5), paid("paid", None, attempt=2), paid("alone", 7)]
    result = savings(ledger, runs, FREE)
    assert {q.run_id for q in result.unknown} == {"paid", "alone"}
    assert (result.cloud_usd, result.cloud_only_usd) == (0, Decimal("0.05"))
    shown = {q["run_id"]: q for q in result.to_json()["questions"]}
    assert shown["paid"]["cloud_usd"] is None and shown["paid"]["saved_usd"] is None
    assert shown["alone"]["cloud_only_usd"] is None


def test_money_for_nothing_is_taken_off() -> None:
    runs = [run("good"), run("failed", status=RunStatus.FAILED)]
    ledger = [paid("failed", 20_000_000), paid("forgotten", 10_000_000)]
    result = savings(ledger, runs, FREE)
    assert {q.run_id for q in result.without_outcome} == {"failed", "forgotten"}
    assert result.saved_usd == Decimal("0.02")


def test_nothing_to_compare_with_has_no_ratio() -> None:
    result = savings([], [], FREE)
    assert (result.savings_ratio, result.local_usd) == (None, None)
    assert result.to_json()["local"]["note"] == NO_RATES


@pytest.mark.parametrize(
    ("rates", "per_hour"),
    [
        (FREE, None),
        (LocalRates(watts=Decimal(300)), None),
        (LocalRates(watts=Decimal(300), usd_per_kwh=Decimal("0.40")), Decimal("0.12")),
        (LocalRates(card_usd_per_hour=Decimal("0.25")), Decimal("0.25")),
        (LocalRates(card_usd_per_hour=Decimal(0)), Decimal(0)),
    ],
)
def test_the_machine_costs_what_the_user_says(rates: LocalRates, per_hour: Decimal | None) -> None:
    result = savings([], [run("a"), run("b", local_s=None)], rates)
    assert result.local_usd_per_hour == per_hour
    assert result.local_usd == (None if per_hour is None else per_hour / 100)
    assert result.n_unmeasured == 1


def test_since_leaves_earlier_questions_out() -> None:
    start = day_start("2025-03-01")
    runs = [run("before", created_at=start - 1), run("after", created_at=start)]
    assert [q.run_id for q in savings([], runs, FREE, since=start).questions] == ["after"]


amounts = st.none() | st.integers(0, 10**12)


@given(
    st.lists(
        st.tuples(st.sampled_from(TERMINAL_STATES), amounts, amounts, st.lists(amounts)), max_size=8
    )
)
def test_every_question_is_in_exactly_one_heap(
    cases: list[tuple[RunStatus, int | None, int | None, list[int | None]]],
) -> None:
    runs, ledger = [], []
    for number, (status, alone, _, costs) in enumerate(cases):
        usd = None if alone is None else alone / NANO
        runs.append(run(f"r{number}", status=status, alone=usd))
        ledger += [paid(f"r{number}", cost, attempt=n) for n, cost in enumerate(costs)]
    result = savings(ledger, runs, FREE)
    heaps = (*result.compared, *result.unknown, *result.without_outcome)
    assert sorted(q.run_id for q in heaps) == sorted(q.run_id for q in result.questions)
    assert result.saved_usd == result.cloud_only_usd - result.cloud_usd
    json.dumps(result.to_json())
    assert_sums(result, ledger)


def assert_sums(result: Savings, ledger: list[LedgerEntry]) -> None:
    unknown = {q.run_id for q in result.unknown}
    rows = [row.cost_nano_usd for row in ledger if row.run_id not in unknown]
    assert result.cloud_usd * NANO == sum(cost for cost in rows if cost is not None)
    assert None not in rows


# --- the egress view -----------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted)))
def test_characters_are_counted_once(spans: list[list[int]]) -> None:
    union = {i for start, end in spans for i in range(start, end)}
    assert covered((start, end) for start, end in spans) == len(union)


def test_the_egress_view_names_documents_and_hides_content_unless_asked() -> None:
    call = EgressEntry(
        run_id="r",
        call_key="k",
        destination="https://example.test/v1",
        rung="evidence",
        content="Ask: fünf".encode(),
        spans=(("doc_a", 0, 5), ("doc_a", 3, 9), ("doc_gone", 0, 2)),
        created_at=0.0,
    )
    report = EgressReport(calls=(call, call), names={"doc_a": "a.txt"})
    hidden, shown = report.to_json(), report.to_json(show=True)
    assert hidden["n_bytes"] == 20
    assert [(d["document"], d["n_calls"], d["n_chars"]) for d in hidden["documents"]] == [
        ("a.txt", 2, 9),
        (None, 2, 2),
    ]
    assert "content" not in hidden["calls"][0]
    assert shown["calls"][0]["content"] == "Ask: fünf"
    assert hidden["calls"][0]["at"] == "1970-01-01T00:00:00Z"


# --- the commands --------------------------------------------------------------------------------


def invoke(*arguments: str, folder: Path) -> dict[str, Any]:
    """A command in this process; the JSON object that it prints."""
    config = {"MINIONS_CONFIG": str(folder / "config.toml"), "MINIONS_STATE_DIR": str(folder)}
    done = CliRunner().invoke(cli, [*arguments, "--json"], env=config, catch_exceptions=False)
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def test_the_commands_show_what_was_paid_and_what_left(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('card_usd_per_hour = "0.5"\n')
    with running(SimPlan()) as url:
        ask = ("ask", str(contract_path()), "What is the renewal term?", "--model", "scripted")
        ask += ("--strategy", "cloud", "--redact", "--cloud-url", url)
        reply = invoke(*ask, folder=tmp_path)
    money = invoke("savings", "--since", "2020-01-01", folder=tmp_path)
    assert money["n_compared"] == 1
    assert money["cloud_usd"] == reply["cost"]["cloud_usd"] > 0
    assert money["cloud_only_usd"] == reply["cost"]["cloud_only_usd"]
    assert money["local"]["usd_per_hour"] == 0.5
    left = invoke("egress", reply["trace_id"], "--show", folder=tmp_path)
    (call,) = left["calls"]
    assert (call["purpose"], call["destination"]) == ("document", url)
    assert len(call["content"].encode()) == call["n_bytes"] == left["n_bytes"]
    assert left["documents"][0]["document"] == contract_path().name


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("savings", "--since", "yesterday"), BadRequest, "--since must be a day"),
        (("egress", "run_unknown"), NotFound, "run_unknown"),
    ],
)
def test_a_mistake_names_itself(
    tmp_path: Path, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    done = CliRunner().invoke(cli, [*arguments, "--state-dir", str(tmp_path)])
    assert isinstance(done.exception, error)
    assert message in str(done.exception)


def test_power_without_a_price_is_refused() -> None:
    with pytest.raises(BadRequest, match="belong together"):
        load_settings(local_watts=300)
