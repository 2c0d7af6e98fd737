"""`minions serve` over real HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from minions.cli.demo import contract_path
from minions.cloud.sim import SimPlan, running
from tests.command import serving
from tests.files import png
from tests.house import CONTRACT

LAW = "Which state's laws govern this agreement?"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    state = tmp_path_factory.mktemp("state")
    with (
        running(SimPlan()) as url,
        serving("--model", "scripted", "--cloud-url", url, state_dir=state) as connected,
    ):
        yield connected


def upload(client: httpx.Client, data: bytes, name: str) -> httpx.Response:
    return client.post("/v1/documents", files={"file": (name, data)})


def finished(client: httpx.Client, question_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        run: dict[str, Any] = client.get(f"/v1/questions/{question_id}").json()
        if run["status"] not in ("queued", "running"):
            return run
        time.sleep(0.05)
    raise AssertionError("the question was not answered")


def test_a_document_is_uploaded_and_asked(client: httpx.Client) -> None:
    uploaded = upload(client, contract_path().read_bytes(), "contract.pdf")
    assert uploaded.status_code == 201
    document = uploaded.json()
    assert document["pages"] == 22 and document["media_type"] == "application/pdf"
    assert client.get(f"/v1/documents/{document['id']}").json() == document
    asked = client.post("/v1/questions", json={"question": LAW, "documents": [document["id"]]})
    assert asked.status_code == 202
    assert asked.headers["location"] == f"/v1/questions/{asked.json()['id']}"
    run = finished(client, asked.json()["id"])
    assert run["status"] == "finished"
    assert run["reply"]["trace_id"] == run["id"]
    assert run["reply"]["coverage"] == 1.0


def test_a_question_can_wait_and_bring_its_text_along(client: httpx.Client) -> None:
    body = {
        "question": LAW,
        "documents": [{"name": "contract.txt", "text": CONTRACT}],
        "wait": True,
    }
    asked = client.post("/v1/questions", json=body)
    assert asked.status_code == 200
    reply = asked.json()["reply"]
    assert all(CONTRACT[c["start"] : c["end"]] == c["quote"] for c in reply["citations"])


def test_the_ceiling_holds_over_http(client: httpx.Client) -> None:
    body = {
        "question": "Whose statutes apply to disputes about pumps between companies?",
        "documents": [{"name": "contract.txt", "text": CONTRACT}],
        "privacy": "local",
        "wait": True,
    }
    reply = client.post("/v1/questions", json=body).json()["reply"]
    assert reply["rung"] == "local" and reply["cost"]["cloud_tokens"] == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"question": LAW}, 400, "bad_request"),
        ({"question": "", "documents": ["doc_x"]}, 400, "bad_request"),
        ({"question": LAW, "documents": []}, 400, "bad_request"),
        ({"question": LAW, "documents": ["doc_x"]}, 404, "not_found"),
        ({"question": LAW, "documents": ["doc_x"], "ceiling": "local"}, 400, "bad_request"),
        ({"question": LAW, "documents": ["doc_x"], "max_cost_usd": -1}, 400, "bad_request"),
        ({"question": LAW, "documents": [{"name": "a", "text": "  "}]}, 422, "document_empty"),
    ],
)
def test_a_wrong_question_gets_openais_envelope(
    client: httpx.Client, body: dict[str, Any], status: int, code: str
) -> None:
    answer = client.post("/v1/questions", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code and error["message"] and error["type"]


def test_bad_files_are_refused_with_the_reason(client: httpx.Client) -> None:
    refused = upload(client, png(), "picture.pdf")
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "document_unsupported"
    assert upload(client, b"", "empty.txt").json()["error"]["code"] == "document_empty"


def test_an_unknown_question_is_not_found(client: httpx.Client) -> None:
    missing = client.get("/v1/questions/run_missing")
    assert missing.status_code == 404
    assert "run_missing" in missing.json()["error"]["message"]


def test_a_foreign_host_name_is_refused(client: httpx.Client) -> None:
    refused = client.get("/healthz", headers={"host": "attacker.example"})
    assert refused.status_code == 400


def test_health_is_honest(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz").json()
    assert ready["status"] == "ready"
    assert set(ready["checks"].values()) == {"ok"}


def test_a_restarted_server_tells_what_was_interrupted(tmp_path: Path) -> None:
    """What was finished is still there; what was cut off says so and can be asked again."""
    with serving("--model", "scripted", state_dir=tmp_path) as client:
        body = {"question": LAW, "documents": [{"name": "c.txt", "text": CONTRACT}], "wait": True}
        first = client.post("/v1/questions", json=body).json()
    with serving("--model", "scripted", state_dir=tmp_path) as client:
        again = client.get(f"/v1/questions/{first['id']}").json()
    assert again == first
