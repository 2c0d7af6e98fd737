"""What is asked and what is answered: the types at both ends of the path."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from minions.errors import BadRequest
from minions.evidence.model import Citation
from router import Rung
from workers import Effort


class StrategyName(enum.StrEnum):
    """A whole way to answer."""

    LOCAL = "local"
    """Workers only; the cloud is never asked."""
    CLOUD = "cloud"
    """The whole document to the cloud; the baseline of every receipt."""
    RAG = "rag"
    """The best-ranked passages to the cloud, without workers; the baseline that people use."""
    LADDER = "ladder"
    """Workers first; then the cheapest rung that is good enough."""
    MINION = "minion"
    """The cloud, which never sees the document, chats with the worker that reads it."""
    MINIONS = "minions"
    """The cloud plans tasks, workers do them over all chunks, the cloud aggregates; in rounds."""


WITHOUT_WORKERS = (StrategyName.CLOUD, StrategyName.RAG)
_READS_ONCE = (StrategyName.LADDER, StrategyName.LOCAL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the user wants of one question."""

    strategy: StrategyName = StrategyName.LADDER
    privacy: Rung = Rung.DOCUMENT
    """Ceiling: no higher rung is ever used."""
    max_cost_usd: Decimal | None = None
    """Hard cap on the cloud's price for this question."""
    target: float = 0.75
    """Chance of being right that is good enough, 0..1."""
    value_usd: Decimal | None = None
    """What a right answer is worth to the user; the plan with the best value less price is taken.
    None: reach the target, as cheaply as can be expected."""
    alpha: float | None = None
    """Accept local answers only at a threshold that keeps the expected loss against the cloud alone
    under this, by the user's own labels. None: the target decides."""
    max_latency_s: float | None = None
    """No rung is bought that would not answer within so many seconds of the question."""
    redact: bool = False
    """Hide personal data from the cloud (see `minions.redaction`)."""
    stop_early: bool = False
    """Stop reading once the answer is certain enough by `target`; the reply says what was read."""
    rung: Rung | None = None
    """Buy exactly this rung, whatever the chances: the user wants it; `local` keeps the workers'
    answer and buys nothing. None lets the router choose."""
    effort: Effort = Effort.NONE
    """How long the workers reason over each chunk, where the model can."""
    fresh: bool = False
    """Read again what was read for the same question before."""

    @property
    def may_ask_cloud(self) -> bool:
        """Whether these wishes leave any way to the cloud."""
        stays = Rung.LOCAL in (self.privacy, self.rung)
        return self.strategy is not StrategyName.LOCAL and not stays

    def check(self) -> None:
        """Raise BadRequest for wishes that contradict one another."""
        if self.stop_early and self.strategy not in _READS_ONCE:
            raise BadRequest(
                f"stop_early is for the strategies ladder and local; `{self.strategy}` has no "
                "single reading that could stop. Leave one of the two out."
            )
        if self.stop_early and (self.alpha is not None or self.value_usd is not None):
            raise BadRequest(
                "stop_early goes by `target`; alpha and value_usd weigh whole readings. Leave out "
                "stop_early, or state a target instead."
            )
        if self.rung is not None and self.strategy is not StrategyName.LADDER:
            raise BadRequest(f"rung is for the strategy ladder, not for `{self.strategy}`.")
        if self.rung is not None and self.stop_early:
            raise BadRequest("stop_early and rung exclude one another: leave one of them out.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question of one or more documents."""

    text: str
    """As the models get it: with what it leans on, where it follows another."""
    document_ids: tuple[str, ...]
    options: Options = field(default_factory=Options)
    asked: str | None = None
    """As its asker wrote it; None where that is `text`."""
    follows: str | None = None
    """Id of the question that it goes on from."""

    def to_json(self) -> dict[str, Any]:
        """As kept in the store and shown by the faces."""
        cap, value = self.options.max_cost_usd, self.options.value_usd
        return {
            "question": self.text,
            "asked": self.asked,
            "follows": self.follows,
            "documents": list(self.document_ids),
            "strategy": self.options.strategy.value,
            "privacy": self.options.privacy.value,
            "max_cost_usd": None if cap is None else str(cap),
            "target": self.options.target,
            "value_usd": None if value is None else str(value),
            "alpha": self.options.alpha,
            "max_latency_s": self.options.max_latency_s,
            "redact": self.options.redact,
            "stop_early": self.options.stop_early,
            "rung": None if self.options.rung is None else self.options.rung.value,
            "effort": self.options.effort.value,
            "fresh": self.options.fresh,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Question:
        """The reverse of `to_json`."""
        cap, value = data["max_cost_usd"], data.get("value_usd")
        options = Options(
            strategy=StrategyName(data["strategy"]),
            privacy=Rung(data["privacy"]),
            max_cost_usd=None if cap is None else Decimal(cap),
            target=data["target"],
            value_usd=None if value is None else Decimal(value),
            alpha=data.get("alpha"),
            max_latency_s=data.get("max_latency_s"),
            redact=data.get("redact", False),
            stop_early=data.get("stop_early", False),
            rung=None if data.get("rung") is None else Rung(data["rung"]),
            effort=Effort(data.get("effort", Effort.NONE)),
            fresh=data.get("fresh", False),
        )
        return Question(
            text=data["question"],
            document_ids=tuple(data["documents"]),
            options=options,
            asked=data.get("asked"),
            follows=data.get("follows"),
        )

    def fingerprint(self, **models: str) -> str:
        """Hash of everything that decides what is sent where: an unfinished run with the same
        fingerprint may be taken up again. `models` names worker, cloud and prompt versions."""
        whole = json.dumps([self.to_json(), models], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class JobCounts:
    """How the jobs of a question ended. The sum of the first three is the number of results."""

    answered: int = 0
    abstained: int = 0
    failed: int = 0
    skipped: int = 0
    """Planned and not done, because reading stopped early; the coverage says what that left out."""

    def __add__(self, other: JobCounts) -> JobCounts:
        return JobCounts(
            answered=self.answered + other.answered,
            abstained=self.abstained + other.abstained,
            failed=self.failed + other.failed,
            skipped=self.skipped + other.skipped,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What an answer cost, and what the cloud alone would have cost."""

    cloud_usd: Decimal | None
    """Sum over every cloud attempt; None when one of them has no known price."""
    cloud_only_usd: Decimal | None
    """One call with the whole document at the rung `document`; None when the price is unknown."""
    cloud_only_method: str
    """How `cloud_only_usd` was worked out, in a sentence."""
    local_tokens: int
    """Tokens that the workers prefilled and generated."""
    cloud_tokens: int
    """Prompt and completion tokens of every cloud attempt."""
    price_snapshot: str
    local_s: float | None = field(default=None, compare=False)
    """Seconds that the workers of the last process read for this question; None where nobody
    measured."""
    redacted: Mapping[str, int] = field(default_factory=dict)
    """Distinct values that were hidden from the cloud, by kind; empty without redaction."""

    @property
    def savings_ratio(self) -> Decimal | None:
        """Share of the cloud-only price that was not spent: 1 is all saved, negative is dearer.
        None when either price is unknown."""
        if self.cloud_usd is None or not self.cloud_only_usd:
            return None
        return 1 - self.cloud_usd / self.cloud_only_usd


@dataclass(frozen=True, kw_only=True, slots=True)
class OfferView:
    """One rung as shown to people: what it would have cost, or why it could not be used."""

    rung: Rung
    prompt_tokens: int
    expected_usd: Decimal | None
    worst_usd: Decimal | None
    p_correct: float
    closed: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """The answer with all that a reader may check."""

    answer: str | None
    citations: tuple[Citation, ...]
    """Verified ones only."""
    rung: Rung
    """The rung that the answer came from."""
    p_correct: float
    p_correct_source: str
    """`prior` until a calibration exists for this model and prompt."""
    coverage: float
    """Share of the documents' tokens that were read, by workers or, at `document`, by the cloud."""
    jobs: JobCounts
    receipt: Receipt
    reason: str
    """Why this rung and no other."""
    offers: tuple[OfferView, ...]
    warnings: tuple[str, ...]
    trace_id: str

    @property
    def abstained(self) -> bool:
        return self.answer is None

    def to_json(self) -> dict[str, Any]:
        """The one object that CLI and REST show."""
        return {
            "answer": self.answer,
            "abstained": self.abstained,
            "citations": [citation_json(citation) for citation in self.citations],
            "rung": self.rung.value,
            "p_correct": round(self.p_correct, 4),
            "p_correct_source": self.p_correct_source,
            "coverage": round(self.coverage, 6),
            "jobs": {
                "answered": self.jobs.answered,
                "abstained": self.jobs.abstained,
                "failed": self.jobs.failed,
                "skipped": self.jobs.skipped,
            },
            "cost": _receipt_json(self.receipt),
            "reason": self.reason,
            "offers": [_offer_json(offer) for offer in self.offers],
            "warnings": list(self.warnings),
            "trace_id": self.trace_id,
        }


def citation_json(citation: Citation) -> dict[str, Any]:
    """A citation as the faces show it."""
    return {
        "document": citation.document_name,
        "document_id": citation.document_id,
        "page": citation.page,
        "start": citation.start,
        "end": citation.end,
        "quote": citation.quote,
        "table": _table_json(citation),
        "verified": True,
    }


def _table_json(citation: Citation) -> dict[str, str] | None:
    if citation.headings is None:
        return None
    row, column = citation.headings
    return {"row": row, "column": column}


def _receipt_json(receipt: Receipt) -> dict[str, Any]:
    ratio = receipt.savings_ratio
    return {
        "cloud_usd": as_number(receipt.cloud_usd),
        "cloud_only_usd": as_number(receipt.cloud_only_usd),
        "cloud_only_method": receipt.cloud_only_method,
        "savings_ratio": None if ratio is None else round(float(ratio), 6),
        "local_tokens": receipt.local_tokens,
        "cloud_tokens": receipt.cloud_tokens,
        "price_snapshot": receipt.price_snapshot,
        "local_s": receipt.local_s,
        "redacted": dict(receipt.redacted),
    }


def _offer_json(offer: OfferView) -> dict[str, Any]:
    return {
        "rung": offer.rung.value,
        "prompt_tokens": offer.prompt_tokens,
        "expected_usd": as_number(offer.expected_usd),
        "worst_usd": as_number(offer.worst_usd),
        "p_correct": round(offer.p_correct, 4),
        "closed": offer.closed,
    }


def as_number(amount: Decimal | None) -> float | None:
    """Dollars as a JSON number, exact to a billionth; None stays None (Law 3)."""
    return None if amount is None else round(float(amount), 9)
