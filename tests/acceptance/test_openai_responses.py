"""`/v1/responses` and `/v1/files` over real HTTP, by the `openai` SDK."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response

from minions.cli.demo import contract_path
from tests.acceptance.test_openai_chat import FACT, LAW, sdk_of
from tests.cloud import sim_running
from tests.served import served

FEE = "What is the monthly fee?"
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}


@pytest.fixture(scope="module")
def clients(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[openai.OpenAI, httpx.Client]]:
    state = tmp_path_factory.mktemp("state")
    with (
        sim_running() as sim,
        served(state, cloud_url=sim.base_url) as running,
        running.client() as http,
        sdk_of(http) as sdk,
    ):
        yield sdk, http


@pytest.fixture
def sdk(clients: tuple[openai.OpenAI, httpx.Client]) -> openai.OpenAI:
    return clients[0]


@pytest.fixture
def http(clients: tuple[openai.OpenAI, httpx.Client]) -> httpx.Client:
    return clients[1]


def post(http: httpx.Client, **body: Any) -> httpx.Response:
    return http.post("/v1/responses", json={"model": "minions-local", "input": "Hello", **body})


def file_part() -> dict[str, Any]:
    data = base64.b64encode(contract_path().read_bytes()).decode()
    return {"type": "input_file", "filename": "contract.pdf", "file_data": data}


def asking(part: dict[str, Any]) -> Any:
    return [{"role": "user", "content": [part, {"type": "input_text", "text": LAW}]}]


@pytest.mark.parametrize("model", ["minions-ladder", "minions-cloud"])
def test_a_response_is_what_the_sdk_knows(http: httpx.Client, model: str) -> None:
    raw = post(http, model=model, instructions=FACT, input=FEE, metadata={"a": "b"})
    assert raw.status_code == 200, raw.text
    response = Response.model_validate(raw.json(), strict=False)
    assert (response.output_text, response.status) == (FACT, "completed")
    assert response.usage is not None and response.usage.output_tokens > 3
    assert response.metadata == {"a": "b"} and response.instructions == FACT
    assert raw.json()["minions"]["cost"]["cloud_only_usd"] > 0


def test_the_events_of_a_stream_are_numbered_and_whole(sdk: openai.OpenAI) -> None:
    with sdk.responses.stream(model="minions-local", instructions=FACT, input=FEE) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    spoken = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(spoken) > 3 and "".join(spoken) == FACT == final.output_text


def test_a_conversation_goes_on_from_a_stored_response(sdk: openai.OpenAI) -> None:
    first = sdk.responses.create(model="minions-local", input=f"Remember: {FACT}")
    second = sdk.responses.create(
        model="minions-local", input=FEE, previous_response_id=first.id, instructions="Be brief."
    )
    assert "400 dollars" in second.output_text and second.previous_response_id == first.id
    assert sdk.responses.retrieve(second.id).output_text == second.output_text
    sdk.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match="Send the whole conversation"):
        sdk.responses.create(model="minions-local", input=FEE, previous_response_id=first.id)
    third = sdk.responses.create(model="minions-local", input=FEE, previous_response_id=second.id)
    assert "400 dollars" in third.output_text


def test_what_is_not_to_be_stored_is_not(sdk: openai.OpenAI) -> None:
    response = sdk.responses.create(model="minions-local", input="Hello", store=False)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(response.id)


def test_a_file_is_cited_and_stays_for_the_follow_up(sdk: openai.OpenAI) -> None:
    first = sdk.responses.create(model="minions-ladder", input=asking(file_part()))
    content = first.output[0].content[0]  # type: ignore[union-attr]
    assert first.output_text == "New York"
    cited = content.annotations  # type: ignore[union-attr]
    assert cited[0].type == "file_citation" and cited[0].filename == "contract.pdf"
    told = (first.model_extra or {})["minions"]["citations"]
    assert [c["document_id"] for c in told] == [a.file_id for a in cited]
    follow_up = sdk.responses.create(
        model="minions-local",
        input="Which law governs the disputes of the agreement?",
        previous_response_id=first.id,
    )
    assert (follow_up.model_extra or {})["minions"]["coverage"] == 1.0


def test_a_streamed_document_answer_has_its_annotations(sdk: openai.OpenAI) -> None:
    with sdk.responses.stream(model="minions-ladder", input=asking(file_part())) as stream:
        kinds = [event.type for event in stream]
    assert "response.output_text.annotation.added" in kinds and kinds[-1] == "response.completed"


@pytest.mark.parametrize("model", ["minions-local", "minions-cloud"])
def test_a_tool_call_goes_out_and_its_result_comes_in(sdk: openai.OpenAI, model: str) -> None:
    said: list[Any] = [{"role": "user", "content": "Does it rain in Oslo?"}]
    asked = sdk.responses.create(
        model=model,
        input=said,
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
    )
    (call,) = asked.output
    assert call.type == "function_call" and call.name == "weather"
    said += [*asked.output]
    said += [{"type": "function_call_output", "call_id": call.call_id, "output": "It rains."}]
    told = sdk.responses.create(model=model, input=said, tools=[WEATHER])
    assert told.output_text == "It rains."
    after = sdk.responses.create(
        model=model, previous_response_id=asked.id, input=said[-1:], tools=[WEATHER]
    )
    assert after.output_text == "It rains."


def test_a_streamed_tool_call_has_its_events(sdk: openai.OpenAI) -> None:
    with sdk.responses.stream(
        model="minions-local", input="Rain?", tools=[WEATHER], tool_choice="required"
    ) as stream:
        kinds = [event.type for event in stream]
    assert "response.function_call_arguments.done" in kinds and kinds[-1] == "response.completed"
    assert "response.output_text.delta" not in kinds


def test_a_cut_answer_is_incomplete(sdk: openai.OpenAI) -> None:
    response = sdk.responses.create(
        model="minions-local", instructions=FACT, input=FEE, max_output_tokens=2
    )
    assert response.status == "incomplete" and response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"background": True}, 400, "background"),
        ({"truncation": "auto"}, 400, "truncation"),
        ({"include": ["reasoning.encrypted_content"]}, 400, "include"),
        ({"text": {"format": {"type": "json_object"}}}, 400, "format"),
        ({"tools": [{"type": "web_search"}]}, 400, "tools"),
        ({"tools": [{**WEATHER, "strict": True}]}, 400, "strict"),
        ({"input": []}, 400, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, 400, "input"),
        ({"previous_response_id": "resp_missing"}, 404, "resp_missing"),
        ({"model": "gpt-99"}, 404, "minions-ladder"),
        ({"conversation": "conv_1"}, 400, "conversation"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            422,
            "picture",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "x"}]}]},
            400,
            "file_url",
        ),
    ],
)
def test_what_can_not_be_done_is_refused_and_named(
    http: httpx.Client, body: dict[str, Any], status: int, told: str
) -> None:
    refused = post(http, **body)
    assert refused.status_code == status, refused.text
    assert told in refused.json()["error"]["message"]


# ---- files ----


def test_a_file_is_uploaded_listed_read_and_deleted(sdk: openai.OpenAI) -> None:
    content = b"The annual fee of the museum is 12 dollars."
    file = sdk.files.create(file=("museum.txt", content), purpose="assistants")
    assert (file.filename, file.bytes, file.purpose) == ("museum.txt", len(content), "assistants")
    assert file.id in [listed.id for listed in sdk.files.list()]
    assert sdk.files.retrieve(file.id).status == "processed"
    assert sdk.files.content(file.id).content == content
    response = sdk.responses.create(
        model="minions-local",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_file", "file_id": file.id},
                    {"type": "input_text", "text": "What is the annual fee of the museum?"},
                ],
            }
        ],
    )
    assert "12 dollars" in response.output_text
    assert sdk.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(file.id)


def test_a_file_for_another_purpose_is_refused(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose"):
        sdk.files.create(file=("a.jsonl", b"{}"), purpose="batch")
