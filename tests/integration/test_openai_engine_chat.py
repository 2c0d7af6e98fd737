"""OpenAIEngine in conversation with a real HTTP server that behaves and misbehaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from openai.types.chat import ChatCompletionChunk

from tests.contract.chat_server import ChatServer, serving, unused_port
from workers.chat import ChatDelta, ChatJob, ChatResult, Message, Role
from workers.jobs import Effort, Job, JobStatus
from workers.openai_chat import ChatDraft
from workers.openai_engine import OpenAIEngine

FACT = "The monthly fee is 400 dollars."
ASK = "What is the monthly fee?"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(ChatServer()) as server:
        yield server


def chat(said: str = FACT, **fields: object) -> ChatJob:
    messages = (
        Message(role=Role.SYSTEM, content=said),
        Message(role=Role.USER, content=ASK),
    )
    return ChatJob(job_id="1", messages=messages, **fields)  # type: ignore[arg-type]


def ask(url: str, job: ChatJob, model: str = "served-model") -> ChatResult:
    with closing(OpenAIEngine(url, model)) as engine:
        engine.submit(job)
        outputs = []
        while engine.n_pending:
            outputs += engine.step()
    *deltas, result = outputs
    assert isinstance(result, ChatResult)
    spoken = "".join(delta.text for delta in deltas if isinstance(delta, ChatDelta))
    assert result.text.startswith(spoken) or result.status is JobStatus.FAILED
    return result


def test_the_whole_conversation_and_the_wishes_arrive(server: ChatServer) -> None:
    job = chat(effort=Effort.HIGH, max_analysis_tokens=100, stop=("END",))
    result = ask(server.base_url, job, model="openai/gpt-oss-20b")
    assert (result.text, result.finish_reason) == (FACT, "stop")
    (request,) = server.requests
    assert [m["role"] for m in request["messages"]] == ["system", "user"]
    assert request["reasoning_effort"] == "high" and request["stop"] == ["END"]
    assert request["max_tokens"] == 256 + 100, "at such servers reasoning counts as output"
    assert request["stream"] and request["stream_options"] == {"include_usage": True}


def test_effort_is_not_sent_to_a_model_that_has_none(server: ChatServer) -> None:
    ask(server.base_url, chat(effort=Effort.HIGH))
    assert "reasoning_effort" not in server.requests[0]


def test_effort_goes_with_a_job_too(server: ChatServer) -> None:
    job = Job(job_id="1", chunk_id="c", chunk_text=FACT, task=ASK, effort=Effort.MEDIUM)
    with closing(OpenAIEngine(server.base_url, "gpt-oss-20b")) as engine:
        assert engine.info.efforts == (Effort.LOW, Effort.MEDIUM, Effort.HIGH)
        engine.submit(job)
        while engine.n_pending:
            engine.step()
    assert server.requests[0]["reasoning_effort"] == "medium"


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ("SERVER-ERROR", "HTTP 500"),
        ("NOT-OPENAI", "does the URL end in /v1"),
        ("CUT", "ended the stream before the answer ended"),
        ("SHORT-READ", "OLLAMA_CONTEXT_LENGTH"),
    ],
)
def test_a_bad_stream_fails_the_chat_and_says_why(
    server: ChatServer, marker: str, told: str
) -> None:
    result = ask(server.base_url, chat(f"{FACT} {marker}"))
    assert result.status is JobStatus.FAILED and told in (result.error or "")


def test_without_a_server_it_says_what_to_start() -> None:
    result = ask(f"http://127.0.0.1:{unused_port()}/v1", chat())
    assert "ollama serve" in (result.error or "")


def test_tokens_are_counted_where_the_server_does_not(server: ChatServer) -> None:
    usage = ask(server.base_url, chat(f"{FACT} NO-USAGE")).usage
    assert usage.prompt_tokens > 10 and usage.output_tokens > 3


def test_cancelling_closes_the_connection(server: ChatServer) -> None:
    with closing(OpenAIEngine(server.base_url, server.model)) as engine:
        engine.submit(chat(f"{FACT} SLOW"))
        while not server.requests:
            assert engine.step() == []
        engine.cancel("1")
        (result,) = engine.step()
        assert isinstance(result, ChatResult) and result.error == "cancelled by the caller"
        until = time.monotonic() + 10
        while not server.n_disconnected and time.monotonic() < until:
            engine.step()
            time.sleep(0.01)
    assert server.n_disconnected == 1


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_the_analysis_is_kept_apart(key: str) -> None:
    heard: list[str] = []
    draft = ChatDraft(on_text=heard.append)
    for delta in ({key: "Let me "}, {key: "see."}, {"content": "Four."}):
        chunk = {"id": "c", "created": 0, "model": "m", "object": "chat.completion.chunk"}
        choices = [{"index": 0, "delta": delta, "finish_reason": None}]
        draft.add(ChatCompletionChunk.model_validate({**chunk, "choices": choices}))
    assert ("".join(draft.analysis), "".join(heard)) == ("Let me see.", "Four.")
