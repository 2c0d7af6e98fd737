"""A real PostgreSQL server for tests: made in a temporary folder, on a socket there, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from minions.store import open_store

_NUMBERS = itertools.count()

QUICK = (
    "fsync=off",
    "full_page_writes=off",
    "listen_addresses=",
    "max_connections=60",
    "shared_buffers=16MB",
)


def server_programs() -> Path | None:
    """Folder of `initdb` and `postgres`; None where PostgreSQL is not installed."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return debian[-1] if debian else None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Yields the URL of an empty database. PostgreSQL refuses to run as root, so root lends it to
    the user `postgres`, who comes with the Debian package."""
    programs = server_programs()
    assert programs is not None
    with tempfile.TemporaryDirectory(
        prefix="mpg", dir=_memory(), ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        as_user = _as_postgres(folder) if os.geteuid() == 0 else []
        user = "postgres" if as_user else getpass.getuser()
        data = str(folder / "data")
        initdb = [str(programs / "initdb"), "-D", data, "-A", "trust", "-U", user, "-N"]
        subprocess.run([*as_user, *initdb, "-E", "UTF8"], check=True, capture_output=True)
        settings = [word for setting in QUICK for word in ("-c", setting)]
        process = subprocess.Popen(
            [*as_user, str(programs / "postgres"), "-D", data, "-k", name, *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=name,
        )
        try:
            _wait(programs, name)
            yield f"postgresql://{user}@/postgres?host={name}"
        finally:
            process.send_signal(signal.SIGQUIT)  # at once, without waiting for clients
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def make_template(url: str) -> None:
    """Run the migrations once; tests get copies, which PostgreSQL makes in milliseconds."""

    async def make() -> None:
        await (await open_store(await _create(url, "template_of_tests", "template0"))).close()

    maker = threading.Thread(target=lambda: asyncio.run(make()))  # here a loop may be running
    maker.start()
    maker.join()


async def copy_of_template(url: str) -> str:
    """The URL of a fresh store."""
    return await _create(url, f"store_{next(_NUMBERS)}", "template_of_tests")


async def _create(url: str, name: str, template: str) -> str:
    import psycopg  # an extra: a plain setup has no such tests

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")  # type: ignore[arg-type]
    return url.replace("/postgres?", f"/{name}?")


async def drop(url: str, store_url: str) -> None:
    """Remove a store, which nobody uses any more."""
    import psycopg

    name = store_url.partition("@/")[2].partition("?")[0]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


def _memory() -> str:
    """A folder in memory where there is one: a store is some 300 files, copied for each test."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else "/tmp"


def _as_postgres(folder: Path) -> list[str]:
    shutil.chown(folder, "postgres", "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _wait(programs: Path, name: str) -> None:
    ready = [str(programs / "pg_isready"), "-h", name, "-t", "30"]
    for _ in range(100):
        if subprocess.run(ready, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError("PostgreSQL did not start")
