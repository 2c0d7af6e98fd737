"""One cap for all questions of a day: nothing is overspent, whatever runs at the same time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.budget import DAY_S, Attempt, Budget, DayBudget, SpentSince
from minions.cloud.client import OpenAICloud
from minions.cloud.model import AttemptOutcome, CloudUsage
from minions.cloud.prices import GenaiPrices
from minions.cloud.recorded import RecordedCloud, Recording
from minions.cloud.sim import Fault, FaultKind, SimPlan
from minions.errors import BudgetExceeded, CloudError, PriceUnknown
from minions.offers import CloudTerms
from minions.question import Reply, StrategyName
from minions.store import MemoryStore, Store, open_store
from minions.store.model import EgressEntry, LedgerEntry, RunRecord, RunStatus
from router import Rung
from tests.cloud import sim_running
from tests.house import House, open_house
from workers.scripted import Rule, RuleTable, ScriptedReply

N_QUESTIONS = 24
NOON = 20_000 * DAY_S + DAY_S / 2
USAGE = CloudUsage(prompt_tokens=400, completion_tokens=30)
ANSWER = Recording(text='{"answer": "Oregon", "citations": []}', usage=USAGE)
ABSTAINS = RuleTable(rules=(Rule(contains="", reply=ScriptedReply()),))
TERMS = CloudTerms(model="gpt-4.1", prices=GenaiPrices(), max_output_tokens=256, reachable=True)
ATTEMPT = Attempt(run_id="run_0", call_key="call", number=1)
money = st.decimals(min_value=0, max_value=3, places=4)


class Clock:
    """A day that the test turns."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


# --- the budget itself ---------------------------------------------------------------------------


@dataclass
class Trade:
    """Calls of several processes that share a store, as `Purchaser` makes them."""

    cap: Decimal
    before: Decimal
    clock: Clock
    store: MemoryStore = field(default_factory=MemoryStore)
    running: list[tuple[Attempt, Decimal, Decimal | None]] = field(default_factory=list)
    spent: Counter[int] = field(default_factory=Counter)
    """Nano-dollars by day."""
    n_calls: int = 0

    def process(self) -> DayBudget:
        first = self.today

        async def untold(since: float) -> Decimal:
            assert since <= self.clock.now < since + DAY_S
            return self.before if since // DAY_S == first else Decimal(0)

        return DayBudget(cap_usd=self.cap, store=self.store, spent_since=untold, now=self.clock)

    @property
    def today(self) -> int:
        return int(self.clock.now // DAY_S)

    async def begin(self, day: DayBudget, worst: Decimal, actual: Decimal | None) -> None:
        self.n_calls += 1
        attempt = Attempt(run_id="run_0", call_key=f"call {self.n_calls}", number=1)
        reserved = await day.reserve(attempt, worst)
        self.running.append((attempt, reserved, actual))

    async def end(self, number: int) -> None:
        attempt, reserved, actual = self.running.pop(number)
        nano = None if actual is None else int(actual * 10**9)
        row = ledger_row(attempt.call_key, nano, at=self.clock.now)
        await self.store.record_ledger([row])
        self.spent[self.today] += int(reserved * 10**9) if nano is None else nano


@given(
    cap=money,
    before=money,
    seed=st.integers(0, 10**6),
    calls=st.lists(st.tuples(money, st.none() | st.floats(0, 1)), max_size=25),
    midnight=st.integers(0, 30),
)
async def test_any_interleaving_stays_within_the_cap(
    cap: Decimal,
    before: Decimal,
    seed: int,
    calls: list[tuple[Decimal, float | None]],
    midnight: int,
) -> None:
    """Calls of two processes with a worst price, a real share of it (None: unknown), and a midnight
    somewhere between them."""
    order = random.Random(seed)
    trade = Trade(cap, before, Clock(NOON + DAY_S / 2 - 300))
    first, days = trade.today, [trade.process(), trade.process()]
    for number, (worst, share) in enumerate(calls):
        if number == midnight:
            trade.clock.now += 600
        day = order.choice(days)
        try:
            await trade.begin(day, worst, None if share is None else worst * Decimal(str(share)))
        except BudgetExceeded:
            assert day.left_usd is not None and worst > day.left_usd
            continue
        while trade.running and order.random() < 0.5:
            await trade.end(order.randrange(len(trade.running)))
    while trade.running:
        await trade.end(0)
    assert trade.spent[first] <= max(0, cap - before) * 10**9
    assert trade.spent[first + 1] <= cap * 10**9


async def test_without_a_cap_nothing_is_read_and_all_is_allowed() -> None:
    async def never(since: float) -> Decimal:
        raise AssertionError("the ledger was read")

    day = DayBudget(spent_since=never)
    await day.open()
    assert await day.reserve(ATTEMPT, None) == 0
    await day.release(ATTEMPT, Decimal(0))
    assert day.left_usd is None


async def test_an_unknown_price_can_not_be_kept_under_the_days_cap() -> None:
    day = DayBudget(cap_usd=Decimal(1), store=MemoryStore())
    await day.open()
    with pytest.raises(PriceUnknown, match="max_usd_per_day"):
        await day.reserve(ATTEMPT, None)


def test_a_cap_needs_books() -> None:
    with pytest.raises(ValueError, match="the store"):
        DayBudget(cap_usd=Decimal(1))


async def test_what_was_not_used_is_given_back() -> None:
    day = DayBudget(cap_usd=Decimal(1), store=MemoryStore())
    assert await day.reserve(ATTEMPT, Decimal("0.9")) == Decimal("0.9")
    with pytest.raises(BudgetExceeded, match="day's cap"):
        await day.reserve(replace(ATTEMPT, number=2), Decimal("0.2"))
    await day.release(ATTEMPT, Decimal("0.9"))
    assert await day.reserve(replace(ATTEMPT, number=2), Decimal("0.2")) == Decimal("0.2")


def test_an_attempt_of_an_earlier_process_is_counted_once() -> None:
    budget = Budget(cap_usd=Decimal(1))
    for _ in range(2):
        budget.count_once("call", 1, Decimal("0.4"))
    budget.count_once("call", 2, Decimal("0.1"))
    assert budget.left_usd == Decimal("0.5")


# --- what earlier processes spent ----------------------------------------------------------------


def ledger_row(
    key: str, nano: int | None, *, at: float = NOON, model: str = "gpt-4.1"
) -> LedgerEntry:
    return LedgerEntry(
        run_id="run_0",
        kind="cloud",
        model=model,
        purpose="document",
        outcome="ok",
        prompt_tokens=0,
        cached_tokens=0,
        completion_tokens=0,
        reasoning_tokens=0,
        cost_nano_usd=nano,
        price_snapshot="s",
        usage_reported=nano is not None,
        call_key=key,
        attempt=1,
        created_at=at,
    )


def egress_entry(key: str, *, at: float = NOON) -> EgressEntry:
    return EgressEntry(
        run_id="run_0",
        call_key=key,
        destination="https://example.test/v1",
        rung="document",
        content=b"Instructions\n\nA hundred words or so.",
        spans=(),
        created_at=at,
    )


async def store_with(rows: list[LedgerEntry], calls: list[EgressEntry]) -> MemoryStore:
    store = MemoryStore()
    await store.open_run(
        RunRecord(
            run_id="run_0",
            fingerprint="f",
            status=RunStatus.RUNNING,
            question={},
            reply=None,
            error=None,
            created_at=NOON,
            updated_at=NOON,
        )
    )
    await store.record_ledger(rows)
    for call in calls:
        await store.record_egress(call)
    return store


async def test_a_restart_gives_nothing_back() -> None:
    """Unknown prices, and calls that a crash cut off, count at worst; those for which money was set
    aside are counted with it, and known prices as they are."""
    midnight = NOON - DAY_S / 2
    rows = [
        ledger_row("known", 2_000_000),
        ledger_row("yesterday", 9_000_000, at=midnight - 1),
        ledger_row("unknown", None),
    ]
    calls = [egress_entry(key) for key in ("known", "unknown", "cut off", "set aside")]
    calls.append(egress_entry("cut off yesterday", at=midnight - 1))
    store = await store_with(rows, calls)
    aside = Attempt(run_id="run_0", call_key="set aside", number=1)
    await store.reserve(aside.reserving(Decimal("0.5"), NOON), [])
    worst_output = Decimal("0.002048")
    untold = await SpentSince(store=store, terms=TERMS)(midnight)
    assert 2 * worst_output < untold < 2 * worst_output + Decimal("0.0002")
    day = DayBudget(
        cap_usd=Decimal(1),
        store=store,
        spent_since=SpentSince(store=store, terms=TERMS),
        now=Clock(),
    )
    await day.open()
    assert day.left_usd == 1 - untold - Decimal("0.002") - Decimal("0.5")


async def test_a_call_without_any_price_today_can_not_be_counted() -> None:
    store = await store_with([ledger_row("k", None, model="no-such")], [egress_entry("k")])
    with pytest.raises(PriceUnknown, match="no-such today"):
        await SpentSince(store=store, terms=TERMS)(NOON - 1)


# --- many questions at once ----------------------------------------------------------------------


async def worst_of_one(house: House) -> Decimal:
    """The worst price of a question at the rung `document`."""
    reply = await house.desk.ask(house.question("Which law?", privacy=Rung.LOCAL))
    worst = reply.offers[-1].worst_usd
    assert worst is not None
    return worst


async def ask_all(house: House, strategy: StrategyName, first: int = 0) -> list[Reply | Exception]:
    """Different questions, all at the same time."""
    asked = [
        house.desk.ask(house.question(f"Which law, number {n}?", strategy=strategy, target=0.99))
        for n in range(first, first + N_QUESTIONS)
    ]
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(end, Reply | BudgetExceeded | CloudError) for end in ended), ended
    return [end for end in ended if isinstance(end, Reply | Exception)]


async def most_spent(store: Store, worst: Decimal) -> Decimal:
    """What the provider may bill at the utmost."""
    rows = [row for row in await store.ledger() if row.kind == "cloud"]
    known = sum(row.cost_nano_usd for row in rows if row.cost_nano_usd is not None)
    return Decimal(known) / 10**9 + worst * sum(row.cost_nano_usd is None for row in rows)


@pytest.mark.parametrize("strategy", [StrategyName.CLOUD, StrategyName.LADDER])
async def test_questions_at_once_share_one_days_cap(tmp_path: Path, strategy: StrategyName) -> None:
    """Against a provider that bills lost answers, over two processes of the same day."""
    faults = [Fault(kind=k) for k in (FaultKind.CUT_STREAM, FaultKind.SERVER_ERROR)]
    source = random.Random(9)
    drawn = tuple(
        source.choice(faults) if source.random() < 0.4 else Fault(kind=FaultKind.SLOW, delay_s=0.01)
        for _ in range(200)
    )
    database = tmp_path / "minions.db"
    with sim_running(SimPlan(faults=drawn, replays=False)) as sim:
        cloud = OpenAICloud(sim.base_url, sim.key, max_attempts=3, first_wait_s=0.002)
        for process in range(2):
            store = await open_store(database)
            async with open_house(tmp_path, client=cloud, script=ABSTAINS, store=store) as house:
                worst = await worst_of_one(house)
                cap = worst * Decimal("5.5")
                spent_since = SpentSince(store=store, terms=house.desk.terms)
                house.desk.day = DayBudget(cap_usd=cap, store=store, spent_since=spent_since)
                ended = await ask_all(house, strategy, first=process * N_QUESTIONS)
                total = await most_spent(store, worst)
            assert total <= cap
            if process == 0:
                assert total > worst
                assert len(ended) == N_QUESTIONS
        await cloud.close()


async def test_two_services_on_one_database_share_one_days_cap(tmp_path: Path) -> None:
    """Both reserve at the same time; neither knows of the other but by the store."""
    path = tmp_path / "minions.db"
    stores = [await open_store(path), await open_store(path)]
    days = [DayBudget(cap_usd=Decimal(1), store=store, now=Clock()) for store in stores]

    async def reserve(number: int) -> bool:
        attempt = Attempt(run_id="run_0", call_key=f"call {number}", number=1)
        try:
            await days[number % 2].reserve(attempt, Decimal("0.15"))
        except BudgetExceeded:
            return False
        return True

    made = await asyncio.gather(*(reserve(number) for number in range(20)))
    assert sum(made) == 6
    for day, store in zip(days, stores, strict=True):
        await day.open()
        assert day.left_usd == Decimal("0.1")
        await store.close()


async def test_the_ladder_keeps_its_local_answer_when_the_day_is_spent(tmp_path: Path) -> None:
    cloud = RecordedCloud([ANSWER] * 2)
    async with open_house(tmp_path, client=cloud, script=ABSTAINS) as house:
        worst = await worst_of_one(house)
        house.desk.day = DayBudget(cap_usd=worst * Decimal("1.2"), store=house.store)
        replies = await ask_all(house, StrategyName.LADDER)
    assert len(cloud.requests) <= 2
    stayed = [r for r in replies if isinstance(r, Reply) and r.rung is Rung.LOCAL]
    assert len(stayed) >= N_QUESTIONS - 2
    assert all(isinstance(reply, Reply) for reply in replies)


async def test_a_refused_reservation_of_the_day_frees_the_questions(tmp_path: Path) -> None:
    refused = Recording(outcome=AttemptOutcome.RATE_LIMITED)
    cloud = RecordedCloud([refused, ANSWER])
    async with open_house(tmp_path, client=cloud, script=ABSTAINS) as house:
        worst = await worst_of_one(house)
        house.desk.day = DayBudget(cap_usd=worst, store=house.store)
        question = house.question("Which law?", strategy=StrategyName.CLOUD, max_cost_usd=worst)
        with pytest.raises(CloudError):
            await house.desk.ask(question)
        await house.desk.day.open()
        assert house.desk.day.left_usd == worst
        reply = await house.desk.ask(question)
    assert reply.answer == "Oregon"
