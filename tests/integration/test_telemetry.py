"""What the service tells of itself: spans for a collector, log lines without secrets, figures."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient

from minions.rest import create_app
from minions.settings import load_settings
from minions.store.model import LedgerEntry, RunRecord, RunStatus
from minions.telemetry.logs import MASK, configure_logs, mask_secrets, masked
from minions.telemetry.metrics import Meters
from minions.telemetry.tracing import NoSink, open_sink
from tests.house import CONTRACT

LAW = "Which state's laws govern this agreement?"


@dataclass
class Collector:
    """Keeps what is posted to it."""

    url: str = ""
    posts: list[tuple[str, bytes]] = field(default_factory=list)


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """An HTTP server on loopback that takes traces."""
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.posts.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


def test_a_question_becomes_spans_that_quote_nothing(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otel")
    with collecting() as collector:
        chosen = load_settings(
            state_dir=tmp_path, model="scripted", otel_endpoint=collector.url + "/"
        )
        with TestClient(create_app(chosen), base_url="http://127.0.0.1") as client:
            body = {"question": LAW, "documents": [{"name": "c.txt", "text": CONTRACT}]}
            asked = client.post("/v1/questions", json={**body, "wait": True}).json()
    assert {path for path, _ in collector.posts} == {"/v1/traces"}
    sent = b"".join(body for _, body in collector.posts)
    assert asked["id"].encode() in sent
    for name in (b"question", b"read", b"load worker"):
        assert name in sent
    assert b"Oregon" not in sent and LAW.encode() not in sent


def test_without_a_collector_nothing_is_sent() -> None:
    sink = open_sink(None)
    assert isinstance(sink, NoSink)
    sink.export({}, "finished")
    sink.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Bearer mk_0123456789abcdef", f"Bearer {MASK}"),
        ("key sk-proj-0123456789 is wrong", f"key {MASK} is wrong"),
        ('{"authorization": "Bearer anything-else"}', '{"authorization": "Bearer ***'),
        ("the mk_ prefix alone", "the mk_ prefix alone"),
        ("a task-0123456789abc is no key", "a task-0123456789abc is no key"),
    ],
)
def test_what_looks_like_a_key_is_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    line = mask_secrets(None, "info", {"event": text, "n": 3})
    assert line == {"event": shown, "n": 3}


def entry(**changes: Any) -> LedgerEntry:
    facts: dict[str, Any] = {
        "run_id": "run_1",
        "kind": "local",
        "model": "m",
        "purpose": "read",
        "outcome": "answered",
        "prompt_tokens": 100,
        "cached_tokens": 60,
        "completion_tokens": 7,
        "reasoning_tokens": 0,
        "cost_nano_usd": None,
        "price_snapshot": None,
        "usage_reported": True,
        "call_key": "c",
        "attempt": 1,
        "created_at": 1.0,
    }
    return LedgerEntry(**(facts | changes))


def test_figures_add_up_and_an_unknown_price_is_none() -> None:
    meters = Meters()
    run = RunRecord(
        run_id="run_1",
        fingerprint="f",
        status=RunStatus.FINISHED,
        question={},
        reply={"rung": "evidence", "cost": {"cloud_usd": 0.25, "cloud_only_usd": 1.0}},
        error=None,
        created_at=1.0,
        updated_at=3.0,
    )
    paid = entry(kind="cloud", outcome="ok", cached_tokens=0, cost_nano_usd=250_000_000)
    meters.question_ended(run, [entry(), paid, entry(kind="cloud", outcome="timeout")])
    text = meters.exposition().decode()
    for line in (
        'minions_questions_total{rung="evidence",status="finished"} 1.0',
        'minions_tokens_total{kind="cached",place="local"} 60.0',
        'minions_tokens_total{kind="prompt",place="local"} 40.0',
        'minions_jobs_total{outcome="answered"} 1.0',
        "minions_cloud_usd_total 0.25",
        "minions_cloud_calls_unpriced_total 1.0",
        "minions_saved_usd 0.75",
        "minions_question_seconds_sum 2.0",
    ):
        assert line in text.splitlines(), line


@contextlib.contextmanager
def own_logs() -> Iterator[None]:
    """Log handlers belong to the whole process, so they are put back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logs("json")
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)
        structlog.reset_defaults()


def test_a_line_of_the_log_is_one_json_object(capfd: pytest.CaptureFixture[str]) -> None:
    with own_logs():
        structlog.get_logger("minions.test").info("two\nlines", token="mk_0123456789")
        logging.getLogger("a.library").error("sk-0123456789 was refused")
    ours, theirs = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert (ours["event"], ours["token"], ours["level"]) == ("two\nlines", MASK, "info")
    assert theirs["event"] == f"{MASK} was refused"
