"""cloud-sim over HTTP, seen through our client and through the plain OpenAI SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest

from minions.cloud.sim import FaultKind, SimPlan
from minions.errors import CloudRefused, CloudUnavailable
from tests.cloud import CONTENT, INSTRUCTIONS, Ear, Sim, closing, cloud_request, fault, sim_running


@pytest.fixture(scope="module")
def plain() -> Iterator[Sim]:
    with sim_running() as sim:
        yield sim


@pytest.fixture(scope="module")
def narrow() -> Iterator[Sim]:
    """An older server with one small model, that bills every request."""
    plan = SimPlan(
        models=("small",), context_tokens=500, replays=False, knows_max_completion_tokens=False
    )
    with sim_running(plan) as sim:
        yield sim


@pytest.fixture
def sdk(plain: Sim) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=plain.base_url, api_key="any", max_retries=0) as client:
        yield client


def test_models(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["sim-reader"]


def test_the_sdk_reads_a_streamed_response(sdk: openai.OpenAI) -> None:
    with sdk.responses.stream(
        model="any-name", instructions=INSTRUCTIONS, input=CONTENT, store=False
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert json.loads(final.output_text)["answer"] == "New York"
    assert final.usage is not None
    assert final.usage.output_tokens > 0


def test_a_plain_chat_is_answered_from_what_was_said(sdk: openai.OpenAI) -> None:
    said = "My aunt keeps seven goats behind the old mill. She sells cheese on Sundays."
    for question, expected in (
        ("How many goats does my aunt keep?", "My aunt keeps seven goats behind the old mill."),
        ("What is the capital of Mongolia?", "I can't tell from what I was sent."),
    ):
        completion = sdk.chat.completions.create(
            model="sim-reader",
            messages=[
                {"role": "user", "content": [{"type": "text", "text": said}]},
                {"role": "assistant", "content": "Noted."},
                {"role": "user", "content": question},
            ],
        )
        assert completion.choices[0].message.content == expected


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"n": 2}, "Invalid argument n"),
        ({"messages": []}, "messages"),
        ({"temperature": 3}, "temperature"),
        ({"model": "o3", "temperature": 0}, "temperature"),
        ({"model": "gpt-5", "max_tokens": 5}, "max_tokens"),
        ({"response_format": {"type": "json_object"}}, "'json'"),
    ],
)
def test_what_would_be_ignored_is_refused(
    sdk: openai.OpenAI, changes: dict[str, object], told: str
) -> None:
    body = {"model": "sim-reader", "messages": [{"role": "user", "content": "hi"}]} | changes
    with pytest.raises(openai.BadRequestError, match=told):
        sdk.post("/chat/completions", body=body, cast_to=object)


async def test_a_key_belongs_to_one_prompt(plain: Sim) -> None:
    async with closing(plain.cloud()) as cloud:
        await Ear().call(cloud, cloud_request(idempotency_key="mine"))
        with pytest.raises(CloudRefused, match="different request"):
            await Ear().call(cloud, cloud_request("other json", idempotency_key="mine"))


async def test_the_output_cap_falls_back_to_its_old_name_once(narrow: Sim) -> None:
    first, second = Ear(), Ear()
    async with closing(narrow.cloud()) as cloud:
        await first.call(cloud, cloud_request(model="small", max_output_tokens=100))
        await second.call(cloud, cloud_request(model="small", max_output_tokens=100), stream=True)
    assert first.outcomes == ["refused_request", "ok"]
    assert second.outcomes == ["ok"]


async def test_an_unknown_model_and_a_long_prompt_say_what_to_do(narrow: Sim) -> None:
    ear = Ear()
    async with closing(narrow.cloud(api="responses")) as cloud:
        with pytest.raises(CloudRefused, match="check the model's name"):
            await ear.call(cloud, cloud_request(model="large"))
        with pytest.raises(CloudRefused, match="lower rung"):
            await ear.call(cloud, cloud_request("json " * 500, model="small"))
    assert ear.outcomes == ["refused_request"] * 2


async def test_without_replays_a_lost_answer_is_billed_twice(narrow: Sim) -> None:
    narrow.reset()
    narrow.fail_with(fault(FaultKind.CUT_STREAM))
    async with closing(narrow.cloud(api="responses")) as cloud:
        await Ear().call(cloud, cloud_request(model="small", max_output_tokens=100), stream=True)
    assert len(narrow.ledger()) == 2


async def test_random_faults_are_survived() -> None:
    with sim_running(SimPlan(fault_rate=0.3, seed=3)) as sim:
        ear, n_failed = Ear(), 0
        async with closing(sim.cloud(max_attempts=4)) as cloud:
            for number in range(20):
                try:
                    await ear.call(cloud, cloud_request(), stream=number % 2 == 0)
                except CloudUnavailable:
                    n_failed += 1
        lines = sim.ledger()
    assert n_failed <= 2
    assert len(ear.attempts) > 20
    assert len({line["idempotency_key"] for line in lines}) == len(lines) <= 20


def test_reset_forgets_calls(plain: Sim, sdk: openai.OpenAI) -> None:
    sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
    assert plain.ledger()
    plain.reset()
    assert plain.ledger() == []


async def test_a_long_document_is_answered_and_metered(plain: Sim) -> None:
    filler = "The carrier shall deliver the goods to the consignee at the port. " * 11_000
    content = CONTENT.replace("Notices are sent by mail.", filler)
    async with closing(plain.cloud()) as cloud:
        response = await Ear().call(cloud, cloud_request(content))
    assert json.loads(response.text)["answer"] == "New York"
    assert response.usage.prompt_tokens > 130_000
    assert response.elapsed_s < 10.0
