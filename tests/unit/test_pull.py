"""`pull` against a hub on this machine that speaks the part of the protocol that is needed."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from workers.errors import ModelCorrupt, ModelNotFound, PullFailed
from workers.models import HubModel, record_path
from workers.pull import PullPhase, PullProgress, pull, pull_model

COMMIT = "c" * 40
CONTENT = b"GGUF" + bytes(range(256)) * 4000


@dataclass
class Hub:
    """What the hub has, and how it misbehaves."""

    files: dict[str, bytes]
    stated_sha256: str | None = None
    """Stated for every file; None for the true one."""
    sent: bytes | None = None
    """Sent for every file; None for the true content."""
    cut_after: int | None = None
    """Bytes of a body after which the connection breaks, once; then the hub is down (503)."""
    ranges: list[str | None] = field(default_factory=list)
    """The Range header of each GET."""
    n_heads: int = 0
    endpoint: str = ""

    @property
    def is_down(self) -> bool:
        return self.cut_after == -1


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Nothing to the terminal."""

        def do_HEAD(self) -> None:
            hub.n_heads += 1
            content = hub.files.get(self.path.rpartition("/")[2])
            if content is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.end_headers()
                return
            self._redirect_to_cdn()
            stated = hub.stated_sha256 or hashlib.sha256(content).hexdigest()
            self.send_header("X-Linked-Etag", f'"{stated}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()

        def do_GET(self) -> None:
            if not self.path.startswith("/cdn/"):
                assert f"/resolve/{COMMIT}/" in self.path
                self._redirect_to_cdn()
                self.end_headers()
                return
            hub.ranges.append(self.headers.get("Range"))
            if hub.is_down:
                self.send_error(503)
                return
            self._send(hub.sent or hub.files[self.path.rpartition("/")[2]])

        def _redirect_to_cdn(self) -> None:
            """As the real hub: another host has the bytes; the metadata come with the redirect."""
            name = self.path.rpartition("/")[2]
            cdn = hub.endpoint.replace("127.0.0.1", "localhost")
            self.send_response(302)
            self.send_header("Location", f"{cdn}/cdn/{name}")

        def _send(self, content: bytes) -> None:
            wanted = self.headers.get("Range")
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if wanted:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            self.end_headers()
            if hub.cut_after is None:
                self.wfile.write(content[start:])
                return
            self.wfile.write(content[start : hub.cut_after])
            hub.cut_after = -1

    return Handler


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub)) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub(files={"m.gguf": CONTENT})) as hub:
        yield hub


MODEL = HubModel(name="m", repo="org/m", files=("m.gguf",), weights_bytes=len(CONTENT))


def partials(folder: Path) -> list[Path]:
    return list(folder.glob("*.partial"))


def test_a_model_is_fetched_checked_and_recorded(hub: Hub, tmp_path: Path) -> None:
    reports: list[PullProgress] = []
    folder = tmp_path / "models"
    path = pull_model(MODEL, folder, reports.append, endpoint=hub.endpoint)
    assert path.read_bytes() == CONTENT
    record = json.loads(record_path(path).read_text())
    assert record["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert record["size_bytes"] == len(CONTENT)
    assert COMMIT in record["source"]
    assert {report.phase for report in reports} == set(PullPhase)
    assert all(report.total_bytes == len(CONTENT) for report in reports)
    assert reports[-1].done_bytes == len(CONTENT)
    assert partials(folder) == []


def test_a_second_pull_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    first = pull_model(MODEL, tmp_path, endpoint=hub.endpoint)
    second = pull_model(MODEL, tmp_path, endpoint="http://127.0.0.1:9")
    assert first == second
    assert hub.n_heads == 1


def test_a_cut_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    """The hub's client writes in blocks of 10 MiB, so the file is larger than one."""
    big = CONTENT * 24
    hub.files = {"m.gguf": big}
    hub.cut_after = 15_000_000
    with pytest.raises(PullFailed, match="what was fetched so far is kept"):
        pull_model(MODEL, tmp_path, endpoint=hub.endpoint)
    (kept,) = [path.stat().st_size for path in partials(tmp_path)]
    assert 10_000_000 < kept <= 15_000_000
    hub.cut_after = None
    reports: list[PullProgress] = []
    path = pull_model(MODEL, tmp_path, reports.append, endpoint=hub.endpoint)
    assert path.read_bytes() == big
    assert hub.ranges == [None, f"bytes={kept}-", f"bytes={kept}-"]
    assert reports[0].done_bytes > kept


def test_a_corrupt_blob_is_not_left_in_place(hub: Hub, tmp_path: Path) -> None:
    hub.sent = CONTENT[:-1] + b"!"
    with pytest.raises(ModelCorrupt, match=r"SHA-256 .* the hub states"):
        pull_model(MODEL, tmp_path, endpoint=hub.endpoint)
    assert list(tmp_path.iterdir()) == []
    hub.sent = None
    assert pull_model(MODEL, tmp_path, endpoint=hub.endpoint).read_bytes() == CONTENT


def test_a_file_placed_by_hand_is_checked_and_kept(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(CONTENT)
    path = pull_model(MODEL, tmp_path, endpoint=hub.endpoint)
    assert hub.ranges == []
    assert record_path(path).is_file()


def test_a_wrong_file_placed_by_hand_is_refused_but_not_deleted(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF of mine")
    with pytest.raises(ModelCorrupt, match="Move it away"):
        pull_model(MODEL, tmp_path, endpoint=hub.endpoint)
    assert (tmp_path / "m.gguf").read_bytes() == b"GGUF of mine"


def test_all_parts_of_a_split_model_come(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"a.gguf": CONTENT, "b.gguf": CONTENT[::-1]}
    model = HubModel(name="ab", repo="org/ab", files=("a.gguf", "b.gguf"), weights_bytes=1)
    assert pull_model(model, tmp_path, endpoint=hub.endpoint) == tmp_path / "a.gguf"
    assert (tmp_path / "b.gguf").read_bytes() == CONTENT[::-1]


def test_offline_says_so_and_how_to_place_the_file(tmp_path: Path) -> None:
    with pytest.raises(PullFailed) as caught:
        pull("gpt-oss-20b", tmp_path, endpoint="http://127.0.0.1:9")
    said = str(caught.value)
    assert "is this machine offline" in said
    assert (
        f"huggingface.co/ggml-org/gpt-oss-20b-GGUF on another machine and put it into {tmp_path}"
        in said
    )


def test_a_file_that_the_hub_lacks_is_said(hub: Hub, tmp_path: Path) -> None:
    hub.files = {}
    with pytest.raises(PullFailed, match=r"refused m\.gguf of org/m"):
        pull_model(MODEL, tmp_path, endpoint=hub.endpoint)


def test_a_hub_that_states_no_hash_is_not_trusted(hub: Hub, tmp_path: Path) -> None:
    hub.stated_sha256 = "not-a-hash"
    with pytest.raises(PullFailed, match="could not be checked"):
        pull_model(MODEL, tmp_path, endpoint=hub.endpoint)


def test_a_full_disk_is_known_before_the_download(hub: Hub, tmp_path: Path) -> None:
    hub.files = {"m.gguf": _Vast(CONTENT)}
    with pytest.raises(PullFailed, match="make room"):
        pull_model(MODEL, tmp_path, endpoint=hub.endpoint)
    assert hub.ranges == []


class _Vast(bytes):
    """Says that it is a petabyte long."""

    def __len__(self) -> int:
        return 10**15


def test_a_name_that_cannot_be_pulled_lists_what_can(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="gpt-oss-20b, gpt-oss-120b"):
        pull("nano", tmp_path)
