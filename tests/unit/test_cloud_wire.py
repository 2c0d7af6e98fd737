"""How replies, usage and failures of providers are read."""

from __future__ import annotations

import time

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.cloud.chat import ChatApi
from minions.cloud.failures import error_of, failure_of, retry_after_s
from minions.cloud.model import AttemptOutcome, CloudUsage
from minions.cloud.recorded import Recording
from minions.cloud.wire import (
    ChatUsage,
    FailedRun,
    InvalidReply,
    Observed,
    ResponsesUsage,
    parsed,
    refuses_temperature,
    sampling,
)
from minions.errors import CloudRefused
from tests.cloud import cloud_request


def status_error(
    status: int, body: object = None, headers: dict[str, str] | None = None
) -> openai.APIStatusError:
    response = httpx2.Response(
        status, headers=headers, request=httpx2.Request("POST", "http://host/v1")
    )
    return openai.APIStatusError("said so", response=response, body=body)


@pytest.mark.parametrize(
    ("model", "refuses"),
    [
        ("o3", True),
        ("o4-mini", True),
        ("gpt-5", True),
        ("openai/gpt-5.2-mini", True),
        ("gpt-6", True),
        ("gpt-5-chat-latest", False),
        ("gpt-4.1", False),
        ("gpt-4o", False),
        ("gpt-oss-20b", False),
        ("olmo-2", False),
        ("claude-sonnet-4-5", False),
    ],
)
def test_which_models_refuse_a_temperature(model: str, refuses: bool) -> None:
    assert refuses_temperature(model) is refuses
    sent = sampling(cloud_request(model=model, temperature=0.0))
    assert sent == ({} if refuses else {"temperature": 0.0})


def test_no_temperature_is_sent_when_none_is_wanted() -> None:
    assert sampling(cloud_request(temperature=None)) == {}


def test_usage_of_both_apis() -> None:
    expected = CloudUsage(
        prompt_tokens=100, cached_tokens=64, completion_tokens=50, reasoning_tokens=40
    )
    chat = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    responses = {
        "input_tokens": 100,
        "output_tokens": 50,
        "total_tokens": 150,
        "input_tokens_details": {"cached_tokens": 64},
        "output_tokens_details": {"reasoning_tokens": 40},
    }
    assert ChatUsage.model_validate(chat).counted() == expected
    assert ResponsesUsage.model_validate(responses).counted() == expected


def test_usage_without_details() -> None:
    bare = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": None}
    expected = CloudUsage(prompt_tokens=3, completion_tokens=4)
    assert ChatUsage.model_validate(bare).counted() == expected


def test_reasoning_that_is_counted_beside_the_completion_is_put_inside() -> None:
    beside = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 45,
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    assert ChatUsage.model_validate(beside).counted().completion_tokens == 35


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"prompt_tokens": -1}', b"\xff"])
def test_a_body_that_is_not_the_promised_json(body: bytes) -> None:
    with pytest.raises(InvalidReply, match="not the JSON"):
        parsed(ChatUsage, body)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 40.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, now=60.0) == seconds


@given(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_any_retry_after_is_a_wait_or_nothing(seconds: str, milliseconds: str) -> None:
    headers = {"retry-after": seconds, "retry-after-ms": milliseconds}
    wait = retry_after_s(headers, now=time.time())
    assert wait is None or wait >= 0


@pytest.mark.parametrize(
    ("status", "body", "outcome", "retryable", "told"),
    [
        (400, {"code": "context_length_exceeded"}, "refused_request", False, "lower rung"),
        (401, None, "refused_request", False, "check the cloud API key"),
        (402, None, "refused_request", False, "billing"),
        (403, None, "refused_request", False, "permissions"),
        (404, None, "refused_request", False, "check the model's name"),
        (307, None, "refused_request", False, "redirects are not followed"),
        (408, None, "server_error", True, "HTTP 408"),
        (409, None, "server_error", True, "HTTP 409"),
        (429, None, "rate_limited", True, "HTTP 429"),
        (429, {"code": "insufficient_quota"}, "refused_request", False, "quota"),
        (500, {"message": "we are sorry"}, "server_error", True, "we are sorry"),
        (503, None, "server_error", True, "HTTP 503"),
    ],
)
def test_statuses(status: int, body: object, outcome: str, retryable: bool, told: str) -> None:
    failure = failure_of(status_error(status, body), Observed(), secret="")
    assert (failure.outcome, failure.retryable) == (outcome, retryable)
    assert told in failure.message
    assert failure.status_code == status


def test_a_failed_run_inside_a_200_is_tried_again() -> None:
    failure = failure_of(FailedRun("server_error: oops"), Observed(status_code=200), secret="")
    assert (failure.outcome, failure.retryable) == (AttemptOutcome.SERVER_ERROR, True)


def test_the_key_is_cut_out_of_every_message() -> None:
    body = {"message": "Incorrect API key provided: sk-12345."}
    failure = failure_of(status_error(401, body), Observed(), secret="sk-12345")
    error = error_of(failure, endpoint="http://host/v1", model="m", n_attempts=1)
    assert isinstance(error, CloudRefused)
    assert "sk-12345" not in str(error)
    assert "[key]" in str(error)


async def test_only_a_400_about_the_cap_changes_its_name() -> None:
    sdk = openai.AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:1/v1")
    api, new = ChatApi(sdk), Observed(limit_name="max_completion_tokens")
    response = httpx2.Response(400, request=httpx2.Request("POST", "http://host/v1"))
    other = openai.BadRequestError("no", response=response, body={"param": "temperature"})
    cap = openai.BadRequestError("no", response=response, body={"param": "max_completion_tokens"})
    assert not api.adapts_to(other, "m", new)
    assert api.adapts_to(cap, "m", new)
    assert not api.adapts_to(cap, "m", Observed(limit_name="max_tokens"))
    await sdk.close()


def test_a_recorded_answer_needs_its_usage() -> None:
    with pytest.raises(ValueError, match="needs its usage"):
        Recording(text="yes")
