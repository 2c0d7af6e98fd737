"""The only door to the cloud: ceiling, journal, budget, egress record, call, ledger. In that order.

- Law 5: the ceiling is checked here again, whatever the router said, and the bytes are on record
  before the client sees them.
- Law 6: a paid response is on disk before it is used; one that is there is not bought again.
- Law 2: every HTTP attempt reaches the ledger as it ends, failed and cancelled ones too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from minions.budget import Budget
from minions.cloud.model import (
    AttemptOutcome,
    CloudAttempt,
    CloudClient,
    CloudRequest,
    CloudResponse,
    CloudUsage,
    PriceBook,
)
from minions.cloud.prices import nano_usd
from minions.errors import CeilingExceeded
from minions.events import CloudDelta, Observer
from minions.offers import PreparedRung
from minions.store.model import EgressEntry, LedgerEntry, Store
from router import Rung

MAY_BE_BILLED = frozenset(
    {AttemptOutcome.TIMEOUT, AttemptOutcome.CUT_STREAM, AttemptOutcome.INVALID_RESPONSE}
)
"""Attempts without a usage field that a provider may bill all the same: their price is unknown.
Those that it turned away (429, 5xx, 4xx) are not billed."""


@dataclass(kw_only=True)
class Purchaser:
    """Buys rungs for one run."""

    run_id: str
    ceiling: Rung
    budget: Budget
    client: CloudClient
    prices: PriceBook
    store: Store
    observe: Observer
    _writes: list[asyncio.Task[None]] = field(default_factory=list)

    async def buy(self, prepared: PreparedRung) -> CloudResponse:
        """The cloud's response at this rung, bought now or earlier in this run.

        Raises CeilingExceeded, BudgetExceeded, PriceUnknown before anything leaves the machine,
        and the CloudError branch when the call failed."""
        rung, request = prepared.offer.rung, prepared.request
        if not self.ceiling.allows(rung):
            raise CeilingExceeded(
                f"Rung `{rung}` is above the privacy ceiling `{self.ceiling}`: nothing was sent. "
                f"Allow it with --privacy {rung}."
            )
        if request is None:
            raise ValueError(f"rung {rung} has nothing to send and can't be bought")
        kept = await self.store.cloud_response(self.run_id, request.idempotency_key)
        if kept is not None:
            return await self._take_from_journal(kept, rung)
        return await self._call(prepared, request)

    async def _take_from_journal(self, kept: CloudResponse, rung: Rung) -> CloudResponse:
        """A response paid before a crash: its ledger rows are completed, nothing is sent."""
        await self._record(kept.attempts, rung)
        self.budget.settle(Decimal(0), self.prices.cost_usd(kept.model, kept.usage))
        return kept

    async def _call(self, prepared: PreparedRung, request: CloudRequest) -> CloudResponse:
        worst = prepared.offer.worst_usd
        meter = _Meter(budget=self.budget, worst_usd=worst, prices=self.prices)
        await self._record_egress(prepared, request)
        rung = prepared.offer.rung

        def attempt_ended(attempt: CloudAttempt) -> None:
            self._writes.append(asyncio.ensure_future(self._record([attempt], rung)))
            meter.attempt_ended(attempt)

        try:
            response = await self.client.complete(
                request,
                on_attempt=attempt_ended,
                on_delta=lambda text: self.observe(CloudDelta(text=text)),
            )
            await self.store.record_cloud_response(self.run_id, response)
            return response
        finally:
            meter.close()
            writes, self._writes = self._writes, []
            await asyncio.gather(*writes)

    async def _record_egress(self, prepared: PreparedRung, request: CloudRequest) -> None:
        content = f"{request.instructions}\n\n{request.content}".encode()
        await self.store.record_egress(
            EgressEntry(
                run_id=self.run_id,
                call_key=request.idempotency_key,
                destination=self.client.base_url,
                rung=prepared.offer.rung.value,
                content=content,
                spans=tuple((s.document_id, s.start, s.end) for s in prepared.spans),
                created_at=time.time(),
            )
        )

    async def _record(self, attempts: Sequence[CloudAttempt], rung: Rung) -> None:
        await self.store.record_ledger(
            [ledger_entry(a, self.run_id, rung, self.prices) for a in attempts]
        )


@dataclass(kw_only=True)
class _Meter:
    """Keeps one call's reservation right while its attempts end.

    Raised from inside the call when the next attempt is no longer covered: the client passes it on
    instead of trying again."""

    budget: Budget
    worst_usd: Decimal | None
    prices: PriceBook
    _reserved: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        self._reserved = self.budget.reserve(self.worst_usd)

    def attempt_ended(self, attempt: CloudAttempt) -> None:
        cost = attempt_cost(attempt, self.prices)
        if cost == 0:
            return
        self.budget.settle(self._reserved, cost)
        self._reserved = Decimal(0)
        if attempt.outcome is not AttemptOutcome.OK:
            self._reserved = self.budget.reserve(self.worst_usd)

    def close(self) -> None:
        self.budget.settle(self._reserved, Decimal(0))
        self._reserved = Decimal(0)


def attempt_cost(attempt: CloudAttempt, prices: PriceBook) -> Decimal | None:
    """Dollars of one attempt: by its usage; 0 where the provider turned it away; None (unknown)
    where it may have been billed and no usage came back."""
    if attempt.usage is not None:
        return prices.cost_usd(attempt.model, attempt.usage)
    return None if attempt.outcome in MAY_BE_BILLED else Decimal(0)


def ledger_entry(attempt: CloudAttempt, run_id: str, rung: Rung, prices: PriceBook) -> LedgerEntry:
    """One HTTP attempt as a ledger row."""
    usage = attempt.usage or CloudUsage()
    cost = attempt_cost(attempt, prices)
    return LedgerEntry(
        run_id=run_id,
        kind="cloud",
        model=attempt.model,
        purpose=rung.value,
        outcome=attempt.outcome.value,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_nano_usd=None if cost is None else nano_usd(cost),
        price_snapshot=prices.snapshot_id,
        usage_reported=attempt.usage is not None,
        call_key=attempt.idempotency_key,
        attempt=attempt.attempt,
        created_at=time.time(),
    )
