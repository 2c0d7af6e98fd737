"""The same request twice under one `Idempotency-Key`, and responses that outlive the process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from minions.cloud.sim import FaultKind
from tests.acceptance.test_openai_chat import FACT, LAW, TALK, two_keys
from tests.cloud import Sim, fault, sim_running
from tests.served import served

FEE = "What is the monthly fee?"
CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
LEASE = b"The lease ends in May 2031. This agreement is governed by the laws of Oregon."
Http = tuple[httpx.Client, Sim]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    state = tmp_path_factory.mktemp("state")
    with (
        sim_running() as sim,
        served(state, cloud_url=sim.base_url) as running,
        running.client() as http,
    ):
        yield http, sim


def turn(**body: Any) -> dict[str, Any]:
    return {"model": "minions-cloud", "messages": TALK, **body}


def document_turn(http: httpx.Client, text: bytes = LEASE) -> dict[str, Any]:
    """A question about a file, whose id comes with it."""
    document = http.post("/v1/documents", files={"file": ("lease.txt", text)}).json()["id"]
    part = {"type": "file", "file": {"file_id": document}}
    said = {"role": "user", "content": [part, {"type": "text", "text": LAW}]}
    return {"model": "minions-ladder", "messages": [said]}


def send(
    http: httpx.Client, path: str, body: dict[str, Any], key: str, **headers: str
) -> httpx.Response:
    return http.post(path, json=body, headers={"Idempotency-Key": key, **headers})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, RESPONSES])
def test_a_turn_that_is_sent_twice_is_answered_and_paid_once(
    service: Http, path: str, stream: bool
) -> None:
    http, sim = service
    body = turn(stream=stream)
    if path == RESPONSES:
        body = {"model": "minions-cloud", "instructions": FACT, "input": FEE, "stream": stream}
    n_before, key = len(sim.ledger()), f"{path} {stream}"
    first, again = (send(http, path, body, key) for _ in range(2))
    assert first.status_code == again.status_code == 200
    assert len(sim.ledger()) == n_before + 1
    if stream:
        assert told(first.text) == told(again.text) != []
        assert "400 dollars" in again.text
    else:
        assert first.json() == again.json()


def told(stream: str) -> list[dict[str, Any]]:
    """The events of a stream, without the numbers and pieces of text, which may be cut elsewhere;
    the whole text is in what is left."""
    lines = (line.removeprefix("data: ") for line in stream.splitlines())
    events = [json.loads(line) for line in lines if line.startswith("{")]
    for event in events:
        event.pop("sequence_number", None)
    return [event for event in events if "delta" not in event and not is_piece(event)]


def is_piece(event: dict[str, Any]) -> bool:
    return any(choice["delta"].get("content") for choice in event.get("choices", ()))


def test_another_request_under_the_same_key_is_refused(service: Http) -> None:
    http, _ = service
    assert send(http, CHAT, turn(model="minions-local"), "one").status_code == 200
    others = (
        send(http, CHAT, turn(model="minions-local", stream=True), "one"),
        send(http, CHAT, turn(), "one"),
        send(http, RESPONSES, {"model": "minions-local", "input": "Hello"}, "one"),
    )
    for refused in others:
        assert refused.status_code == 422
        assert refused.json()["error"]["code"] == "idempotency_key_reused"


def test_a_question_about_a_file_is_asked_once(service: Http) -> None:
    http, _ = service
    body = document_turn(http)
    first = send(http, CHAT, body, "file")
    newest = http.get("/v1/questions?limit=1").json()["data"]
    again = send(http, CHAT, body, "file")
    assert first.json() == again.json()
    assert "Oregon" in first.json()["choices"][0]["message"]["content"]
    assert http.get("/v1/questions?limit=1").json()["data"] == newest
    document = body["messages"][0]["content"][0]["file"]["file_id"]
    http.delete(f"/v1/documents/{document}")
    gone = send(http, CHAT, body, "file")
    assert gone.status_code == 404 and "was deleted" in gone.json()["error"]["message"]


def test_who_asks_again_meanwhile_gets_the_same_answer(service: Http) -> None:
    http, sim = service
    sim.fail_with(fault(FaultKind.SLOW, delay_s=0.7))
    n_before = len(sim.ledger())
    with ThreadPoolExecutor(3) as pool:
        sent = [pool.submit(send, http, CHAT, turn(), "meanwhile") for _ in range(3)]
        bodies = [one.result().json() for one in sent]
    assert bodies[0] == bodies[1] == bodies[2]
    assert len(sim.ledger()) == n_before + 1


def test_who_left_and_comes_back_with_the_key_is_answered(service: Http) -> None:
    http, sim = service
    sim.fail_with(fault(FaultKind.TIMEOUT))
    with pytest.raises(httpx.ReadTimeout):
        http.post(CHAT, json=turn(), headers={"Idempotency-Key": "left"}, timeout=1.0)
    back = send(http, CHAT, turn(), "left")
    assert back.status_code == 200, back.text
    run = http.get(f"/v1/questions/{back.json()['minions']['question_id']}").json()
    assert (run["status"], run["error"]) == ("finished", None)


def test_a_response_outlives_the_process_and_is_its_owners(tmp_path: Path) -> None:
    mine, yours = asyncio.run(two_keys(tmp_path / "minions.db"))
    headers, others = ({"Authorization": f"Bearer {token}"} for token in (mine, yours))
    body = {"model": "minions-local", "input": "The monthly fee is 400 dollars. Noted?"}
    with served(tmp_path) as running, running.client(headers=headers) as http:
        first = send(http, RESPONSES, body, "kept").json()
        running.kill()
    with served(tmp_path) as running, running.client(headers=headers) as http:
        kept = http.get(f"{RESPONSES}/{first['id']}").json()
        again = send(http, RESPONSES, body, "kept").json()
        on = {**body, "input": "What is the fee?", "previous_response_id": first["id"]}
        later = http.post(RESPONSES, json=on)
        hidden = http.get(f"{RESPONSES}/{first['id']}", headers=others)
        own = send(http, RESPONSES, {**body, "input": "Mine"}, "kept", **others)
        deleted = http.delete(f"{RESPONSES}/{first['id']}").json()
        gone = http.get(f"{RESPONSES}/{first['id']}")
    assert kept == again == first
    assert later.status_code == 200, later.text
    assert (hidden.status_code, own.status_code) == (404, 200)
    assert deleted == {"id": first["id"], "object": "response", "deleted": True}
    assert gone.status_code == 404 and "30 days" in gone.json()["error"]["message"]


def test_a_response_goes_with_its_document(service: Http) -> None:
    http, _ = service
    body = document_turn(http, LEASE + b" Signed in Salem.")
    document = body["messages"][0]["content"][0]["file"]["file_id"]
    asked = {"model": "minions-local", "input": LAW, "minions": {"documents": [document]}}
    response = http.post(RESPONSES, json=asked).json()
    assert http.get(f"{RESPONSES}/{response['id']}").status_code == 200
    http.delete(f"/v1/documents/{document}")
    assert http.get(f"{RESPONSES}/{response['id']}").status_code == 404
