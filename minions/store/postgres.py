"""A PostgreSQL database behind the same transactions as the embedded one.

For several API processes on one or more machines. Writers take turns by one advisory lock, as they
do in SQLite, so that all work above is right without knowing which database it runs on; a write
takes a few milliseconds, and what takes long in this product is reading documents.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, bindparam, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from minions.errors import StoreUnavailable
from minions.store.bm25 import bm25_scores
from minions.store.migrate import bring_up_to_date, current_revision
from minions.store.model import SearchHit
from minions.store.tables import REVISIONS
from minions.store.words import folded, query_words, words

P = ParamSpec("P")
T = TypeVar("T")

MAX_CONNECTIONS = 8
"""Per API process; PostgreSQL has 100 for all clients unless told otherwise."""
WRITERS_LOCK = 0x6D696E69
"""Number of the advisory lock that writers of this program share in their database."""
POLL_S = 0.2

_CHUNKS = text(
    "SELECT chunk_id, indexed_text FROM chunks WHERE chunking_id IN :chunking_ids ORDER BY row_id"
).bindparams(bindparam("chunking_ids", expanding=True))


class PostgresDatabase:
    """One PostgreSQL database; has what `Database` has."""

    def __init__(self, url: URL, lock_timeout_s: float) -> None:
        """`url` as `postgresql://USER:PASSWORD@HOST/NAME`. Nothing is connected yet."""
        self.path = url.render_as_string(hide_password=True)
        self.full_text = WholeTextSearch()
        wanted = url.set(drivername="postgresql+psycopg")
        self._engine = create_async_engine(
            wanted,
            pool_size=MAX_CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,  # a server that was restarted costs no request
            hide_parameters=True,  # or an error message would quote the user's documents
            isolation_level="REPEATABLE READ",
        )
        self._lock_engine = create_async_engine(wanted, poolclass=NullPool)
        _limit_waiting(self._engine, lock_timeout_s)
        self._closed = False

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The result of `work(connection, ...)` on one snapshot of the database.

        Raises StoreUnavailable when the database fails, else what `work` raises."""
        return await self._uninterrupted(_plainly, work, *args, **kwargs)

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `read`, in a transaction that is committed when this returns, or not at all. It
        survives the end of this process; the server may lose the last ones with its power."""
        return await self._uninterrupted(_as_only_writer, work, *args, **kwargs)

    async def write_durably(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `write`, and on the server's disk when this returns."""
        return await self._uninterrupted(_durably, work, *args, **kwargs)

    async def prepare(self) -> None:
        """Bring the schema to the newest revision; at most one process does it, others wait."""
        if await self.read(current_revision, self.path) != REVISIONS[-1]:
            await self.write_durably(bring_up_to_date, self.path)

    async def close(self) -> None:
        """Close every connection. May be called again; anything else raises from now on."""
        self._closed = True
        await self._engine.dispose()
        await self._lock_engine.dispose()

    @contextlib.asynccontextmanager
    async def run_lock(self, fingerprint: str) -> AsyncIterator[None]:
        """Hold the lock of a run, waiting while any process on any machine has it.

        It belongs to a connection of its own, and the server frees it when that ends: also when
        its process is killed, or its machine is cut off for long."""
        key = int.from_bytes(hashlib.sha256(fingerprint.encode()).digest()[:8], "big", signed=True)
        async with self._lock_engine.connect() as connection:
            connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            wanted = text("SELECT pg_try_advisory_lock(:key)")
            while not await connection.scalar(wanted, {"key": key}):  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)
            yield

    async def _uninterrupted(
        self,
        begin: Callable[[Connection], None],
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """A cancellation is passed on only when the transaction has ended: a paid answer that is on
        its way to the disk must get there."""
        task = asyncio.create_task(self._transact(begin, work, *args, **kwargs))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError as cancelled:
            await asyncio.wait({task})
            raise cancelled from (None if task.cancelled() else task.exception())

    async def _transact(
        self,
        begin: Callable[[Connection], None],
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        if self._closed:
            raise StoreUnavailable(f"the store on {self.path} is closed: open it again")
        try:
            async with self._engine.connect() as connection:
                await connection.run_sync(_isolate, begin)
                async with connection.begin():
                    await connection.run_sync(begin)
                    return await connection.run_sync(work, *args, **kwargs)
        except IntegrityError:
            raise  # a broken rule of the schema: only the caller knows what it means
        except DBAPIError as error:
            raise unavailable(error, self.path) from error
        except StatementError as error:
            raise (error.orig or error) from error  # a value that no column can hold
        except NoConnectionFree as error:
            raise StoreUnavailable(
                f"no connection to {self.path} became free: ask fewer things of it at once"
            ) from error


class WholeTextSearch:
    """BM25 over the chunks of the documents that are asked about, worked out here.

    A question is about few documents, whose chunks are read in milliseconds; PostgreSQL's own
    ranking does not weigh words by how rare they are."""

    def add(self, connection: Connection, chunking_id: int) -> None:
        """There is no index to add to."""

    def remove(self, connection: Connection, chunking_id: int) -> None:
        """There is no index to remove from."""

    def search(
        self, connection: Connection, chunking_ids: Sequence[int], query: str, limit: int
    ) -> list[SearchHit]:
        """The best chunks of these chunkings for the words of `query`, best first."""
        if not chunking_ids or limit < 1:
            return []
        rows = connection.execute(_CHUNKS, {"chunking_ids": list(chunking_ids)})
        texts = {row.chunk_id: folded(words(row.indexed_text)) for row in rows}
        scores = bm25_scores(texts, folded(query_words(query)))
        best = sorted(scores.items(), key=lambda item: -item[1])[:limit]
        return [SearchHit(chunk_id=chunk_id, score=score) for chunk_id, score in best]


async def open_postgres(url: URL, lock_timeout_s: float) -> PostgresDatabase:
    """Open the database and bring its schema up to date. Raises StoreUnavailable."""
    try:
        database = PostgresDatabase(url, lock_timeout_s)
    except ModuleNotFoundError as error:
        raise StoreUnavailable(
            "PostgreSQL's driver is not installed: pip install 'minions[postgres]'"
        ) from error
    try:
        await database.prepare()
    except BaseException:
        await database.close()
        raise
    return database


def unavailable(error: DBAPIError, place: str) -> StoreUnavailable:
    """The error to show for what the server, or the way to it, reported."""
    reason = str(error.orig).strip().splitlines()
    advice = (
        "can't be reached: check host, port, user and password, and that the server runs"
        if error.connection_invalidated or type(error.orig).__name__ == "OperationalError"
        else "refused an operation: see the reason, and report it as a bug"
    )
    return StoreUnavailable(f"the database {place} {advice} ({' '.join(reason)[:300]})")


def _isolate(connection: Connection, begin: Callable[[Connection], None]) -> None:
    """A reader sees one snapshot. A writer, alone by its lock, sees what was committed before."""
    level = "REPEATABLE READ" if begin is _plainly else "READ COMMITTED"
    connection.execution_options(isolation_level=level)


def _plainly(_: Connection) -> None:
    """A transaction that only reads."""


def _as_only_writer(connection: Connection) -> None:
    connection.execute(text("SET LOCAL synchronous_commit TO off"))
    _take_turn(connection)


def _durably(connection: Connection) -> None:
    connection.execute(text("SET LOCAL synchronous_commit TO on"))
    _take_turn(connection)


def _take_turn(connection: Connection) -> None:
    """Wait until this is the only writer; the lock ends with the transaction."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITERS_LOCK})


def _limit_waiting(engine: AsyncEngine, lock_timeout_s: float) -> None:
    """No statement waits longer than that for a lock."""

    def configure(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {int(lock_timeout_s * 1000)}")
        connection.commit()

    event.listen(engine.sync_engine, "connect", configure)
