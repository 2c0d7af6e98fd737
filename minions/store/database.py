"""Connections to the embedded SQLite database, and the transactions of everything above.

Work on the database is a plain function of a SQLAlchemy `Connection`; `Database` runs it in one
transaction on the right connection:

- `read`: several at once, never waits for a writer (WAL).
- `write`: one at a time; what it commits survives kill -9 of this process.
- `write_durably`: the same on a connection with `synchronous=FULL`: survives power loss too.

A transaction runs as a whole in a thread: one hop and back. Passing each of its five or so
statements to a thread of the connection, as asynchronous drivers do, takes three times as long.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from minions.errors import StoreUnavailable
from minions.runlock import RunLock
from minions.store.errors import unavailable
from minions.store.fulltext import FullText, Search
from minions.store.migrate import bring_up_to_date, current_revision
from minions.store.tables import REVISIONS

P = ParamSpec("P")
T = TypeVar("T")

N_READERS = 4
"""Connections that read at once; each costs a thread and its page cache. One more writes."""
MEMORY = ":memory:"


class AnyDatabase(Protocol):
    """Transactions on a database, whichever it is. See `Database` for the promises."""

    @property
    def path(self) -> str:
        """How messages name it; no password is in it."""
        ...

    @property
    def full_text(self) -> Search: ...

    @property
    def run_lock(self) -> RunLock | None:
        """Locks that all clients of the database share; None where lock files do."""
        ...

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    async def write_durably(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    async def close(self) -> None: ...


class Database:
    """One SQLite database, opened and migrated. Made by `open_database`."""

    def __init__(self, path: str, lock_timeout_s: float) -> None:
        """`path` of a file whose folder exists, or `:memory:`."""
        self.path = path
        self.full_text: Search = FullText()
        self.run_lock: RunLock | None = None
        self.writer = _engine(path, lock_timeout_s, synchronous="NORMAL")
        # A memory database lives in its one connection, and has no disk to wait for.
        in_memory = path == MEMORY
        self.durable = (
            self.writer if in_memory else _engine(path, lock_timeout_s, synchronous="FULL")
        )
        self.reader = (
            self.writer
            if in_memory
            else _engine(path, lock_timeout_s, pool_size=N_READERS, begin="BEGIN")
        )
        self._threads = ThreadPoolExecutor(N_READERS + 1, thread_name_prefix="store")
        self._writing = asyncio.Lock()
        self._reading = asyncio.Semaphore(N_READERS)
        self._closed = False

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The result of `work(connection, ...)` on one snapshot of the database.

        Raises StoreUnavailable when the database fails, else what `work` raises.
        """
        return await _uninterrupted(self._read(work, *args, **kwargs))

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `read`, in a transaction that is committed when this returns, or not at all."""
        return await _uninterrupted(self._write_on(self.writer, work, *args, **kwargs))

    async def write_durably(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `write`, and on the disk itself when this returns."""
        return await _uninterrupted(self._write_on(self.durable, work, *args, **kwargs))

    async def prepare(self) -> None:
        """Bring the schema to the newest revision; at most one process does it, others wait."""
        if await self.read(current_revision, self.path) != REVISIONS[-1]:
            await self.write(bring_up_to_date, self.path)

    async def close(self) -> None:
        """Close every connection. May be called again; anything else raises from now on."""
        async with self._writing:
            self._closed = True
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._threads.shutdown()
        for engine in (self.reader, self.writer, self.durable):
            engine.dispose()

    async def _read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with self._reading:  # so that a thread is left for the writer
            return await self._in_thread(self.reader, work, *args, **kwargs)

    async def _write_on(
        self,
        engine: Engine,
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        # Waiting here is fair and free; in SQLite it would be polling, in order of luck.
        async with self._writing:
            return await self._in_thread(engine, work, *args, **kwargs)

    async def _in_thread(
        self,
        engine: Engine,
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        if self._closed:
            raise StoreUnavailable(f"the store on {self.path} is closed: open it again")
        transaction = partial(self._transact, engine, work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._threads, transaction)

    def _transact(
        self,
        engine: Engine,
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        try:
            with engine.begin() as connection:
                return work(connection, *args, **kwargs)
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


async def open_database(url_or_path: str | Path, lock_timeout_s: float) -> AnyDatabase:
    """Open or make the database and bring its schema up to date. Raises StoreUnavailable."""
    url = _server_url(str(url_or_path))
    if url is not None:
        from minions.store.postgres import open_postgres  # its driver is an extra

        return await open_postgres(url, lock_timeout_s)
    path = _database_path(url_or_path)
    if path != MEMORY:
        await asyncio.to_thread(_make_file, Path(path), lock_timeout_s)
    database = Database(path, lock_timeout_s)
    try:
        await database.prepare()
    except BaseException:
        await database.close()  # or its threads outlive the failure
        raise
    return database


def _server_url(text: str) -> URL | None:
    """The URL of a PostgreSQL database; None for anything else."""
    if not text.startswith(("postgresql://", "postgres://")):
        return None
    try:
        return make_url(text.replace("postgres://", "postgresql://", 1))
    except ArgumentError as error:
        raise StoreUnavailable(f"the store's URL can't be read: {error}") from error


def _database_path(url_or_path: str | Path) -> str:
    """The file that `url_or_path` names, or `:memory:`."""
    text = str(url_or_path)
    if "://" not in text:
        return text if text == MEMORY else str(Path(text).expanduser())
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise StoreUnavailable(f"the store's URL can't be read: {error}") from error
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() != "sqlite":
        raise StoreUnavailable(
            f"the store's URL {shown} must be a path, sqlite:///PATH or postgresql://..."
        )
    if url.query or url.host:
        raise StoreUnavailable(f"the store's URL {shown} must have no host and no parameters")
    return url.database or MEMORY


def _make_file(path: Path, lock_timeout_s: float) -> None:
    """Make the file, private to this user, in WAL mode (which the file remembers)."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
    except OSError as error:
        raise StoreUnavailable(
            f"the database {path} can't be made ({error.strerror}): name a path you may write"
        ) from error
    try:
        _switch_to_wal(path, time.monotonic() + lock_timeout_s)
    except sqlite3.Error as error:
        raise unavailable(error, str(path)) from error


def _switch_to_wal(path: Path, deadline: float) -> None:
    """The switch needs the file alone and SQLite does not wait for it, so this does."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        while not _in_wal(connection):
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"the database {path} can't be switched to WAL: "
                    "end other programs that use it, and keep it on a local disk"
                )
            time.sleep(0.01)
    finally:
        connection.close()


def _in_wal(connection: sqlite3.Connection) -> bool:
    try:
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return False
        raise
    return bool(mode == "wal")


def _engine(
    path: str,
    lock_timeout_s: float,
    *,
    synchronous: str = "NORMAL",
    begin: str = "BEGIN IMMEDIATE",
    pool_size: int = 1,
) -> Engine:
    """`BEGIN IMMEDIATE` takes the write lock at once: a transaction that reads, then writes could
    otherwise lose its snapshot to another process between the two."""
    engine = create_engine(
        URL.create("sqlite", database=path),
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        # `engine.begin` ends every transaction: a rollback after it is a round trip for nothing.
        pool_reset_on_return=None,
        hide_parameters=True,  # or an error message would quote the user's documents
        connect_args={
            "timeout": lock_timeout_s,
            "isolation_level": None,
            "check_same_thread": False,  # the pool lends a connection to one thread at a time
        },
    )

    def configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in (f"synchronous={synchronous}", "fullfsync=ON", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")  # fullfsync: on macOS, fsync alone is no promise
        cursor.close()

    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", start)
    return engine


async def _uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await `work`; a cancellation is passed on only when it has ended.

    A half-done statement would cost the connection, and a paid answer that is on its way to the
    disk must get there though the user has just pressed Ctrl-C. Transactions are short.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError as cancelled:
        await asyncio.wait({task})
        raise cancelled from (None if task.cancelled() else task.exception())
