"""What an item cost, and the hard cap on what a whole run may cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from minions.asking import Desk
from minions.budget import Attempt, Budget, DayBudget, known_usd
from minions.cloud.model import AttemptOutcome, CloudUsage, PriceBook
from minions.cloud.tokens import count_tokens, framing_tokens
from minions.errors import BudgetExceeded, MinionsError, PriceUnknown
from minions.offers import CloudTerms
from minions.receipt import cloud_spend_usd
from minions.store.model import EgressEntry, LedgerEntry, Store

MAX_RUNS = 1_000_000
"""Questions of all evaluations together that are looked through for those of one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemCosts:
    """Money and tokens of one item's run, from its ledger."""

    cloud_usd: Decimal | None
    """With kept answers at the price of buying them; None when a price is unknown (Law 3)."""
    paid_usd: Decimal | None
    n_cached_calls: int
    cloud_tokens: int


def item_costs(entries: Sequence[LedgerEntry], prices: PriceBook) -> ItemCosts:
    """`entries` are the ledger rows of one run."""
    cloud = [entry for entry in entries if entry.kind == "cloud"]
    kept = [entry for entry in cloud if entry.outcome == AttemptOutcome.CACHED]
    paid = cloud_spend_usd(cloud)
    return ItemCosts(
        cloud_usd=_sum([paid, *(_as_if_bought(entry, prices) for entry in kept)]),
        paid_usd=paid,
        n_cached_calls=len(kept),
        cloud_tokens=sum(e.prompt_tokens + e.completion_tokens for e in cloud),
    )


def local_tokens(trace: Mapping[str, Any]) -> int:
    """Tokens that the workers prefilled and generated for one item, by its trace: readings that
    were taken over from another strategy count like those that were done for it."""
    jobs = (job for step in trace["steps"] for job in step["facts"].get("jobs", ()))
    return sum(job["prefilled_tokens"] + job["output_tokens"] for job in jobs)


def _as_if_bought(entry: LedgerEntry, prices: PriceBook) -> Decimal | None:
    usage = CloudUsage(
        prompt_tokens=entry.prompt_tokens,
        cached_tokens=entry.cached_tokens,
        completion_tokens=entry.completion_tokens,
        reasoning_tokens=entry.reasoning_tokens,
    )
    return prices.cost_usd(entry.model, usage)


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


class BudgetReached(asyncio.CancelledError):
    """The run's money does not cover the next call.

    A cancellation, and so the product leaves the question's run unfinished: a later process with
    more money takes it up where it was, and pays for nothing again."""


@dataclass(kw_only=True)
class RunBudget(DayBudget):
    """The cap of a whole evaluation run, beside the day's, which goes on counting.

    Strategies see only what is left of the day: an item is answered as it would be without the
    run's cap, or not at all."""

    day: DayBudget
    run: Budget
    _stopped: str | None = field(default=None, init=False)

    @property
    def stopped(self) -> str | None:
        """Why the run had to stop; None while it need not."""
        return self._stopped

    async def open(self) -> None:
        await self.day.open()

    @property
    def left_usd(self) -> Decimal | None:
        return self.day.left_usd

    async def reserve(self, attempt: Attempt, worst_usd: Decimal | None) -> Decimal:
        """Raises what the day raises, PriceUnknown, and BudgetReached when the run's cap does not
        cover it; nothing is reserved then."""
        of_day = await self.day.reserve(attempt, worst_usd)
        try:
            return max(of_day, self.run.reserve(worst_usd))
        except MinionsError as error:
            await self.day.release(attempt, of_day)
            if not isinstance(error, BudgetExceeded):
                raise
            self._stopped = str(error)
            raise BudgetReached(str(error)) from None

    async def release(self, attempt: Attempt, reserved_usd: Decimal) -> None:
        await self.day.release(attempt, reserved_usd)
        self.settle(reserved_usd, Decimal(0))

    def settle(self, reserved_usd: Decimal, actual_usd: Decimal | None) -> None:
        held = Decimal(0) if self.run.cap_usd is None else reserved_usd
        self.run.settle(held, actual_usd)


async def open_run_budget(
    desk: Desk, cap_usd: Decimal | None, *, owner: str, prefix: str
) -> RunBudget:
    """The cap of an evaluation run. What its questions spent in earlier processes counts: those of
    `owner` whose ids begin with `prefix`.

    Raises PriceUnknown when there is a cap and no price to keep it by."""
    store, terms = desk.store, desk.terms
    if cap_usd is not None and terms.price_usd(1, 1) is None:
        raise PriceUnknown(
            f"The price of {terms.model} is unknown, so --budget-usd can't be kept. State it under "
            f'[prices."{terms.model}"], or leave out --budget-usd.'
        )
    begun = await store.list_runs(MAX_RUNS, owner) if cap_usd else []
    asked = [run.run_id for run in begun if run.run_id.startswith(prefix)]
    spent = [await _spent_usd(run_id, store, terms) for run_id in asked]
    run = Budget(
        cap_usd=cap_usd,
        spent_usd=sum(spent, Decimal(0)),
        remedy="The same command with a larger --budget-usd goes on from here.",
    )
    return RunBudget(day=desk.day, run=run)


async def _spent_usd(run_id: str, store: Store, terms: CloudTerms) -> Decimal:
    """Dollars of one question's run, none of them too low: calls of unknown price, and those that a
    crash cut off before they reached the ledger, count at their worst."""
    sent = {entry.call_key: entry for entry in await store.egress(run_id)}
    rows = [row for row in await store.ledger(run_id) if row.kind == "cloud"]
    worst = {key: _worst_usd(entry, terms) for key, entry in sent.items()}
    entered = sum((known_usd(row, worst.get(row.call_key)) for row in rows), Decimal(0))
    cut_off = worst.keys() - {row.call_key for row in rows}
    return entered + sum((worst[key] for key in cut_off), Decimal(0))


def _worst_usd(entry: EgressEntry, terms: CloudTerms) -> Decimal:
    prompt_tokens = count_tokens(entry.content.decode(errors="replace")) + framing_tokens(2)
    return terms.price_usd(prompt_tokens, terms.max_output_tokens) or Decimal(0)
