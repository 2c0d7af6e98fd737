"""The store that ships: SQLite, or PostgreSQL, through SQLAlchemy Core.

Here is which method runs what work on which connection; the work itself is in `sql_documents`,
`sql_runs`, `sql_audit` and `sql_budget`. What only the service needs is in `sql_service`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minions.cloud.model import CloudResponse
from minions.documents.model import Chunk, Document
from minions.store import sql_audit, sql_budget, sql_documents, sql_runs
from minions.store.database import AnyDatabase, open_database
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
from minions.store.sql_service import SqlService
from minions.store.summary import DocumentSummary
from workers.jobs import JobResult


async def open_store(url_or_path: str | Path, *, lock_timeout_s: float = 10.0) -> SqlStore:
    """Open the store at a path, `sqlite:///PATH`, `:memory:` or a PostgreSQL URL
    (`postgresql://USER:PASSWORD@HOST/NAME`); made and migrated as needed.

    Several processes may have it open at once; one that writes is waited for up to
    `lock_timeout_s` seconds. Raises StoreUnavailable. Close it, or its threads stay.
    """
    return SqlStore(await open_database(url_or_path, lock_timeout_s))


class SqlStore(SqlService):
    """`ServiceStore` over a `Database`. Every method may raise StoreUnavailable.

    What a run bought or sent stays on the books when a document is deleted: the ledger, and the
    egress record, content included, which is the user's own proof of what has left the machine.
    All else that was derived from the document is forgotten.
    """

    def __init__(self, database: AnyDatabase) -> None:
        """`database` is open and migrated; the store closes it."""
        super().__init__(database)
        self._full_text = database.full_text
        self.run_lock = database.run_lock
        """Locks of runs, where the database has them: they hold for all its clients."""

    async def put_document(self, document: Document, owner: str = LOCAL_OWNER) -> bool:
        """Keep a document; False when that owner has it already."""
        return await self.database.write(sql_documents.put_document, document, owner)

    async def get_document(self, document_id: str, owner: str | None = None) -> Document:
        """The document with its text. Raises NotFound."""
        return await self.database.read(sql_documents.get_document, document_id, owner)

    async def list_documents(self) -> list[Document]:
        """All documents with their texts, oldest first; `document_summaries` is the light way."""
        return await self.database.read(sql_documents.list_documents)

    async def document_summaries(self) -> list[DocumentSummary]:
        """All documents without their texts, oldest first."""
        return await self.database.read(sql_documents.list_summaries)

    async def delete_document(self, document_id: str, owner: str = LOCAL_OWNER) -> None:
        """Forget a document and all that was derived from it. Raises NotFound."""
        await self.database.write(
            sql_documents.delete_document, self._full_text, document_id, owner
        )

    async def put_chunks(
        self, document_id: str, chunking_key: str, chunks: Sequence[Chunk]
    ) -> None:
        """Keep and index; replaces. Raises NotFound, and BadRequest for chunks of other text."""
        await self.database.write(
            sql_documents.put_chunks, self._full_text, document_id, chunking_key, chunks
        )

    async def get_chunks(self, document_id: str, chunking_key: str) -> list[Chunk] | None:
        """In order; None when not chunked under that key. Raises NotFound."""
        return await self.database.read(sql_documents.get_chunks, document_id, chunking_key)

    async def search(
        self, document_ids: Sequence[str], chunking_key: str, query: str, limit: int
    ) -> list[SearchHit]:
        """Best first, by BM25 over English stems. Any text is a valid query."""
        return await self.database.read(
            sql_documents.search, self._full_text, document_ids, chunking_key, query, limit
        )

    async def open_run(self, record: RunRecord) -> RunRecord:
        """Keep a new run, or return the queued or running one with the same fingerprint."""
        return await self.database.write(sql_runs.open_run, record)

    async def get_run(self, run_id: str) -> RunRecord:
        """Raises NotFound."""
        return await self.database.read(sql_runs.get_run, run_id)

    async def list_runs(self, limit: int = 50, owner: str | None = None) -> list[RunRecord]:
        """Newest first."""
        return await self.database.read(sql_runs.list_runs, limit, owner)

    async def update_run(
        self,
        run_id: str,
        status: RunStatus,
        *,
        reply: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        """Set the status; a reply or error of None leaves what is there. Raises NotFound."""
        await self.database.write(sql_runs.update_run, run_id, status, reply, error)

    async def record_job_results(self, run_id: str, results: Sequence[JobResult]) -> None:
        """Journal; a job id recorded before is kept as it was. Raises NotFound."""
        await self.database.write(sql_runs.record_job_results, run_id, results)

    async def job_results(self, run_id: str) -> dict[str, JobResult]:
        """By job id; empty for an unknown run."""
        return await self.database.read(sql_runs.get_job_results, run_id)

    async def known_job_results(self, job_ids: Sequence[str], owner: str) -> dict[str, JobResult]:
        """Answered and abstained ones of this owner's runs, the newest of each job."""
        return await self.database.read(sql_runs.known_job_results, job_ids, owner)

    async def record_cloud_response(
        self, run_id: str, response: CloudResponse, entries: Sequence[LedgerEntry] = ()
    ) -> None:
        """On the disk when this returns, both or neither; a second answer is not kept."""
        await self.database.write_durably(sql_runs.record_cloud_response, run_id, response, entries)

    async def cloud_response(self, run_id: str, idempotency_key: str) -> CloudResponse | None:
        """The recorded answer, so that it is not paid for again; None when there is none."""
        return await self.database.read(sql_runs.get_cloud_response, run_id, idempotency_key)

    async def record_ledger(self, entries: Sequence[LedgerEntry]) -> None:
        """Append; an entry whose (run_id, call_key, attempt) is there already is not doubled."""
        await self.database.write(sql_audit.record_ledger, entries)

    async def ledger(
        self, run_id: str | None = None, *, owner: str | None = None
    ) -> list[LedgerEntry]:
        """Of one run or all, of one owner or all, in the order of recording."""
        return await self.database.read(sql_audit.list_ledger, run_id, owner)

    async def reserve(self, wanted: Reservation, caps: Sequence[DayCap]) -> DayCap | None:
        """The cap that would be passed; None when the money is set aside."""
        return await self.database.write(sql_budget.reserve, wanted, caps)

    async def release(self, unused: Reservation) -> None:
        """Give back what was set aside for an attempt that was not made."""
        await self.database.write(sql_budget.release, unused)

    async def reservations(
        self, *, run_id: str | None = None, since: float = 0.0
    ) -> list[Reservation]:
        """Those made since a Unix time, settled ones too; of one run or all."""
        return await self.database.read(sql_budget.list_reservations, run_id, since)

    async def committed_nano_usd(self, since: float, owner: str | None = None) -> int:
        """What cloud calls since a Unix time cost, with all that is set aside for others."""
        return await self.database.read(sql_budget.committed_nano_usd, since, owner)

    async def record_egress(self, entry: EgressEntry) -> None:
        """On the disk when this returns. Raises NotFound for an unknown run: send nothing then."""
        await self.database.write_durably(sql_audit.record_egress, entry)

    async def egress(
        self, run_id: str | None = None, *, owner: str | None = None
    ) -> list[EgressEntry]:
        """Of one run or all, of one owner or all, in the order of recording."""
        return await self.database.read(sql_audit.list_egress, run_id, owner)

    async def put_trace(self, run_id: str, trace: dict[str, Any]) -> None:
        """Keep or replace. Raises NotFound."""
        await self.database.write(sql_runs.put_trace, run_id, trace)

    async def get_trace(self, run_id: str) -> dict[str, Any]:
        """Raises NotFound."""
        return await self.database.read(sql_runs.get_trace, run_id)

    async def close(self) -> None:
        """Close the database; may be called again."""
        await self.database.close()
