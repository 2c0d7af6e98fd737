"""Money set aside for cloud calls, completion ids in the ledger, and answers that are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Nothing that is there changes: the ledger's rows keep their values."""
    op.add_column("ledger", sa.Column("completion_id", sa.String))
    op.create_index("ix_ledger_kind", "ledger", ["kind", "created_at"])
    _create_reservations()
    _create_responses()


def _create_reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("call_key", sa.String, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("nano_usd", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("ix_reservations_created_at", "reservations", ["created_at"])


def _create_responses() -> None:
    op.create_table(
        "responses",
        sa.Column("response_id", sa.String, primary_key=True),
        sa.Column("owner", sa.String, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("said", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("ix_responses_created_at", "responses", ["created_at"])
    whole = sa.ForeignKey("responses.response_id", ondelete="CASCADE")
    op.create_table(
        "response_documents",
        sa.Column("response_id", sa.String, whole, primary_key=True),
        sa.Column("document_id", sa.String, primary_key=True),
    )
    op.create_index("ix_response_documents_document_id", "response_documents", ["document_id"])
