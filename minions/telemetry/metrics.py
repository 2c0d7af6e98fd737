"""The service's figures, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from minions.store.model import LedgerEntry, RunRecord

MEDIA_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Upper edges of the histograms' buckets: from a health check to a long document."""


class Meters:
    """All figures of one service. Labels hold what there is little of: no ids, no owners."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "minions_http_requests",
            "Requests by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._request_s = Histogram(
            "minions_http_request_seconds",
            "Time to the end of the response.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._questions = Counter(
            "minions_questions",
            "Questions that ended, by status and by the rung that answered.",
            ["status", "rung"],
            registry=self.registry,
        )
        self._question_s = Histogram(
            "minions_question_seconds",
            "From acceptance to the end.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._errors = Counter(
            "minions_errors", "Failed questions by error code.", ["code"], registry=self.registry
        )
        self._jobs = Counter(
            "minions_jobs", "Local jobs by outcome.", ["outcome"], registry=self.registry
        )
        self._add_money()

    def _add_money(self) -> None:
        self._tokens = Counter(
            "minions_tokens",
            "Tokens of model calls: prompt tokens that were worked on, prompt tokens that a cache "
            "had (for local calls: KV hits), and tokens that were written.",
            ["place", "kind"],
            registry=self.registry,
        )
        self._cloud_usd = Counter(
            "minions_cloud_usd", "Dollars paid, where the price is known.", registry=self.registry
        )
        self._unpriced = Counter(
            "minions_cloud_calls_unpriced",
            "Cloud attempts whose price is not known.",
            registry=self.registry,
        )
        self._saved_usd = Gauge(
            "minions_saved_usd",
            "Dollars that the cloud alone would have cost more, of answers since the start.",
            registry=self.registry,
        )

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when it is read, such as the length of a queue."""
        Gauge(name, help_text, registry=self.registry).set_function(value)

    def request_ended(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """`route` is the template, such as `/v1/questions/{question_id}`."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_s.labels(route).observe(elapsed_s)

    def question_ended(self, run: RunRecord, ledger: Sequence[LedgerEntry]) -> None:
        """Count a run that has its outcome, with the ledger rows of this run."""
        reply = run.reply or {}
        self._questions.labels(run.status.value, reply.get("rung", "none")).inc()
        self._question_s.observe(max(0.0, run.updated_at - run.created_at))
        if run.error is not None:
            self._errors.labels(run.error.get("code", "unknown")).inc()
        for entry in ledger:
            self._call_ended(entry)
        self._count_savings(reply.get("cost", {}))

    def _call_ended(self, entry: LedgerEntry) -> None:
        worked_on = max(0, entry.prompt_tokens - entry.cached_tokens)
        self._tokens.labels(entry.kind, "prompt").inc(worked_on)
        self._tokens.labels(entry.kind, "cached").inc(entry.cached_tokens)
        self._tokens.labels(entry.kind, "output").inc(entry.completion_tokens)
        if entry.kind == "local":
            self._jobs.labels(entry.outcome).inc()
        elif entry.cost_nano_usd is None:
            self._unpriced.inc()
        else:
            self._cloud_usd.inc(entry.cost_nano_usd / 1e9)

    def _count_savings(self, cost: dict[str, Any]) -> None:
        paid, alone = cost.get("cloud_usd"), cost.get("cloud_only_usd")
        if paid is not None and alone is not None:
            self._saved_usd.inc(alone - paid)

    def exposition(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
