"""`CloudClient` over any endpoint that speaks the OpenAI API.

The SDK makes single HTTP attempts; trying again is decided here, so that each attempt reaches the
ledger, also one that was paid for and lost on the way.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import openai
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_result,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from minions.cloud.chat import ChatApi
from minions.cloud.failures import EXPECTED, Failure, error_of, failure_of
from minions.cloud.model import (
    AttemptOutcome,
    AttemptSink,
    CloudAttempt,
    CloudRequest,
    CloudResponse,
    CloudUsage,
    DeltaSink,
    Permission,
)
from minions.cloud.responses import ResponsesApi
from minions.cloud.wire import Dialect, Observed, Reply
from minions.errors import BadRequest

Api = Literal["chat", "responses"]
_DIALECTS: dict[Api, Callable[[openai.AsyncOpenAI], Dialect]] = {
    "chat": ChatApi,
    "responses": ResponsesApi,
}
_ANONYMOUS = "none"
_REMEMBERED = 1_000
"""Completions whose usage was counted; a retry comes within a few calls."""


@dataclass(kw_only=True, slots=True)
class _Call:
    """One `complete` while it runs."""

    request: CloudRequest
    on_attempt: AttemptSink
    on_delta: DeltaSink | None
    started: float = field(default_factory=time.monotonic)
    attempts: list[CloudAttempt] = field(default_factory=list)
    permission: Permission | None = None
    """To be asked before the next attempt."""

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    def report(self, attempt: CloudAttempt) -> None:
        self.attempts.append(attempt)
        self.permission = self.on_attempt(attempt)


class OpenAICloud:
    """One endpoint, one key. Safe to use by many tasks at once.

    `api` chooses chat completions, which nearly all servers speak, or the Responses API. Attempts
    end at `max_attempts`, or when the next would begin later than `total_s` after the first.
    Waits are what the provider asks for, else drawn between `first_wait_s` and a bound that doubles
    each time; neither is over `max_wait_s`. `request.timeout_s` limits each attempt.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        api: Api = "chat",
        max_attempts: int = 5,
        first_wait_s: float = 0.5,
        max_wait_s: float = 60.0,
        total_s: float = 600.0,
    ) -> None:
        _check_url(base_url)
        self._base_url = base_url.rstrip("/")
        self._api = api
        self._secret = api_key or ""
        self._total_s = total_s
        self._max_wait_s = max_wait_s
        self._backoff = wait_random_exponential(
            multiplier=2 * first_wait_s, min=first_wait_s, max=max_wait_s
        )
        self._stop = stop_after_attempt(max_attempts) | stop_before_delay(total_s)
        # Redirects stay unfollowed: a document goes to the address that was recorded, or nowhere.
        self._sdk = openai.AsyncOpenAI(
            base_url=self._base_url,
            api_key=api_key or _ANONYMOUS,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        )
        self._dialect = _DIALECTS[api](self._sdk)
        self._counted: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)

    def __repr__(self) -> str:
        return f"OpenAICloud({self._base_url!r}, api_key=***, api={self._api!r})"

    @property
    def base_url(self) -> str:
        return self._base_url

    async def complete(
        self,
        request: CloudRequest,
        *,
        on_attempt: AttemptSink,
        on_delta: DeltaSink | None = None,
    ) -> CloudResponse:
        """See `CloudClient`. Raises CloudRefused, CloudUnavailable or CloudProtocolError."""
        call = _Call(request=request, on_attempt=on_attempt, on_delta=on_delta)
        end: Reply | Failure = await self._retrying()(self._attempt, call)
        if isinstance(end, Failure):
            raise error_of(
                end,
                endpoint=self._base_url,
                model=request.model,
                n_attempts=len(call.attempts),
            )
        return CloudResponse(
            idempotency_key=request.idempotency_key,
            model=request.model,
            text=end.text,
            finish_reason=end.finish_reason,
            usage=end.usage,
            attempts=tuple(call.attempts),
            elapsed_s=call.elapsed_s,
            tool_calls=end.tool_calls,
        )

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._sdk.close()

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            stop=self._stop,
            wait=self._wait_s,
            retry=retry_if_result(lambda end: isinstance(end, Failure) and end.retryable),
            retry_error_callback=_end_of,
        )

    def _wait_s(self, state: RetryCallState) -> float:
        end = _end_of(state)
        if isinstance(end, Failure) and end.retry_after_s is not None:
            return min(end.retry_after_s, self._max_wait_s)
        return self._backoff(state)

    async def _attempt(self, call: _Call) -> Reply | Failure:
        """One HTTP attempt, reported however it ends. Failures are returned, so that no SDK
        exception, which holds the request and its key, hangs on the one that is raised."""
        if call.permission is not None:
            await call.permission()
        seen, started = Observed(), time.monotonic()
        end: Reply | Failure | None = None
        try:
            end = await self._exchange(call, seen)
        finally:
            usage = self._usage_once(call.request.idempotency_key, seen)
            elapsed_s = time.monotonic() - started
            call.report(_record(call, seen, end, usage=usage, elapsed_s=elapsed_s))
        return end

    def _usage_once(self, key: str, seen: Observed) -> CloudUsage | None:
        """What this attempt is billed. A provider that knows the idempotency key gives a lost
        completion again, under its old id and with its old usage: that was counted before."""
        if seen.usage is None or not seen.completion_id:
            return seen.usage
        completion = (key, seen.completion_id)
        if completion in self._counted:
            return CloudUsage()
        self._counted.append(completion)
        return seen.usage

    async def _exchange(self, call: _Call, seen: Observed) -> Reply | Failure:
        limit_s = min(call.request.timeout_s, max(0.0, self._total_s - call.elapsed_s))
        try:
            async with asyncio.timeout(limit_s):
                return await self._dialect.exchange(call.request, seen, call.on_delta)
        except openai.BadRequestError as error:
            failure = failure_of(error, seen, secret=self._secret)
            if self._dialect.adapts_to(error, call.request.model, seen):
                return replace(failure, retryable=True, retry_after_s=0.0)
            return failure
        except EXPECTED as error:
            return failure_of(error, seen, secret=self._secret)


def _end_of(state: RetryCallState) -> Reply | Failure:
    assert state.outcome is not None, "tenacity asks only after an attempt"
    end: Reply | Failure = state.outcome.result()
    return end


def _record(
    call: _Call,
    seen: Observed,
    end: Reply | Failure | None,
    *,
    usage: CloudUsage | None,
    elapsed_s: float,
) -> CloudAttempt:
    failure = end if isinstance(end, Failure) else None
    if failure:
        outcome, error = failure.outcome, failure.message
    elif end:
        outcome, error = AttemptOutcome.OK, None
    else:
        outcome, error = AttemptOutcome.CANCELLED, "the caller left before the answer"
    return CloudAttempt(
        idempotency_key=call.request.idempotency_key,
        attempt=len(call.attempts) + 1,
        model=call.request.model,
        outcome=outcome,
        usage=usage,
        status_code=failure.status_code if failure else seen.status_code,
        request_id=failure.request_id if failure else seen.request_id,
        elapsed_s=elapsed_s,
        error=error,
        sent=failure is None or failure.sent,
        completion_id=seen.completion_id,
    )


def _check_url(base_url: str) -> None:
    if not base_url.startswith(("http://", "https://")):
        raise BadRequest(f"The cloud URL {base_url!r} must start with http:// or https://.")
    if "@" in base_url:
        raise BadRequest("The cloud URL holds a user or password: give the key separately.")
