"""`minions serve` over real HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from minions.cli.demo import contract_path
from minions.cloud.sim import SimPlan, running
from tests.command import answer, minions, serving
from tests.files import png
from tests.house import CONTRACT
from tests.served import served

LAW = "Which state's laws govern this agreement?"
UNREADABLE = "Whose statutes apply to disputes about pumps between companies?"
"""The scripted worker abstains on it, so that the ladder climbs."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    state = tmp_path_factory.mktemp("state")
    with (
        running(SimPlan()) as url,
        served(state, cloud_url=url) as service,
        service.client() as connected,
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


# documents


@pytest.fixture(scope="module")
def contract(client: httpx.Client) -> dict[str, Any]:
    """The bundled contract, uploaded."""
    document: dict[str, Any] = upload(client, contract_path().read_bytes(), "contract.pdf").json()
    return document


def test_a_document_is_read_page_by_page_and_given_back(
    client: httpx.Client, contract: dict[str, Any]
) -> None:
    path = f"/v1/documents/{contract['id']}"
    content = client.get(path + "/content")
    assert content.content == contract_path().read_bytes()
    assert content.headers["content-type"] == "application/pdf"
    assert content.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in content.headers["content-security-policy"]
    first = client.get(path + "/pages?limit=15").json()
    rest = client.get(path + f"/pages?limit=15&after={first['last_id']}").json()
    pages = first["data"] + rest["data"]
    assert [page["page"] for page in pages] == list(range(1, 23))
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert client.get(path + "/pages/22").json() == pages[-1]
    assert sum(len(page["text"]) for page in pages) <= contract["characters"]
    missing = client.get(path + "/pages/23")
    assert missing.status_code == 404
    assert "pages 1 to 22" in missing.json()["error"]["message"]


def test_lists_come_in_parts(client: httpx.Client) -> None:
    for n in range(5):
        upload(client, f"Text number {n}.".encode(), f"{n}.txt")
    whole = client.get("/v1/documents?limit=100").json()
    ids = [document["id"] for document in whole["data"]]
    assert not whole["has_more"] and len(ids) >= 5
    assert (whole["first_id"], whole["last_id"]) == (ids[0], ids[-1])
    part = client.get("/v1/documents?limit=2").json()
    later = client.get(f"/v1/documents?limit=2&after={part['last_id']}").json()
    assert [document["id"] for document in part["data"] + later["data"]] == ids[:4]
    oldest = client.get("/v1/documents?limit=100&order=asc").json()
    assert [document["id"] for document in oldest["data"]] == ids[::-1]
    assert client.get("/v1/documents?after=doc_nobody").status_code == 404
    assert client.get("/v1/documents?limit=0").status_code == 400


def test_a_deleted_document_is_gone_with_all_that_came_of_it(client: httpx.Client) -> None:
    document = upload(client, (CONTRACT + "To be deleted.").encode(), "c.txt").json()["id"]
    body = {"question": LAW, "documents": [document], "wait": True}
    question = client.post("/v1/questions", json=body).json()
    assert question["reply"]["citations"]
    gone = client.delete(f"/v1/documents/{document}").json()
    assert gone == {"id": document, "object": "document", "deleted": True}
    for path in ("", "/content", "/pages", "/pages/1"):
        assert client.get(f"/v1/documents/{document}{path}").status_code == 404
    left = client.get(f"/v1/questions/{question['id']}").json()
    assert (left["reply"]["answer"], left["reply"]["citations"]) == (None, [])
    assert left["reply"]["cost"] == question["reply"]["cost"]
    assert client.get(f"/v1/questions/{question['id']}/trace").json()["steps"] == []
    asked = client.post("/v1/questions", json=body)
    assert asked.status_code == 404


def test_too_large_a_file_is_refused_with_counts(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[limits]\nmax_bytes = 1000\nmax_pages = 3\n")
    with served(tmp_path) as service, service.client() as client:
        refused = upload(client, b"x" * 1001, "long.txt")
        assert refused.status_code == 413
        assert "1,001" in refused.json()["error"]["message"]
        assert "1,000" in refused.json()["error"]["message"]
        enormous = client.post("/v1/questions", content=b"x" * 1_100_000)
        assert enormous.status_code == 413
        assert enormous.json()["error"]["code"] == "request_too_large"
        unsaid = client.post("/v1/questions", content=iter([b"x" * 600_000] * 2))
        assert unsaid.json()["error"]["code"] == "request_too_large"
        assert client.get("/readyz").status_code == 200


# collections


def test_a_collection_is_asked_as_one(client: httpx.Client) -> None:
    ids = [upload(client, text.encode(), "part.txt").json()["id"] for text in (CONTRACT, "More.")]
    made = client.post("/v1/collections", json={"name": "contracts", "documents": ids})
    assert made.status_code == 201
    collection = made.json()
    assert collection["documents"] == ids
    path = f"/v1/collections/{collection['id']}"
    assert client.get(path).json() == collection
    assert collection in client.get("/v1/collections").json()["data"]
    body = {"question": LAW, "collection": collection["id"], "wait": True, "privacy": "local"}
    asked = client.post("/v1/questions", json=body).json()
    assert asked["question"]["documents"] == ids
    both = client.post("/v1/questions", json={**body, "documents": ids})
    assert both.status_code == 400
    assert client.delete(path).json()["deleted"]
    assert client.get(path).status_code == client.post("/v1/questions", json=body).status_code
    assert client.get(f"/v1/documents/{ids[0]}").status_code == 200


# questions


def test_a_rung_is_bought_later_and_nothing_is_read_again(client: httpx.Client) -> None:
    document = upload(client, (CONTRACT * 4 + "Bought later.").encode(), "c.txt").json()["id"]
    body = {"question": LAW, "documents": [document], "wait": True, "target": 0.05}
    first = client.post("/v1/questions", json=body).json()
    assert first["reply"]["rung"] == "local"
    bought = client.post(f"/v1/questions/{first['id']}/buy", json={"rung": "passages"})
    assert bought.status_code == 202
    second = finished(client, bought.json()["id"])
    assert second["id"] != first["id"]
    assert second["reply"]["rung"] == "passages"
    assert second["reply"]["cost"]["cloud_usd"] > 0
    assert second["reply"]["jobs"] == first["reply"]["jobs"]
    events = client.get(f"/v1/questions/{second['id']}/events").text
    assert events.count('"status": "cached"') == sum(first["reply"]["jobs"].values())
    egress = client.get(f"/v1/egress?question={second['id']}&show=true").json()
    assert egress["n_calls"] == 1 and egress["calls"][0]["purpose"] == "passages"
    assert "State of Oregon" in egress["calls"][0]["content"]
    assert client.get(f"/v1/egress?question={first['id']}").json()["n_calls"] == 0


def test_the_rung_local_keeps_the_local_answer_and_buys_nothing(client: httpx.Client) -> None:
    body = {"question": UNREADABLE, "documents": [{"name": "c.txt", "text": CONTRACT}]}
    climbs = client.post("/v1/questions", json={**body, "wait": True}).json()["reply"]
    stays = client.post("/v1/questions", json={**body, "rung": "local", "wait": True}).json()
    assert climbs["cost"]["cloud_tokens"] > 0
    assert (stays["reply"]["rung"], stays["reply"]["cost"]["cloud_tokens"]) == ("local", 0)
    assert "buy nothing" in stays["reply"]["reason"]
    assert stays["reply"]["offers"]


def test_a_follow_up_brings_what_it_leans_on(client: httpx.Client) -> None:
    inline = {"documents": [{"name": "c.txt", "text": CONTRACT}], "wait": True}
    first = client.post("/v1/questions", json={"question": LAW, **inline}).json()
    after = {"follows": first["id"], **inline}
    leans = client.post("/v1/questions", json={"question": "Why is that?", **after}).json()
    asked = leans["question"]
    assert (asked["asked"], asked["follows"]) == ("Why is that?", first["id"])
    assert LAW in asked["question"] and first["reply"]["answer"] in asked["question"]
    whole = "What is the price of each pump in dollars under this agreement?"
    stands = client.post("/v1/questions", json={"question": whole, **after}).json()
    assert (stands["question"]["question"], stands["question"]["asked"]) == (whole, None)
    lost = client.post("/v1/questions", json={"question": whole, **inline, "follows": "run_0"})
    assert lost.status_code == 404


@pytest.mark.parametrize(
    ("earlier", "later", "comes_along"),
    [
        ({"privacy": "local"}, {}, False),
        ({"strategy": "local"}, {"privacy": "evidence"}, False),
        ({"privacy": "evidence"}, {"privacy": "passages"}, False),
        ({"privacy": "passages"}, {"privacy": "evidence"}, True),
        ({"privacy": "local"}, {"rung": "local"}, True),
    ],
)
def test_a_follow_up_takes_no_answer_past_its_own_ceiling(
    client: httpx.Client, earlier: dict[str, Any], later: dict[str, Any], comes_along: bool
) -> None:
    inline = {"documents": [{"name": "c.txt", "text": CONTRACT}], "wait": True}
    first = client.post("/v1/questions", json={"question": LAW, **inline, **earlier}).json()
    body = {"question": "Why is that?", "follows": first["id"], **inline, **later}
    text = client.post("/v1/questions", json=body).json()["question"]["question"]
    assert LAW in text
    assert (first["reply"]["answer"] in text.replace(LAW, "")) == comes_along


def test_a_rung_beyond_the_ceiling_is_not_sold(client: httpx.Client) -> None:
    body = {"question": LAW, "documents": [{"name": "c.txt", "text": CONTRACT}]}
    asked = client.post("/v1/questions", json={**body, "privacy": "evidence", "wait": True}).json()
    refused = client.post(f"/v1/questions/{asked['id']}/buy", json={"rung": "document"})
    assert refused.status_code == 422
    assert "privacy ceiling `evidence`" in refused.json()["error"]["message"]
    local = client.post(f"/v1/questions/{asked['id']}/buy", json={"rung": "local"})
    assert local.status_code == 422


def test_a_question_under_one_key_is_asked_once(client: httpx.Client) -> None:
    body = {"question": LAW, "documents": [{"name": "c.txt", "text": CONTRACT}], "wait": True}
    headers = {"Idempotency-Key": "mine"}
    first, again = (client.post("/v1/questions", json=body, headers=headers) for _ in range(2))
    assert first.json() == again.json()
    without = client.post("/v1/questions", json=body).json()
    assert without["id"] != first.json()["id"]
    other = client.post("/v1/questions", json={**body, "target": 0.1}, headers=headers)
    assert other.status_code == 422


def test_what_is_over_can_not_be_cancelled(client: httpx.Client) -> None:
    body = {"question": LAW, "documents": [{"name": "c.txt", "text": CONTRACT}], "wait": True}
    asked = client.post("/v1/questions", json=body).json()
    assert client.post(f"/v1/questions/{asked['id']}/cancel").json() == asked


def test_contradictory_wishes_are_refused_in_words(client: httpx.Client) -> None:
    body = {"question": LAW, "documents": [{"name": "c.txt", "text": CONTRACT}]}
    refused = client.post("/v1/questions", json={**body, "stop_early": True, "strategy": "cloud"})
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "contradiction"


# money, machines, evaluations


def test_a_quote_sends_nothing_and_names_every_rung(
    client: httpx.Client, contract: dict[str, Any]
) -> None:
    before = client.get("/v1/egress").json()["n_calls"]
    body = {"question": LAW, "documents": [contract["id"]]}
    quote = client.post("/v1/estimate", json=body).json()
    rungs = {rung["rung"]: rung for rung in quote["rungs"]}
    assert list(rungs) == ["local", "evidence", "passages", "document"]
    assert rungs["document"]["exact"] and rungs["document"]["expected_usd"] > 0
    assert quote["n_pages"] == 22
    assert client.get("/v1/egress").json()["n_calls"] == before


def test_savings_are_of_the_days_that_are_asked_for(client: httpx.Client) -> None:
    everything = client.get("/v1/savings").json()
    assert everything["n_questions"] > 0
    assert client.get("/v1/savings?since=2999-01-01").json()["n_questions"] == 0
    for day in ("yesterday", "0", "2026-02-30"):
        assert client.get(f"/v1/savings?since={day}").status_code == 400


def test_nodes_say_what_is_loaded(client: httpx.Client) -> None:
    nodes = client.get("/v1/nodes").json()["data"]
    assert nodes and all(node["object"] == "node" for node in nodes)


def test_an_evaluation_that_is_not_there_leads_nowhere(client: httpx.Client) -> None:
    assert client.get("/v1/evals").json()["data"] == []
    for name in ("nobody", "..", "%2e%2e", "..%2f..%2fetc"):
        assert client.get(f"/v1/evals/{name}").status_code in (200, 404)
        assert client.get(f"/v1/evals/{name}/report.html").status_code == 404


# around every request


def test_a_request_has_an_id_in_and_out(client: httpx.Client) -> None:
    given = client.get("/healthz", headers={"x-request-id": "abc-123"})
    assert given.headers["x-request-id"] == "abc-123"
    forged = client.get("/healthz", headers={"x-request-id": 'a"} {"level": "x'})
    assert forged.headers["x-request-id"].startswith("req_")
    assert client.get("/nix").headers["x-request-id"].startswith("req_")


def test_a_wrong_method_names_the_right_ones(client: httpx.Client) -> None:
    refused = client.put("/v1/documents/doc_1")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "DELETE, GET"
    assert refused.json()["error"]["code"] == "method_not_allowed"


def test_metrics_count_what_happened(client: httpx.Client) -> None:
    body = {"question": LAW, "documents": [{"name": "c.txt", "text": CONTRACT}], "wait": True}
    before = metric(client, 'minions_questions_total{rung="local",status="finished"}')
    client.post("/v1/questions", json={**body, "privacy": "local"})
    deadline = time.monotonic() + 10
    while metric(client, 'minions_questions_total{rung="local",status="finished"}') <= before:
        assert time.monotonic() < deadline, "the question was not counted"
        time.sleep(0.02)
    assert metric(client, 'minions_tokens_total{kind="prompt",place="local"}') > 0
    assert metric(client, 'minions_jobs_total{outcome="answered"}') > 0
    assert metric(client, "minions_questions_running") == 0
    text = client.get("/metrics").text
    assert 'route="/v1/questions/{question_id}"' in text, "templates, not ids"


def metric(client: httpx.Client, name: str) -> float:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    return 0.0


def test_log_lines_are_json_with_the_ids(tmp_path: Path) -> None:
    body = {"question": LAW, "documents": [{"name": "c.txt", "text": CONTRACT}], "wait": True}
    with served(tmp_path) as service, service.client() as client:
        asked = client.post("/v1/questions", json=body, headers={"x-request-id": "the-id"}).json()
    lines = [json.loads(line) for line in (tmp_path / "service.log").read_text().splitlines()]
    requests = [line for line in lines if line.get("request_id") == "the-id"]
    assert {line["event"] for line in requests} == {"request", "question ended"}
    (ended,) = [line for line in requests if line["event"] == "question ended"]
    assert ended["question_id"] == asked["id"]
    assert CONTRACT[:20] not in (tmp_path / "service.log").read_text()


def test_readiness_tells_what_is_missing(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.gguf")
    with served(tmp_path, model=missing) as service, service.client() as client:
        ready = client.get("/readyz")
        assert client.get("/healthz").status_code == 200
    assert ready.status_code == 503
    assert "missing.gguf" in ready.json()["checks"]["worker"]


def test_the_description_shows_examples(client: httpx.Client) -> None:
    description = client.get("/openapi.json").json()
    body = description["components"]["schemas"]["QuestionBody"]
    assert body["examples"][0]["question"]
    assert {"401", "404", "429"} <= set(description["paths"]["/v1/questions"]["get"]["responses"])
    assert client.get("/docs").status_code == 200


def test_listening_beyond_this_machine_needs_keys(tmp_path: Path) -> None:
    refused = minions("serve", "--host", "0.0.0.0", state_dir=tmp_path)
    assert refused.returncode == 1
    assert "Refusing to listen on 0.0.0.0 without keys" in refused.stderr


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    made = minions("keys", "create", "Ann", "--usd-per-day", "0.5", state_dir=tmp_path)
    token = made.stdout.strip()
    assert token.startswith("mk_") and token not in made.stderr
    with served(tmp_path) as service, service.client() as client:
        headers = {"Authorization": f"Bearer {token}"}
        assert client.get("/v1/documents").status_code == 401
        assert client.get("/v1/documents", headers=headers).status_code == 200
        (key,) = answer("keys", "list", state_dir=tmp_path)
        assert (key["name"], key["usd_per_day"], key["scopes"]) == (
            "Ann",
            "0.5",
            ["ask", "documents"],
        )
        assert minions("keys", "revoke", key["id"], state_dir=tmp_path).returncode == 0
        time.sleep(1.2)  # the promise: a running service notices within a second
        assert client.get("/v1/documents", headers=headers).status_code == 401
    assert minions("keys", "revoke", "key_nobody", state_dir=tmp_path).returncode == 1
    kept = (tmp_path / "minions.db").read_bytes()
    assert token.encode() not in kept
