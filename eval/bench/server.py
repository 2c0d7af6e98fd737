"""The same jobs done by llama.cpp's own server, as people start it and as an expert drives it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from eval.bench.measure import Measured
from eval.bench.workloads import OUTPUT_TOKENS, Prompts, Workload, prompts_for
from workers.errors import EngineUnavailable
from workers.jobs import Job
from workers.llama.grammar import GBNF

_START_LIMIT_S: Final = 600.0
_REQUEST_LIMIT_S: Final = 3600.0
_END_LIMIT_S: Final = 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerWay:
    """How the server is started and driven."""

    n_slots: int
    by_chunk: bool
    """All jobs of a chunk on one slot, in order, so that its cache holds the chunk; else all jobs
    at once, on slots of the server's choice."""

    @property
    def name(self) -> str:
        return f"llama-server {self.n_slots} slots{', by chunk' if self.by_chunk else ''}"


def run_server(
    binary: Path, gguf: Path, workload: Workload, n_threads: int, way: ServerWay
) -> Measured:
    """Start the server, send it the jobs, stop it. CPU time is the server's alone.

    Raises EngineUnavailable when it does not start."""
    prompts = prompts_for(workload, gguf)
    longest = max(len(prompts.ids(job)) for job in prompts.jobs()) + OUTPUT_TOKENS
    with serving(binary, gguf, n_threads, way.n_slots, longest + 64) as (server, url):
        before_s = _cpu_s(server)
        begin = time.perf_counter()
        replies = list(_send_all(url, prompts, way))
        wall_s = time.perf_counter() - begin
        return Measured(
            wall_s=wall_s,
            cpu_s=_cpu_s(server) - before_s,
            prefill_tokens=sum(reply["timings"]["prompt_n"] for reply in replies),
            output_tokens=sum(reply["timings"]["predicted_n"] for reply in replies),
            peak_rss_bytes=_peak_rss_bytes(server.pid),
        )


def _send_all(url: str, prompts: Prompts, way: ServerWay) -> Iterator[dict[str, Any]]:
    jobs = prompts.jobs()
    if not way.by_chunk:
        lanes: list[list[tuple[Job, int | None]]] = [[(job, None)] for job in jobs]
    else:
        lanes = [[] for _ in range(way.n_slots)]
        for job in jobs:
            slot = int(job.chunk_id) % way.n_slots
            lanes[slot].append((job, slot))
    senders = ThreadPoolExecutor(max_workers=len(lanes))
    try:
        for replies in senders.map(lambda lane: _send_lane(url, prompts, lane), lanes):
            yield from replies
    finally:  # after a Ctrl-C nobody waits for the replies: the server is ended next
        senders.shutdown(wait=False, cancel_futures=True)


def _send_lane(
    url: str, prompts: Prompts, lane: Sequence[tuple[Job, int | None]]
) -> list[dict[str, Any]]:
    """One job after the other."""
    return [_post(f"{url}/completion", _body(prompts, job, slot)) for job, slot in lane]


def _body(prompts: Prompts, job: Job, slot: int | None) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt": prompts.ids(job),
        "n_predict": OUTPUT_TOKENS,
        "temperature": job.sampling.temperature,
        "top_k": job.sampling.top_k,
        "samplers": ["top_k", "temperature"],
        "seed": job.sampling.seed,
        "grammar": GBNF,
        "cache_prompt": True,
    }
    return body if slot is None else body | {"id_slot": slot}


@contextlib.contextmanager
def serving(
    binary: Path, gguf: Path, n_threads: int, n_slots: int, slot_tokens: int
) -> Iterator[tuple[psutil.Process, str]]:
    """A running llama-server and its URL; it is ended with the block.

    Raises EngineUnavailable when it does not start."""
    port = _free_port()
    command = [
        str(binary), "-m", str(gguf), "--host", "127.0.0.1", "--port", str(port),
        "-t", str(n_threads), "-tb", str(n_threads), "-np", str(n_slots),
        "-c", str(n_slots * slot_tokens), "-fa", "on",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_up(process, url, log)
            yield psutil.Process(process.pid), url
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """A server that was asked to end may wait for its open requests, for ever."""
    process.terminate()
    try:
        process.wait(_END_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_up(process: subprocess.Popen[bytes], url: str, log: Any) -> None:
    until = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"{url}/health", timeout=10).close()
            return
        time.sleep(0.1)
    log.seek(0)
    words = log.read().decode("utf-8", "replace").strip().splitlines()
    raise EngineUnavailable(f"llama-server did not start: {words[-1] if words else 'no output'}")


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=_REQUEST_LIMIT_S) as response:
        reply: dict[str, Any] = json.load(response)
    return reply


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _peak_rss_bytes(pid: int) -> int:
    """Linux's high-water mark; the present size elsewhere."""
    status = Path(f"/proc/{pid}/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process(pid).memory_info().rss)
