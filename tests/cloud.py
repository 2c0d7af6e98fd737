"""A simulated provider for tests, and clients of it that don't wait long between attempts."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

from minions.cloud.client import Api, OpenAICloud
from minions.cloud.model import CloudAttempt, CloudClient, CloudRequest, CloudResponse
from minions.cloud.sim import Fault, FaultKind, SimPlan, running

KEY = "sk-sim-0123456789"
CONTENT = (
    "<question>Which state's law governs the agreement?</question>\n"
    '<source id="1">The fee is $500 per month. This Agreement shall be governed by the laws of '
    "the State of New York. Notices are sent by mail.</source>"
)
INSTRUCTIONS = "Answer from the sources, as a JSON object."
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sim:
    """A running cloud-sim."""

    base_url: str
    """Ends in /v1."""
    key: str | None = None

    def cloud(self, *, api: Api = "chat", max_attempts: int = 3) -> OpenAICloud:
        return OpenAICloud(
            self.base_url,
            self.key,
            api=api,
            max_attempts=max_attempts,
            first_wait_s=0.01,
            max_wait_s=0.2,
        )

    def fail_with(self, *faults: Fault) -> None:
        """Queue faults, one per request to come."""
        self._ask("POST", "/sim/faults", [fault.model_dump(exclude_none=True) for fault in faults])

    @property
    def n_faults_waiting(self) -> int:
        """Queued faults that no request has met yet."""
        waiting: int = self._ask("POST", "/sim/faults", [])["n_queued"]
        return waiting

    def reset(self) -> None:
        self._ask("POST", "/sim/reset")

    def ledger(self) -> list[dict[str, Any]]:
        """The billed calls."""
        calls: list[dict[str, Any]] = self._ask("GET", "/sim/ledger")["calls"]
        return calls

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        url = self.base_url.removesuffix("/v1") + path
        # Plain HTTP on this machine: loading certificates would take longer than the call.
        response = httpx2.request(method, url, json=body, headers=headers, verify=False)
        return response.raise_for_status().json()


@dataclass(kw_only=True, slots=True)
class Ear:
    """Keeps what a client reports."""

    attempts: list[CloudAttempt] = field(default_factory=list)
    deltas: list[str] = field(default_factory=list)

    async def call(
        self, cloud: CloudClient, request: CloudRequest, *, stream: bool = False
    ) -> CloudResponse:
        on_delta = self.deltas.append if stream else None
        return await cloud.complete(request, on_attempt=self.attempts.append, on_delta=on_delta)

    @property
    def outcomes(self) -> list[str]:
        return [str(attempt.outcome) for attempt in self.attempts]


@contextlib.contextmanager
def sim_running(plan: SimPlan | None = None) -> Iterator[Sim]:
    plan = plan or SimPlan()
    with running(plan) as base_url:
        yield Sim(base_url=base_url, key=plan.api_key)


@contextlib.asynccontextmanager
async def closing(cloud: CloudClient) -> AsyncIterator[CloudClient]:
    try:
        yield cloud
    finally:
        await cloud.close()


def cloud_request(content: str = CONTENT, **changes: Any) -> CloudRequest:
    """A request with a new idempotency key, unless one is given."""
    fields: dict[str, Any] = {
        "model": "sim-reader",
        "instructions": INSTRUCTIONS,
        "content": content,
        "max_output_tokens": 400,
        "idempotency_key": f"key-{next(_numbers)}",
        "timeout_s": 10.0,
    }
    return CloudRequest(**(fields | changes))


def fault(kind: FaultKind, **fields: Any) -> Fault:
    return Fault(kind=kind, **fields)
