"""`CloudClient` that replays prepared answers: for tests, and to run recorded questions again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from minions.cloud.failures import Failure, error_of
from minions.cloud.model import (
    AttemptOutcome,
    AttemptSink,
    CloudAttempt,
    CloudRequest,
    CloudResponse,
    CloudUsage,
    DeltaSink,
)
from minions.errors import CloudUnavailable
from workers import ToolCall

_PIECE = re.compile(r"\S*\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What one call came to."""

    text: str = ""
    finish_reason: str = "stop"
    usage: CloudUsage | None = None
    """As the provider reported it; an answer (outcome OK) must have it."""
    tool_calls: tuple[ToolCall, ...] = ()
    outcome: AttemptOutcome = AttemptOutcome.OK
    """Anything but OK: the call fails so, after one attempt."""

    def __post_init__(self) -> None:
        if self.outcome is AttemptOutcome.OK and self.usage is None:
            raise ValueError("a recorded answer needs its usage: without it, it has no price")


class RecordedCloud:
    """Hands out the recordings in order, one per new idempotency key.

    A key that was answered before gets the same answer again, as at a careful provider. `requests`
    holds every request that was made, so that what would have left the machine can be read.
    """

    base_url = "recorded:"

    def __init__(self, recordings: Sequence[Recording]) -> None:
        self._recordings = tuple(recordings)
        self._answered: dict[str, Recording] = {}
        self._n_used = 0
        self.requests: list[CloudRequest] = []

    async def complete(
        self,
        request: CloudRequest,
        *,
        on_attempt: AttemptSink,
        on_delta: DeltaSink | None = None,
    ) -> CloudResponse:
        """See `CloudClient`. Raises CloudUnavailable when the recordings are used up."""
        self.requests.append(request)
        recording = self._recording_of(request)
        attempt = _attempt(request, recording)
        on_attempt(attempt)
        if recording.usage is None or recording.outcome is not AttemptOutcome.OK:
            raise self._error(request, recording)
        if on_delta:
            for piece in filter(None, _PIECE.findall(recording.text)):
                on_delta(piece)
        return CloudResponse(
            idempotency_key=request.idempotency_key,
            model=request.model,
            text=recording.text,
            finish_reason=recording.finish_reason,
            usage=recording.usage,
            attempts=(attempt,),
            elapsed_s=0.0,
            tool_calls=recording.tool_calls,
        )

    async def close(self) -> None:
        """Nothing is held."""

    def _recording_of(self, request: CloudRequest) -> Recording:
        key = request.idempotency_key
        if key in self._answered:
            return self._answered[key]
        if self._n_used == len(self._recordings):
            raise CloudUnavailable(
                f"All {self._n_used} recordings are used up and {request.model} was asked once "
                "more: record further answers, or find out why there are more calls than before."
            )
        recording = self._recordings[self._n_used]
        self._n_used += 1
        if recording.outcome is AttemptOutcome.OK:
            self._answered[key] = recording
        return recording

    def _error(self, request: CloudRequest, recording: Recording) -> Exception:
        failure = Failure(outcome=recording.outcome, message="recorded so", retryable=False)
        return error_of(failure, endpoint=self.base_url, model=request.model, n_attempts=1)


def _attempt(request: CloudRequest, recording: Recording) -> CloudAttempt:
    failed = recording.outcome is not AttemptOutcome.OK
    return CloudAttempt(
        idempotency_key=request.idempotency_key,
        attempt=1,
        model=request.model,
        outcome=recording.outcome,
        usage=recording.usage,
        error="recorded so" if failed else None,
    )
