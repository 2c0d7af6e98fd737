"""The only door to the cloud: ceiling, journal, budget, egress record, call, ledger. In that order.

- Law 5: the ceiling is checked here again, whatever the router said, and the bytes are on record
  before the client sees them.
- Law 6: a paid response is on disk before it is used; one that is there is not bought again.
- Law 2: every HTTP attempt reaches the ledger as it ends, failed and cancelled ones too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from minions.budget import Attempt, Budget, DayBudget, known_usd
from minions.cloud.model import (
    AttemptOutcome,
    CloudAttempt,
    CloudClient,
    CloudRequest,
    CloudResponse,
    CloudUsage,
    Permission,
    PriceBook,
)
from minions.cloud.prices import nano_usd
from minions.cloud.tokens import request_tokens
from minions.errors import CeilingExceeded
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
        earlier = await self._earlier(sealed)
        response = kept or await self._call(prepared, sealed, earlier)
        await self.day.open()  # what is left for the next decision
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

    async def _earlier(self, sealed: _Sealed) -> _Earlier:
        """This call's attempts of earlier processes, counted against the cap."""
        key = sealed.request.idempotency_key
        rows = [row for row in await self.store.ledger(self.run_id) if row.call_key == key]
        for row in rows:
            self.budget.count_once(key, row.attempt, known_usd(row, sealed.worst_usd))
        reserved = await self.store.reservations(run_id=self.run_id)
        numbers = [row.attempt for row in rows]
        numbers += [one.attempt for one in reserved if one.call_key == key]
        billed = {row.completion_id for row in rows if row.usage_reported and row.completion_id}
        return _Earlier(n_attempts=max(numbers, default=0), billed=frozenset(billed))

    async def _call(
        self, prepared: PreparedRung, sealed: _Sealed, earlier: _Earlier
    ) -> CloudResponse:
        meter = _Meter(
            first=Attempt(
                run_id=self.run_id,
                call_key=sealed.request.idempotency_key,
                number=earlier.n_attempts + 1,
            ),
            budget=self.budget,
            day=self.day,
            worst_usd=sealed.worst_usd,
            prices=self.prices,
        )
        books = _Books(store=self.store, run_id=self.run_id)

        def attempt_ended(attempt: CloudAttempt) -> Permission | None:
            ours = earlier.ours(attempt)
            books.enter(self._entry(ours, prepared.offer.rung))
            return meter.attempt_ended(ours)

        await meter.reserve()
        try:
            await self._record_egress(prepared, sealed.request)
            response = await self.client.complete(
                sealed.request,
                on_attempt=attempt_ended,
                on_delta=lambda text: self.observe(CloudDelta(text=text)),
            )
            attempts = tuple(earlier.ours(attempt) for attempt in response.attempts)
            response = replace(response, attempts=attempts)
            books.enter_answer(response)
            return response
        finally:
            books.also(meter.close())
            await books.written()

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
        await self.store.record_ledger([self._entry(attempt, rung) for attempt in attempts])

    def _entry(self, attempt: CloudAttempt, rung: Rung) -> LedgerEntry:
        return ledger_entry(attempt, self.run_id, self.purpose or rung.value, self.prices)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Earlier:
    """What earlier processes did of the same call."""

    n_attempts: int
    """Made, or about to be made when their process died."""
    billed: frozenset[str]
    """Completions whose usage is in the ledger."""

    def ours(self, attempt: CloudAttempt) -> CloudAttempt:
        """The attempt as the ledger is to have it: numbered after the earlier ones, since it takes
        a number that it has for the same attempt; and a completion that a careful provider gives
        again, under its old id, is not counted again."""
        again = attempt.completion_id in self.billed and attempt.usage is not None
        usage = CloudUsage() if again else attempt.usage
        return replace(attempt, attempt=attempt.attempt + self.n_attempts, usage=usage)


@dataclass(kw_only=True)
class _Books:
    """Writes down what becomes of a call. A row that nobody has begun to write when its answer is
    there goes to the disk with it, in one transaction: a crash loses both or neither, and so a
    completion that the provider gives again afterwards is in the ledger once."""

    store: Store
    run_id: str
    _waiting: list[LedgerEntry] = field(default_factory=list, init=False)
    _writes: list[asyncio.Task[None]] = field(default_factory=list, init=False)

    def enter(self, entry: LedgerEntry) -> None:
        """Write a row, as soon as the event loop turns."""
        self._waiting.append(entry)
        self.also(self._write())

    def enter_answer(self, response: CloudResponse) -> None:
        """Write the answer, with the rows that wait."""
        entries, self._waiting = self._waiting, []
        self.also(self.store.record_cloud_response(self.run_id, response, entries))

    def also(self, work: Coroutine[None, None, None]) -> None:
        """Something else to be done before the call is over."""
        self._writes.append(asyncio.ensure_future(work))

    async def _write(self) -> None:
        entries, self._waiting = self._waiting, []
        if entries:
            await self.store.record_ledger(entries)

    async def written(self) -> None:
        """Wait for every write, also when cancelled meanwhile: what was paid must reach the disk.
        Raises what one of them raised."""
        cancelled: asyncio.CancelledError | None = None
        while unfinished := [write for write in self._writes if not write.done()]:
            try:
                await asyncio.wait(unfinished)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        for write in self._writes:
            write.result()


@dataclass(kw_only=True)
class _Meter:
    """Keeps one call's reservations right while its attempts end: each has one of its own, made
    before it, so that the client asks again before it tries again."""

    first: Attempt
    budget: Budget
    day: DayBudget
    worst_usd: Decimal | None
    prices: PriceBook
    _of_question: Decimal = field(default=Decimal(0), init=False)
    _of_day: Decimal = field(default=Decimal(0), init=False)
    _next: Attempt = field(init=False)

    def __post_init__(self) -> None:
        self._next = self.first

    async def reserve(self) -> None:
        """For the next attempt, in both budgets or in none."""
        of_question = self.budget.reserve(self.worst_usd)
        try:
            self._of_day = await self.day.reserve(self._next, self.worst_usd)
        except BaseException:
            self.budget.settle(of_question, Decimal(0))
            raise
        self._of_question = of_question

    def attempt_ended(self, attempt: CloudAttempt) -> Permission | None:
        """Settle its reservations; the permission to try again, where that may be."""
        self.budget.counted.add((attempt.idempotency_key, attempt.attempt))
        cost = attempt_cost(attempt, self.prices)
        of_question, of_day = self._taken()
        self.budget.settle(of_question, cost)
        self.day.settle(of_day, cost)
        self._next = replace(self._next, number=attempt.attempt + 1)
        ended = attempt.outcome in (AttemptOutcome.OK, AttemptOutcome.CANCELLED)
        return None if ended else self.reserve

    async def close(self) -> None:
        """Give back what no attempt has used."""
        of_question, of_day = self._taken()
        self.budget.settle(of_question, Decimal(0))
        await self.day.release(self._next, of_day)

    def _taken(self) -> tuple[Decimal, Decimal]:
        taken = self._of_question, self._of_day
        self._of_question = self._of_day = Decimal(0)
        return taken


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
        completion_id=attempt.completion_id,
    )
