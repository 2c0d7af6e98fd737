"""The receipt of one question, worked out from the ledger and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from minions.question import Receipt
from minions.store.model import LedgerEntry

NANO = Decimal(1_000_000_000)
AUDIT = "audit"
"""Purpose of calls that only check an answer which was given already: in no receipt."""


def cloud_spend_usd(entries: Sequence[LedgerEntry]) -> Decimal | None:
    """Dollars of all cloud attempts for answers; None as soon as one is unknown (Law 3)."""
    return _spent(entry for entry in entries if entry.kind == "cloud" and entry.purpose != AUDIT)


def audit_spend_usd(entries: Sequence[LedgerEntry]) -> Decimal | None:
    """Dollars of the shadow audit; None as soon as one is unknown."""
    return _spent(entry for entry in entries if entry.kind == "cloud" and entry.purpose == AUDIT)


def _spent(entries: Iterable[LedgerEntry]) -> Decimal | None:
    costs = [entry.cost_nano_usd for entry in entries]
    if any(cost is None for cost in costs):
        return None
    return Decimal(sum(cost for cost in costs if cost is not None)) / NANO


def make_receipt(
    entries: Sequence[LedgerEntry],
    cloud_only_usd: Decimal | None,
    cloud_only_method: str,
    price_snapshot: str,
    *,
    local_s: float | None = None,
    redacted: Mapping[str, int] | None = None,
) -> Receipt:
    """`entries` are the ledger rows of one run, local and cloud."""
    local = [entry for entry in entries if entry.kind == "local"]
    cloud = [entry for entry in entries if entry.kind == "cloud"]
    return Receipt(
        cloud_usd=cloud_spend_usd(cloud),
        cloud_only_usd=cloud_only_usd,
        cloud_only_method=cloud_only_method,
        local_tokens=sum(e.prompt_tokens - e.cached_tokens + e.completion_tokens for e in local),
        cloud_tokens=sum(e.prompt_tokens + e.completion_tokens for e in cloud),
        price_snapshot=price_snapshot,
        local_s=local_s,
        redacted=redacted or {},
    )
