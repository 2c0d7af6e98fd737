"""OpenAIEngine against a real HTTP server that behaves and misbehaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from openai.types import Model
from openai.types.chat import ChatCompletionTokenLogprob

from tests.contract.chat_server import ChatServer, serving, unused_port
from workers.errors import EngineUnavailable
from workers.jobs import Job, JobResult, JobStatus, Sampling
from workers.models import build_engine, resolve_model
from workers.openai_engine import OpenAIEngine, choose_model, value_confidence

CHUNK = "The lease began in March. The monthly fee is 400 dollars. Nobody objected."
TASK = "What is the monthly fee?"


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(ChatServer()) as server:
        yield server


def job(chunk: str = CHUNK, *, job_id: str = "1", deadline_s: float | None = None) -> Job:
    return Job(job_id=job_id, chunk_id=chunk, chunk_text=chunk, task=TASK, deadline_s=deadline_s)


def run(engine: OpenAIEngine, *jobs: Job) -> list[JobResult]:
    for one in jobs:
        engine.submit(one)
    results = []
    while engine.n_pending:
        results += engine.step()
    return results


def ask(server: ChatServer, chunk: str) -> JobResult:
    with closing(OpenAIEngine(server.base_url, server.model)) as engine:
        (result,) = run(engine, job(chunk))
    return result


def test_answer_with_citation_margin_and_the_servers_counts(server: ChatServer) -> None:
    result = ask(server, CHUNK)
    assert result.status is JobStatus.ANSWERED
    assert result.answer == result.citation == "The monthly fee is 400 dollars."
    assert result.margin == pytest.approx(2.0)
    assert result.logprob == pytest.approx(-0.25)
    assert result.usage.prompt_tokens > 100
    assert result.usage.output_tokens > 10
    (request,) = server.requests
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert request["messages"][1]["content"] == f"{CHUNK}\n\nQuestion: {TASK}"
    assert request["response_format"] == {"type": "json_object"}


def test_abstains(server: ChatServer) -> None:
    assert ask(server, "Snow fell on the pass all night.").status is JobStatus.ABSTAINED


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("SERVER-ERROR", "HTTP 500"),
        ("NOT-JSON", "not the JSON asked for"),
        ("NOT-OPENAI", "does the URL end in /v1"),
        ("CUT", "raise max_output_tokens"),
        ("SHORT-READ", "OLLAMA_CONTEXT_LENGTH"),
    ],
)
def test_a_bad_reply_fails_its_own_job_only(server: ChatServer, marker: str, expected: str) -> None:
    with closing(OpenAIEngine(server.base_url, server.model)) as engine:
        results = run(engine, job(f"{CHUNK} {marker}", job_id="bad"), job(job_id="good"))
    by_id = {result.job_id: result for result in results}
    assert by_id["bad"].status is JobStatus.FAILED
    assert expected in (by_id["bad"].error or "")
    assert by_id["good"].status is JobStatus.ANSWERED


def test_a_failed_read_still_counts_its_tokens(server: ChatServer) -> None:
    assert ask(server, f"{CHUNK} NOT-JSON").usage.output_tokens > 0


def test_counts_tokens_itself_where_the_server_does_not(server: ChatServer) -> None:
    result = ask(server, f"{CHUNK} NO-USAGE")
    assert result.status is JobStatus.ANSWERED
    assert result.usage.prompt_tokens > 100
    assert result.usage.output_tokens > 10


def test_json_mode_is_dropped_once_for_a_server_without_it(server: ChatServer) -> None:
    server.accepts_extras = False
    with closing(OpenAIEngine(server.base_url, server.model)) as engine:
        first = run(engine, job(job_id="1"))
        second = run(engine, job(job_id="2"))
    assert [result.status for result in first + second] == [JobStatus.ANSWERED] * 2
    assert first[0].margin is None
    assert ["response_format" in request for request in server.requests] == [True, False, False]


def test_cancel_closes_the_connection(server: ChatServer) -> None:
    with closing(OpenAIEngine(server.base_url, server.model)) as engine:
        engine.submit(job(f"{CHUNK} SLOW"))
        while not server.requests:
            assert engine.step() == []
        engine.cancel("1")
        (result,) = engine.step()
        assert result.status is JobStatus.FAILED
        assert "cancelled" in (result.error or "")
        (after,) = run(engine, job(job_id="2"))
    assert after.status is JobStatus.ANSWERED
    until = time.monotonic() + 10
    while not server.n_disconnected and time.monotonic() < until:
        time.sleep(0.01)
    assert server.n_disconnected == 1


def test_deadline_ends_a_slow_call(server: ChatServer) -> None:
    with closing(OpenAIEngine(server.base_url, server.model)) as engine:
        (result,) = run(engine, job(f"{CHUNK} SLOW", deadline_s=0.2))
    assert result.status is JobStatus.FAILED
    assert "deadline of 0.2 s" in (result.error or "")


def test_timeout_of_a_call_is_said(server: ChatServer) -> None:
    with closing(OpenAIEngine(server.base_url, server.model, timeout_s=0.2)) as engine:
        (result,) = run(engine, job(f"{CHUNK} SLOW"))
    assert "no answer within 0.2 s" in (result.error or "")


def test_a_refused_connection_says_how_to_mend_it() -> None:
    url = f"http://127.0.0.1:{unused_port()}/v1"
    with closing(OpenAIEngine(url, "any")) as engine:
        (result,) = run(engine, job())
    assert result.status is JobStatus.FAILED
    assert f"is the server running at {url}" in (result.error or "")


def test_a_prompt_over_the_context_is_not_sent(server: ChatServer) -> None:
    with closing(OpenAIEngine(server.base_url, server.model, context_tokens=300)) as engine:
        (result,) = run(engine, job(CHUNK * 20))
    assert "use smaller chunks" in (result.error or "")
    assert server.requests == []


def test_close_ends_what_is_pending(server: ChatServer) -> None:
    engine = OpenAIEngine(server.base_url, server.model)
    engine.submit(job(f"{CHUNK} SLOW"))
    engine.step()
    engine.close()
    assert engine.n_pending == 0


def test_connect_asks_the_server_what_it_serves(server: ChatServer, tmp_path: Path) -> None:
    server.max_model_len = 12_345
    engine = build_engine(resolve_model(server.base_url, tmp_path))
    assert (engine.info.model, engine.info.context_tokens) == ("served-model", 12_345)
    engine.close()


def test_connect_refuses_a_model_that_is_not_served(server: ChatServer) -> None:
    with pytest.raises(EngineUnavailable, match="it serves: served-model"):
        OpenAIEngine.connect(server.base_url, "other")


@pytest.mark.parametrize("path", ["", "/v2"])
def test_connect_to_a_wrong_url(server: ChatServer, path: str) -> None:
    with pytest.raises(EngineUnavailable, match="404"):
        OpenAIEngine.connect(server.base_url.removesuffix("/v1") + path)


def test_connect_without_a_server() -> None:
    with pytest.raises(EngineUnavailable, match="is the server running"):
        OpenAIEngine.connect(f"http://127.0.0.1:{unused_port()}/v1")


def test_sampling_is_passed_on(server: ChatServer) -> None:
    sampling = Sampling(temperature=0.7, seed=5, max_output_tokens=99)
    one = Job(job_id="1", chunk_id="c", chunk_text=CHUNK, task=TASK, sampling=sampling)
    with closing(OpenAIEngine(server.base_url, server.model)) as engine:
        run(engine, one)
    (request,) = server.requests
    assert (request["temperature"], request["seed"], request["max_tokens"]) == (0.7, 5, 99)


def test_choose_model_reads_the_slots_of_llama_server() -> None:
    model = Model(id="gpt-oss:latest", created=0, object="model", owned_by="x")
    props = {"total_slots": 3, "default_generation_settings": {"n_ctx": 9000}}
    served = choose_model("http://x/v1", [model], "gpt-oss", props)
    assert (served.name, served.context_tokens, served.n_slots) == ("gpt-oss:latest", 9000, 3)


def _token(text: str, logprob: float, second: float) -> ChatCompletionTokenLogprob:
    tops = [
        {"token": text, "logprob": logprob, "bytes": None},
        {"token": "?", "logprob": second, "bytes": None},
    ]
    return ChatCompletionTokenLogprob.model_validate(
        {"token": text, "logprob": logprob, "bytes": None, "top_logprobs": tops}
    )


def test_confidence_is_that_of_the_answers_tokens() -> None:
    tokens = [
        _token('{"answer"', -9.0, -9.5),
        _token(":", -9.0, -9.5),
        _token(' "', -0.5, -4.5),
        _token("four", -1.5, -2.0),
        _token('",', -1.0, -3.0),
        _token(' "citation": null}', -9.0, -9.5),
    ]
    margin, logprob = value_confidence(tokens)
    assert margin == pytest.approx(0.5)
    assert logprob == pytest.approx(-1.0)


@pytest.mark.parametrize("text", ["", "no json", '{"answer": "cut'])
def test_no_confidence_without_an_answer(text: str) -> None:
    assert value_confidence([_token(text, -1.0, -2.0)]) == (None, None)
