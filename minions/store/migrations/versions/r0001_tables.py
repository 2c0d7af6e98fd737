"""Documents, chunks, runs with their journal, ledger, egress and traces."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

APPEND_ONLY = ("ledger", "egress")


def upgrade() -> None:
    """Create the tables and what guards them."""
    _create_documents()
    _create_chunks()
    _create_runs()
    _create_journal()
    _create_ledger()
    _create_egress()
    for table in APPEND_ONLY:
        _forbid_changes(table)


def _create_documents() -> None:
    op.create_table(
        "documents",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("document_id", sa.String, nullable=False, unique=True),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("name", sa.LargeBinary, nullable=False),
        sa.Column("media_type", sa.String, nullable=False),
        sa.Column("n_bytes", sa.BigInteger, nullable=False),
        sa.Column("n_chars", sa.BigInteger, nullable=False),
        sa.Column("n_pages", sa.Integer, nullable=False),
        sa.Column("warnings", sa.JSON, nullable=False),
        sa.Column("pages", sa.JSON, nullable=False),
        sa.Column("text", sa.LargeBinary, nullable=False),
    )


def _create_chunks() -> None:
    op.create_table(
        "chunkings",
        sa.Column("chunking_id", sa.Integer, primary_key=True),
        sa.Column("document_id", sa.String, _owner("documents.document_id"), nullable=False),
        sa.Column("chunking_key", sa.String, nullable=False),
        sa.UniqueConstraint("document_id", "chunking_key"),
    )
    op.create_table(
        "chunks",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("chunking_id", sa.Integer, _owner("chunkings.chunking_id"), nullable=False),
        sa.Column("chunk_id", sa.String, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.Column("first_page", sa.Integer, nullable=False),
        sa.Column("last_page", sa.Integer, nullable=False),
        sa.Column("n_tokens", sa.Integer, nullable=False),
        sa.Column("indexed_text", sa.Text, nullable=False),
    )
    op.create_index("ix_chunks_chunking_id", "chunks", ["chunking_id"])


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("question", sa.JSON, nullable=False),
        sa.Column("reply", sa.JSON),
        sa.Column("error", sa.JSON),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
    )
    op.create_index("ix_runs_created_at", "runs", ["created_at"])
    unfinished = sa.text("status IN ('queued', 'running')")
    op.create_index(
        "one_unfinished_run",
        "runs",
        ["fingerprint"],
        unique=True,
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )


def _create_journal() -> None:
    op.create_table(
        "job_results",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.run_id"), nullable=False),
        sa.Column("job_id", sa.String, nullable=False),
        sa.Column("result", sa.JSON, nullable=False),
        sa.UniqueConstraint("run_id", "job_id"),
    )
    op.create_table(
        "cloud_responses",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.run_id"), nullable=False),
        sa.Column("idempotency_key", sa.String, nullable=False),
        sa.Column("response", sa.JSON, nullable=False),
        sa.UniqueConstraint("run_id", "idempotency_key"),
    )
    op.create_table(
        "traces",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.run_id"), primary_key=True),
        sa.Column("trace", sa.JSON, nullable=False),
    )


def _create_ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("purpose", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_nano_usd", sa.BigInteger),
        sa.Column("price_snapshot", sa.String),
        sa.Column("usage_reported", sa.Boolean, nullable=False),
        sa.Column("call_key", sa.String, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.UniqueConstraint("run_id", "call_key", "attempt"),
    )


def _create_egress() -> None:
    op.create_table(
        "egress",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.run_id"), nullable=False),
        sa.Column("call_key", sa.String, nullable=False),
        sa.Column("destination", sa.String, nullable=False),
        sa.Column("rung", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("spans", sa.JSON, nullable=False),
        sa.Column("content_sha256", sa.String, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_egress_run_id", "egress", ["run_id"])


def _owner(column: str) -> sa.ForeignKey:
    """A reference that goes when what it points to goes."""
    return sa.ForeignKey(column, ondelete="CASCADE")


def _forbid_changes(table: str) -> None:
    """Make `table` append-only in the database itself."""
    if op.get_bind().dialect.name == "postgresql":
        _forbid_changes_in_postgres(table)
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )


def _forbid_changes_in_postgres(table: str) -> None:
    op.execute(
        f"CREATE FUNCTION {table}_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_is_append_only()"
    )
