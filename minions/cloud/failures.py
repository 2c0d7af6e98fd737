"""How an attempt can fail: what it is called in the ledger, whether to try again, what to say.

Pure: an exception goes in, a `Failure` comes out. Messages are for a person who must mend it, and
never hold the key: a provider may quote it back, so it is cut out of every text that is kept.
"""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import httpx2
import openai

from minions.cloud.model import AttemptOutcome
from minions.cloud.wire import CutStream, FailedRun, InvalidReply, Observed, UnmeteredReply
from minions.errors import CloudError, CloudProtocolError, CloudRefused, CloudUnavailable

EXPECTED = (openai.APIError, TimeoutError, InvalidReply, FailedRun, CutStream)
"""What an exchange may raise; anything else is a bug, or the caller's own."""

_NEVER_CONNECTED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_MASK = "[key]"
_RETRIED_STATUSES = frozenset({408, 409, 429})
_SPENT_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_FIX_BY_STATUS = {
    401: "the key was not accepted: check the cloud API key of this endpoint",
    402: "the account can't pay: check the provider's billing page",
    403: "this key may not use this model or endpoint: check its permissions",
    404: "no such model or path: check the model's name and that the base URL ends like .../v1",
    413: "the request is too large: send less of the document (a lower rung) or choose a model "
    "with a longer context",
}
_TOO_LONG = _FIX_BY_STATUS[413]
_ERROR_TYPES: dict[AttemptOutcome, type[CloudError]] = {
    AttemptOutcome.REFUSED_REQUEST: CloudRefused,
    AttemptOutcome.INVALID_RESPONSE: CloudProtocolError,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """One attempt that yielded no answer."""

    outcome: AttemptOutcome
    message: str
    """What was wrong and what to do; free of the key."""
    retryable: bool
    retry_after_s: float | None = None
    """The wait that the provider asked for; 0 to go on at once; None where it said nothing."""
    status_code: int | None = None
    request_id: str | None = None
    sent: bool = True
    """False where no connection was made."""


def failure_of(error: Exception, seen: Observed, *, secret: str) -> Failure:
    """Judge one of `EXPECTED`."""
    failure = _judged(error, seen)
    if not secret or secret not in failure.message:
        return failure
    return replace(failure, message=failure.message.replace(secret, _MASK))


def error_of(failure: Failure, *, endpoint: str, model: str, n_attempts: int) -> CloudError:
    """The exception that the caller sees when no attempt is left."""
    attempts = "1 attempt" if n_attempts == 1 else f"{n_attempts} attempts"
    kind = _ERROR_TYPES.get(failure.outcome, CloudUnavailable)
    return kind(f"{model} at {endpoint} gave no answer ({attempts}): {failure.message}")


def retry_after_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that the provider asks to wait: `retry-after-ms`, else `retry-after` in seconds or
    as an HTTP date (`now` is a Unix time). None where there is neither, or nonsense."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    asked = headers.get("retry-after")
    seconds = _number(asked)
    if seconds is None and asked:
        seconds = _seconds_until(asked, now=now)
    return None if seconds is None else max(0.0, seconds)


def _judged(error: Exception, seen: Observed) -> Failure:
    if isinstance(error, openai.APIStatusError):
        return _of_status(error)
    outcome = _outcome_without_status(error, seen)
    return Failure(
        outcome=outcome,
        message=_described(error, outcome),
        retryable=not isinstance(error, UnmeteredReply),
        status_code=seen.status_code,
        request_id=seen.request_id,
        sent=not isinstance(error.__cause__, _NEVER_CONNECTED),
    )


def _outcome_without_status(error: Exception, seen: Observed) -> AttemptOutcome:
    if isinstance(error, (TimeoutError, openai.APITimeoutError)):
        return AttemptOutcome.TIMEOUT
    if isinstance(error, openai.APIConnectionError):
        return AttemptOutcome.CUT_STREAM if seen.streaming else AttemptOutcome.CONNECTION_ERROR
    if isinstance(error, (InvalidReply, openai.APIResponseValidationError)):
        return AttemptOutcome.INVALID_RESPONSE
    if isinstance(error, CutStream):
        return AttemptOutcome.CUT_STREAM
    return AttemptOutcome.SERVER_ERROR


def _described(error: Exception, outcome: AttemptOutcome) -> str:
    if outcome is AttemptOutcome.TIMEOUT:
        return "no whole answer within the time limit: allow more time or send less"
    cause = f" ({error.__cause__})" if error.__cause__ and str(error.__cause__) else ""
    if outcome is AttemptOutcome.CONNECTION_ERROR:
        return f"can't reach the server{cause}: check the base URL and the network"
    return f"{error}{cause}"


def _of_status(error: openai.APIStatusError) -> Failure:
    status = error.status_code
    spent = error.code in _SPENT_QUOTA_CODES
    return Failure(
        outcome=_outcome_of_status(status, spent=spent),
        message=_described_status(error, spent=spent),
        retryable=(status in _RETRIED_STATUSES or status >= 500) and not spent,
        retry_after_s=retry_after_s(error.response.headers, now=time.time()),
        status_code=status,
        request_id=error.request_id,
    )


def _outcome_of_status(status: int, *, spent: bool) -> AttemptOutcome:
    if spent:
        return AttemptOutcome.REFUSED_REQUEST
    if status == 429:
        return AttemptOutcome.RATE_LIMITED
    if status >= 500 or status in _RETRIED_STATUSES:
        return AttemptOutcome.SERVER_ERROR
    return AttemptOutcome.REFUSED_REQUEST


def _described_status(error: openai.APIStatusError, *, spent: bool) -> str:
    status = error.status_code
    if spent:
        fix: str | None = "the account's quota is used up: check the provider's billing page"
    elif error.code == "context_length_exceeded":
        fix = _TOO_LONG
    elif 300 <= status < 400:
        moved_to = error.response.headers.get("location", "an unnamed address")
        fix = f"redirects are not followed with a document; this one goes to {moved_to}"
    else:
        fix = _FIX_BY_STATUS.get(status)
    said = f"HTTP {status}: {_said(error)}"
    return f"{fix} ({said})" if fix else said


def _said(error: openai.APIStatusError) -> str:
    """The provider's own sentence, out of OpenAI's error envelope where it used one."""
    told = error.body.get("message") if isinstance(error.body, dict) else None
    return told if isinstance(told, str) else error.message


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_until(http_date: str, *, now: float) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(http_date).timestamp() - now
    except ValueError:
        return None
