"""Our ledger against the provider's own: to the token, and every attempt exactly once.

A thousand calls in both APIs, streamed and whole, meet every fault that the simulated provider
knows; some are cancelled, some are asked twice. One provider honours idempotency keys, the other
bills each request anew.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from minions.budget import Budget
from minions.cloud.client import Api, OpenAICloud
from minions.cloud.model import (
    AttemptSink,
    CloudClient,
    CloudRequest,
    CloudResponse,
    CloudUsage,
    DeltaSink,
)
from minions.cloud.prices import GenaiPrices, nano_usd
from minions.cloud.sim import Fault, FaultKind, SimPlan
from minions.errors import CloudError, CloudUnavailable
from minions.events import ignore_events
from minions.offers import PreparedRung
from minions.purchase import Purchaser
from minions.store import MemoryStore
from minions.store.model import LedgerEntry, RunRecord, RunStatus
from router import Offer, Rung
from tests.cloud import CONTENT, INSTRUCTIONS, Sim, sim_running

N_CALLS = 500
"""Per provider."""
N_AT_ONCE = 16
MODEL = "gpt-4.1"
RUN = "run_of_all_calls"
LONG = "The carrier shall deliver the goods to the consignee at the port. " * 110
"""Long enough for the provider's prompt cache."""
HEALTHY = Fault(kind=FaultKind.SLOW, delay_s=0)
FAULTS = (
    (HEALTHY, 50),
    (Fault(kind=FaultKind.RATE_LIMIT, retry_after_ms=3), 8),
    (Fault(kind=FaultKind.SERVER_ERROR), 6),
    (Fault(kind=FaultKind.DROP_CONNECTION), 5),
    (Fault(kind=FaultKind.CUT_STREAM), 8),
    (Fault(kind=FaultKind.INVALID_JSON), 5),
    (Fault(kind=FaultKind.NO_USAGE), 4),
    (Fault(kind=FaultKind.BAD_ANSWER), 3),
    (Fault(kind=FaultKind.REFUSAL), 3),
    (Fault(kind=FaultKind.LENGTH), 3),
    (Fault(kind=FaultKind.SLOW, delay_s=0.05), 4),
    (Fault(kind=FaultKind.TIMEOUT), 1),
)
Tokens = tuple[int, int, int, int]


class Whole:
    """The same client without streams."""

    def __init__(self, inner: CloudClient) -> None:
        self._inner = inner
        self.base_url = inner.base_url

    async def complete(
        self,
        request: CloudRequest,
        *,
        on_attempt: AttemptSink,
        on_delta: DeltaSink | None = None,
    ) -> CloudResponse:
        return await self._inner.complete(request, on_attempt=on_attempt)

    async def close(self) -> None:
        await self._inner.close()


@dataclass(kw_only=True)
class Trade:
    """A thousand purchases' worth of clients and one store."""

    sim: Sim
    store: MemoryStore
    clients: Sequence[CloudClient]
    prices: GenaiPrices

    async def purchase(self, number: int) -> None:
        """Buy one request; every 13th caller leaves early, every 7th asks a second time."""
        bought = asyncio.ensure_future(self._buy(number))
        if number % 13 == 0:
            await asyncio.sleep(0.01)
            bought.cancel()
        await asyncio.wait([bought])
        if number % 7 == 0:
            bought = asyncio.ensure_future(self._buy(number))
            await asyncio.wait([bought])
        error = None if bought.cancelled() else bought.exception()
        assert error is None or isinstance(error, CloudError), repr(error)

    async def _buy(self, number: int) -> None:
        purchaser = Purchaser(
            run_id=RUN,
            ceiling=Rung.DOCUMENT,
            budget=Budget(cap_usd=None),
            client=self.clients[number % len(self.clients)],
            prices=self.prices,
            store=self.store,
            observe=ignore_events,
        )
        await purchaser.buy(prepared(number))

    async def close(self) -> None:
        for client in self.clients:
            await client.close()


def prepared(number: int) -> PreparedRung:
    """Call `number`; every ninth begins with the same long text."""
    content = f"{LONG if number % 9 == 0 else ''}{CONTENT}\n{number}"
    request = CloudRequest(
        model=MODEL,
        instructions=INSTRUCTIONS,
        content=content,
        max_output_tokens=400,
        idempotency_key=f"call-{number}",
        timeout_s=1.0,
    )
    offer = Offer(
        rung=Rung.DOCUMENT, p_correct=0.9, prompt_tokens=0, expected_usd=None, worst_usd=None
    )
    return PreparedRung(offer=offer, request=request, spans=())


async def trade_with(sim: Sim) -> Trade:
    apis: tuple[Api, ...] = ("chat", "responses")
    clients: list[CloudClient] = []
    for api in apis:
        cloud = OpenAICloud(
            sim.base_url, sim.key, api=api, max_attempts=3, first_wait_s=0.002, max_wait_s=0.01
        )
        clients += [cloud, Whole(cloud)]
    store = MemoryStore()
    await store.open_run(run_record())
    return Trade(sim=sim, store=store, clients=clients, prices=GenaiPrices())


def run_record() -> RunRecord:
    return RunRecord(
        run_id=RUN,
        fingerprint=RUN,
        status=RunStatus.RUNNING,
        question={},
        reply=None,
        error=None,
        created_at=0.0,
        updated_at=0.0,
    )


def tokens_of(usage: dict[str, int]) -> Tokens:
    return (
        usage["prompt_tokens"],
        usage["cached_tokens"],
        usage["completion_tokens"],
        usage["reasoning_tokens"],
    )


def row_tokens(row: LedgerEntry) -> Tokens:
    return (
        row.prompt_tokens,
        row.cached_tokens,
        row.completion_tokens,
        row.reasoning_tokens,
    )


def by_call(lines: list[dict[str, Any]]) -> dict[str, list[Tokens]]:
    calls: dict[str, list[Tokens]] = defaultdict(list)
    for line in lines:
        calls[line["idempotency_key"]].append(tokens_of(line["usage"]))
    return calls


@pytest.mark.parametrize("replays", [True, False], ids=["keys honoured", "every request billed"])
async def test_the_ledger_equals_the_providers(replays: bool) -> None:
    kinds, weights = zip(*FAULTS, strict=True)
    drawn = random.Random(5).choices(kinds, weights, k=2 * N_CALLS)
    with sim_running(SimPlan(faults=tuple(drawn), replays=replays)) as sim:
        trade = await trade_with(sim)
        turns = asyncio.Semaphore(N_AT_ONCE)

        async def in_turn(number: int) -> None:
            async with turns:
                await trade.purchase(number)

        await asyncio.gather(*(in_turn(number) for number in range(N_CALLS)))
        await trade.close()
        billed = by_call(sim.ledger())
        rows = await trade.store.ledger()
    assert_each_attempt_once(rows)
    assert_prices(rows, trade.prices)
    assert_tokens(rows, billed, replays=replays)
    outcomes = Counter(row.outcome for row in rows)
    assert {"ok", "rate_limited", "server_error", "cut_stream", "cancelled"} <= outcomes.keys()
    assert {"invalid_response", "connection_error", "timeout"} <= outcomes.keys()
    assert any(row.cached_tokens for row in rows)


def assert_each_attempt_once(rows: list[LedgerEntry]) -> None:
    """The attempts of each call are numbered 1, 2, 3 ... without gap or repetition."""
    attempts: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        attempts[row.call_key].append(row.attempt)
    assert len(attempts) == N_CALLS
    for numbers in attempts.values():
        assert sorted(numbers) == list(range(1, len(numbers) + 1))


def assert_prices(rows: list[LedgerEntry], prices: GenaiPrices) -> None:
    """A reported usage has its exact price; nothing else has one above 0."""
    for row in rows:
        if not row.usage_reported:
            assert row.cost_nano_usd in (None, 0)
            continue
        prompt, cached, completion, reasoning = row_tokens(row)
        usage = CloudUsage(
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            reasoning_tokens=reasoning,
        )
        cost = prices.cost_usd(MODEL, usage)
        assert cost is not None
        assert row.cost_nano_usd == nano_usd(cost)


def assert_tokens(
    rows: list[LedgerEntry], billed: dict[str, list[Tokens]], *, replays: bool
) -> None:
    """Whatever was billed is in the ledger with its tokens, or as an attempt of unknown price."""
    reported: dict[str, Counter[Tokens]] = defaultdict(Counter)
    n_unknown: Counter[str] = Counter()
    counted = {(row.call_key, row.completion_id) for row in rows if any(row_tokens(row))}
    for row in rows:
        if row.usage_reported and not any(row_tokens(row)):  # given again: billed once, as before
            assert replays and (row.call_key, row.completion_id) in counted, row
        elif row.usage_reported:
            reported[row.call_key][row_tokens(row)] += 1
        elif row.cost_nano_usd is None:
            n_unknown[row.call_key] += 1
    assert reported.keys() <= billed.keys()
    for key, lines in billed.items():
        ours, theirs = reported[key], Counter(lines)
        assert ours <= theirs, (key, ours, theirs)
        if replays:
            assert len(lines) == 1
        assert n_unknown[key] >= (theirs - ours).total(), (key, ours, theirs)
    known = [key for key in billed if reported[key].total() == len(billed[key])]
    assert len(known) > N_CALLS / 2
    ours_total = [row_tokens(row) for row in rows if row.call_key in set(known)]
    theirs_total = [line for key in known for line in billed[key]]
    assert column_sums(ours_total) == column_sums(theirs_total)


def column_sums(lines: list[Tokens]) -> list[int]:
    return [sum(column) for column in zip(*lines, strict=True)]


async def test_a_call_that_failed_and_is_asked_again_keeps_every_attempt() -> None:
    """A resumed run numbers its attempts after those of the process before."""
    with sim_running(SimPlan(faults=(Fault(kind=FaultKind.CUT_STREAM),) * 3)) as sim:
        trade = await trade_with(sim)
        with pytest.raises(CloudUnavailable):
            await trade._buy(0)
        await trade._buy(0)
        await trade._buy(0)
        rows = await trade.store.ledger()
        await trade.close()
    assert [(row.attempt, row.outcome) for row in rows] == [
        (1, "cut_stream"),
        (2, "cut_stream"),
        (3, "cut_stream"),
        (4, "ok"),
    ]
    assert [row.cost_nano_usd is None for row in rows] == [True, True, True, False]


async def test_a_server_that_was_never_reached_costs_nothing() -> None:
    trade = await trade_with(Sim(base_url="http://127.0.0.1:9/v1"))
    with pytest.raises(CloudUnavailable):
        await trade._buy(0)
    rows = await trade.store.ledger()
    await trade.close()
    assert [row.cost_nano_usd for row in rows] == [0, 0, 0]
