"""Hard caps on money: reserve the worst price before a call, settle the real one after it.

`Budget` caps one question, in the one process that works on it; `DayBudget` caps all questions of a
day, in all processes: both must allow a call before anything leaves the machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from minions.cloud.model import CloudUsage
from minions.cloud.tokens import count_tokens, framing_tokens
from minions.errors import BudgetExceeded, PriceUnknown
from minions.offers import CloudTerms
from minions.store.model import (
    DayCap,
    EgressEntry,
    LedgerEntry,
    Reservation,
    RunStatus,
    Store,
)

DAY_S = 86_400
NANO = Decimal(1_000_000_000)
MAX_RUNS = 10_000
"""Of the newest runs, those that are looked through for calls that a crash cut off."""


@dataclass(kw_only=True, slots=True)
class Budget:
    """What one question may still spend. Invariant: spent + reserved <= cap."""

    cap_usd: Decimal | None
    """None for no cap."""
    spent_usd: Decimal = Decimal(0)
    """Settled, with calls of unknown outcome taken at their worst price."""
    reserved_usd: Decimal = Decimal(0)
    counted: set[tuple[str, int]] = field(default_factory=set)
    """(call_key, attempt) of the attempts that are in `spent_usd`."""
    remedy: str = "Raise --max-cost-usd or lower --privacy."
    unpriced_remedy: str = "Choose a model with a known price, or leave out --max-cost-usd."

    @property
    def left_usd(self) -> Decimal | None:
        """What may still be reserved; None for no cap."""
        if self.cap_usd is None:
            return None
        return self.cap_usd - self.spent_usd - self.reserved_usd

    def reserve(self, worst_usd: Decimal | None) -> Decimal:
        """Set `worst_usd` aside and return it. Raises PriceUnknown (a cap is set and there is no
        price) or BudgetExceeded; nothing is reserved then."""
        if self.cap_usd is None:
            return Decimal(0)
        if worst_usd is None:
            raise PriceUnknown(
                "The price of this cloud model is unknown, so a cost cap can't be kept. "
                f"{self.unpriced_remedy}"
            )
        left = self.left_usd
        if left is not None and worst_usd > left:
            raise BudgetExceeded(
                f"This call may cost up to ${worst_usd:.6f}, but only ${left:.6f} of the cap of "
                f"${self.cap_usd} is left. {self.remedy}"
            )
        self.reserved_usd += worst_usd
        return worst_usd

    def settle(self, reserved_usd: Decimal, actual_usd: Decimal | None) -> None:
        """End a reservation. `actual_usd` None means that the call may have been billed and no
        usage came back: the whole reservation counts as spent."""
        self.reserved_usd -= reserved_usd
        self.spent_usd += reserved_usd if actual_usd is None else actual_usd

    def count_once(self, call_key: str, attempt: int, usd: Decimal) -> None:
        """Add an attempt of an earlier process, unless it is in `spent_usd` already."""
        if (call_key, attempt) not in self.counted:
            self.counted.add((call_key, attempt))
            self.spent_usd += usd


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One HTTP attempt that is about to be made."""

    run_id: str
    call_key: str
    number: int

    def reserving(self, worst_usd: Decimal, now: float) -> Reservation:
        """Its reservation, which is never too small."""
        return Reservation(
            run_id=self.run_id,
            call_key=self.call_key,
            attempt=self.number,
            nano_usd=int((worst_usd * NANO).to_integral_value(ROUND_CEILING)),
            created_at=now,
        )


@dataclass(kw_only=True)
class DayBudget:
    """What all questions together may still spend today, by UTC days.

    The books are in the store: what the ledger says and what is set aside there count, whichever
    process made them, and each reservation is one transaction. So the cap holds over all processes
    that share a store and state it."""

    cap_usd: Decimal | None = None
    store: Store | None = None
    """Where the books are; needed for a cap."""
    owner: str | None = None
    """Whose questions count; None for everybody's."""
    within: DayBudget | None = None
    """A wider budget that must allow each call too."""
    spent_since: Callable[[float], Awaitable[Decimal]] | None = None
    """Dollars since a Unix time that neither a known price nor a reservation tells, as
    `SpentSince`; None for nothing."""
    now: Callable[[], float] = time.time
    remedy: str = (
        "It is the cap of today (UTC) for all questions: raise max_usd_per_day, lower --privacy, "
        "or ask again tomorrow."
    )
    unpriced_remedy: str = "Choose a model with a known price, or unset max_usd_per_day."
    _left: Decimal | None = field(default=None, init=False)
    _untold: dict[int, Decimal] = field(default_factory=dict, init=False)
    """What `spent_since` said, by day: today's only."""
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def __post_init__(self) -> None:
        if self.cap_usd is not None and self.store is None:
            raise ValueError("a day's cap needs the store in which the day's books are kept")

    async def open(self) -> None:
        """Look at the books. Raises PriceUnknown when the price of some of today is not known."""
        for budget in self._chain():
            await budget._look()

    @property
    def left_usd(self) -> Decimal | None:
        """What might be reserved when the books were last looked at; None for no cap."""
        left = [one._left for one in self._chain() if one._left is not None]
        return min(left, default=None)

    async def reserve(self, attempt: Attempt, worst_usd: Decimal | None) -> Decimal:
        """Set `worst_usd` aside for an attempt, in every budget of the chain or in none; returns
        what is set aside. Its ledger row settles it. Raises PriceUnknown and BudgetExceeded."""
        capped = [budget for budget in self._chain() if budget.cap_usd is not None]
        if not capped:
            return Decimal(0)
        if worst_usd is None:
            raise PriceUnknown(
                "The price of this cloud model is unknown, so a cost cap can't be kept. "
                f"{capped[0].unpriced_remedy}"
            )
        caps = [await budget._cap() for budget in capped]
        passed = await self._books.reserve(attempt.reserving(worst_usd, self.now()), caps)
        if passed is not None:
            await self.open()
            raise capped[caps.index(passed)]._exceeded(worst_usd)
        return worst_usd

    async def release(self, attempt: Attempt, reserved_usd: Decimal) -> None:
        """Give back what was set aside for an attempt that was not made."""
        if any(budget.cap_usd is not None for budget in self._chain()):
            await self._books.release(attempt.reserving(reserved_usd, self.now()))

    def settle(self, reserved_usd: Decimal, actual_usd: Decimal | None) -> None:
        """Told what an attempt came to, None for unknown. Here the ledger's row says it already."""

    @property
    def _books(self) -> Store:
        for budget in self._chain():
            if budget.store is not None:
                return budget.store
        raise ValueError("a budget without a cap has no books")

    def _chain(self) -> Iterator[DayBudget]:
        budget: DayBudget | None = self
        while budget is not None:
            yield budget
            budget = budget.within

    async def _look(self) -> None:
        if self.cap_usd is None or self.store is None:
            return
        cap = await self._cap()
        committed = await self.store.committed_nano_usd(cap.since, cap.owner)
        self._left = Decimal(cap.nano_usd - committed) / NANO

    async def _cap(self) -> DayCap:
        """Today's cap on what the books tell: what they don't is taken off."""
        today = int(self.now() // DAY_S)
        async with self._opening:
            if today not in self._untold:
                untold = await self.spent_since(today * DAY_S) if self.spent_since else Decimal(0)
                self._untold = {today: untold}
        assert self.cap_usd is not None, "asked of budgets that have one"
        left = (self.cap_usd - self._untold[today]) * NANO
        whole = int(left.to_integral_value(ROUND_FLOOR))
        return DayCap(nano_usd=whole, since=float(today * DAY_S), owner=self.owner)

    def _exceeded(self, worst_usd: Decimal) -> BudgetExceeded:
        return BudgetExceeded(
            f"This call may cost up to ${worst_usd:.6f}, but only ${self._left or 0:.6f} of the "
            f"day's cap of ${self.cap_usd} is left. {self.remedy}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SpentSince:
    """Dollars since a moment that neither a known price nor a reservation tells, none too low.

    Attempts of unknown price count at their worst. So do calls that were on the egress record and
    never reached the ledger, because the process died while they were under way. Calls for which
    money was set aside are left out: the books of the day count them."""

    store: Store
    terms: CloudTerms
    owner: str | None = None
    """Whose questions are counted; None for everybody's."""

    def of_owner(self, owner: str) -> SpentSince:
        """The same for the questions of one owner."""
        return replace(self, owner=owner)

    async def __call__(self, since: float) -> Decimal:
        """`since` is a Unix time. Raises PriceUnknown where there is no price to go by."""
        entries = await self.store.ledger(owner=self.owner)
        ledger = [row for row in entries if row.kind == "cloud"]
        reserved = await self.store.reservations(since=since - DAY_S)
        told = {(one.run_id, one.call_key) for one in reserved}
        unknown = [
            row
            for row in ledger
            if row.created_at >= since
            and row.cost_nano_usd is None
            and (row.run_id, row.call_key) not in told
        ]
        calls = await self._calls({row.run_id for row in unknown} | await self._unfinished(since))
        worst = [self._worst(row.model, calls.get((row.run_id, row.call_key))) for row in unknown]
        entered = told | {(row.run_id, row.call_key) for row in ledger}
        worst += [
            self._worst(self.terms.model, call)
            for key, call in calls.items()
            if key not in entered and call.created_at >= since
        ]
        return sum(worst, Decimal(0))

    async def _unfinished(self, since: float) -> set[str]:
        """Runs that were being worked on: their last call may have been cut off by a crash."""
        runs = await self.store.list_runs(MAX_RUNS, self.owner)
        return {
            run.run_id
            for run in runs
            if run.status is RunStatus.RUNNING and run.updated_at >= since - DAY_S
        }

    async def _calls(self, run_ids: set[str]) -> dict[tuple[str, str], EgressEntry]:
        """What these runs sent, by run and call key."""
        return {
            (entry.run_id, entry.call_key): entry
            for run_id in sorted(run_ids)
            for entry in await self.store.egress(run_id)
        }

    def _worst(self, model: str, call: EgressEntry | None) -> Decimal:
        prompt_tokens = 0 if call is None else _tokens(call)
        usage = CloudUsage(
            prompt_tokens=prompt_tokens, completion_tokens=self.terms.max_output_tokens
        )
        cost = self.terms.prices.cost_usd(model, usage)
        if cost is None or call is None:
            raise PriceUnknown(
                f"A call to {model} today has no known price, so max_usd_per_day can't be kept. "
                f'State its price under [prices."{model}"], or unset max_usd_per_day.'
            )
        return cost


def _tokens(call: EgressEntry) -> int:
    """Prompt tokens of a recorded call; instructions and content are two messages."""
    return count_tokens(call.content.decode(errors="replace")) + framing_tokens(2)


def known_usd(row: LedgerEntry, worst_usd: Decimal | None) -> Decimal:
    """Dollars of a ledger row, an unknown one at `worst_usd`; 0 when that is unknown too, which
    only a call without a cap can be."""
    if row.cost_nano_usd is not None:
        return Decimal(row.cost_nano_usd) / NANO
    return worst_usd or Decimal(0)
