"""What every store promises, asked of each one that ships."""

from __future__ import annotations

import asyncio
import itertools
import math
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minions.cloud.model import AttemptOutcome, CloudAttempt, CloudResponse, CloudUsage
from minions.documents.model import Chunk, Document, Page
from minions.errors import BadRequest, NotFound
from minions.store import MemoryStore, SqlStore, open_store
from minions.store.model import EgressEntry, LedgerEntry, RunRecord, RunStatus, Store
from workers.jobs import JobResult, JobStatus, WorkerUsage

AnyStore = SqlStore | MemoryStore
STORES: tuple[type[Store], ...] = (SqlStore, MemoryStore)
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


@pytest_asyncio.fixture(params=["memory", "sqlite-file", "sqlite-memory"])
async def store(
    request: pytest.FixtureRequest, empty_file: Path, tmp_path: Path
) -> AsyncIterator[AnyStore]:
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


# money and egress


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
