"""The `CloudClient` contract: every implementation, both APIs, streamed and whole."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import traceback
from collections.abc import Callable, Iterator

import pytest

from minions.cloud.client import OpenAICloud
from minions.cloud.model import AttemptOutcome, CloudAttempt, CloudClient, CloudResponse, CloudUsage
from minions.cloud.recorded import RecordedCloud, Recording
from minions.cloud.sim import Fault, FaultKind, SimPlan
from minions.errors import (
    BadRequest,
    CloudError,
    CloudProtocolError,
    CloudRefused,
    CloudUnavailable,
)
from tests.cloud import KEY, Ear, Sim, closing, cloud_request, fault, sim_running

ANSWER = {
    "answer": "New York",
    "citations": ["This Agreement shall be governed by the laws of the State of New York."],
    "sufficient": True,
}
RECORDING = Recording(
    text=json.dumps(ANSWER),
    usage=CloudUsage(prompt_tokens=80, cached_tokens=16, completion_tokens=30),
)
CloudMaker = Callable[[], CloudClient]


@pytest.fixture(scope="module")
def server() -> Iterator[Sim]:
    with sim_running(SimPlan(api_key=KEY)) as sim:
        yield sim


@pytest.fixture
def sim(server: Sim) -> Sim:
    server.reset()
    return server


@pytest.fixture(params=["chat", "responses"])
def live(request: pytest.FixtureRequest, sim: Sim) -> CloudMaker:
    """Makes a client that reaches the sim by one of the two APIs."""
    return lambda: sim.cloud(api=request.param)


@pytest.fixture(params=["chat", "responses", "recorded"])
def any_cloud(request: pytest.FixtureRequest, sim: Sim) -> CloudMaker:
    if request.param == "recorded":
        return lambda: RecordedCloud([RECORDING] * 5)
    return lambda: sim.cloud(api=request.param)


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# --- every implementation ------------------------------------------------------------------------


async def test_an_answer_with_its_usage_and_one_attempt(
    any_cloud: CloudMaker, stream: bool
) -> None:
    request, ear = cloud_request(), Ear()
    async with closing(any_cloud()) as cloud:
        response = await ear.call(cloud, request, stream=stream)
    assert json.loads(response.text) == ANSWER
    assert (response.finish_reason, response.model) == ("stop", request.model)
    assert response.usage.prompt_tokens > 0
    assert response.usage.completion_tokens > 0
    assert response.attempts == tuple(ear.attempts)
    assert ear.outcomes == ["ok"]
    assert ear.attempts[0].usage == response.usage
    assert "".join(ear.deltas) == (response.text if stream else "")


async def test_the_same_key_gets_the_same_answer(any_cloud: CloudMaker, stream: bool) -> None:
    request, ear = cloud_request(), Ear()
    async with closing(any_cloud()) as cloud:
        first = await ear.call(cloud, request, stream=stream)
        second = await ear.call(cloud, request)
    assert (first.text, first.usage) == (second.text, second.usage)
    assert [attempt.idempotency_key for attempt in ear.attempts] == [request.idempotency_key] * 2


async def test_many_calls_at_once_stay_apart(any_cloud: CloudMaker) -> None:
    ears = [Ear() for _ in range(5)]
    requests = [cloud_request() for _ in ears]
    async with closing(any_cloud()) as cloud:
        calls = [ear.call(cloud, one) for ear, one in zip(ears, requests, strict=True)]
        responses = await asyncio.gather(*calls)
    assert [one.idempotency_key for one in responses] == [one.idempotency_key for one in requests]
    assert all(ear.outcomes == ["ok"] for ear in ears)


async def test_a_failing_ledger_stops_the_call(any_cloud: CloudMaker) -> None:
    def full_disk(_: object) -> None:
        raise OSError("disk full")

    async with closing(any_cloud()) as cloud:
        with pytest.raises(OSError, match="disk full"):
            await cloud.complete(cloud_request(), on_attempt=full_disk)


# --- faults that a second attempt gets over ------------------------------------------------------

PASSING = [
    (fault(FaultKind.RATE_LIMIT, retry_after_ms=20), AttemptOutcome.RATE_LIMITED, 0),
    (fault(FaultKind.SERVER_ERROR), AttemptOutcome.SERVER_ERROR, 0),
    (fault(FaultKind.INVALID_JSON), AttemptOutcome.INVALID_RESPONSE, 1),
]


@pytest.mark.parametrize(("trouble", "outcome", "n_replays"), PASSING)
async def test_a_passing_fault_is_tried_again_and_billed_once(
    sim: Sim, live: CloudMaker, stream: bool, trouble: Fault, outcome: str, n_replays: int
) -> None:
    sim.fail_with(trouble)
    request, ear = cloud_request(), Ear()
    async with closing(live()) as cloud:
        response = await ear.call(cloud, request, stream=stream)
    assert json.loads(response.text) == ANSWER
    assert ear.outcomes == [outcome, "ok"]
    assert [attempt.attempt for attempt in ear.attempts] == [1, 2]
    assert all(attempt.request_id for attempt in ear.attempts)
    assert_billed_once(sim, response, n_replays=n_replays)


@pytest.mark.parametrize(
    ("kind", "n_replays"), [(FaultKind.CUT_STREAM, 1), (FaultKind.DROP_CONNECTION, 0)]
)
async def test_a_cut_body_is_tried_again_and_billed_once(
    sim: Sim, live: CloudMaker, stream: bool, kind: FaultKind, n_replays: int
) -> None:
    sim.fail_with(fault(kind))
    ear = Ear()
    async with closing(live()) as cloud:
        response = await ear.call(cloud, cloud_request(), stream=stream)
    assert ear.outcomes == ["cut_stream" if stream else "connection_error", "ok"]
    assert ear.attempts[0].usage is None
    assert_billed_once(sim, response, n_replays=n_replays)


async def test_a_timeout_is_tried_again(sim: Sim, live: CloudMaker, stream: bool) -> None:
    sim.fail_with(fault(FaultKind.TIMEOUT))
    ear = Ear()
    async with closing(live()) as cloud:
        response = await ear.call(cloud, cloud_request(timeout_s=0.5), stream=stream)
    assert ear.outcomes == ["timeout", "ok"]
    assert ear.attempts[0].elapsed_s == pytest.approx(0.5, abs=0.4)
    assert_billed_once(sim, response, n_replays=0)


def assert_billed_once(sim: Sim, response: CloudResponse, *, n_replays: int) -> None:
    (line,) = sim.ledger()
    assert line["idempotency_key"] == response.idempotency_key
    assert line["usage"]["prompt_tokens"] == response.usage.prompt_tokens
    assert line["usage"]["completion_tokens"] == response.usage.completion_tokens
    assert line["n_replays"] == n_replays


# --- answers that are passed on as they are ------------------------------------------------------


async def test_a_refusal_is_an_answer(sim: Sim, live: CloudMaker, stream: bool) -> None:
    sim.fail_with(fault(FaultKind.REFUSAL))
    async with closing(live()) as cloud:
        response = await Ear().call(cloud, cloud_request(), stream=stream)
    assert response.finish_reason == "refusal"
    assert "can't help" in response.text
    assert response.usage.completion_tokens > 0


async def test_a_text_that_ran_out_says_so(sim: Sim, live: CloudMaker, stream: bool) -> None:
    async with closing(live()) as cloud:
        short = await Ear().call(cloud, cloud_request(max_output_tokens=5), stream=stream)
        sim.fail_with(fault(FaultKind.LENGTH))
        cut = await Ear().call(cloud, cloud_request(), stream=stream)
    assert (short.finish_reason, short.usage.completion_tokens) == ("length", 5)
    assert cut.finish_reason == "length"
    assert json.dumps(ANSWER).startswith(cut.text)


async def test_prose_instead_of_json_is_for_the_caller_to_judge(
    sim: Sim, live: CloudMaker, stream: bool
) -> None:
    sim.fail_with(fault(FaultKind.BAD_ANSWER))
    ear = Ear()
    async with closing(live()) as cloud:
        response = await ear.call(cloud, cloud_request(), stream=stream)
    assert not response.text.startswith("{")
    assert ear.outcomes == ["ok"]


async def test_a_slow_answer_is_waited_for(sim: Sim, live: CloudMaker, stream: bool) -> None:
    sim.fail_with(fault(FaultKind.SLOW, delay_s=0.3))
    async with closing(live()) as cloud:
        response = await Ear().call(cloud, cloud_request(), stream=stream)
    assert response.elapsed_s >= 0.3


async def test_a_repeated_document_is_partly_cached(live: CloudMaker, stream: bool) -> None:
    long = "The parties agree on point after point. " * 300
    async with closing(live()) as cloud:
        first = await Ear().call(cloud, cloud_request(f"{long} json 1"), stream=stream)
        second = await Ear().call(cloud, cloud_request(f"{long} json 2"), stream=stream)
    assert first.usage.cached_tokens == 0
    assert second.usage.cached_tokens >= 1024
    assert second.usage.cached_tokens % 128 == 0
    assert second.usage.cached_tokens < second.usage.prompt_tokens


# --- failures that reach the caller --------------------------------------------------------------


async def test_attempts_are_bounded(sim: Sim, live: CloudMaker, stream: bool) -> None:
    sim.fail_with(*[fault(FaultKind.SERVER_ERROR)] * 9)
    ear = Ear()
    async with closing(live()) as cloud:
        with pytest.raises(CloudUnavailable, match=r"3 attempts.*HTTP 500"):
            await ear.call(cloud, cloud_request(), stream=stream)
    assert ear.outcomes == ["server_error"] * 3
    assert sim.ledger() == []


async def test_only_invalid_bodies_is_a_protocol_error(
    sim: Sim, live: CloudMaker, stream: bool
) -> None:
    sim.fail_with(*[fault(FaultKind.INVALID_JSON)] * 3)
    async with closing(live()) as cloud:
        with pytest.raises(CloudProtocolError, match=r"promises|stream was asked"):
            await Ear().call(cloud, cloud_request(), stream=stream)
    assert len(sim.ledger()) == 1


async def test_an_unmetered_answer_is_not_bought_again(
    sim: Sim, live: CloudMaker, stream: bool
) -> None:
    sim.fail_with(fault(FaultKind.NO_USAGE))
    ear = Ear()
    async with closing(live()) as cloud:
        with pytest.raises(CloudProtocolError, match="without usage"):
            await ear.call(cloud, cloud_request(), stream=stream)
    assert ear.outcomes == ["invalid_response"]
    assert ear.attempts[0].usage is None


async def test_a_wrong_key_is_refused_and_never_shown(
    sim: Sim, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "sk-very-secret-42"
    for api in ("chat", "responses"):
        cloud, ear = OpenAICloud(sim.base_url, secret, api=api), Ear()
        async with closing(cloud):
            with pytest.raises(CloudRefused, match="check the cloud API key") as caught:
                await ear.call(cloud, cloud_request(), stream=stream)
        told = "".join(traceback.format_exception(caught.value))
        kept = [repr(cloud), str(cloud), told, repr(ear.attempts), caplog.text]
        assert not any(secret in text for text in kept)
        assert caught.value.__context__ is None
        assert "[key]" in told
        assert ear.outcomes == ["refused_request"]


async def test_an_unreachable_server_is_unavailable(stream: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    sim, ear = Sim(base_url=f"http://127.0.0.1:{port}/v1"), Ear()
    async with closing(sim.cloud(max_attempts=2)) as cloud:
        with pytest.raises(CloudUnavailable, match="check the base URL"):
            await ear.call(cloud, cloud_request(), stream=stream)
    assert ear.outcomes == ["connection_error"] * 2


async def test_the_total_time_is_bounded(sim: Sim) -> None:
    sim.fail_with(*[fault(FaultKind.RATE_LIMIT, retry_after_s=30)] * 5)
    ear = Ear()
    cloud = OpenAICloud(sim.base_url, KEY, max_attempts=5, total_s=1.0)
    async with closing(cloud):
        with pytest.raises(CloudUnavailable, match="1 attempt"):
            await ear.call(cloud, cloud_request())
    assert ear.outcomes == ["rate_limited"]


@pytest.mark.parametrize("url", ["api.openai.com/v1", "", "https://me:pw@host/v1"])
def test_a_url_that_can_not_work_is_refused_at_once(url: str) -> None:
    with pytest.raises(BadRequest, match="cloud URL"):
        OpenAICloud(url, KEY)


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (AttemptOutcome.REFUSED_REQUEST, CloudRefused),
        (AttemptOutcome.RATE_LIMITED, CloudUnavailable),
        (AttemptOutcome.INVALID_RESPONSE, CloudProtocolError),
    ],
)
async def test_recorded_failures_raise_as_live_ones(
    outcome: AttemptOutcome, error: type[CloudError]
) -> None:
    cloud, ear, request = (
        RecordedCloud([Recording(outcome=outcome), RECORDING]),
        Ear(),
        cloud_request(),
    )
    with pytest.raises(error, match="recorded"):
        await ear.call(cloud, request)
    await ear.call(cloud, request)
    with pytest.raises(CloudUnavailable, match="used up"):
        await ear.call(cloud, cloud_request())
    assert ear.outcomes == [outcome, "ok"]
    assert len(cloud.requests) == 3


# --- cancellation --------------------------------------------------------------------------------


async def test_cancelling_in_mid_call_ends_it_at_once(
    sim: Sim, live: CloudMaker, stream: bool
) -> None:
    sim.fail_with(fault(FaultKind.TIMEOUT))
    ear = Ear()
    async with closing(live()) as cloud:
        task = asyncio.create_task(ear.call(cloud, cloud_request(), stream=stream))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, timeout=1.0)
    assert ear.outcomes == ["cancelled"]


async def test_cancelling_between_attempts_makes_no_further_one(sim: Sim) -> None:
    sim.fail_with(fault(FaultKind.RATE_LIMIT, retry_after_s=20))
    attempts: asyncio.Queue[CloudAttempt] = asyncio.Queue()
    async with closing(OpenAICloud(sim.base_url, KEY)) as cloud:
        task = asyncio.create_task(cloud.complete(cloud_request(), on_attempt=attempts.put_nowait))
        assert (await attempts.get()).outcome is AttemptOutcome.RATE_LIMITED
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, timeout=1.0)
    assert attempts.empty()
