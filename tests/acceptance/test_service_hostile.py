"""Hostile files, thousands if wanted: each gets an answer in words, and the service stays as it is.

The suite takes a share; all thousand with MINIONS_HOSTILE=1000.
"""

from __future__ import annotations

import concurrent.futures
import os
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest

from tests.hostile import MAKERS, HostileFile, hostile_files
from tests.served import served

N_FILES = int(os.environ.get("MINIONS_HOSTILE", "72"))
SEED = 20261121
AT_ONCE = 2
MAX_GROWTH_BYTES = 300 * 1024**2
"""What the service may grow by: the largest few files in memory, and what the allocator keeps."""
REFUSALS = {400, 413, 422}


def upload(client: httpx.Client, file: HostileFile) -> httpx.Response:
    return client.post("/v1/documents", files={"file": (file.name, file.data)})


DATED = {"truncated pdf", "flipped pdf", "wrong type"} | {
    kind for kind in MAKERS if "docx" in kind or "zip" in kind
}
"""Kinds whose files carry the time at which they were made."""


def test_the_same_seed_makes_the_same_files() -> None:
    first, second = (list(hostile_files(SEED, len(MAKERS))) for _ in range(2))
    assert [file.kind for file in first] == list(MAKERS)
    for one, other in zip(first, second, strict=True):
        assert (one.kind, one.name) == (other.kind, other.name)
        assert one.data == other.data or one.kind in DATED


@pytest.mark.timeout(3600)
def test_hostile_files_are_refused_in_words_and_nothing_breaks(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[limits]\ntimeout_s = 20\n")
    with served(tmp_path) as service, service.client(timeout=120) as client:
        process = psutil.Process(service.process.pid)
        upload(client, HostileFile(kind="plain", name="a.txt", data=b"A plain text."))
        before = process.memory_info().rss
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            files = hostile_files(SEED, N_FILES)
            answers = list(pool.map(lambda file: (file.kind, upload(client, file)), files))
        grown = process.memory_info().rss - before
        children = process.children()
        healthy = client.get("/readyz")
        log = (tmp_path / "service.log").read_text()
    statuses = Counter((kind, answer.status_code) for kind, answer in answers)
    assert {answer.status_code for _, answer in answers} <= {201, *REFUSALS}, statuses
    for kind, answer in answers:
        if answer.status_code != 201:
            error = answer.json()["error"]
            assert error["code"] != "internal_error", (kind, error)
            assert len(error["message"]) > 20, (kind, error)
            assert str(tmp_path) not in error["message"], "no path of this machine is told"
            assert "Traceback" not in error["message"]
    assert healthy.status_code == 200
    assert not children, "no reading process is left"
    assert '"level": "error"' not in log
    assert grown < MAX_GROWTH_BYTES
