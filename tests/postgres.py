"""A real PostgreSQL server for tests: made in a temporary folder, on a socket there, and ended."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

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
    with tempfile.TemporaryDirectory(prefix="mpg", dir="/tmp", ignore_cleanup_errors=True) as name:
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
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


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
