"""What is kept on disk, and the seam to it.

One `Store` holds documents, runs with their journal, the ledger and the egress record. SQLite is
the embedded default, PostgreSQL comes by URL; both pass the same contract tests.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from minions.cloud.model import CloudResponse
from minions.documents.model import Chunk, Document
from workers.jobs import JobResult

LOCAL_OWNER = "local"
"""Owner of all that is made without a key: on the command line, or on loopback."""


class RunStatus(enum.StrEnum):
    """State of one question's run."""

    QUEUED = "queued"
    """Accepted and on disk; nothing done yet."""
    RUNNING = "running"
    """Being worked on, or its process died: the journal tells, and a later run takes it up."""
    FINISHED = "finished"
    """Has a reply (which may be an abstention)."""
    FAILED = "failed"
    """Has an error."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One question's run. `question` and `reply` are JSON objects as the faces show them."""

    run_id: str
    fingerprint: str
    """Hash of documents, question and options: an unfinished run with the same one is resumed."""
    status: RunStatus
    question: dict[str, Any]
    reply: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: float
    """Unix time, seconds."""
    updated_at: float
    owner: str = LOCAL_OWNER
    """Whose question it is; shown to no other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerEntry:
    """One model call, local or cloud, failed or retried (Law 2). Append-only."""

    run_id: str
    kind: str
    """`local` or `cloud`."""
    model: str
    purpose: str
    """The rung or step that made the call."""
    outcome: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost_nano_usd: int | None
    """Integer billionths of a dollar; None when unknown, 0 only when really free."""
    price_snapshot: str | None
    usage_reported: bool
    """False where the provider reported no usage for this attempt."""
    call_key: str
    """Idempotency key of the call; job id for local ones. (call_key, attempt) is unique."""
    attempt: int
    created_at: float
    completion_id: str | None = None
    """The provider's id of the completion; None for local calls and where none came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """Money set aside for one cloud attempt, before it is made. It holds until the attempt's row
    with a known price is in the ledger; without one it counts as spent."""

    run_id: str
    call_key: str
    attempt: int
    nano_usd: int
    """The worst that the attempt may cost."""
    created_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DayCap:
    """What the calls of a day may come to."""

    nano_usd: int
    since: float
    """Unix time at which the day began."""
    owner: str | None = None
    """Whose calls count; None for everybody's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EgressEntry:
    """Bytes that are about to leave the machine: written before they do (Law 5)."""

    run_id: str
    call_key: str
    destination: str
    """Base URL, without credentials."""
    rung: str
    content: bytes
    """The request's text as it leaves, byte for byte."""
    spans: tuple[tuple[str, int, int], ...]
    """(document_id, start, end) of every piece of a document in it."""
    created_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchHit:
    """A chunk that matches a query, best first."""

    chunk_id: str
    score: float
    """Higher is better; comparable within one query only."""


class Store(Protocol):
    """Everything durable. A method that writes returns only when the data would survive kill -9
    of this process; `record_cloud_response` and `record_egress` also survive power loss."""

    # documents
    async def put_document(self, document: Document, owner: str = LOCAL_OWNER) -> bool:
        """Keep a document for an owner; False when that one has it already. The same bytes may
        belong to several owners, each with a name of its own; the text is kept once."""
        ...

    async def get_document(self, document_id: str, owner: str | None = None) -> Document:
        """As its owner named it; None asks for it whoever owns it, under its first name. Raises
        NotFound, also for what belongs to others."""
        ...

    async def list_documents(self) -> list[Document]: ...
    async def delete_document(self, document_id: str, owner: str = LOCAL_OWNER) -> None:
        """Forget a document with all that this owner's runs derived from it: job results, cloud
        responses, events, traces, answers. With its last owner go text, file, chunks and index
        rows. Ledger and egress record stay. Raises NotFound."""
        ...

    async def put_chunks(
        self, document_id: str, chunking_key: str, chunks: Sequence[Chunk]
    ) -> None:
        """Keep and index the chunks made under `chunking_key` (tokenizer, limits); replaces."""
        ...

    async def get_chunks(self, document_id: str, chunking_key: str) -> list[Chunk] | None:
        """The kept chunks in order; None when not chunked under that key."""
        ...

    async def search(
        self, document_ids: Sequence[str], chunking_key: str, query: str, limit: int
    ) -> list[SearchHit]:
        """Full-text search (BM25). Any text is a valid query; its words are OR-ed."""
        ...

    # runs and their journal
    async def open_run(self, record: RunRecord) -> RunRecord:
        """Keep a new run, or return the unfinished one with the same fingerprint to resume; one
        with the same id and fingerprint is returned in any state. Raises BadRequest for an id that
        another question has."""
        ...

    async def get_run(self, run_id: str) -> RunRecord: ...
    async def list_runs(self, limit: int = 50, owner: str | None = None) -> list[RunRecord]:
        """Newest first; of one owner or all."""
        ...

    async def update_run(
        self,
        run_id: str,
        status: RunStatus,
        *,
        reply: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> None: ...
    async def record_job_results(self, run_id: str, results: Sequence[JobResult]) -> None:
        """Journal local results; a job id recorded before is kept as it was."""
        ...

    async def job_results(self, run_id: str) -> dict[str, JobResult]: ...
    async def known_job_results(self, job_ids: Sequence[str], owner: str) -> dict[str, JobResult]:
        """Answered and abstained results of this owner's runs by job id, the newest of each: the
        same id is the same work, so it need not be done again. Failed ones are not among them."""
        ...

    async def record_cloud_response(
        self, run_id: str, response: CloudResponse, entries: Sequence[LedgerEntry] = ()
    ) -> None:
        """Keep a paid answer, and in the same transaction the ledger rows that came with it: after
        a crash both are there or neither is."""
        ...

    async def cloud_response(self, run_id: str, idempotency_key: str) -> CloudResponse | None: ...

    # money and egress
    async def record_ledger(self, entries: Sequence[LedgerEntry]) -> None:
        """Append; an entry whose (run_id, call_key, attempt) is there already is not doubled."""
        ...

    async def ledger(
        self, run_id: str | None = None, *, owner: str | None = None
    ) -> list[LedgerEntry]:
        """In the order of recording; of one run or all, of one owner's runs or everybody's."""
        ...

    async def reserve(self, wanted: Reservation, caps: Sequence[DayCap]) -> DayCap | None:
        """Set money aside, unless with it one of the caps would be passed: that one is returned
        then, and nothing is set aside. One at a time over all processes that share the store."""
        ...

    async def release(self, unused: Reservation) -> None:
        """Give back what was set aside for an attempt that was not made."""
        ...

    async def reservations(
        self, *, run_id: str | None = None, since: float = 0.0
    ) -> list[Reservation]:
        """Those made since a Unix time, settled ones too; of one run or all."""
        ...

    async def committed_nano_usd(self, since: float, owner: str | None = None) -> int:
        """What cloud calls since a Unix time cost, with all that is set aside for others. Attempts
        of unknown price count by their reservations, and without one not at all."""
        ...

    async def record_egress(self, entry: EgressEntry) -> None: ...
    async def egress(
        self, run_id: str | None = None, *, owner: str | None = None
    ) -> list[EgressEntry]:
        """As `ledger`."""
        ...

    # traces
    async def put_trace(self, run_id: str, trace: dict[str, Any]) -> None: ...
    async def get_trace(self, run_id: str) -> dict[str, Any]: ...

    async def close(self) -> None: ...
