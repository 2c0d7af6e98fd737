"""How the simulated provider is to behave: fixed at its start, and faults queued while it runs."""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, model_validator

SIM_MODEL = "sim-reader"


class FaultKind(enum.StrEnum):
    """What goes wrong with one request, and whether its work is billed."""

    RATE_LIMIT = "rate_limit"
    """429, with the wait that the fault says. Not billed."""
    SERVER_ERROR = "server_error"
    """500. Not billed."""
    TIMEOUT = "timeout"
    """Nothing comes until the client leaves. Not billed."""
    DROP_CONNECTION = "drop_connection"
    """The connection closes after the head of the reply, before any body. Not billed."""
    SLOW = "slow"
    """The answer comes `delay_s` late. Billed."""
    CUT_STREAM = "cut_stream"
    """The body ends half way. Billed: the work was done."""
    INVALID_JSON = "invalid_json"
    """200 with a body that is not JSON. Billed."""
    NO_USAGE = "no_usage"
    """A whole answer without usage. Billed."""
    BAD_ANSWER = "bad_answer"
    """A valid reply whose text is prose where JSON was asked for. Billed."""
    REFUSAL = "refusal"
    """The model declines. Billed."""
    LENGTH = "length"
    """The text stops half way with finish_reason `length`. Billed."""


PASSING_FAULTS = (
    FaultKind.RATE_LIMIT,
    FaultKind.SERVER_ERROR,
    FaultKind.DROP_CONNECTION,
    FaultKind.CUT_STREAM,
    FaultKind.INVALID_JSON,
)
"""What random faults are drawn from: a client that tries again gets over all of them."""


class Fault(BaseModel):
    """One fault, for one request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FaultKind
    retry_after_s: NonNegativeFloat | None = None
    """Of `rate_limit`: sent as `retry-after`."""
    retry_after_ms: NonNegativeInt | None = None
    """Of `rate_limit`: sent as `retry-after-ms`."""
    delay_s: NonNegativeFloat | None = None
    """Of `slow`, which needs it."""

    @model_validator(mode="after")
    def _fields_fit_the_kind(self) -> Self:
        waits = self.retry_after_s is not None or self.retry_after_ms is not None
        if waits and self.kind is not FaultKind.RATE_LIMIT:
            raise ValueError(f"retry_after_* belongs to rate_limit, not to {self.kind}")
        if (self.delay_s is not None) != (self.kind is FaultKind.SLOW):
            raise ValueError("delay_s belongs to slow, and slow needs it")
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class SimPlan:
    """The provider's fixed behaviour."""

    api_key: str | None = None
    """Required as a bearer token of every request; None lets everyone in."""
    models: tuple[str, ...] = ()
    """Names that are served, others are 404; empty serves every name (so that a listed model's
    price can be used), and lists `sim-reader`."""
    context_tokens: int = 1_000_000
    """Prompt and output together; more is 400 `context_length_exceeded`."""
    faults: tuple[Fault, ...] = ()
    """Used up one per request, in order."""
    fault_rate: float = 0.0
    """Share of the other requests that meet a random passing fault."""
    seed: int = 0
    """Of the random faults."""
    latency_s: float = 0.0
    """Added to every answer."""
    replays: bool = True
    """Whether a repeated Idempotency-Key is answered from its record and billed once."""
    knows_max_completion_tokens: bool = True
    """False behaves as an older compatible server, which knows `max_tokens` only."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.fault_rate <= 1.0:
            raise ValueError(f"fault_rate must be between 0 and 1, not {self.fault_rate}")


class FaultQueue:
    """Decides the fault of each request: queued ones first, then random ones."""

    def __init__(self, plan: SimPlan) -> None:
        self._plan = plan
        self._queue: deque[Fault] = deque()
        self.reset()

    def reset(self) -> None:
        """As at the start."""
        self._queue = deque(self._plan.faults)
        self._random = random.Random(self._plan.seed)

    def extend(self, faults: Iterable[Fault]) -> int:
        """Queue more; returns how many wait now."""
        self._queue.extend(faults)
        return len(self._queue)

    def next(self) -> Fault | None:
        """The fault of the next request."""
        if self._queue:
            return self._queue.popleft()
        if self._random.random() >= self._plan.fault_rate:
            return None
        kind = self._random.choice(PASSING_FAULTS)
        is_limit = kind is FaultKind.RATE_LIMIT
        return Fault(kind=kind, retry_after_ms=50 if is_limit else None)
