"""The only door to the cloud: ceiling, journal, budget, egress record, call, ledger. In that order.

- Law 5: the ceiling is checked here again, whatever the router said, and the bytes are on record
  before the client sees them.
- Law 6: a paid response is on disk before it is used; one that is there is not bought again.
- Law 2: every HTTP attempt reaches the ledger as it ends, failed and cancelled ones too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from minions.budget import Budget, DayBudget, known_usd
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
from minions.cloud.tokens import request_tokens
from minions.errors import CeilingExceeded, MinionsError
from minions.events import CloudDelta, Observer
from minions.offers import PreparedRung
from minions.redaction import Redacted, Redactor, redact_request
from minions.store.model import EgressEntry, LedgerEntry, Store
from router import Rung

MAY_BE_BILLED = frozenset(
    {
        AttemptOutcome.TIMEOUT,
        AttemptOutcome.CONNECTION_ERROR,
        AttemptOutcome.CUT_STREAM,
        AttemptOutcome.INVALID_RESPONSE,
        AttemptOutcome.CANCELLED,
    }
)
"""Attempts without a usage field that a provider may bill all the same, once they were sent: their
price is unknown. Those that it turned away (429, 5xx, 4xx) are not billed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sealed:
    """A call as it leaves, and the key to read its answer with."""

    request: CloudRequest
    worst_usd: Decimal | None
    redacted: Redacted | None

    def opened(self, response: CloudResponse) -> CloudResponse:
        """The response with the hidden values put back."""
        if self.redacted is None:
            return response
        text = self.redacted.restore(response.text, in_json=self.request.json_object)
        calls = tuple(
            replace(call, arguments=self.redacted.restore(call.arguments, in_json=True))
            for call in response.tool_calls
        )
        return replace(response, text=text, tool_calls=calls)


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
    day: DayBudget = field(default_factory=DayBudget)
    redactor: Redactor | None = None
    """Hides personal data in all that leaves; None where the user did not ask for it."""
    on_redacted: Callable[[Rung, Redacted], None] | None = None
    """Told what was hidden, before anything leaves."""
    purpose: str | None = None
    """What the ledger says that the call was for; None for the rung."""

    async def buy(self, prepared: PreparedRung) -> CloudResponse:
        """The cloud's response at this rung, bought now or earlier in this run.

        Raises CeilingExceeded, BudgetExceeded, PriceUnknown before anything leaves the machine,
        and the CloudError branch when the call failed."""
        rung = prepared.offer.rung
        if not self.ceiling.allows(rung):
            raise CeilingExceeded(
                f"Rung `{rung}` is above the privacy ceiling `{self.ceiling}`: nothing was sent. "
                f"Allow it with --privacy {rung}."
            )
        if prepared.request is None:
            raise ValueError(f"rung {rung} has nothing to send and can't be bought")
        await self.day.open()
        sealed = await self._seal(prepared, prepared.request)
        kept = await self.store.cloud_response(self.run_id, sealed.request.idempotency_key)
        if kept is not None:  # paid before a crash: its ledger rows are completed, nothing is sent
            await self._record(kept.attempts, rung)
        n_earlier = await self._count_earlier(sealed)
        response = kept or await self._call(prepared, sealed, n_earlier)
        return sealed.opened(response)

    async def _seal(self, prepared: PreparedRung, request: CloudRequest) -> _Sealed:
        worst = prepared.offer.worst_usd
        if self.redactor is None:
            return _Sealed(request=request, worst_usd=worst, redacted=None)
        # A second of work for a long document: not on the event loop.
        sealed, redacted = await asyncio.to_thread(redact_request, self.redactor, request)
        if self.on_redacted is not None:
            self.on_redacted(prepared.offer.rung, redacted)
        usage = CloudUsage(
            prompt_tokens=request_tokens(sealed), completion_tokens=sealed.max_output_tokens
        )
        worst = self.prices.cost_usd(sealed.model, usage)
        return _Sealed(request=sealed, worst_usd=worst, redacted=redacted)

    async def _count_earlier(self, sealed: _Sealed) -> int:
        """Count this call's attempts of earlier processes against the cap; returns how many."""
        key = sealed.request.idempotency_key
        rows = [row for row in await self.store.ledger(self.run_id) if row.call_key == key]
        for row in rows:
            self.budget.count_once(key, row.attempt, known_usd(row, sealed.worst_usd))
        return max((row.attempt for row in rows), default=0)

    async def _call(self, prepared: PreparedRung, sealed: _Sealed, n_earlier: int) -> CloudResponse:
        meter = _Meter(
            budget=self.budget, day=self.day, worst_usd=sealed.worst_usd, prices=self.prices
        )
        writes: list[asyncio.Task[None]] = []

        def attempt_ended(attempt: CloudAttempt) -> None:
            numbered = _after(n_earlier, attempt)
            writes.append(asyncio.ensure_future(self._record([numbered], prepared.offer.rung)))
            meter.attempt_ended(numbered)

        try:
            await self._record_egress(prepared, sealed.request)
            response = await self.client.complete(
                sealed.request,
                on_attempt=attempt_ended,
                on_delta=lambda text: self.observe(CloudDelta(text=text)),
            )
            attempts = tuple(_after(n_earlier, attempt) for attempt in response.attempts)
            response = replace(response, attempts=attempts)
            saving = self.store.record_cloud_response(self.run_id, response)
            writes.append(asyncio.ensure_future(saving))
            return response
        finally:
            meter.close()
            await _all_written(writes)

    async def _record_egress(self, prepared: PreparedRung, request: CloudRequest) -> None:
        await self.store.record_egress(
            EgressEntry(
                run_id=self.run_id,
                call_key=request.idempotency_key,
                destination=self.client.base_url,
                rung=prepared.offer.rung.value,
                content=request.sent,
                spans=tuple((s.document_id, s.start, s.end) for s in prepared.spans),
                created_at=time.time(),
            )
        )

    async def _record(self, attempts: Sequence[CloudAttempt], rung: Rung) -> None:
        await self.store.record_ledger(
            [
                ledger_entry(a, self.run_id, self.purpose or rung.value, self.prices)
                for a in attempts
            ]
        )


def _after(n_earlier: int, attempt: CloudAttempt) -> CloudAttempt:
    """The attempt, numbered after those that an earlier process made for the same call: the ledger
    takes a number that it has already for the same attempt."""
    return replace(attempt, attempt=attempt.attempt + n_earlier)


async def _all_written(writes: Sequence[asyncio.Task[None]]) -> None:
    """Wait for every write, also when cancelled meanwhile: what was paid must reach the disk."""
    cancelled: asyncio.CancelledError | None = None
    while unfinished := [write for write in writes if not write.done()]:
        try:
            await asyncio.wait(unfinished)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    for write in writes:
        write.result()


@dataclass(kw_only=True)
class _Meter:
    """Keeps one call's reservations right while its attempts end.

    Raised from inside the call when the next attempt is no longer covered: the client passes it on
    instead of trying again."""

    budget: Budget
    day: DayBudget
    worst_usd: Decimal | None
    prices: PriceBook
    _of_question: Decimal = field(default=Decimal(0), init=False)
    _of_day: Decimal = field(default=Decimal(0), init=False)

    def __post_init__(self) -> None:
        self._reserve()

    def attempt_ended(self, attempt: CloudAttempt) -> None:
        self.budget.counted.add((attempt.idempotency_key, attempt.attempt))
        cost = attempt_cost(attempt, self.prices)
        if cost == 0:
            return
        self._settle(cost)
        if attempt.outcome not in (AttemptOutcome.OK, AttemptOutcome.CANCELLED):
            self._reserve()

    def close(self) -> None:
        self._settle(Decimal(0))

    def _reserve(self) -> None:
        """In both budgets or in none."""
        of_question = self.budget.reserve(self.worst_usd)
        try:
            self._of_day = self.day.reserve(self.worst_usd)
        except MinionsError:
            self.budget.settle(of_question, Decimal(0))
            raise
        self._of_question = of_question

    def _settle(self, cost: Decimal | None) -> None:
        of_question, of_day = self._of_question, self._of_day
        self._of_question = self._of_day = Decimal(0)
        self.budget.settle(of_question, cost)
        self.day.settle(of_day, cost)


def attempt_cost(attempt: CloudAttempt, prices: PriceBook) -> Decimal | None:
    """Dollars of one attempt: by its usage; 0 where the provider turned it away or was not reached,
    or an answer was kept; None (unknown) where it may have been billed and no usage came back."""
    if attempt.outcome is AttemptOutcome.CACHED:
        return Decimal(0)
    if attempt.usage is not None:
        return prices.cost_usd(attempt.model, attempt.usage)
    return None if may_be_billed(attempt) else Decimal(0)


def may_be_billed(attempt: CloudAttempt) -> bool:
    """Whether an attempt without usage may cost something all the same."""
    if not attempt.sent:
        return False
    said_yes = attempt.status_code is not None and 200 <= attempt.status_code < 300
    return attempt.outcome in MAY_BE_BILLED or said_yes


def ledger_entry(
    attempt: CloudAttempt, run_id: str, purpose: str, prices: PriceBook
) -> LedgerEntry:
    """One HTTP attempt as a ledger row."""
    usage = attempt.usage or CloudUsage()
    cost = attempt_cost(attempt, prices)
    return LedgerEntry(
        run_id=run_id,
        kind="cloud",
        model=attempt.model,
        purpose=purpose,
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
