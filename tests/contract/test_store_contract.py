"""What every store promises, asked of each one that ships."""

from __future__ import annotations

import asyncio
import itertools
import math
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minions.cloud.model import AttemptOutcome, CloudAttempt, CloudResponse, CloudUsage
from minions.documents.model import Chunk, Document, Page
from minions.errors import BadRequest, NotFound
from minions.store import MemoryStore, ServiceStore, SqlStore, open_store
from minions.store.model import (
    LOCAL_OWNER,
    DayCap,
    EgressEntry,
    LedgerEntry,
    Reservation,
    RunRecord,
    RunStatus,
)
from minions.store.rules import CALL_S, RESPONSE_S
from minions.store.service import ApiKey, Claim, Collection, RunEvent, StoredResponse, Wanted
from tests.postgres import copy_of_template, drop, make_template, server, server_programs
from workers.jobs import JobResult, JobStatus, WorkerUsage

AnyStore = SqlStore | MemoryStore
STORES: tuple[type[ServiceStore], ...] = (SqlStore, MemoryStore)
"""Holds the type checker to what the tests below hold the behaviour to."""

TEXT = (
    "The Company reported revenue of 1,577.00 million dollars in fiscal year 2018.\n"
    "Capital expenditure fell, because two naïve assumptions about the café were wrong.\n"
    "The agreement is governed by the laws of Delaware and may be terminated for convenience.\n"
)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
"""Of all code points: lone surrogates, NUL and all."""

# One store serves all examples of a property; a fresh one for each would only cost time.
PROPERTY = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


FRESH = itertools.count()
"""Numbers for ids that no earlier example of a property has used."""


@pytest.fixture(scope="module")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store on disk, to be copied: making one runs every migration."""
    path = tmp_path_factory.mktemp("store") / "empty.db"

    async def make() -> None:
        await (await open_store(path)).close()

    asyncio.run(make())
    return path


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    if server_programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="pip install 'minions[postgres]'")
    with server() as url:
        make_template(url)
        yield url


@pytest_asyncio.fixture(params=["memory", "sqlite-file", "sqlite-memory", "postgres"])
async def store(
    request: pytest.FixtureRequest, empty_file: Path, tmp_path: Path
) -> AsyncIterator[AnyStore]:
    if request.param == "postgres":
        server_url = request.getfixturevalue("postgres_url")
        url = await copy_of_template(server_url)
        opened: AnyStore = await open_store(url)
        yield opened
        await opened.close()
        await drop(server_url, url)
        return
    opened = await _opened(request.param, empty_file, tmp_path)
    yield opened
    await opened.close()


async def _opened(kind: str, empty_file: Path, folder: Path) -> AnyStore:
    if kind == "memory":
        return MemoryStore()
    if kind == "sqlite-memory":
        return await open_store(":memory:")
    return await open_store(shutil.copy(empty_file, folder / "store.db"))


def document(document_id: str = "doc_1", text: str = TEXT, name: str = "a.txt") -> Document:
    return Document(
        document_id=document_id,
        sha256="5" * 64,
        name=name,
        media_type="text/plain",
        n_bytes=len(text),
        text=text,
        pages=(Page(number=1, start=0, end=10), Page(number=2, start=10, end=len(text))),
        warnings=("page 3 has no text",),
    )


def chunks_of(whole: Document) -> list[Chunk]:
    """One chunk per line."""
    chunks: list[Chunk] = []
    start = 0
    for index, line in enumerate(whole.text.splitlines(keepends=True)):
        chunk = Chunk(
            chunk_id=f"{whole.document_id}/{index}",
            document_id=whole.document_id,
            index=index,
            start=start,
            end=start + len(line),
            text=line,
            first_page=1,
            last_page=2,
            n_tokens=len(line.split()),
        )
        chunks.append(chunk)
        start = chunk.end
    return chunks


def run(run_id: str = "run_1", fingerprint: str = "print", **changes: Any) -> RunRecord:
    record = RunRecord(
        run_id=run_id,
        fingerprint=fingerprint,
        status=RunStatus.QUEUED,
        question={"text": "How much?", "documents": ["doc_1"], "max_cost_usd": "0.05"},
        reply=None,
        error=None,
        created_at=1_700_000_000.25,
        updated_at=1_700_000_000.25,
    )
    return replace(record, **changes)


def result(job_id: str, **changes: Any) -> JobResult:
    made = JobResult(job_id=job_id, chunk_id="doc_1/0", status=JobStatus.ANSWERED, answer="1577")
    return replace(made, **changes)


def response(key: str = "call_1", text: str = "{}") -> CloudResponse:
    usage = CloudUsage(prompt_tokens=9, completion_tokens=3)
    attempts = tuple(
        CloudAttempt(idempotency_key=key, attempt=n, model="m", outcome=outcome, usage=used)
        for n, outcome, used in [(1, AttemptOutcome.TIMEOUT, None), (2, AttemptOutcome.OK, usage)]
    )
    return CloudResponse(
        idempotency_key=key,
        model="m",
        text=text,
        finish_reason="stop",
        usage=usage,
        attempts=attempts,
        elapsed_s=1.5,
    )


def ledger_entry(run_id: str = "run_1", call_key: str = "call_1", attempt: int = 1) -> LedgerEntry:
    return LedgerEntry(
        run_id=run_id,
        kind="cloud",
        model="m",
        purpose="evidence",
        outcome="ok",
        prompt_tokens=900,
        cached_tokens=0,
        completion_tokens=30,
        reasoning_tokens=0,
        cost_nano_usd=123_456_789_012_345,
        price_snapshot="2025-01-01",
        usage_reported=True,
        call_key=call_key,
        attempt=attempt,
        created_at=5.125,
    )


def egress_entry(run_id: str = "run_1", content: bytes = b"caf\xc3\xa9 \0") -> EgressEntry:
    return EgressEntry(
        run_id=run_id,
        call_key="call_1",
        destination="https://api.example.com/v1",
        rung="evidence",
        content=content,
        spans=(("doc_1", 0, 5), ("doc_2", 7, 9)),
        created_at=6.5,
    )


# documents


async def test_a_document_comes_back_whole_and_is_kept_once(store: AnyStore) -> None:
    assert await store.put_document(document())
    assert not await store.put_document(document(name="the same bytes, renamed.txt"))
    assert await store.get_document("doc_1") == document()
    assert await store.list_documents() == [document()]


@PROPERTY
@given(text=ANY_TEXT, name=ANY_TEXT)
async def test_any_text_and_name_come_back(store: AnyStore, text: str, name: str) -> None:
    kept = document(f"doc_{next(FRESH)}", text=text, name=name)
    await store.put_document(kept)
    await store.put_chunks(kept.document_id, "key", chunks_of(kept))
    assert await store.get_document(kept.document_id) == kept
    assert await store.get_chunks(kept.document_id, "key") == chunks_of(kept)


async def test_summaries_are_documents_without_text(store: AnyStore) -> None:
    await store.put_document(document())
    await store.put_document(document("doc_2", text="abc", name="b.txt"))
    first, second = await store.document_summaries()
    assert (first.document_id, first.n_chars, first.n_pages) == ("doc_1", len(TEXT), 2)
    assert (second.name, second.n_chars) == ("b.txt", 3)
    assert second.warnings == ("page 3 has no text",)


async def test_chunks_are_kept_per_key_in_order_and_replaced(store: AnyStore) -> None:
    await store.put_document(document())
    chunks = chunks_of(document())
    assert await store.get_chunks("doc_1", "key") is None
    await store.put_chunks("doc_1", "key", list(reversed(chunks)))
    await store.put_chunks("doc_1", "other key", [])
    assert await store.get_chunks("doc_1", "key") == chunks
    assert await store.get_chunks("doc_1", "other key") == []
    await store.put_chunks("doc_1", "key", chunks[:1])
    assert await store.get_chunks("doc_1", "key") == chunks[:1]
    assert await store.search(["doc_1"], "key", "Delaware", 5) == []


async def test_chunks_of_another_text_are_refused(store: AnyStore) -> None:
    await store.put_document(document())
    chunk = chunks_of(document())[0]
    with pytest.raises(BadRequest, match="not the text of document 'doc_1' from 0 to"):
        await store.put_chunks("doc_1", "key", [replace(chunk, text="something else")])
    with pytest.raises(BadRequest, match="belongs to document 'doc_9'"):
        await store.put_chunks("doc_1", "key", [replace(chunk, document_id="doc_9")])
    assert await store.get_chunks("doc_1", "key") is None


async def test_a_deleted_document_is_forgotten_with_its_chunks(store: AnyStore) -> None:
    for document_id in ("doc_1", "doc_2"):
        await store.put_document(document(document_id))
        await store.put_chunks(document_id, "key", chunks_of(document(document_id)))
    await store.delete_document("doc_1")
    assert [kept.document_id for kept in await store.list_documents()] == ["doc_2"]
    hits = await store.search(["doc_1", "doc_2"], "key", "Delaware", 5)
    assert [hit.chunk_id for hit in hits] == ["doc_2/2"]
    assert await store.put_document(document("doc_1"))
    assert await store.get_chunks("doc_1", "key") is None


# search


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("Which state's laws govern the agreement?", 2),
        ("revenue", 0),
        ("CAPITAL EXPENDITURE", 1),
        ("naive cafe", 1),
        ("naïve café", 1),
        ("cafe\N{COMBINING ACUTE ACCENT}", 1),
        ("was it 1,577.00?", 0),
        ('"Delaware" OR NOT (NEAR* indexed_text:', 2),
    ],
)
async def test_search_finds_the_line(store: AnyStore, query: str, line: int) -> None:
    await store.put_document(document())
    await store.put_chunks("doc_1", "key", chunks_of(document()))
    hits = await store.search(["doc_1"], "key", query, 10)
    assert hits[0].chunk_id == f"doc_1/{line}"
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


async def test_search_keeps_to_documents_key_and_limit(store: AnyStore) -> None:
    for document_id in ("doc_1", "doc_2"):
        await store.put_document(document(document_id))
        await store.put_chunks(document_id, "key", chunks_of(document(document_id)))
    hits = await store.search(["doc_2"], "key", "revenue Delaware expenditure", 10)
    assert {hit.chunk_id for hit in hits} == {"doc_2/0", "doc_2/1", "doc_2/2"}
    assert len(await store.search(["doc_1", "doc_2"], "key", "revenue Delaware", 3)) == 3
    assert await store.search(["doc_1"], "other key", "revenue", 10) == []
    assert await store.search(["doc_9"], "key", "revenue", 10) == []
    assert await store.search([], "key", "revenue", 10) == []
    assert await store.search(["doc_1"], "key", "revenue", 0) == []


async def test_stop_words_count_only_when_alone(store: AnyStore) -> None:
    await store.put_document(document())
    await store.put_chunks("doc_1", "key", chunks_of(document()))
    hits = await store.search(["doc_1"], "key", "the laws", 10)
    assert [hit.chunk_id for hit in hits] == ["doc_1/2"]
    assert len(await store.search(["doc_1"], "key", "the", 10)) == 3


@PROPERTY
@given(query=ANY_TEXT | st.text('"*():^-+{}\0 ANDORTE', max_size=30))
async def test_no_query_raises(store: AnyStore, query: str) -> None:
    await store.put_document(document())
    await store.put_chunks("doc_1", "key", chunks_of(document()))
    hits = await store.search(["doc_1"], "key", query, 10)
    assert len(hits) <= 3


async def test_a_very_long_query_is_answered(store: AnyStore) -> None:
    await store.put_document(document())
    await store.put_chunks("doc_1", "key", chunks_of(document()))
    query = "Delaware " + " ".join(f"word{n}" for n in range(20_000))
    assert [hit.chunk_id for hit in await store.search(["doc_1"], "key", query, 9)] == ["doc_1/2"]


# runs


async def test_a_run_comes_back_as_it_was(store: AnyStore) -> None:
    record = run(reply={"answer": None, "costs": [1, 2.5]}, error={"code": "x"})
    assert await store.open_run(record) == record
    assert await store.get_run("run_1") == record


@pytest.mark.parametrize("status", list(RunStatus))
async def test_only_an_unfinished_run_is_resumed(store: AnyStore, status: RunStatus) -> None:
    first = await store.open_run(run())
    await store.update_run(first.run_id, status)
    opened = await store.open_run(run("run_2"))
    is_resumed = status in (RunStatus.QUEUED, RunStatus.RUNNING)
    assert opened.run_id == ("run_1" if is_resumed else "run_2")
    assert opened.status is (status if is_resumed else RunStatus.QUEUED)


async def test_runs_opened_at_once_with_one_fingerprint_are_one(store: AnyStore) -> None:
    opened = await asyncio.gather(*(store.open_run(run(f"run_{n}")) for n in range(20)))
    assert len({record.run_id for record in opened}) == 1
    assert len(await store.list_runs()) == 1


async def test_a_run_id_is_used_once(store: AnyStore) -> None:
    await store.open_run(run())
    with pytest.raises(BadRequest, match="run 'run_1' exists already"):
        await store.open_run(run(fingerprint="another"))


async def test_an_ended_run_does_not_come_back_beside_its_successor(store: AnyStore) -> None:
    await store.open_run(run())
    await store.update_run("run_1", RunStatus.FAILED, error={"code": "x"})
    await store.open_run(run("run_2"))
    with pytest.raises(BadRequest, match="run 'run_1' can't be running"):
        await store.update_run("run_1", RunStatus.RUNNING)
    assert (await store.get_run("run_1")).status is RunStatus.FAILED


async def test_an_update_sets_what_it_is_given(store: AnyStore) -> None:
    await store.open_run(run())
    await store.update_run("run_1", RunStatus.FINISHED, reply={"answer": "\ud800\0é"})
    await store.update_run("run_1", RunStatus.FINISHED)
    kept = await store.get_run("run_1")
    assert (kept.status, kept.reply, kept.error) == (
        RunStatus.FINISHED,
        {"answer": "\ud800\0é"},
        None,
    )
    assert kept.updated_at > kept.created_at == run().created_at


async def test_a_record_is_not_changed_from_outside(store: AnyStore) -> None:
    reply = {"answer": "a"}
    await store.open_run(run())
    await store.update_run("run_1", RunStatus.FINISHED, reply=reply)
    reply["answer"] = "b"
    assert (await store.get_run("run_1")).reply == {"answer": "a"}


async def test_what_json_can_not_hold_is_refused(store: AnyStore) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        await store.open_run(run(question={"money": object()}))
    assert await store.list_runs() == []


async def test_runs_are_listed_newest_first(store: AnyStore) -> None:
    for n in range(4):
        await store.open_run(run(f"run_{n}", f"print {n}", created_at=float(n % 3)))
    listed = [record.run_id for record in await store.list_runs()]
    assert listed == ["run_2", "run_1", "run_3", "run_0"]
    assert [record.run_id for record in await store.list_runs(limit=1)] == ["run_2"]
    assert await store.list_runs(limit=0) == []


# the journal


async def test_the_first_result_of_a_job_is_kept(store: AnyStore) -> None:
    await store.open_run(run())
    await store.record_job_results("run_1", [result("b"), result("a")])
    await store.record_job_results("run_1", [result("a", answer="other"), result("c")])
    await store.record_job_results("run_1", [])
    kept = await store.job_results("run_1")
    assert list(kept) == ["b", "a", "c"]
    assert kept["a"] == result("a")
    assert await store.job_results("run_9") == {}


ANY_JOB_ID = st.text("abc", min_size=1, max_size=4)
A_NUMBER = st.floats(allow_nan=False)
COUNT = st.integers(0, 2**40)
USAGE = st.builds(
    WorkerUsage,
    prompt_tokens=COUNT,
    prefilled_tokens=COUNT,
    output_tokens=COUNT,
    reasoning_tokens=COUNT,
)
RESULTS = st.builds(
    JobResult,
    job_id=ANY_JOB_ID,
    chunk_id=ANY_TEXT,
    status=st.sampled_from(JobStatus),
    answer=st.none() | ANY_TEXT,
    citation=st.none() | ANY_TEXT,
    margin=st.none() | A_NUMBER,
    logprob=st.none() | A_NUMBER,
    usage=USAGE,
    raw_output=ANY_TEXT,
    error=st.none() | ANY_TEXT,
    elapsed_s=A_NUMBER,
)


@PROPERTY
@given(results=st.lists(RESULTS, max_size=4, unique_by=lambda made: made.job_id))
async def test_results_come_back_without_loss(store: AnyStore, results: list[JobResult]) -> None:
    run_id = f"run {next(FRESH)}"
    await store.open_run(run(run_id, run_id))
    await store.record_job_results(run_id, results)
    assert list((await store.job_results(run_id)).values()) == results


async def test_a_margin_that_is_no_number_comes_back(store: AnyStore) -> None:
    await store.open_run(run())
    await store.record_job_results("run_1", [result("a", margin=math.nan)])
    margin = (await store.job_results("run_1"))["a"].margin
    assert margin is not None
    assert math.isnan(margin)


CLOUD_USAGE = st.builds(
    CloudUsage,
    prompt_tokens=COUNT,
    cached_tokens=COUNT,
    completion_tokens=COUNT,
    reasoning_tokens=COUNT,
)
ATTEMPTS = st.builds(
    CloudAttempt,
    idempotency_key=ANY_TEXT,
    attempt=st.integers(1, 9),
    model=ANY_TEXT,
    outcome=st.sampled_from(AttemptOutcome),
    usage=st.none() | CLOUD_USAGE,
    status_code=st.none() | st.integers(100, 599),
    request_id=st.none() | ANY_TEXT,
    elapsed_s=A_NUMBER,
    error=st.none() | ANY_TEXT,
)
RESPONSES = st.builds(
    CloudResponse,
    idempotency_key=st.just("call"),
    model=ANY_TEXT,
    text=ANY_TEXT,
    finish_reason=st.sampled_from(["stop", "length"]),
    usage=CLOUD_USAGE,
    attempts=st.lists(ATTEMPTS, max_size=3).map(tuple),
    elapsed_s=A_NUMBER,
)


@PROPERTY
@given(bought=RESPONSES)
async def test_responses_come_back_without_loss(store: AnyStore, bought: CloudResponse) -> None:
    bought = replace(bought, idempotency_key=f"call {next(FRESH)}")
    await store.open_run(run())
    await store.record_cloud_response("run_1", bought)
    assert await store.cloud_response("run_1", bought.idempotency_key) == bought


async def test_the_first_answer_of_a_call_is_kept(store: AnyStore) -> None:
    await store.open_run(run())
    await store.record_cloud_response("run_1", response())
    await store.record_cloud_response("run_1", response(text="a second one"))
    assert await store.cloud_response("run_1", "call_1") == response()
    assert await store.cloud_response("run_1", "call_2") is None
    assert await store.cloud_response("run_9", "call_1") is None


async def test_an_answer_and_its_row_are_kept_together(store: AnyStore) -> None:
    await store.open_run(run())
    await store.record_cloud_response("run_1", response(), [ledger_entry()])
    await store.record_cloud_response("run_1", response(), [ledger_entry()])
    assert await store.ledger("run_1") == [ledger_entry()]
    with pytest.raises(NotFound):
        await store.record_cloud_response("nobody", response(), [ledger_entry("nobody")])
    assert await store.ledger("nobody") == []


# money and egress


MIDNIGHT = 20_000 * 86_400.0
NOON = MIDNIGHT + 43_200


def reservation(attempt: int = 1, nano: int = 40, **fields: Any) -> Reservation:
    made = Reservation(
        run_id="run_1", call_key="call", attempt=attempt, nano_usd=nano, created_at=NOON
    )
    return replace(made, **fields)


def priced(attempt: int, nano: int | None, **fields: Any) -> LedgerEntry:
    entry = replace(ledger_entry(attempt=attempt), call_key="call", cost_nano_usd=nano)
    return replace(entry, created_at=NOON, **fields)


async def test_money_is_set_aside_up_to_a_cap_and_not_beyond(store: AnyStore) -> None:
    cap = DayCap(nano_usd=100, since=MIDNIGHT)
    assert await store.reserve(reservation(1), [cap]) is None
    assert await store.reserve(reservation(2, nano=60), [cap]) is None
    assert await store.reserve(reservation(3, nano=1), [cap]) == cap
    assert await store.committed_nano_usd(MIDNIGHT) == 100
    await store.release(reservation(2))
    await store.release(reservation(2))
    assert await store.reserve(reservation(3, nano=60), [cap]) is None
    kept = await store.reservations(run_id="run_1", since=NOON)
    assert sorted(kept, key=lambda one: one.attempt) == [reservation(1), reservation(3, nano=60)]
    assert await store.reservations(since=NOON + 1) == []
    assert await store.reservations(run_id="run_2") == []


async def test_a_known_price_settles_a_reservation_and_an_unknown_one_does_not(
    store: AnyStore,
) -> None:
    for attempt in (1, 2, 3):
        assert await store.reserve(reservation(attempt), []) is None
    await store.record_ledger([priced(1, 7), priced(2, None)])
    assert await store.committed_nano_usd(MIDNIGHT) == 7 + 40 + 40
    await store.record_ledger([priced(4, 5, kind="local"), priced(3, 0)])
    assert await store.committed_nano_usd(MIDNIGHT) == 7 + 40


async def test_a_day_counts_its_own_calls_and_those_under_way_at_midnight(store: AnyStore) -> None:
    before = MIDNIGHT - 60
    await store.reserve(reservation(1, created_at=before), [])
    await store.reserve(reservation(2, created_at=before - CALL_S), [])
    await store.reserve(reservation(3, created_at=before), [])
    await store.record_ledger([replace(priced(3, None), created_at=before + 1)])
    await store.record_ledger([replace(priced(4, 9), created_at=before)])
    assert await store.committed_nano_usd(MIDNIGHT) == 40


async def test_the_first_cap_that_would_be_passed_is_told_and_owners_are_apart(
    store: AnyStore,
) -> None:
    for owner in ("ann", "bob"):
        await store.open_run(run(f"run_{owner}", owner, owner=owner))
    house = DayCap(nano_usd=100, since=MIDNIGHT)
    ann, bob = (DayCap(nano_usd=50, since=MIDNIGHT, owner=owner) for owner in ("ann", "bob"))
    assert await store.reserve(reservation(run_id="run_ann"), [ann, house]) is None
    assert await store.reserve(reservation(2, run_id="run_ann"), [ann, house]) == ann
    assert await store.reserve(reservation(run_id="run_bob"), [bob, house]) is None
    assert await store.reserve(reservation(run_id="run_1", nano=21), [house]) == house
    assert await store.committed_nano_usd(MIDNIGHT, "ann") == 40
    assert await store.committed_nano_usd(MIDNIGHT) == 80


async def test_of_reservations_at_once_only_what_fits_is_made(store: AnyStore) -> None:
    cap = DayCap(nano_usd=100, since=MIDNIGHT)
    made = await asyncio.gather(*(store.reserve(reservation(n), [cap]) for n in range(1, 9)))
    assert made.count(None) == 2
    assert await store.committed_nano_usd(MIDNIGHT) == 80


async def test_the_ledger_keeps_each_attempt_once_in_order(store: AnyStore) -> None:
    entries = [ledger_entry(attempt=n) for n in (2, 1)]
    await store.record_ledger(entries)
    await store.record_ledger([replace(entries[0], cost_nano_usd=0), ledger_entry("run_2")])
    await store.record_ledger([])
    assert await store.ledger("run_1") == entries
    assert await store.ledger() == [*entries, ledger_entry("run_2")]
    assert await store.ledger("run_9") == []


async def test_unknown_cost_stays_unknown(store: AnyStore) -> None:
    entry = replace(ledger_entry(), cost_nano_usd=None, price_snapshot=None, usage_reported=False)
    await store.record_ledger([entry])
    assert await store.ledger() == [entry]


async def test_ledger_and_egress_outlive_the_document(store: AnyStore) -> None:
    await store.put_document(document())
    await store.open_run(run())
    await store.record_ledger([ledger_entry()])
    await store.record_egress(egress_entry())
    await store.delete_document("doc_1")
    assert await store.ledger("run_1") == [ledger_entry()]
    assert await store.egress("run_1") == [egress_entry()]


async def test_every_departure_is_recorded_also_of_the_same_call(store: AnyStore) -> None:
    await store.open_run(run())
    await store.open_run(run("run_2", "other"))
    for entry in (egress_entry(), egress_entry(), egress_entry("run_2", b"")):
        await store.record_egress(entry)
    assert await store.egress("run_1") == [egress_entry(), egress_entry()]
    assert len(await store.egress()) == 3
    assert await store.egress("run_9") == []


# traces


async def test_a_trace_is_replaced_when_the_run_goes_on(store: AnyStore) -> None:
    await store.open_run(run())
    await store.put_trace("run_1", {"hops": [1]})
    await store.put_trace("run_1", {"hops": [1, {"name": "é\ud800"}]})
    assert await store.get_trace("run_1") == {"hops": [1, {"name": "é\ud800"}]}


# owners


async def test_the_same_bytes_belong_to_two_owners_under_their_own_names(store: AnyStore) -> None:
    assert await store.put_document(document(name="mine.txt"), "ann")
    assert await store.put_document(document(name="yours.txt"), "bob")
    assert not await store.put_document(document(name="again.txt"), "bob")
    assert (await store.get_document("doc_1", "ann")).name == "mine.txt"
    assert (await store.get_document("doc_1", "bob")) == document(name="yours.txt")
    assert (await store.document_summary("doc_1", "bob")).name == "yours.txt"
    assert (await store.get_document("doc_1")).name == "mine.txt"
    assert len(await store.list_documents()) == 1


async def test_what_belongs_to_others_is_not_found(store: AnyStore) -> None:
    await store.put_document(document(), "ann")
    await store.put_collection(collection("col_1", "ann"))
    await store.open_run(run(owner="ann"))
    for question in (
        store.get_document("doc_1", "bob"),
        store.document_summary("doc_1", "bob"),
        store.delete_document("doc_1", "bob"),
        store.document_page("bob", Wanted(after="doc_1")),
        store.run_page("bob", Wanted(after="run_1")),
        store.get_collection("col_1", "bob"),
        store.delete_collection("col_1", "bob"),
        store.collection_page("bob", Wanted(after="col_1")),
        store.put_collection(collection("col_2", "bob")),
    ):
        with pytest.raises(NotFound):
            await question
    assert (await store.document_page("bob", Wanted())).items == ()
    assert (await store.run_page("bob", Wanted())).items == ()
    assert (await store.collection_page("bob", Wanted())).items == ()
    assert await store.list_runs(owner="bob") == []


async def test_the_text_goes_with_its_last_owner(store: AnyStore) -> None:
    for owner in ("ann", "bob"):
        await store.put_document(document(), owner)
    await store.put_file("doc_1", b"the file")
    await store.put_chunks("doc_1", "key", chunks_of(document()))
    await store.delete_document("doc_1", "ann")
    assert await store.get_file("doc_1") == b"the file"
    assert await store.get_chunks("doc_1", "key") is not None
    await store.delete_document("doc_1", "bob")
    for question in (store.get_file("doc_1"), store.get_document("doc_1")):
        with pytest.raises(NotFound):
            await question
    assert await store.search(["doc_1"], "key", "Delaware", 5) == []


async def test_ledger_and_egress_are_told_apart_by_owner(store: AnyStore) -> None:
    for owner in ("ann", "bob"):
        await store.open_run(run(f"run_{owner}", owner, owner=owner))
        await store.record_ledger([ledger_entry(f"run_{owner}")])
        await store.record_egress(egress_entry(f"run_{owner}"))
    assert await store.ledger(owner="ann") == [ledger_entry("run_ann")]
    assert await store.ledger("run_bob", owner="ann") == []
    assert await store.egress(owner="bob") == [egress_entry("run_bob")]
    assert len(await store.ledger()) == len(await store.egress()) == 2


# what was derived from a document


async def test_a_deleted_document_takes_what_its_owners_runs_derived(store: AnyStore) -> None:
    for owner in ("ann", "bob"):
        await store.put_document(document(), owner)
        await finished_run(store, owner)
    await store.delete_document("doc_1", "ann")
    assert await store.job_results("run_ann") == {}
    assert await store.cloud_response("run_ann", "call_1") is None
    assert await store.events("run_ann") == []
    assert await store.known_job_results(["job"], "ann") == {}
    with pytest.raises(NotFound):
        await store.get_trace("run_ann")
    reply = (await store.get_run("run_ann")).reply
    assert reply is not None
    assert (reply["answer"], reply["citations"], reply["cost"]) == (None, [], {"cloud_usd": 0.5})
    assert await store.job_results("run_bob") != {}
    assert (await store.get_run("run_bob")).reply == REPLY
    assert await store.ledger("run_ann") == [ledger_entry("run_ann")]


async def test_an_unfinished_run_of_a_deleted_document_is_cancelled(store: AnyStore) -> None:
    await store.put_document(document())
    await store.open_run(run())
    await store.delete_document("doc_1")
    ended = await store.get_run("run_1")
    assert ended.status is RunStatus.CANCELLED
    assert ended.error == {"code": "document_deleted", "message": "A document of it was deleted."}
    assert await store.unfinished_runs() == []


REPLY = {"answer": "Delaware", "citations": [{"quote": "laws"}], "cost": {"cloud_usd": 0.5}}


async def finished_run(store: AnyStore, owner: str) -> None:
    run_id = f"run_{owner}"
    await store.open_run(run(run_id, owner, owner=owner))
    await store.record_job_results(run_id, [result("job")])
    await store.record_cloud_response(run_id, response())
    await store.record_ledger([ledger_entry(run_id)])
    await store.record_events([event(run_id, 1)])
    await store.put_trace(run_id, {"steps": []})
    await store.update_run(run_id, RunStatus.FINISHED, reply=REPLY)


# answers over OpenAI's API


def stored(response_id: str = "resp_1", **fields: Any) -> StoredResponse:
    kept = StoredResponse(
        response_id=response_id,
        owner="ann",
        body={"id": response_id, "output": ["naïve"]},
        said=({"role": "user", "content": "Which law?"},),
        document_ids=("doc_1", "doc_2"),
        created_at=NOON,
    )
    return replace(kept, **fields)


async def test_an_answer_is_its_owners_until_it_is_deleted(store: AnyStore) -> None:
    await store.put_response(stored())
    await store.put_response(stored(body={"another": 1}))
    assert await store.get_response("resp_1", "ann") == stored()
    for gone in (store.get_response("resp_1", "bob"), store.delete_response("resp_1", "bob")):
        with pytest.raises(NotFound):
            await gone
    await store.delete_response("resp_1", "ann")
    with pytest.raises(NotFound):
        await store.get_response("resp_1", "ann")
    with pytest.raises(NotFound):
        await store.delete_response("resp_1", "ann")


async def test_an_answer_goes_with_a_document_of_its_owners(store: AnyStore) -> None:
    for owner in ("ann", "bob"):
        await store.put_document(document(), owner)
        await store.put_response(stored(f"resp_{owner}", owner=owner))
    await store.put_response(stored("resp_other", document_ids=("doc_2",)))
    await store.delete_document("doc_1", "ann")
    with pytest.raises(NotFound):
        await store.get_response("resp_ann", "ann")
    assert (await store.get_response("resp_bob", "bob")).response_id == "resp_bob"
    assert (await store.get_response("resp_other", "ann")).response_id == "resp_other"


async def test_old_answers_go_when_new_ones_come(store: AnyStore) -> None:
    await store.put_response(stored("resp_old", document_ids=()))
    await store.put_response(stored("resp_new", created_at=NOON + RESPONSE_S + 1))
    with pytest.raises(NotFound):
        await store.get_response("resp_old", "ann")
    assert (await store.get_response("resp_new", "ann")).document_ids == ("doc_1", "doc_2")


async def test_what_is_finished_has_no_error(store: AnyStore) -> None:
    await store.open_run(run())
    await store.update_run("run_1", RunStatus.FAILED, error={"code": "x"})
    await store.update_run("run_1", RunStatus.RUNNING)
    await store.update_run("run_1", RunStatus.FINISHED, reply={"answer": "Delaware"})
    ended = await store.get_run("run_1")
    assert (ended.error, ended.reply) == (None, {"answer": "Delaware"})


# readings that are known


async def test_known_results_are_the_owners_own_and_never_failed_ones(store: AnyStore) -> None:
    await store.open_run(run(owner="ann"))
    failed = result("c", status=JobStatus.FAILED, answer=None, error="x")
    abstained = result("b", status=JobStatus.ABSTAINED, answer=None)
    await store.record_job_results("run_1", [result("a"), abstained, failed])
    wanted = [f"job {n}" for n in range(1200)] + ["a", "b", "c"]
    assert await store.known_job_results(wanted, "ann") == {"a": result("a"), "b": abstained}
    assert await store.known_job_results(wanted, "bob") == {}
    assert await store.known_job_results([], "ann") == {}


async def test_the_newest_known_result_counts(store: AnyStore) -> None:
    for n in (1, 2):
        await store.open_run(run(f"run_{n}", f"print {n}"))
        await store.record_job_results(f"run_{n}", [result("a", answer=str(n))])
    known = await store.known_job_results(["a"], LOCAL_OWNER)
    assert known["a"].answer == "2"


# lists


PAGES = st.tuples(st.integers(1, 5), st.booleans(), st.integers(0, 9))


@PROPERTY
@given(wish=PAGES)
async def test_lists_come_in_parts_without_gaps(
    store: AnyStore, wish: tuple[int, bool, int]
) -> None:
    limit, newest_first, n_items = wish
    owner = f"owner {next(FRESH)}"
    for n in range(n_items):
        name = f"{owner}/{n}"
        await store.put_document(document(name), owner)
        await store.open_run(run(name, name, owner=owner, created_at=float(n // 2)))
        await store.put_collection(collection(name, owner, name, created_at=float(n // 2)))
    ids = [f"{owner}/{n}" for n in range(n_items)]
    expected = ids[::-1] if newest_first else ids
    for page, id_name in (
        (store.document_page, "document_id"),
        (store.run_page, "run_id"),
        (store.collection_page, "collection_id"),
    ):
        assert await walk(page, id_name, owner, limit, newest_first) == expected


async def walk(page: Any, id_name: str, owner: str, limit: int, newest_first: bool) -> list[str]:
    """Ids of a whole list, part by part."""
    ids: list[str] = []
    after = None
    while True:
        part = await page(owner, Wanted(limit=limit, after=after, newest_first=newest_first))
        assert len(part.items) <= limit
        ids += [getattr(item, id_name) for item in part.items]
        if not part.has_more:
            return ids
        assert len(part.items) == limit
        after = ids[-1]


async def test_unfinished_runs_are_listed_oldest_first(store: AnyStore) -> None:
    for n, status in enumerate(RunStatus):
        await store.open_run(run(f"run_{n}", f"print {n}", created_at=float(-n)))
        await store.update_run(f"run_{n}", status)
    statuses = [found.status for found in await store.unfinished_runs()]
    assert statuses == [RunStatus.RUNNING, RunStatus.QUEUED]


async def test_a_run_under_its_own_id_and_question_comes_back_in_any_state(
    store: AnyStore,
) -> None:
    await store.open_run(run())
    await store.update_run("run_1", RunStatus.FINISHED, reply=REPLY)
    again = await store.open_run(run())
    assert (again.status, again.reply) == (RunStatus.FINISHED, REPLY)


# files, collections, events, keys, claims


def collection(
    collection_id: str, owner: str, *document_ids: str, created_at: float = 5.0
) -> Collection:
    return Collection(
        collection_id=collection_id,
        owner=owner,
        name="contracts",
        document_ids=document_ids or ("doc_1",),
        created_at=created_at,
    )


def event(run_id: str, sequence: int, kind: str = "job") -> RunEvent:
    return RunEvent(run_id=run_id, sequence=sequence, kind=kind, data={"n": sequence})


async def test_a_file_comes_back_byte_for_byte_and_the_first_stays(store: AnyStore) -> None:
    content = bytes(range(256)) * 5
    await store.put_document(document())
    with pytest.raises(NotFound, match="original file of document 'doc_1'"):
        await store.get_file("doc_1")
    await store.put_file("doc_1", content)
    await store.put_file("doc_1", b"other")
    assert await store.get_file("doc_1") == content
    with pytest.raises(NotFound, match="'nobody'"):
        await store.put_file("nobody", content)


async def test_a_collection_keeps_its_order_and_loses_deleted_documents(store: AnyStore) -> None:
    for name in ("doc_2", "doc_1"):
        await store.put_document(document(name))
    made = collection("col_1", LOCAL_OWNER, "doc_2", "doc_1", "doc_2")
    await store.put_collection(made)
    await store.put_collection(replace(made, name="the same id again", document_ids=("doc_1",)))
    kept = await store.get_collection("col_1", LOCAL_OWNER)
    assert kept == replace(made, document_ids=("doc_2", "doc_1"))
    await store.delete_document("doc_2")
    assert (await store.get_collection("col_1", LOCAL_OWNER)).document_ids == ("doc_1",)
    await store.delete_collection("col_1", LOCAL_OWNER)
    with pytest.raises(NotFound, match="'col_1'"):
        await store.get_collection("col_1", LOCAL_OWNER)
    assert await store.get_document("doc_1")


async def test_events_come_back_in_order_after_any_number(store: AnyStore) -> None:
    await store.open_run(run())
    await store.record_events([event("run_1", 2), event("run_1", 1), event("nobody", 1)])
    await store.record_events([event("run_1", 2, "another"), event("run_1", 3)])
    await store.record_events([])
    assert await store.events("run_1") == [event("run_1", n) for n in (1, 2, 3)]
    assert await store.events("run_1", after=2) == [event("run_1", 3)]
    assert await store.events("run_1", after=3) == await store.events("nobody") == []


def api_key(key_id: str = "key_1", **changes: Any) -> ApiKey:
    made = ApiKey(
        key_id=key_id,
        token_sha256=f"hash of {key_id}",
        name="Ann's \ud800 laptop",
        scopes=("ask", "documents"),
        requests_per_minute=60,
        usd_per_day=Decimal("1.500000001"),
        created_at=3.5,
    )
    return replace(made, **changes)


async def test_a_key_is_found_by_its_hash_and_stays_revoked(store: AnyStore) -> None:
    second = api_key("key_2", usd_per_day=None, requests_per_minute=None, scopes=())
    for key in (api_key(), second):
        await store.put_key(key)
    assert await store.find_key("hash of key_1") == api_key()
    assert await store.find_key("hash of nobody") is None
    await store.revoke_key("key_1", 9.0)
    await store.revoke_key("key_1", 10.0)
    assert await store.find_key("hash of key_1") == api_key(revoked_at=9.0)
    assert await store.list_keys() == [api_key(revoked_at=9.0), second]
    with pytest.raises(NotFound, match="'nobody'"):
        await store.revoke_key("nobody", 1.0)


async def test_a_key_is_put_once(store: AnyStore) -> None:
    await store.put_key(api_key())
    for twin in (api_key(token_sha256="other"), api_key("key_2", token_sha256="hash of key_1")):
        with pytest.raises(BadRequest, match="exists already"):
            await store.put_key(twin)


async def test_the_first_claim_of_a_key_stands(store: AnyStore) -> None:
    first = Claim(owner="ann", claim_key="k", digest="d", resource_id="run_1", created_at=1.0)
    later = replace(first, digest="e", resource_id="run_2")
    assert await store.claim(first) == first
    assert await store.claim(later) == first
    assert await store.claim(replace(later, owner="bob")) == replace(later, owner="bob")
    claimed = await asyncio.gather(
        *(store.claim(replace(later, claim_key="race", resource_id=str(n))) for n in range(9))
    )
    assert len(set(claimed)) == 1


async def test_a_store_in_order_says_so(store: AnyStore) -> None:
    await store.check()


# unknown ids


async def test_an_unknown_id_is_named_in_the_error(store: AnyStore) -> None:
    asked = [
        store.get_document("nobody"),
        store.delete_document("nobody"),
        store.put_chunks("nobody", "key", []),
        store.get_chunks("nobody", "key"),
        store.get_run("nobody"),
        store.update_run("nobody", RunStatus.RUNNING),
        store.record_job_results("nobody", [result("a")]),
        store.record_cloud_response("nobody", response()),
        store.record_egress(egress_entry("nobody")),
        store.put_trace("nobody", {}),
        store.get_trace("nobody"),
    ]
    for question in asked:
        with pytest.raises(NotFound, match="'nobody'"):
            await question
