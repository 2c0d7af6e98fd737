"""What the house saved against the cloud alone, per question and summed. Pure: rows in, sums out.

Law 3 holds for sums too: a question with an unknown amount is left out and counted apart, never
taken for 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from minions.question import as_number
from minions.receipt import audit_spend_usd, cloud_spend_usd
from minions.store.model import LedgerEntry, RunRecord, RunStatus

METHOD = (
    "For each answered question: the price of one call with the whole text of its documents, as "
    "quoted when it was asked (its own `method` names model, tokens and price list), minus all "
    "that the ledger has for it, failed attempts included. What questions without an outcome cost "
    "(failed, cancelled, unfinished) is taken off the sum. An abstention counts as an outcome. "
    "Questions with an unknown amount are in no sum. Shadow audits are paid beside all this."
)
NO_RATES = "not counted: set local_watts and usd_per_kwh, or card_usd_per_hour"
_HOUR_S = Decimal(3600)
_WATTS_PER_KILOWATT = Decimal(1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalRates:
    """What an hour of reading costs, as far as the user says so."""

    watts: Decimal | None = None
    usd_per_kwh: Decimal | None = None
    card_usd_per_hour: Decimal | None = None

    @property
    def usd_per_hour(self) -> Decimal | None:
        """None when nothing was said: then it is unknown, not free."""
        parts = [self.card_usd_per_hour]
        if self.watts is not None and self.usd_per_kwh is not None:
            parts.append(self.watts / _WATTS_PER_KILOWATT * self.usd_per_kwh)
        said = [part for part in parts if part is not None]
        return sum(said, Decimal(0)) if said else None


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionSavings:
    """One question's money."""

    run_id: str
    question: str | None
    """None where the ledger has rows of a run that is not kept."""
    created_at: float
    """Unix time, seconds."""
    finished: bool
    abstained: bool
    rung: str | None
    cloud_usd: Decimal | None
    """Paid, from the ledger; None when one attempt's price is unknown."""
    cloud_only_usd: Decimal | None
    """The counterfactual; None when unknown, or when the question has no outcome."""
    method: str | None
    audit_usd: Decimal | None
    """Paid to check the answer afterwards, beside `cloud_usd`; None when a price is unknown."""
    local_s: float | None
    """Seconds of reading; None when nobody measured."""
    local_usd: Decimal | None
    """None without rates or without seconds."""

    @property
    def saved_usd(self) -> Decimal | None:
        """Negative when the house was dearer; None when either amount is unknown."""
        if self.cloud_usd is None or self.cloud_only_usd is None:
            return None
        return self.cloud_only_usd - self.cloud_usd

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "question": self.question,
            "created_at": self.created_at,
            "finished": self.finished,
            "abstained": self.abstained,
            "rung": self.rung,
            "cloud_usd": as_number(self.cloud_usd),
            "cloud_only_usd": as_number(self.cloud_only_usd),
            "saved_usd": as_number(self.saved_usd),
            "method": self.method,
            "audit_usd": as_number(self.audit_usd),
            "local_s": self.local_s,
            "local_usd": as_number(self.local_usd),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Savings:
    """All questions, newest first, and their sums."""

    questions: tuple[QuestionSavings, ...]
    local_usd_per_hour: Decimal | None

    @property
    def compared(self) -> tuple[QuestionSavings, ...]:
        """Answered, and both amounts known."""
        return tuple(q for q in self.questions if q.finished and q.saved_usd is not None)

    @property
    def unknown(self) -> tuple[QuestionSavings, ...]:
        """An amount is unknown that the sums would need."""
        return tuple(
            q
            for q in self.questions
            if (q.finished and q.saved_usd is None) or (not q.finished and q.cloud_usd is None)
        )

    @property
    def without_outcome(self) -> tuple[QuestionSavings, ...]:
        """Failed, cancelled or unfinished, at a known price."""
        return tuple(q for q in self.questions if not q.finished and q.cloud_usd is not None)

    @property
    def cloud_usd(self) -> Decimal:
        """Paid for all that is not unknown."""
        return _sum(q.cloud_usd for q in (*self.compared, *self.without_outcome))

    @property
    def audit_usd(self) -> Decimal:
        """Paid for shadow audits, as far as known. In no other sum."""
        return _sum(q.audit_usd for q in self.questions)

    @property
    def n_audits_unpriced(self) -> int:
        """Questions whose audit has no known price, which `audit_usd` lacks."""
        return sum(q.audit_usd is None for q in self.questions)

    @property
    def cloud_only_usd(self) -> Decimal:
        return _sum(q.cloud_only_usd for q in self.compared)

    @property
    def saved_usd(self) -> Decimal:
        return self.cloud_only_usd - self.cloud_usd

    @property
    def savings_ratio(self) -> Decimal | None:
        """Share of the cloud-only price; None when there is nothing to compare with."""
        return self.saved_usd / self.cloud_only_usd if self.cloud_only_usd else None

    @property
    def local_usd(self) -> Decimal | None:
        """Cost of the machine for all questions that were measured; None without rates."""
        if self.local_usd_per_hour is None:
            return None
        return _sum(q.local_usd for q in self.questions)

    @property
    def n_unmeasured(self) -> int:
        """Questions without seconds, which `local_usd` lacks."""
        return sum(q.local_s is None for q in self.questions)

    def to_json(self) -> dict[str, Any]:
        ratio = self.savings_ratio
        return {
            "n_questions": len(self.questions),
            "n_compared": len(self.compared),
            "n_abstained": sum(q.abstained for q in self.compared),
            "n_without_outcome": len(self.without_outcome),
            "n_unknown": len(self.unknown),
            "cloud_usd": as_number(self.cloud_usd),
            "cloud_only_usd": as_number(self.cloud_only_usd),
            "saved_usd": as_number(self.saved_usd),
            "savings_ratio": None if ratio is None else round(float(ratio), 6),
            "method": METHOD,
            "audit": {"usd": as_number(self.audit_usd), "n_unpriced": self.n_audits_unpriced},
            "local": {
                "usd": as_number(self.local_usd),
                "usd_per_hour": as_number(self.local_usd_per_hour),
                "seconds": round(sum(q.local_s or 0.0 for q in self.questions), 3),
                "n_unmeasured": self.n_unmeasured,
                "note": NO_RATES if self.local_usd_per_hour is None else None,
            },
            "questions": [question.to_json() for question in self.questions],
        }


def savings(
    ledger: Sequence[LedgerEntry],
    runs: Sequence[RunRecord],
    rates: LocalRates,
    since: float | None = None,
) -> Savings:
    """`since` is a Unix time: questions asked before it are left out."""
    spent: Mapping[str, list[LedgerEntry]] = defaultdict(list)
    for entry in ledger:
        spent[entry.run_id].append(entry)
    known = {run.run_id for run in runs}
    rows = [_of_run(run, spent.get(run.run_id, []), rates) for run in runs]
    rows += [_of_ledger(run_id, rows) for run_id, rows in spent.items() if run_id not in known]
    kept = [row for row in rows if since is None or row.created_at >= since]
    newest_first = sorted(kept, key=lambda row: (-row.created_at, row.run_id))
    return Savings(questions=tuple(newest_first), local_usd_per_hour=rates.usd_per_hour)


def day_start(text: str) -> float:
    """Unix time at which a UTC day `YYYY-MM-DD` begins. Raises ValueError on anything else."""
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()


def _of_run(run: RunRecord, entries: Sequence[LedgerEntry], rates: LocalRates) -> QuestionSavings:
    reply = run.reply or {}
    cost = reply.get("cost", {})
    finished = run.status is RunStatus.FINISHED
    local_s = cost.get("local_s")
    return QuestionSavings(
        run_id=run.run_id,
        question=run.question.get("question"),
        created_at=run.created_at,
        finished=finished,
        abstained=bool(reply.get("abstained")),
        rung=reply.get("rung"),
        cloud_usd=cloud_spend_usd(entries),
        cloud_only_usd=_decimal(cost.get("cloud_only_usd")) if finished else None,
        method=cost.get("cloud_only_method"),
        audit_usd=audit_spend_usd(entries),
        local_s=local_s,
        local_usd=_local_usd(local_s, rates.usd_per_hour),
    )


def _of_ledger(run_id: str, entries: Sequence[LedgerEntry]) -> QuestionSavings:
    """Of a run that only the ledger knows: money that was paid all the same."""
    return QuestionSavings(
        run_id=run_id,
        question=None,
        created_at=min(entry.created_at for entry in entries),
        finished=False,
        abstained=False,
        rung=None,
        cloud_usd=cloud_spend_usd(entries),
        cloud_only_usd=None,
        method=None,
        audit_usd=audit_spend_usd(entries),
        local_s=None,
        local_usd=None,
    )


def _local_usd(seconds: float | None, usd_per_hour: Decimal | None) -> Decimal | None:
    if seconds is None or usd_per_hour is None:
        return None
    return Decimal(str(seconds)) / _HOUR_S * usd_per_hour


def _decimal(number: float | None) -> Decimal | None:
    return None if number is None else Decimal(str(number))


def _sum(amounts: Iterable[Decimal | None]) -> Decimal:
    return sum((amount for amount in amounts if amount is not None), Decimal(0))
