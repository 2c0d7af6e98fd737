"""Runs, their journal and their traces, as work on a connection."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or
from sqlalchemy.exc import IntegrityError

from minions.cloud.model import CloudResponse
from minions.store.codec import from_plain, to_plain
from minions.store.errors import unknown
from minions.store.model import RunRecord, RunStatus
from minions.store.rules import UNFINISHED, question_in_progress, run_id_taken
from minions.store.tables import cloud_responses, job_results, runs, traces
from workers.jobs import JobResult


def open_run(connection: Connection, record: RunRecord) -> RunRecord:
    """The unfinished run with the record's fingerprint, or the record, kept."""
    unfinished = runs.c.status.in_([status.value for status in UNFINISHED])
    found = connection.execute(
        select(runs).where(runs.c.fingerprint == record.fingerprint, unfinished)
    )
    row = found.mappings().one_or_none()
    if row is not None:
        return _run(row)
    try:
        connection.execute(insert(runs), _run_row(record))
    except IntegrityError as error:
        raise run_id_taken(record.run_id) from error
    return record


def get_run(connection: Connection, run_id: str) -> RunRecord:
    """Raises NotFound."""
    found = connection.execute(select(runs).where(runs.c.run_id == run_id))
    row = found.mappings().one_or_none()
    if row is None:
        raise unknown("run", run_id)
    return _run(row)


def list_runs(connection: Connection, limit: int) -> list[RunRecord]:
    """Newest first."""
    newest_first = select(runs).order_by(runs.c.created_at.desc(), runs.c.run_id.desc())
    rows = connection.execute(newest_first.limit(max(limit, 0)))
    return [_run(row) for row in rows.mappings()]


def update_run(
    connection: Connection,
    run_id: str,
    status: RunStatus,
    reply: dict[str, Any] | None,
    error: dict[str, Any] | None,
) -> None:
    """Set the status; a reply or error of None leaves what is there. Raises NotFound, and
    BadRequest when another unfinished run has taken the fingerprint."""
    values: dict[str, object] = {"status": status.value, "updated_at": time.time()}
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
    statement = insert_or(job_results).on_conflict_do_nothing(index_elements=["run_id", "job_id"])
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


def record_cloud_response(connection: Connection, run_id: str, response: CloudResponse) -> None:
    """The first answer to a call is kept: it is the one that was paid for and used."""
    statement = insert_or(cloud_responses).on_conflict_do_nothing(
        index_elements=["run_id", "idempotency_key"]
    )
    row = {
        "run_id": run_id,
        "idempotency_key": response.idempotency_key,
        "response": to_plain(response),
    }
    with _known_run(run_id):
        connection.execute(statement, row)


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
    statement = insert_or(traces).values(run_id=run_id, trace=trace)
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
    )
