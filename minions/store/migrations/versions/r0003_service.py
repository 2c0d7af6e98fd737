"""What a service adds: owners, original files, collections, events, keys, idempotency."""

from __future__ import annotations

import json
import time

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

LOCAL_OWNER = "local"


def upgrade() -> None:
    """What was there before belongs to the local user."""
    _add_owners()
    _create_files()
    _create_collections()
    _create_run_tables()
    _create_keys()
    _fill_document_owners()
    _fill_run_documents()


def _add_owners() -> None:
    op.add_column("runs", sa.Column("owner", sa.String, nullable=False, server_default=LOCAL_OWNER))
    op.create_index("ix_runs_owner", "runs", ["owner", "created_at", "run_id"])
    op.create_index("ix_job_results_job_id", "job_results", ["job_id"])
    op.create_table(
        "document_owners",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("document_id", sa.String, _cascade("documents.document_id"), nullable=False),
        sa.Column("name", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.UniqueConstraint("owner", "document_id"),
    )
    op.create_index("ix_document_owners_document_id", "document_owners", ["document_id"])


def _create_files() -> None:
    op.create_table(
        "files",
        sa.Column("document_id", sa.String, _cascade("documents.document_id"), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )


def _create_collections() -> None:
    op.create_table(
        "collections",
        sa.Column("collection_id", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("name", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("ix_collections_owner", "collections", ["owner"])
    op.create_table(
        "collection_documents",
        sa.Column("row_id", sa.Integer, primary_key=True),
        sa.Column(
            "collection_id", sa.String, _cascade("collections.collection_id"), nullable=False
        ),
        sa.Column("document_id", sa.String, nullable=False),
        sa.UniqueConstraint("collection_id", "document_id"),
    )


def _create_run_tables() -> None:
    op.create_table(
        "run_documents",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.run_id"), primary_key=True),
        sa.Column("document_id", sa.String, primary_key=True),
    )
    op.create_index("ix_run_documents_document_id", "run_documents", ["document_id"])
    op.create_table(
        "run_events",
        sa.Column("run_id", sa.String, sa.ForeignKey("runs.run_id"), primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )


def _create_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String, primary_key=True),
        sa.Column("token_sha256", sa.String, nullable=False, unique=True),
        sa.Column("name", sa.LargeBinary, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("usd_per_day", sa.String),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
    )
    op.create_table(
        "claims",
        sa.Column("owner", sa.String, primary_key=True),
        sa.Column("claim_key", sa.String, primary_key=True),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("resource_id", sa.String, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )


def _fill_document_owners() -> None:
    statement = sa.text(
        "INSERT INTO document_owners (owner, document_id, name, created_at) "
        "SELECT :owner, document_id, name, :now FROM documents ORDER BY row_id"
    )
    op.get_bind().execute(statement, {"owner": LOCAL_OWNER, "now": time.time()})


def _fill_run_documents() -> None:
    connection = op.get_bind()
    runs = connection.execute(sa.text("SELECT run_id, question FROM runs")).all()
    rows = [
        {"run_id": run_id, "document_id": document_id}
        for run_id, question in runs
        for document_id in dict.fromkeys(_parsed(question).get("documents", []))
    ]
    statement = "INSERT INTO run_documents (run_id, document_id) VALUES (:run_id, :document_id)"
    if rows:
        connection.execute(sa.text(statement), rows)


def _parsed(question: object) -> dict[str, list[str]]:
    """A JSON column as a plain query gives it: text from SQLite, an object from PostgreSQL."""
    found: dict[str, list[str]] = json.loads(question) if isinstance(question, str) else question  # type: ignore[assignment]
    return found


def _cascade(column: str) -> sa.ForeignKey:
    """A reference that goes when what it points to goes."""
    return sa.ForeignKey(column, ondelete="CASCADE")
