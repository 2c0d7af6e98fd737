"""Keys: who is let in, what each may do and see, how often, and for how much."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.budget import Attempt, DayBudget
from minions.cloud.sim import SimPlan, running
from minions.errors import BudgetExceeded
from minions.keys import KEYS_FRESH_S, KeyRing, Scope, new_key, token_digest
from minions.rest import create_app
from minions.settings import load_settings
from minions.store import MemoryStore, open_store
from minions.store.model import LedgerEntry, RunRecord, RunStatus
from tests.house import CONTRACT

LAW = "Which state's laws govern this agreement?"
UNREADABLE = "Whose statutes apply to disputes about pumps between companies?"
ALL_SCOPES = tuple(Scope)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextlib.contextmanager
def service(
    folder: Path, *keys: dict[str, Any], loopback: bool = True, **options: Any
) -> Iterator[tuple[TestClient, list[str]]]:
    """The service in this process with keys made beforehand; yields a client and their tokens."""
    chosen = load_settings(state_dir=folder, model="scripted", **options)
    tokens = asyncio.run(_put_keys(chosen.database, keys))
    with TestClient(create_app(chosen, loopback=loopback), base_url="http://127.0.0.1") as client:
        yield client, tokens


async def _put_keys(path: Path, wishes: tuple[dict[str, Any], ...]) -> list[str]:
    tokens = []
    store = await open_store(path)
    for number, wish in enumerate(wishes):
        key, token = new_key(f"key {number}", wish.pop("scopes", ALL_SCOPES), **wish)
        await store.put_key(key)
        tokens.append(token)
    await store.close()
    return tokens


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, list[str]]]:
    """A service with two keys that may do everything."""
    with service(tmp_path_factory.mktemp("two"), {}, {}) as served:
        yield served


# tokens


def test_a_token_is_256_random_bits_and_only_its_hash_is_kept() -> None:
    made = [new_key("ann", [Scope.ASK]) for _ in range(50)]
    tokens = {token for _, token in made}
    assert len(tokens) == 50
    assert all(re.fullmatch(r"mk_[A-Za-z0-9_-]{43}", token) for token in tokens)
    for key, token in made:
        assert key.token_sha256 == token_digest(token)
        assert token not in repr(key)


async def test_a_ring_notices_revocations_within_its_time_and_never_opens_again() -> None:
    store, now = MemoryStore(), [0.0]
    ring = KeyRing(store=store, clock=lambda: now[0])
    key, token = new_key("ann", [Scope.ASK])
    assert not await ring.required()
    await store.put_key(key)
    now[0] += KEYS_FRESH_S + 0.1
    assert await ring.required()
    assert await ring.find(token) == key
    assert await ring.find(token + "x") is None
    assert await ring.find("\ud800") is None
    await store.revoke_key(key.key_id, 5.0)
    now[0] += KEYS_FRESH_S + 0.1
    assert await ring.find(token) is None
    assert await ring.required(), "a revoked key still closes the door"


# who is let in


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer mk_wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic bWtfeDp5"},
    ],
)
def test_every_route_needs_the_key(
    two: tuple[TestClient, list[str]], headers: dict[str, str]
) -> None:
    """Of all routes that are described, only health, the page and the description are open."""
    client, _ = two
    paths = client.app.openapi()["paths"]  # type: ignore[attr-defined]
    n_closed = 0
    for path, methods in paths.items():
        for method in methods:
            answer = client.request(method, re.sub(r"\{\w+\}", "1", path), headers=headers)
            is_open = path in ("/healthz", "/readyz")
            assert (answer.status_code == 401) is not is_open, (method, path, answer.text)
            n_closed += answer.status_code == 401
    assert n_closed > 20


def test_a_refusal_is_openais_and_says_what_to_do(two: tuple[TestClient, list[str]]) -> None:
    client, _ = two
    refused = client.get("/v1/documents", headers=bearer("mk_wrong"))
    assert refused.headers["www-authenticate"] == "Bearer"
    error = refused.json()["error"]
    assert error["code"] == "invalid_api_key"
    assert "minions keys create" in error["message"]


def test_without_keys_loopback_is_open_and_the_network_is_not(tmp_path: Path) -> None:
    with service(tmp_path) as (client, _):
        assert client.get("/v1/documents").status_code == 200
    with service(tmp_path, loopback=False) as (client, _):
        assert client.get("/v1/documents").status_code == 401
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        ((Scope.ASK,), {"ask", "see"}),
        ((Scope.DOCUMENTS,), {"file", "see"}),
        ((Scope.ADMIN,), {"administer"}),
        ((), set()),
    ],
)
def test_a_scope_opens_what_it_says(
    tmp_path: Path, scopes: tuple[Scope, ...], allowed: set[str]
) -> None:
    with service(tmp_path, {"scopes": scopes}) as (client, (token,)):
        tried = {
            "ask": client.get("/v1/questions", headers=bearer(token)),
            "file": upload(client, token, b"some text"),
            "see": client.get("/v1/documents", headers=bearer(token)),
            "administer": client.get("/metrics", headers=bearer(token)),
        }
    opened = {name for name, answer in tried.items() if answer.status_code < 400}
    assert opened == allowed
    refused = [answer for answer in tried.values() if answer.status_code >= 400]
    assert all(answer.json()["error"]["code"] == "missing_scope" for answer in refused)


# who sees what


def upload(client: TestClient, token: str, data: bytes, name: str = "a.txt") -> Any:
    return client.post("/v1/documents", files={"file": (name, data)}, headers=bearer(token))


def test_nothing_of_another_key_can_be_read_listed_or_changed(
    two: tuple[TestClient, list[str]],
) -> None:
    """Every route that names a thing is tried with every thing of the other's."""
    client, (ann, bob) = two
    document = upload(client, ann, CONTRACT.encode(), "ann's secret name.txt").json()["id"]
    body = {"name": "ann's", "documents": [document]}
    collection = client.post("/v1/collections", json=body, headers=bearer(ann)).json()["id"]
    asked = {"question": LAW, "documents": [document], "wait": True}
    question = client.post("/v1/questions", json=asked, headers=bearer(ann)).json()["id"]
    ids = {"document_id": document, "collection_id": collection, "question_id": question}
    tried = 0
    for method, path in named_routes(client, set(ids)):
        filled = path.format(**ids, number=1)
        answer = client.request(method, filled, headers=bearer(bob), json={"rung": "passages"})
        assert answer.status_code == 404, (method, path, answer.text)
        tried += 1
    assert tried >= 12
    for path in ("/v1/documents", "/v1/collections", "/v1/questions"):
        assert client.get(path, headers=bearer(bob)).json()["data"] == []
        assert client.get(f"{path}?after={document}", headers=bearer(bob)).status_code == 404
    assert client.get("/v1/egress", headers=bearer(bob)).json()["n_calls"] == 0
    assert client.get("/v1/savings", headers=bearer(bob)).json()["n_questions"] == 0
    for other in ({"documents": [document]}, {"collection": collection}):
        stolen = client.post("/v1/questions", json={"question": LAW, **other}, headers=bearer(bob))
        assert stolen.status_code == 404
    assert client.get(f"/v1/questions/{question}", headers=bearer(ann)).status_code == 200


def named_routes(client: TestClient, parameters: set[str]) -> list[tuple[str, str]]:
    """(method, path) of every route that names one of these."""
    paths = client.app.openapi()["paths"]  # type: ignore[attr-defined]
    return [
        (method, path)
        for path, methods in paths.items()
        for method in methods
        if any(f"{{{name}}}" in path for name in parameters)
    ]


def test_the_same_file_is_each_ones_own(two: tuple[TestClient, list[str]]) -> None:
    """Neither learns of the other's copy, and each can delete only their own."""
    client, (ann, bob) = two
    data = b"A text that both of them have. " * 9
    first = upload(client, ann, data, "ann.txt").json()
    second = upload(client, bob, data, "bob.txt").json()
    assert (first["name"], second["name"]) == ("ann.txt", "bob.txt")
    path = f"/v1/documents/{first['id']}"
    assert client.delete(path, headers=bearer(ann)).json()["deleted"]
    assert client.get(path, headers=bearer(ann)).status_code == 404
    assert client.get(path + "/content", headers=bearer(bob)).content == data


def test_two_keys_with_the_same_question_have_a_run_each(
    two: tuple[TestClient, list[str]],
) -> None:
    client, tokens = two
    runs = set()
    for token in tokens:
        body = {"question": LAW, "documents": [{"name": "c.txt", "text": CONTRACT}], "wait": True}
        runs.add(client.post("/v1/questions", json=body, headers=bearer(token)).json()["id"])
    assert len(runs) == 2


def test_an_idempotency_key_is_its_owners_own_and_means_one_request(
    two: tuple[TestClient, list[str]],
) -> None:
    client, (ann, bob) = two
    body = {"question": LAW, "documents": [{"name": "c.txt", "text": CONTRACT}]}

    def ask(token: str, **changes: Any) -> Any:
        headers = {**bearer(token), "Idempotency-Key": "one"}
        return client.post("/v1/questions", json={**body, **changes}, headers=headers)

    first = ask(ann)
    assert ask(ann).json()["id"] == first.json()["id"]
    assert ask(bob).json()["id"] != first.json()["id"]
    reused = ask(ann, question="Another question?")
    assert reused.status_code == 422
    assert reused.json()["error"]["code"] == "idempotency_key_reused"


# how often, and for how much


def test_a_key_asks_so_often_and_is_told_when_to_come_back(tmp_path: Path) -> None:
    with service(tmp_path, {"requests_per_minute": 3}, {}) as (client, (slow, free)):
        statuses = [client.get("/v1/documents", headers=bearer(slow)).status_code for _ in range(4)]
        refused = client.get("/v1/documents", headers=bearer(slow))
        others = client.get("/v1/documents", headers=bearer(free))
    assert statuses == [200, 200, 200, 429]
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert others.status_code == 200


def test_a_keys_budget_of_the_day_holds_for_questions_at_once_and_after_a_restart(
    tmp_path: Path,
) -> None:
    """Each question would buy something; the cap pays for a few of twelve, and never more."""
    cap = Decimal("0.02")
    with running(SimPlan(latency_s=0.05)) as url:
        with service(tmp_path, {"usd_per_day": cap}, {}, cloud_url=url) as (client, tokens):
            capped = asyncio.run(ask_at_once(client, tokens[0], 12))
            free = asyncio.run(ask_at_once(client, tokens[1], 2))
        with service(tmp_path, cloud_url=url) as (client, _):
            later = asyncio.run(ask_at_once(client, tokens[0], 3, first=50))
    spent = [paid(run) for run in capped + later]
    assert sum(spent) <= cap
    assert 0 < sum(usd > 0 for usd in spent) < 12
    assert all(paid(run) > 0 for run in free)
    assert all(run["status"] in ("finished", "failed") for run in capped + later)


async def ask_at_once(
    client: TestClient, token: str, n: int, *, first: int = 0
) -> list[dict[str, Any]]:
    def ask(number: int) -> dict[str, Any]:
        body = {
            "question": f"{UNREADABLE} This is number {number}.",
            "documents": [{"name": "c.txt", "text": CONTRACT}],
            "wait": True,
        }
        run: dict[str, Any] = client.post("/v1/questions", json=body, headers=bearer(token)).json()
        return run

    return list(
        await asyncio.gather(*(asyncio.to_thread(ask, first + number) for number in range(n)))
    )


def paid(run: dict[str, Any]) -> Decimal:
    reply = run.get("reply") or {"cost": {"cloud_usd": 0}}
    return Decimal(str(reply["cost"]["cloud_usd"]))


AMOUNTS = st.decimals("0", "1", places=3)
CALLS = st.lists(st.tuples(AMOUNTS, st.none() | AMOUNTS), max_size=20)


@settings(deadline=None, derandomize=True)
@given(house_cap=AMOUNTS, key_cap=AMOUNTS, calls=CALLS)
async def test_a_nested_budget_keeps_both_caps(
    house_cap: Decimal, key_cap: Decimal, calls: list[tuple[Decimal, Decimal | None]]
) -> None:
    """Whatever is reserved and settled: neither the key's nor the house's cap is passed."""
    store = MemoryStore()
    await store.open_run(run_of("key_1"))
    house = DayBudget(cap_usd=house_cap, store=store)
    budget = DayBudget(cap_usd=key_cap, store=store, owner="key_1", within=house)
    await budget.open()
    spent = Decimal(0)
    for number, (worst, actual) in enumerate(calls):
        attempt = Attempt(run_id="run_1", call_key=f"call {number}", number=1)
        try:
            await budget.reserve(attempt, worst)
        except BudgetExceeded:
            assert spent + worst > min(house_cap, key_cap)
            continue
        cost = None if actual is None else min(actual, worst)
        await store.record_ledger([ledger_row(attempt, cost)])
        spent += worst if cost is None else cost
        await budget.open()
        assert spent <= min(house_cap, key_cap)
        assert budget.left_usd == min(house_cap, key_cap) - spent


def run_of(owner: str) -> RunRecord:
    return RunRecord(
        run_id="run_1",
        fingerprint="f",
        status=RunStatus.RUNNING,
        question={},
        reply=None,
        error=None,
        created_at=0,
        updated_at=0,
        owner=owner,
    )


def ledger_row(attempt: Attempt, cost: Decimal | None) -> LedgerEntry:
    return LedgerEntry(
        run_id=attempt.run_id,
        kind="cloud",
        model="m",
        purpose="document",
        outcome="ok",
        prompt_tokens=0,
        cached_tokens=0,
        completion_tokens=0,
        reasoning_tokens=0,
        cost_nano_usd=None if cost is None else int(cost * 10**9),
        price_snapshot="s",
        usage_reported=cost is not None,
        call_key=attempt.call_key,
        attempt=attempt.number,
        created_at=time.time(),
    )


# secrets


def test_no_secret_is_in_an_answer_or_in_the_description(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cloud_key = "sk-cloud-0123456789abcdef"
    with (
        running(SimPlan(api_key="another")) as url,  # a provider that quotes a wrong key back
        service(tmp_path, {}, cloud_api_key=cloud_key, cloud_url=url) as (client, (token,)),
    ):
        texts = [repr(client.app.state.office.app.settings)]  # type: ignore[attr-defined]
        for path in ("/v1/documents", "/v1/nodes", "/metrics", "/readyz", "/openapi.json", "/nix"):
            texts.append(client.get(path, headers=bearer(token)).text)
        body = {"question": UNREADABLE, "documents": [{"name": "c.txt", "text": CONTRACT}]}
        failed = client.post(
            "/v1/questions", json={**body, "strategy": "cloud", "wait": True}, headers=bearer(token)
        )
        texts.append(failed.text)
        listed = client.get("/v1/questions", headers=bearer(token))
        texts.append(listed.text)
        run = listed.json()["data"][0]
        path = f"/v1/questions/{run['id']}/trace"
        texts.append(client.get(path, headers=bearer(token)).text)
        texts.append(client.get("/v1/documents", headers=bearer(token + "x")).text)
    texts += [str(record.__dict__) for record in caplog.records]
    assert failed.status_code == 502, "the cloud knows another key"
    assert not [text for text in texts if token in text or cloud_key in text]
