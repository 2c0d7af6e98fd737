"""`/v1/chat/completions` and `/v1/models` over real HTTP, by the `openai` SDK and by hand."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from minions.cli.demo import contract_path
from minions.cloud.sim import FaultKind
from minions.keys import Scope, new_key
from minions.store import open_store
from tests.cloud import Sim, fault, sim_running
from tests.files import png
from tests.served import served

LAW = "Which state's laws govern this agreement?"
FACT = "The monthly fee is 400 dollars."
TALK = [
    {"role": "system", "content": FACT},
    {"role": "user", "content": "What is the monthly fee?"},
]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@dataclass
class Service:
    """A running service, its simulated cloud, and two clients of it."""

    http: httpx.Client
    sim: Sim
    sdk: openai.OpenAI

    def chat(self, **body: Any) -> httpx.Response:
        given = {"model": "minions-ladder", "messages": TALK, **body}
        return self.http.post("/v1/chat/completions", json=given)

    def runs(self) -> list[dict[str, Any]]:
        """The newest first."""
        runs: list[dict[str, Any]] = self.http.get("/v1/questions").json()["data"]
        return runs


def sdk_of(http: httpx.Client, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{http.base_url}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    state = tmp_path_factory.mktemp("state")
    with (
        sim_running() as sim,
        served(state, cloud_url=sim.base_url) as running,
        running.client() as http,
        sdk_of(http) as sdk,
    ):
        yield Service(http=http, sim=sim, sdk=sdk)


def contract_part() -> dict[str, Any]:
    data = base64.b64encode(contract_path().read_bytes()).decode()
    file = {"filename": "contract.pdf", "file_data": f"data:application/pdf;base64,{data}"}
    return {"type": "file", "file": file}


def asking(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [*parts, {"type": "text", "text": LAW}]}


def test_the_models_are_listed_and_fetched(service: Service) -> None:
    names = [model.id for model in service.sdk.models.list()]
    assert names[:3] == ["minions-ladder", "minions-local", "minions-cloud"]
    assert {"scripted", "gpt-4.1"} <= set(names)
    assert all(service.sdk.models.retrieve(name).id == name for name in names)
    with pytest.raises(openai.NotFoundError, match="v1/models"):
        service.sdk.models.retrieve("gpt-99")


def test_a_turn_is_answered_at_home_with_a_receipt(service: Service) -> None:
    raw = service.chat()
    assert raw.status_code == 200
    completion = ChatCompletion.model_validate(raw.json(), strict=False)
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason) == (FACT, "stop")
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 10 and completion.usage.completion_tokens > 3
    receipt = raw.json()["minions"]
    assert (receipt["rung"], receipt["cost"]["cloud_usd"]) == ("local", 0.0)
    assert receipt["offers"][0]["expected_usd"] > 0
    run = service.http.get(f"/v1/questions/{receipt['question_id']}").json()
    assert run["status"] == "finished" and run["reply"]["answer"] == FACT
    bought = service.http.post(f"/v1/questions/{run['id']}/buy", json={"rung": "document"})
    assert bought.status_code == 400 and "minions-cloud" in bought.json()["error"]["message"]
    measured = service.http.get("/metrics").text
    assert 'minions_questions_total{rung="local",status="finished"}' in measured


@pytest.mark.parametrize("model", ["minions-local", "minions-cloud", "scripted", "gpt-4.1"])
def test_a_stream_joins_to_the_same_text(service: Service, model: str) -> None:
    stream = service.sdk.chat.completions.create(
        model=model,
        messages=TALK,  # type: ignore[arg-type]
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump())
    *spoken, last, tail = chunks
    assert "".join(c.choices[0].delta.content or "" for c in spoken) == FACT
    assert len([c for c in spoken if c.choices[0].delta.content]) > 3
    assert last.choices[0].finish_reason == "stop"
    assert (last.model_extra or {})["minions"]["question_id"]
    assert tail.choices == [] and tail.usage is not None and tail.usage.completion_tokens > 3
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_stream_without_usage_has_none(service: Service) -> None:
    text = service.chat(stream=True).text
    assert text.endswith("data: [DONE]\n\n") and '"usage"' not in text


# ---- documents ----


def test_a_file_is_read_cited_and_read_once(service: Service) -> None:
    first = service.chat(messages=[asking(contract_part())]).json()
    message, receipt = first["choices"][0]["message"], first["minions"]
    assert message["content"] == "New York" and receipt["coverage"] == 1.0
    citations = [a["url_citation"] for a in message["annotations"]]
    assert citations and len(citations) == len(receipt["citations"])
    cited = receipt["citations"][0]
    page = service.http.get(f"/v1/documents/{cited['document_id']}/pages/{cited['page']}").json()
    assert cited["quote"] in page["text"]
    assert citations[0]["end_index"] == len("New York")
    assert service.http.get(citations[0]["url"]).content == contract_path().read_bytes()
    ledger = first["usage"]["total_tokens"]
    cost = receipt["cost"]
    assert ledger >= cost["local_tokens"] + cost["cloud_tokens"] > 10_000
    follow_up = {"role": "user", "content": "And where is that said?"}
    said = [asking(contract_part()), {"role": "assistant", "content": "New York"}, follow_up]
    second = service.chat(messages=said).json()
    assert second["minions"]["coverage"] == 1.0
    asked = service.http.get(f"/v1/questions/{second['minions']['question_id']}").json()["question"]
    assert asked["documents"] == [cited["document_id"]]
    assert asked["question"].startswith("And where") and "Asked before" in asked["question"]


def test_the_same_question_again_reads_nothing_anew(service: Service) -> None:
    messages = [asking(contract_part())]
    service.chat(model="minions-local", messages=messages)
    again = service.chat(model="minions-local", messages=messages).json()
    assert again["minions"]["cost"]["local_tokens"] == 0
    assert again["usage"]["completion_tokens"] == 0


def test_a_streamed_document_answer_brings_its_citations(service: Service) -> None:
    stream = service.sdk.chat.completions.create(
        model="minions-ladder",
        messages=[asking(contract_part())],  # type: ignore[list-item]
        stream=True,
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    told = [(c.choices[0].delta.model_extra or {}).get("annotations") for c in chunks]
    assert text == "New York"
    assert next(a for a in told if a)[0]["type"] == "url_citation"


def test_an_uploaded_file_and_a_document_are_asked_by_id(service: Service) -> None:
    file = service.sdk.files.create(
        file=("contract.pdf", contract_path().read_bytes()), purpose="user_data"
    )
    part = {"type": "file", "file": {"file_id": file.id}}
    by_part = service.chat(messages=[asking(part)]).json()
    by_field = service.chat(
        messages=[{"role": "user", "content": LAW}], minions={"documents": [file.id]}
    ).json()
    for reply in (by_part, by_field):
        assert reply["choices"][0]["message"]["content"] == "New York"


def test_a_long_text_in_a_message_is_a_document(service: Service) -> None:
    padding = "The parties met on a Tuesday and talked at length about pumps.\n\n" * 600
    text = f"{padding}The laws of the state of Oregon govern this agreement.\n\n{LAW}"
    reply = service.chat(model="minions-local", messages=[{"role": "user", "content": text}]).json()
    (citation, *_) = reply["minions"]["citations"]
    assert "Oregon" in citation["quote"] and citation["document"] == "message-1.txt"
    assert reply["minions"]["coverage"] == 1.0


def test_the_ceiling_holds_in_chat(service: Service) -> None:
    before = service.sim.ledger()
    for wishes in ({"model": "minions-local"}, {"minions": {"privacy": "local"}}):
        reply = service.chat(messages=[asking(contract_part())], **wishes).json()
        assert reply["minions"]["cost"]["cloud_tokens"] == 0
    refused = service.chat(model="minions-cloud", minions={"privacy": "local"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "privacy_ceiling")
    assert service.sim.ledger() == before


def test_what_has_no_effect_on_documents_is_said(service: Service) -> None:
    reply = service.chat(
        messages=[asking(contract_part())], temperature=0.7, tools=[WEATHER]
    ).json()
    assert any("temperature, tools" in warning for warning in reply["minions"]["warnings"])


# ---- tools ----


@pytest.mark.parametrize("model", ["minions-local", "minions-cloud"])
def test_a_tool_is_called_by_the_client_and_its_result_goes_back_in(
    service: Service, model: str
) -> None:
    said: list[Any] = [{"role": "user", "content": "Does it rain in Oslo?"}]
    asked = service.sdk.chat.completions.create(
        model=model,
        messages=said,
        tools=[WEATHER],  # type: ignore[list-item]
        tool_choice={"type": "function", "function": {"name": "weather"}},
    )
    message = asked.choices[0].message
    (call,) = message.tool_calls or ()
    assert asked.choices[0].finish_reason == "tool_calls" and message.content is None
    said += [message, {"role": "tool", "tool_call_id": call.id, "content": "It rains in Oslo."}]
    told = service.sdk.chat.completions.create(model=model, messages=said, tools=[WEATHER])  # type: ignore[list-item]
    assert told.choices[0].message.content == "It rains in Oslo."


def test_a_tool_call_is_streamed(service: Service) -> None:
    stream = service.sdk.chat.completions.create(
        model="minions-local",
        messages=TALK,  # type: ignore[arg-type]
        tools=[WEATHER],  # type: ignore[list-item]
        tool_choice="required",
        stream=True,
    )
    chunks = list(stream)
    calls = [call for c in chunks for call in c.choices[0].delta.tool_calls or ()]
    assert [call.function.name for call in calls if call.function] == ["weather"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_forty_tools_at_once_are_taken(service: Service) -> None:
    tools = []
    for number in range(40):
        function = {**WEATHER["function"], "name": f"tool_{number}"}  # type: ignore[dict-item]
        tools.append({"type": "function", "function": function})
    for model in ("minions-ladder", "minions-cloud"):
        reply = service.chat(model=model, tools=tools)
        assert reply.status_code == 200, reply.text
        assert reply.json()["choices"][0]["message"]["content"] == FACT


# ---- what chat pages ask for themselves ----


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        ('{ "title": "..." }', "title"),
        ('{ "tags": [] }', "tags"),
        ('{"follow_ups": []}', "follow_ups"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_titles_tags_and_follow_ups_cost_nothing(
    service: Service, wanted: str, key: str, stream: bool
) -> None:
    prompt = (
        f"### Task:\nServe the chat page.\n### Output:\nJSON format: {wanted}\n### Chat History:\n"
        f"<chat_history>\nUSER: {LAW}\nASSISTANT: New York\n</chat_history>"
    )
    n_runs, billed = len(service.runs()), service.sim.ledger()
    body = {"messages": [{"role": "user", "content": prompt}], "tools": [WEATHER], "stream": stream}
    reply = service.chat(**body)
    assert reply.status_code == 200
    if not stream:
        assert key in json.loads(reply.json()["choices"][0]["message"]["content"])
        assert reply.json()["usage"]["total_tokens"] == 0
    assert len(service.runs()) == n_runs and service.sim.ledger() == billed


# ---- wrong input ----


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"n": 2}, 400, "body.n"),
        ({"top_p": 0.5}, 400, "body.top_p"),
        ({"frequency_penalty": 1}, 400, "frequency_penalty"),
        ({"logprobs": True}, 400, "logprobs"),
        ({"logit_bias": {"5": 1}}, 400, "logit_bias"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format"),
        ({"audio": {}}, 400, "audio"),
        ({"store": True}, 400, "store"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, 400, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "tool_call_id"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, "up to 4"),
        ({"tool_choice": "required"}, 400, "none"),
        ({"tools": [{**WEATHER, "type": "web_search"}]}, 400, "tools"),
        ({"minions": {"ceiling": "local"}}, 400, "minions.ceiling"),
        ({"minions": {"alpha": 0.1}}, 400, "alpha needs documents"),
        ({"model": "gpt-99"}, 404, "minions-ladder"),
        ({"minions": {"documents": ["doc_missing"]}}, 404, "doc_missing"),
        ({"max_tokens": 0}, 400, "max_tokens"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_can_not_be_done_is_refused_and_named(
    service: Service, body: dict[str, Any], status: int, told: str, stream: bool
) -> None:
    refused = service.chat(**body, stream=stream)
    assert refused.status_code == status, refused.text
    error = refused.json()["error"]
    assert told in error["message"] and error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("part", "status", "code"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
            422,
            "beyond_abilities",
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
            422,
            "beyond_abilities",
        ),
        ({"type": "file", "file": {"filename": "a.pdf"}}, 400, "bad_request"),
        ({"type": "file", "file": {"file_id": "a", "file_data": "b"}}, 400, "bad_request"),
        (
            {"type": "file", "file": {"file_data": "not base64!", "filename": "a"}},
            400,
            "bad_request",
        ),
        ({"type": "file", "file": {"file_data": "", "filename": "a.pdf"}}, 422, "document_empty"),
        (
            {
                "type": "file",
                "file": {"file_data": base64.b64encode(png()).decode(), "filename": "a.pdf"},
            },
            422,
            "document_unsupported",
        ),
        ({"type": "file", "file": {"file_id": "doc_missing"}}, 404, "not_found"),
    ],
)
def test_bad_files_are_refused_with_the_reason(
    service: Service, part: dict[str, Any], status: int, code: str
) -> None:
    refused = service.chat(messages=[asking(part)])
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)


# ---- clients that leave ----


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_its_work(service: Service, stream: bool) -> None:
    service.sim.fail_with(fault(FaultKind.TIMEOUT))
    body = {"model": "minions-cloud", "messages": TALK, "stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        service.http.post("/v1/chat/completions", json=body, timeout=1.5)
    until = time.monotonic() + 10
    while (run := service.runs()[0])["status"] == "running" and time.monotonic() < until:
        time.sleep(0.05)
    assert run["status"] == "cancelled"
    assert service.sim.n_faults_waiting == 0


# ---- other houses ----


def test_nano_says_that_it_does_not_chat_and_what_to_do(tmp_path: Path) -> None:
    with served(tmp_path, model="nano") as running, running.client() as http:
        refused = http.post(
            "/v1/chat/completions", json={"model": "minions-ladder", "messages": TALK}
        )
        streamed = http.post(
            "/v1/chat/completions",
            json={"model": "minions-ladder", "messages": TALK, "stream": True},
        )
        names = [model["id"] for model in http.get("/v1/models").json()["data"]]
    for reply in (refused, streamed):
        assert reply.status_code == 422 or '"beyond_abilities"' in reply.text
    assert "Send a document along" in refused.json()["error"]["message"]
    assert "minions-cloud" not in names


async def two_keys(path: Path) -> list[str]:
    """Tokens of two keys that are in the store."""
    store = await open_store(path)
    made = [new_key(name, (Scope.ASK, Scope.DOCUMENTS)) for name in ("mine", "yours")]
    for key, _ in made:
        await store.put_key(key)
    await store.close()
    return [token for _, token in made]


def test_one_key_sees_nothing_of_anothers(tmp_path: Path) -> None:
    tokens = asyncio.run(two_keys(tmp_path / "minions.db"))
    with served(tmp_path) as running, running.client() as http:
        with sdk_of(http, tokens[0]) as mine, sdk_of(http, tokens[1]) as yours:
            file = mine.files.create(file=("a.txt", b"The fee is 4 dollars."), purpose="user_data")
            response = mine.responses.create(model="minions-local", input="Hello")
            asks = [asking({"type": "file", "file": {"file_id": file.id}})]
            forbidden: list[Callable[[], object]] = [
                lambda: yours.files.retrieve(file.id),
                lambda: yours.files.content(file.id),
                lambda: yours.responses.retrieve(response.id),
                lambda: yours.responses.create(
                    model="minions-local", input="Go on", previous_response_id=response.id
                ),
                lambda: yours.chat.completions.create(model="minions-local", messages=asks),  # type: ignore[arg-type]
            ]
            for attempt in forbidden:
                with pytest.raises(openai.NotFoundError):
                    attempt()
            assert mine.files.retrieve(file.id).id == file.id
        with sdk_of(http, "mk_wrong") as stranger, pytest.raises(openai.AuthenticationError):
            stranger.models.list()


def test_a_chat_counts_as_work_and_can_be_cancelled(tmp_path: Path) -> None:
    """What waits for a mute cloud fills the house; the next is told to come later."""
    with (
        sim_running() as sim,
        served(tmp_path, cloud_url=sim.base_url, max_questions=1) as running,
        running.client() as http,
        running.client() as other,
        ThreadPoolExecutor(1) as pool,
    ):
        sim.fail_with(fault(FaultKind.TIMEOUT))
        body = {"model": "minions-cloud", "messages": TALK}
        waiting = pool.submit(http.post, "/v1/chat/completions", json=body)
        until = time.monotonic() + 10
        while sim.n_faults_waiting and time.monotonic() < until:
            time.sleep(0.02)
        refused = other.post("/v1/chat/completions", json=body)
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
        (run,) = other.get("/v1/questions").json()["data"]
        assert run["status"] == "running"
        cancelled = other.post(f"/v1/questions/{run['id']}/cancel").json()
        assert cancelled["status"] == "cancelled"
        told = waiting.result(timeout=20)
        assert (told.status_code, told.json()["error"]["code"]) == (499, "cancelled")
        assert other.post("/v1/chat/completions", json=body).status_code == 200
