"""A store in plain dictionaries: gone with the process, for tests and for leaving no trace."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from minions.cloud.model import CloudResponse
from minions.documents.model import Chunk, Document
from minions.store.bm25 import bm25_scores
from minions.store.errors import unknown
from minions.store.memory_service import MemoryService
from minions.store.model import (
    LOCAL_OWNER,
    DayCap,
    EgressEntry,
    LedgerEntry,
    Reservation,
    RunRecord,
    RunStatus,
    SearchHit,
)
from minions.store.rules import (
    CALL_S,
    DOCUMENT_DELETED,
    UNFINISHED,
    documents_of,
    question_in_progress,
    require_same_text,
    run_id_taken,
    without_derived,
)
from minions.store.summary import DocumentSummary
from minions.store.words import folded, query_words, words
from workers.jobs import JobResult, JobStatus


class MemoryStore(MemoryService):
    """`ServiceStore` without a disk: same answers, same errors, nothing survives. Words are
    searched for as they are written, without the stems that the database knows."""

    def __init__(self) -> None:
        """An empty store."""
        super().__init__()
        self._chunks: dict[tuple[str, str], list[Chunk]] = {}
        self._job_results: dict[str, dict[str, JobResult]] = {}
        self._cloud_responses: dict[tuple[str, str], CloudResponse] = {}
        self._ledger: dict[tuple[str, str, int], LedgerEntry] = {}
        self._reservations: dict[tuple[str, str, int], Reservation] = {}
        self._egress: list[EgressEntry] = []
        self._traces: dict[str, dict[str, Any]] = {}

    async def put_document(self, document: Document, owner: str = LOCAL_OWNER) -> bool:
        """Keep a document; False when that owner has it already."""
        self._documents.setdefault(document.document_id, document)
        key = (owner, document.document_id)
        is_new = key not in self._owned
        self._owned.setdefault(key, (document.name, time.time()))
        return is_new

    async def get_document(self, document_id: str, owner: str | None = None) -> Document:
        """Raises NotFound."""
        document = self._known_document(document_id)
        if owner is None:
            return document
        if (owner, document_id) not in self._owned:
            raise unknown("document", document_id)
        return replace(document, name=self._owned[owner, document_id][0])

    async def list_documents(self) -> list[Document]:
        """Oldest first."""
        return list(self._documents.values())

    async def document_summaries(self) -> list[DocumentSummary]:
        """All documents without their texts, for each of their owners, oldest first."""
        return [self._summary(*key) for key in self._owned]

    async def delete_document(self, document_id: str, owner: str = LOCAL_OWNER) -> None:
        """Forget a document and all that was derived from it. Raises NotFound."""
        if self._owned.pop((owner, document_id), None) is None:
            raise unknown("document", document_id)
        self._forget_derived(document_id, owner)
        if not any(key[1] == document_id for key in self._owned):
            del self._documents[document_id]
            self._files.pop(document_id, None)
            self._chunks = {k: kept for k, kept in self._chunks.items() if k[0] != document_id}

    async def put_chunks(
        self, document_id: str, chunking_key: str, chunks: Sequence[Chunk]
    ) -> None:
        """Replaces. Raises NotFound, and BadRequest for chunks of other text."""
        require_same_text(self._known_document(document_id), chunks)
        in_order = sorted(chunks, key=lambda chunk: chunk.index)
        self._chunks[document_id, chunking_key] = in_order

    async def get_chunks(self, document_id: str, chunking_key: str) -> list[Chunk] | None:
        """In order; None when not chunked under that key. Raises NotFound."""
        self._known_document(document_id)
        kept = self._chunks.get((document_id, chunking_key))
        return None if kept is None else list(kept)

    async def search(
        self, document_ids: Sequence[str], chunking_key: str, query: str, limit: int
    ) -> list[SearchHit]:
        """Best first, by BM25 over words without diacritics. Any text is a valid query."""
        texts = {
            chunk.chunk_id: folded(words(chunk.text))
            for document_id in document_ids
            for chunk in self._chunks.get((document_id, chunking_key), [])
        }
        scores = bm25_scores(texts, folded(query_words(query)))
        best = sorted(scores.items(), key=lambda item: -item[1])[: max(limit, 0)]
        return [SearchHit(chunk_id=chunk_id, score=score) for chunk_id, score in best]

    async def open_run(self, record: RunRecord) -> RunRecord:
        """Keep a new run, or return the queued or running one with the same fingerprint."""
        unfinished = self._unfinished(record.fingerprint)
        if unfinished is not None:
            return _copied(unfinished)
        same_id = self._runs.get(record.run_id)
        if same_id is not None and same_id.fingerprint == record.fingerprint:
            return _copied(same_id)
        if same_id is not None:
            raise run_id_taken(record.run_id)
        self._runs[record.run_id] = _copied(record)
        return record

    async def get_run(self, run_id: str) -> RunRecord:
        """Raises NotFound."""
        return _copied(self._known_run(run_id))

    async def list_runs(self, limit: int = 50, owner: str | None = None) -> list[RunRecord]:
        """Newest first."""
        newest_first = sorted(
            (run for run in self._runs.values() if owner in (None, run.owner)),
            key=lambda run: (run.created_at, run.run_id),
            reverse=True,
        )
        return [_copied(run) for run in newest_first[: max(limit, 0)]]

    async def update_run(
        self,
        run_id: str,
        status: RunStatus,
        *,
        reply: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        """Set the status; a reply or error of None leaves what is there, but what is finished has
        no error. Raises NotFound."""
        run = self._known_run(run_id)
        rival = self._unfinished(run.fingerprint)
        if status in UNFINISHED and rival is not None and rival.run_id != run_id:
            raise question_in_progress(run_id, status)
        changed = replace(
            run,
            status=status,
            reply=run.reply if reply is None else reply,
            error=error or (None if status is RunStatus.FINISHED else run.error),
            updated_at=time.time(),
        )
        self._runs[run_id] = _copied(changed)

    async def record_job_results(self, run_id: str, results: Sequence[JobResult]) -> None:
        """A job id recorded before is kept as it was. Raises NotFound."""
        if results:
            self._known_run(run_id)
        kept = self._job_results.setdefault(run_id, {})
        for result in results:
            kept.setdefault(result.job_id, result)

    async def job_results(self, run_id: str) -> dict[str, JobResult]:
        """By job id; empty for an unknown run."""
        return dict(self._job_results.get(run_id, {}))

    async def known_job_results(self, job_ids: Sequence[str], owner: str) -> dict[str, JobResult]:
        """Answered and abstained ones of this owner's runs, the newest of each job."""
        wanted = set(job_ids)
        return {
            job_id: result
            for run_id, results in self._job_results.items()
            if self._runs[run_id].owner == owner
            for job_id, result in results.items()
            if job_id in wanted and result.status is not JobStatus.FAILED
        }

    async def record_cloud_response(
        self, run_id: str, response: CloudResponse, entries: Sequence[LedgerEntry] = ()
    ) -> None:
        """A second answer to the same call is not kept. Raises NotFound."""
        self._known_run(run_id)
        self._cloud_responses.setdefault((run_id, response.idempotency_key), response)
        await self.record_ledger(entries)

    async def cloud_response(self, run_id: str, idempotency_key: str) -> CloudResponse | None:
        """None when that call has no recorded answer in that run."""
        return self._cloud_responses.get((run_id, idempotency_key))

    async def record_ledger(self, entries: Sequence[LedgerEntry]) -> None:
        """Append; an entry whose (run_id, call_key, attempt) is there already is not doubled."""
        for entry in entries:
            self._ledger.setdefault((entry.run_id, entry.call_key, entry.attempt), entry)

    async def ledger(
        self, run_id: str | None = None, *, owner: str | None = None
    ) -> list[LedgerEntry]:
        """Of one run or all, of one owner or all, in the order of recording."""
        return [
            entry for entry in self._ledger.values() if self._is_of(entry.run_id, run_id, owner)
        ]

    async def reserve(self, wanted: Reservation, caps: Sequence[DayCap]) -> DayCap | None:
        """The cap that would be passed; None when the money is set aside."""
        for cap in caps:
            if self._committed(cap.since, cap.owner) + wanted.nano_usd > cap.nano_usd:
                return cap
        self._reservations[wanted.run_id, wanted.call_key, wanted.attempt] = wanted
        return None

    async def release(self, unused: Reservation) -> None:
        """It need not be there."""
        self._reservations.pop((unused.run_id, unused.call_key, unused.attempt), None)

    async def reservations(
        self, *, run_id: str | None = None, since: float = 0.0
    ) -> list[Reservation]:
        """Those made since a Unix time, settled ones too; of one run or all."""
        return [
            one
            for one in self._reservations.values()
            if one.created_at >= since and run_id in (None, one.run_id)
        ]

    async def committed_nano_usd(self, since: float, owner: str | None = None) -> int:
        """What cloud calls since a Unix time cost, with all that is set aside for others."""
        return self._committed(since, owner)

    async def record_egress(self, entry: EgressEntry) -> None:
        """Raises NotFound for an unknown run: send nothing then."""
        self._known_run(entry.run_id)
        self._egress.append(entry)

    async def egress(
        self, run_id: str | None = None, *, owner: str | None = None
    ) -> list[EgressEntry]:
        """Of one run or all, of one owner or all, in the order of recording."""
        return [entry for entry in self._egress if self._is_of(entry.run_id, run_id, owner)]

    async def put_trace(self, run_id: str, trace: dict[str, Any]) -> None:
        """Keep or replace. Raises NotFound."""
        self._known_run(run_id)
        self._traces[run_id] = _json_copy(trace)

    async def get_trace(self, run_id: str) -> dict[str, Any]:
        """Raises NotFound."""
        if run_id not in self._traces:
            raise unknown("trace of run", run_id)
        trace: dict[str, Any] = _json_copy(self._traces[run_id])
        return trace

    async def close(self) -> None:
        """Nothing to close; what is kept stays until the store itself goes."""

    def _committed(self, since: float, owner: str | None) -> int:
        rows = [
            row
            for row in self._ledger.values()
            if row.kind == "cloud"
            and row.created_at >= since
            and self._is_of(row.run_id, None, owner)
        ]
        known = sum(row.cost_nano_usd or 0 for row in rows)
        held = (one for one in self._reservations.values() if self._is_held(one, since))
        return known + sum(one.nano_usd for one in held if self._is_of(one.run_id, None, owner))

    def _is_held(self, one: Reservation, since: float) -> bool:
        """Whether it counts among what calls since then come to."""
        row = self._ledger.get((one.run_id, one.call_key, one.attempt))
        if row is None:
            return one.created_at >= since - CALL_S
        return row.cost_nano_usd is None and row.created_at >= since

    def _is_of(self, run_id: str, wanted: str | None, owner: str | None) -> bool:
        of_owner = owner is None or (run_id in self._runs and self._runs[run_id].owner == owner)
        return wanted in (None, run_id) and of_owner

    def _forget_derived(self, document_id: str, owner: str) -> None:
        for collection in list(self._collections.values()):
            if collection.owner == owner:
                left = tuple(kept for kept in collection.document_ids if kept != document_id)
                self._collections[collection.collection_id] = replace(collection, document_ids=left)
        self._responses = {
            key: kept
            for key, kept in self._responses.items()
            if kept.owner != owner or document_id not in kept.document_ids
        }
        for run in list(self._runs.values()):
            if run.owner == owner and document_id in documents_of(run.question):
                self._runs[run.run_id] = _forgotten(run)
                self._forget_run(run.run_id)

    def _forget_run(self, run_id: str) -> None:
        self._job_results.pop(run_id, None)
        self._traces.pop(run_id, None)
        self._events.pop(run_id, None)
        self._cloud_responses = {
            key: kept for key, kept in self._cloud_responses.items() if key[0] != run_id
        }

    def _known_document(self, document_id: str) -> Document:
        if document_id not in self._documents:
            raise unknown("document", document_id)
        return self._documents[document_id]

    def _known_run(self, run_id: str) -> RunRecord:
        if run_id not in self._runs:
            raise unknown("run", run_id)
        return self._runs[run_id]

    def _unfinished(self, fingerprint: str) -> RunRecord | None:
        for run in self._runs.values():
            if run.fingerprint == fingerprint and run.status in UNFINISHED:
                return run
        return None


def _forgotten(run: RunRecord) -> RunRecord:
    """The run without what it derived from its documents; an unfinished one is cancelled."""
    reply = None if run.reply is None else without_derived(run.reply)
    if run.status not in UNFINISHED:
        return replace(run, reply=reply)
    return replace(run, reply=reply, status=RunStatus.CANCELLED, error=_json_copy(DOCUMENT_DELETED))


def _copied(run: RunRecord) -> RunRecord:
    """Its JSON is the store's own, so that a caller who changes a reply changes no record."""
    return replace(
        run,
        question=_json_copy(run.question),
        reply=_json_copy(run.reply),
        error=_json_copy(run.error),
    )


def _json_copy(value: Any) -> Any:
    return json.loads(json.dumps(value))
