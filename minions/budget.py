"""Hard caps on money: reserve the worst price before a call, settle the real one after it.

`Budget` caps one question; `DayBudget` caps all questions of a day, those that run at the same time
included: both must allow a call before anything leaves the machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from minions.cloud.model import CloudUsage
from minions.cloud.tokens import count_tokens, framing_tokens
from minions.errors import BudgetExceeded, MinionsError, PriceUnknown
from minions.offers import CloudTerms
from minions.store.model import EgressEntry, LedgerEntry, RunStatus, Store

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


@dataclass(kw_only=True)
class DayBudget:
    """What all questions together may still spend today, by UTC days. One per process.

    `open` must be awaited before the first reservation: it counts what earlier processes spent
    today, so that a restart gives nothing back. Two processes at the same time each see what the
    other had spent when they began, and no later: give each a cap of its own."""

    cap_usd: Decimal | None = None
    spent_since: Callable[[float], Awaitable[Decimal]] | None = None
    """Dollars spent since a Unix time, as `SpentSince`; None for nothing before this process."""
    now: Callable[[], float] = time.time
    remedy: str = (
        "It is the cap of today (UTC) for all questions: raise max_usd_per_day, lower --privacy, "
        "or ask again tomorrow."
    )
    unpriced_remedy: str = "Choose a model with a known price, or unset max_usd_per_day."
    _budget: Budget = field(init=False)
    _day: int | None = field(default=None, init=False)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def __post_init__(self) -> None:
        self._budget = Budget(
            cap_usd=self.cap_usd, remedy=self.remedy, unpriced_remedy=self.unpriced_remedy
        )

    async def open(self) -> None:
        """Count what was spent today before this process. Raises PriceUnknown when the price of
        some of that is not known."""
        async with self._opening:
            if self.cap_usd is None or self._day is not None:
                return
            today = self._today()
            if self.spent_since is not None:
                self._budget.spent_usd = await self.spent_since(float(today * DAY_S))
            self._day = today

    @property
    def left_usd(self) -> Decimal | None:
        """What may still be reserved today; None for no cap."""
        self._turn()
        return self._budget.left_usd

    def reserve(self, worst_usd: Decimal | None) -> Decimal:
        """As `Budget.reserve`."""
        self._turn()
        return self._budget.reserve(worst_usd)

    def settle(self, reserved_usd: Decimal, actual_usd: Decimal | None) -> None:
        """As `Budget.settle`. Booked to the day on which the call ended, as in the ledger."""
        self._turn()
        self._budget.settle(reserved_usd, actual_usd)

    def _turn(self) -> None:
        """At midnight nothing is spent yet, and what is reserved stays so."""
        if self.cap_usd is None:
            return
        if self._day is None:
            raise RuntimeError("DayBudget.open was not awaited before money was asked for")
        if (today := self._today()) != self._day:
            self._day, self._budget.spent_usd = today, Decimal(0)

    def _today(self) -> int:
        return int(self.now() // DAY_S)


@dataclass(kw_only=True)
class NestedDayBudget(DayBudget):
    """A day's cap of one key, within the house's: both must allow a call."""

    within: DayBudget

    async def open(self) -> None:
        """As `DayBudget.open`, for both."""
        await self.within.open()
        await super().open()

    @property
    def left_usd(self) -> Decimal | None:
        """The lesser of what the two leave; None for no cap in either."""
        left = [usd for usd in (super().left_usd, self.within.left_usd) if usd is not None]
        return min(left, default=None)

    def reserve(self, worst_usd: Decimal | None) -> Decimal:
        """In both or in none."""
        of_house = self.within.reserve(worst_usd)
        try:
            return super().reserve(worst_usd)
        except MinionsError:
            self.within.settle(of_house, Decimal(0))
            raise

    def settle(self, reserved_usd: Decimal, actual_usd: Decimal | None) -> None:
        """In both. A house without a cap reserved nothing, and does not count either."""
        super().settle(reserved_usd, actual_usd)
        self.within.settle(reserved_usd, actual_usd)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpentSince:
    """Dollars that all cloud calls since a moment came to, none of them too low.

    Attempts of unknown price count at their worst. So do calls that were on the egress record and
    never reached the ledger, because the process died while they were under way."""

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
        rows = [row for row in ledger if row.created_at >= since]
        known = sum(row.cost_nano_usd for row in rows if row.cost_nano_usd is not None)
        unknown = [row for row in rows if row.cost_nano_usd is None]
        calls = await self._calls({row.run_id for row in unknown} | await self._unfinished(since))
        worst = [self._worst(row.model, calls.get((row.run_id, row.call_key))) for row in unknown]
        entered = {(row.run_id, row.call_key) for row in ledger}
        worst += [
            self._worst(self.terms.model, call)
            for key, call in calls.items()
            if key not in entered and call.created_at >= since
        ]
        return Decimal(known) / NANO + sum(worst, Decimal(0))

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
