"""The tables as they are at the newest revision, in types that every SQL database has.

The migrations in `migrations/versions` make them; a test holds the two together.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator

REVISIONS = ("0001", "0002", "0003", "0004")
"""Every revision that this version can read, oldest first."""


class AnyText(TypeDecorator[str]):
    """Any Python string, kept as UTF-8 bytes.

    Text columns refuse lone surrogates (SQLite, PostgreSQL) and NUL (PostgreSQL); texts and names
    of real files have both.
    """

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        return None if value is None else value.encode("utf-8", "surrogatepass")

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else value.decode("utf-8", "surrogatepass")


metadata = MetaData()

documents = Table(
    "documents",
    metadata,
    Column("row_id", Integer, primary_key=True),
    Column("document_id", String, nullable=False, unique=True),
    Column("sha256", String, nullable=False),
    Column("name", AnyText, nullable=False),
    Column("media_type", String, nullable=False),
    Column("n_bytes", BigInteger, nullable=False),
    Column("n_chars", BigInteger, nullable=False),
    Column("n_pages", Integer, nullable=False),
    Column("warnings", JSON, nullable=False),
    # The long ones last: SQLite reads a row from its start and stops at the last column asked for.
    Column("pages", JSON, nullable=False),
    Column("text", AnyText, nullable=False),
)

document_owners = Table(
    "document_owners",
    metadata,
    Column("row_id", Integer, primary_key=True),
    Column("owner", String, nullable=False),
    Column(
        "document_id",
        String,
        ForeignKey("documents.document_id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("name", AnyText, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("owner", "document_id"),
)
"""Whose documents they are, each under its owner's own name for it: the text is kept once."""

files = Table(
    "files",
    metadata,
    Column(
        "document_id",
        String,
        ForeignKey("documents.document_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("content", LargeBinary, nullable=False),
)
"""The original bytes of documents."""

collections = Table(
    "collections",
    metadata,
    Column("collection_id", String, primary_key=True),
    Column("owner", String, nullable=False, index=True),
    Column("name", AnyText, nullable=False),
    Column("created_at", Double, nullable=False),
)

collection_documents = Table(
    "collection_documents",
    metadata,
    Column("row_id", Integer, primary_key=True),
    Column(
        "collection_id",
        String,
        ForeignKey("collections.collection_id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("document_id", String, nullable=False),
    UniqueConstraint("collection_id", "document_id"),
)

chunkings = Table(
    "chunkings",
    metadata,
    Column("chunking_id", Integer, primary_key=True),
    Column(
        "document_id",
        String,
        ForeignKey("documents.document_id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("chunking_key", String, nullable=False),
    UniqueConstraint("document_id", "chunking_key"),
)

chunks = Table(
    "chunks",
    metadata,
    Column("row_id", Integer, primary_key=True),
    Column(
        "chunking_id",
        Integer,
        ForeignKey("chunkings.chunking_id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("chunk_id", String, nullable=False),
    Column("position", Integer, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("first_page", Integer, nullable=False),
    Column("last_page", Integer, nullable=False),
    Column("n_tokens", Integer, nullable=False),
    Column("indexed_text", Text, nullable=False),
)
"""`indexed_text` is what search sees (`words.searchable`); a chunk's own text is its document's
text between `start` and `end`, so the two can't differ."""

runs = Table(
    "runs",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("status", String, nullable=False),
    Column("question", JSON, nullable=False),
    Column("reply", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("created_at", Double, nullable=False, index=True),
    Column("updated_at", Double, nullable=False),
    Column("owner", String, nullable=False, server_default="local"),
    Index("ix_runs_owner", "owner", "created_at", "run_id"),
)
_unfinished = text("status IN ('queued', 'running')")
Index(
    "one_unfinished_run",
    runs.c.fingerprint,
    unique=True,
    sqlite_where=_unfinished,
    postgresql_where=_unfinished,
)

job_results = Table(
    "job_results",
    metadata,
    Column("row_id", Integer, primary_key=True),
    Column("run_id", String, ForeignKey("runs.run_id"), nullable=False),
    Column("job_id", String, nullable=False, index=True),
    Column("result", JSON, nullable=False),
    UniqueConstraint("run_id", "job_id"),
)

run_documents = Table(
    "run_documents",
    metadata,
    Column("run_id", String, ForeignKey("runs.run_id"), primary_key=True),
    Column("document_id", String, primary_key=True, index=True),
)
"""Which runs asked of a document, so that what they derived from it can go with it. Without a
foreign key to documents: runs outlive them."""

run_events = Table(
    "run_events",
    metadata,
    Column("run_id", String, ForeignKey("runs.run_id"), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("data", JSON, nullable=False),
)

cloud_responses = Table(
    "cloud_responses",
    metadata,
    Column("row_id", Integer, primary_key=True),
    Column("run_id", String, ForeignKey("runs.run_id"), nullable=False),
    Column("idempotency_key", String, nullable=False),
    Column("response", JSON, nullable=False),
    UniqueConstraint("run_id", "idempotency_key"),
)

traces = Table(
    "traces",
    metadata,
    Column("run_id", String, ForeignKey("runs.run_id"), primary_key=True),
    Column("trace", JSON, nullable=False),
)

ledger = Table(
    "ledger",
    metadata,
    Column("row_id", Integer, primary_key=True),
    # No foreign key: a call that was made is entered, whatever else is known of its run (Law 2).
    Column("run_id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("model", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_nano_usd", BigInteger),
    Column("price_snapshot", String),
    Column("usage_reported", Boolean, nullable=False),
    Column("call_key", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("completion_id", String),
    UniqueConstraint("run_id", "call_key", "attempt"),
    Index("ix_ledger_kind", "kind", "created_at"),
)
"""Append-only: triggers refuse UPDATE and DELETE."""

egress = Table(
    "egress",
    metadata,
    Column("row_id", Integer, primary_key=True),
    Column("run_id", String, ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("call_key", String, nullable=False),
    Column("destination", String, nullable=False),
    Column("rung", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("spans", JSON, nullable=False),
    Column("content_sha256", String, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
"""Append-only: triggers refuse UPDATE and DELETE. `spans` names documents without a foreign key:
the record outlives the document, because it is the user's own proof of what left the machine."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String, primary_key=True),
    Column("token_sha256", String, nullable=False, unique=True),
    Column("name", AnyText, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("requests_per_minute", Integer),
    Column("usd_per_day", String),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)
"""Keys of the service: only the hash of a token is kept."""

claims = Table(
    "claims",
    metadata,
    Column("owner", String, primary_key=True),
    Column("claim_key", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("resource_id", String, nullable=False),
    Column("created_at", Double, nullable=False),
)
"""Idempotency keys of clients, each with the id of what its request made."""

reservations = Table(
    "reservations",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("call_key", String, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("nano_usd", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False, index=True),
)
"""Money set aside for cloud attempts. The ledger row under the same key settles it, so that no
crash can come between the two."""

responses = Table(
    "responses",
    metadata,
    Column("response_id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("body", JSON, nullable=False),
    Column("said", JSON, nullable=False),
    Column("created_at", Double, nullable=False, index=True),
)
"""Answers over OpenAI's API, for who comes back to them."""

response_documents = Table(
    "response_documents",
    metadata,
    Column(
        "response_id",
        String,
        ForeignKey("responses.response_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("document_id", String, primary_key=True, index=True),
)
