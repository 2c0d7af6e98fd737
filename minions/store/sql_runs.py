"""Runs, their journal and their traces, as work on a connection."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from minions.cloud.model import CloudResponse
from minions.store.codec import from_plain, to_plain
from minions.store.errors import unknown
from minions.store.listing import part_of
from minions.store.model import LedgerEntry, RunRecord, RunStatus
from minions.store.rules import (
    DOCUMENT_DELETED,
    UNFINISHED,
    documents_of,
    question_in_progress,
    run_id_taken,
    without_derived,
)
from minions.store.service import Listed, RunEvent, Wanted
from minions.store.sql_audit import record_ledger
from minions.store.sql_responses import forget_responses
from minions.store.tables import (
    cloud_responses,
    job_results,
    run_documents,
    run_events,
    runs,
    traces,
)
from minions.store.upsert import insert_or
from workers.jobs import JobResult, JobStatus

_UNFINISHED = runs.c.status.in_([status.value for status in UNFINISHED])
_IDS_AT_ONCE = 500
"""Of ids in one query: SQLite takes 32,766 parameters, PostgreSQL 65,535."""


def open_run(connection: Connection, record: RunRecord) -> RunRecord:
    """The run with the record's fingerprint that is unfinished or has its very id, or the record,
    kept."""
    same_id = runs.c.run_id == record.run_id
    found = connection.execute(
        select(runs).where(runs.c.fingerprint == record.fingerprint, _UNFINISHED | same_id)
    )
    row = found.mappings().one_or_none()
    if row is not None:
        return _run(row)
    try:
        connection.execute(insert(runs), _run_row(record))
    except IntegrityError as error:
        raise run_id_taken(record.run_id) from error
    links = [
        {"run_id": record.run_id, "document_id": document_id}
        for document_id in documents_of(record.question)
    ]
    if links:
        connection.execute(insert(run_documents), links)
    return record


def get_run(connection: Connection, run_id: str) -> RunRecord:
    """Raises NotFound."""
    found = connection.execute(select(runs).where(runs.c.run_id == run_id))
    row = found.mappings().one_or_none()
    if row is None:
        raise unknown("run", run_id)
    return _run(row)


def list_runs(connection: Connection, limit: int, owner: str | None = None) -> list[RunRecord]:
    """Newest first; of one owner or all."""
    newest_first = select(runs).order_by(runs.c.created_at.desc(), runs.c.run_id.desc())
    if owner is not None:
        newest_first = newest_first.where(runs.c.owner == owner)
    rows = connection.execute(newest_first.limit(max(limit, 0)))
    return [_run(row) for row in rows.mappings()]


def run_page(connection: Connection, owner: str, wanted: Wanted) -> Listed[RunRecord]:
    """Of one owner. Raises NotFound for an unknown `after`."""
    order = (runs.c.created_at, runs.c.run_id)
    position = None
    if wanted.after is not None:
        after = select(*order).where(runs.c.run_id == wanted.after, runs.c.owner == owner)
        position = connection.execute(after).one_or_none()
        if position is None:
            raise unknown("question", wanted.after)
    statement = select(runs).where(runs.c.owner == owner)
    rows, has_more = part_of(connection, statement, order, position, wanted)
    return Listed(items=tuple(_run(row) for row in rows), has_more=has_more)


def unfinished_runs(connection: Connection) -> list[RunRecord]:
    """The oldest first."""
    statement = select(runs).where(_UNFINISHED).order_by(runs.c.created_at, runs.c.run_id)
    return [_run(row) for row in connection.execute(statement).mappings()]


def update_run(
    connection: Connection,
    run_id: str,
    status: RunStatus,
    reply: dict[str, Any] | None,
    error: dict[str, Any] | None,
) -> None:
    """Set the status; a reply or error of None leaves what is there, but what is finished has no
    error. Raises NotFound, and BadRequest when another unfinished run has taken the fingerprint."""
    values: dict[str, object] = {"status": status.value, "updated_at": time.time()}
    values |= {"error": None} if status is RunStatus.FINISHED else {}
    values |= {"reply": reply} if reply is not None else {}
    values |= {"error": error} if error is not None else {}
    try:
        changed = connection.execute(update(runs).where(runs.c.run_id == run_id).values(values))
    except IntegrityError as conflict:
        raise question_in_progress(run_id, status) from conflict
    if changed.rowcount == 0:
        raise unknown("run", run_id)


def record_job_results(connection: Connection, run_id: str, results: Sequence[JobResult]) -> None:
    """What was recorded before is kept as it was. Raises NotFound."""
    rows = [
        {"run_id": run_id, "job_id": result.job_id, "result": to_plain(result)}
        for result in results
    ]
    statement = insert_or(connection, job_results).on_conflict_do_nothing(
        index_elements=["run_id", "job_id"]
    )
    if rows:
        with _known_run(run_id):
            connection.execute(statement, rows)


def get_job_results(connection: Connection, run_id: str) -> dict[str, JobResult]:
    """By job id, in the order in which they were recorded."""
    rows = connection.execute(
        select(job_results.c.job_id, job_results.c.result)
        .where(job_results.c.run_id == run_id)
        .order_by(job_results.c.row_id)
    )
    return {job_id: from_plain(JobResult, result) for job_id, result in rows}


def known_job_results(
    connection: Connection, job_ids: Sequence[str], owner: str
) -> dict[str, JobResult]:
    """Answered and abstained ones of this owner's runs, the newest of each job."""
    found: dict[str, JobResult] = {}
    for first in range(0, len(job_ids), _IDS_AT_ONCE):
        statement = (
            select(job_results.c.job_id, job_results.c.result)
            .join(runs)
            .where(runs.c.owner == owner)
            .where(job_results.c.job_id.in_(job_ids[first : first + _IDS_AT_ONCE]))
            .order_by(job_results.c.row_id)
        )
        rows = [
            (job_id, from_plain(JobResult, plain))
            for job_id, plain in connection.execute(statement)
        ]
        found |= {key: result for key, result in rows if result.status is not JobStatus.FAILED}
    return found


def record_events(connection: Connection, events: Sequence[RunEvent]) -> None:
    """Of runs that are there; what was recorded before is kept as it was."""
    if not events:
        return
    known = set(
        connection.scalars(
            select(runs.c.run_id).where(runs.c.run_id.in_({event.run_id for event in events}))
        )
    )
    statement = insert_or(connection, run_events).on_conflict_do_nothing(
        index_elements=["run_id", "sequence"]
    )
    rows = [to_plain(event) for event in events if event.run_id in known]
    if rows:
        connection.execute(statement, rows)


def list_events(connection: Connection, run_id: str, after: int) -> list[RunEvent]:
    """In order; empty for an unknown run."""
    statement = (
        select(run_events)
        .where(run_events.c.run_id == run_id, run_events.c.sequence > after)
        .order_by(run_events.c.sequence)
    )
    return [RunEvent(**row) for row in connection.execute(statement).mappings()]


def forget_derived(connection: Connection, document_id: str, owner: str) -> None:
    """Remove all that this owner's runs derived from a document; unfinished ones are cancelled."""
    of_document = (
        select(run_documents.c.run_id)
        .join(runs)
        .where(run_documents.c.document_id == document_id, runs.c.owner == owner)
    )
    for table in (job_results, cloud_responses, traces, run_events):
        connection.execute(delete(table).where(table.c.run_id.in_(of_document)))
    forget_responses(connection, document_id, owner)
    affected = runs.c.run_id.in_(of_document)
    connection.execute(
        update(runs)
        .where(affected, _UNFINISHED)
        .values(status=RunStatus.CANCELLED.value, error=DOCUMENT_DELETED)
    )
    replies = connection.execute(
        select(runs.c.run_id, runs.c.reply).where(affected, runs.c.reply.is_not(None))
    ).all()
    for run_id, reply in replies:
        kept = update(runs).where(runs.c.run_id == run_id).values(reply=without_derived(reply))
        connection.execute(kept)


def record_cloud_response(
    connection: Connection,
    run_id: str,
    response: CloudResponse,
    entries: Sequence[LedgerEntry] = (),
) -> None:
    """The first answer to a call is kept: it is the one that was paid for and used. `entries` are
    the ledger rows that came with it."""
    statement = insert_or(connection, cloud_responses).on_conflict_do_nothing(
        index_elements=["run_id", "idempotency_key"]
    )
    row = {
        "run_id": run_id,
        "idempotency_key": response.idempotency_key,
        "response": to_plain(response),
    }
    with _known_run(run_id):
        connection.execute(statement, row)
    record_ledger(connection, entries)


def get_cloud_response(
    connection: Connection, run_id: str, idempotency_key: str
) -> CloudResponse | None:
    """None when that call has no recorded answer in that run."""
    plain = connection.scalar(
        select(cloud_responses.c.response).where(
            cloud_responses.c.run_id == run_id,
            cloud_responses.c.idempotency_key == idempotency_key,
        )
    )
    return None if plain is None else from_plain(CloudResponse, plain)


def put_trace(connection: Connection, run_id: str, trace: dict[str, Any]) -> None:
    """Keep or replace the trace of a run. Raises NotFound."""
    statement = insert_or(connection, traces).values(run_id=run_id, trace=trace)
    with _known_run(run_id):
        connection.execute(
            statement.on_conflict_do_update(index_elements=["run_id"], set_={"trace": trace})
        )


def get_trace(connection: Connection, run_id: str) -> dict[str, Any]:
    """Raises NotFound."""
    trace: dict[str, Any] | None = connection.scalar(
        select(traces.c.trace).where(traces.c.run_id == run_id)
    )
    if trace is None:
        raise unknown("trace of run", run_id)
    return trace


@contextmanager
def _known_run(run_id: str) -> Iterator[None]:
    """A broken foreign key is how the database says that it knows no such run."""
    try:
        yield
    except IntegrityError as error:
        raise unknown("run", run_id) from error


def _run_row(record: RunRecord) -> dict[str, object]:
    return {
        "run_id": record.run_id,
        "fingerprint": record.fingerprint,
        "status": record.status.value,
        "question": record.question,
        "reply": record.reply,
        "error": record.error,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "owner": record.owner,
    }


def _run(row: RowMapping) -> RunRecord:
    return RunRecord(
        run_id=row["run_id"],
        fingerprint=row["fingerprint"],
        status=RunStatus(row["status"]),
        question=row["question"],
        reply=row["reply"],
        error=row["error"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        owner=row["owner"],
    )
