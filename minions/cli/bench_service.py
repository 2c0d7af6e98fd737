"""`minions bench service`: many questions at once from many keys, and what REST itself costs.

A real `minions serve` in a process of its own, with the scripted worker and a simulated cloud, so
that what is measured is the service and not a model.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx2
import psutil
import typer

from minions.app import App, open_app
from minions.cli.common import JsonOption, err, out
from minions.cli.demo import contract_path
from minions.errors import MinionsError
from minions.keys import Scope, new_key
from minions.question import Options, Question, StrategyName
from minions.settings import Settings, load_settings
from minions.store import open_store

START_S = 120.0
ANSWER_S = 600.0
SAMPLE_S = 0.05
TEXT = "The pump costs $4,250. This agreement is governed by the laws of the State of Oregon. " * 20
"""Of the questions that measure overhead: one chunk, so that little but the path is measured."""
LOAD_QUESTION = "Who pays for number {n} of the pumps that are delivered late?"
SMALL_QUESTION = "Which law governs number {n}?"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """One question of the load."""

    elapsed_s: float
    answered: bool


@dataclass(kw_only=True)
class Watch:
    """The service's process while the load runs."""

    process: psutil.Process
    peak_rss_bytes: int = 0
    cpu_s: float = 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sample its memory, and count its CPU time from here to the end of the block."""
        before, sampler = self._cpu_s(), asyncio.create_task(self._sample())
        try:
            yield
        finally:
            sampler.cancel()
            self.cpu_s = self._cpu_s() - before

    async def _sample(self) -> None:
        while True:
            self.peak_rss_bytes = max(self.peak_rss_bytes, self.process.memory_info().rss)
            await asyncio.sleep(SAMPLE_S)

    def _cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


@dataclass(frozen=True, kw_only=True, slots=True)
class Overhead:
    """The same small questions over REST and on the pipeline itself, in turn."""

    rest_ms: Sequence[float]
    pipeline_ms: Sequence[float]

    @property
    def p50_ms(self) -> float:
        """Difference of the medians."""
        return statistics.median(self.rest_ms) - statistics.median(self.pipeline_ms)


@dataclass(kw_only=True)
class Bench:
    """One measurement, from keys to figures."""

    n_questions: int
    n_keys: int
    n_small: int
    state: Path
    cloud_url: str
    port: int
    tokens: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def run(self) -> dict[str, Any]:
        """Measure both; the service is started and ended here."""
        await self._make_keys()
        with self._service() as process:
            watch = Watch(process=psutil.Process(process.pid))
            await self._until_ready(process)
            overhead = await self._overhead()
            ended, wall_s = await self._load(watch)
        return self._figures(ended, wall_s, watch, overhead)

    async def _make_keys(self) -> None:
        store = await open_store(self.settings("service").database)
        for number in range(self.n_keys):
            key, token = new_key(f"bench {number}", list(Scope))
            await store.put_key(key)
            self.tokens.append(token)
        await store.close()

    def settings(self, name: str) -> Settings:
        """The same for the service and for the pipeline beside it, each in a state of its own."""
        return load_settings(
            state_dir=self.state / name, model="scripted", cloud_url=self.cloud_url
        )

    @contextlib.contextmanager
    def _service(self) -> Iterator[subprocess.Popen[bytes]]:
        settings = self.settings("service")
        options = ["--port", str(self.port), "--state-dir", str(settings.state_dir)]
        options += ["--model", settings.model, "--cloud-url", self.cloud_url]
        command = [sys.executable, "-m", "minions", "serve", *options]
        with (self.state / "service.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                yield process
            finally:
                process.terminate()
                process.wait(timeout=START_S)

    async def _until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        async with self._client(self.tokens[0]) as client:
            while process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(httpx2.TransportError):
                    if (await client.get("/readyz")).status_code == 200:
                        return
                await asyncio.sleep(SAMPLE_S)
        log = (self.state / "service.log").read_text(errors="replace")
        raise MinionsError(f"The service did not become ready. Its log ends: {log[-1000:]}")

    def _client(self, token: str) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=ANSWER_S,
            limits=httpx2.Limits(max_connections=None),
            verify=False,  # plain HTTP on this machine: loading certificates takes a while
        )

    async def _load(self, watch: Watch) -> tuple[list[Ended], float]:
        """All questions at once, spread over all keys; each key has the contract as its own."""
        data = contract_path().read_bytes()
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(self._client(t)) for t in self.tokens]
            documents = [await _uploaded(client, "contract.pdf", data) for client in clients]
            async with watch.running():
                began = time.monotonic()
                asked = [
                    _asked(clients[n % self.n_keys], documents[n % self.n_keys], n)
                    for n in range(self.n_questions)
                ]
                ended = list(await asyncio.gather(*asked))
        return ended, time.monotonic() - began

    async def _overhead(self) -> Overhead:
        rest_ms, pipeline_ms = [], []
        async with open_app(self.settings("pipeline")) as app, self._client(self.tokens[0]) as rest:
            document = (await app.add_document(TEXT.encode(), "offer.txt")).document_id
            await _uploaded(rest, "offer.txt", TEXT.encode())
            for n in range(-2, self.n_small):  # the first two load what is loaded once
                over_rest, direct = (
                    await _small_rest(rest, document, n),
                    await _small(app, document, n),
                )
                if n >= 0:
                    rest_ms.append(over_rest)
                    pipeline_ms.append(direct)
        return Overhead(rest_ms=rest_ms, pipeline_ms=pipeline_ms)

    def _figures(
        self, ended: Sequence[Ended], wall_s: float, watch: Watch, overhead: Overhead
    ) -> dict[str, Any]:
        ms = [1000 * one.elapsed_s for one in ended]
        cuts = statistics.quantiles(ms, n=100, method="inclusive")
        return {
            "questions": self.n_questions,
            "keys": self.n_keys,
            "lost": sum(not one.answered for one in ended),
            "p50_ms": round(statistics.median(ms), 1),
            "p99_ms": round(cuts[98], 1),
            "wall_s": round(wall_s, 2),
            "overhead_p50_ms": round(overhead.p50_ms, 2),
            "rest_p50_ms": round(statistics.median(overhead.rest_ms), 2),
            "pipeline_p50_ms": round(statistics.median(overhead.pipeline_ms), 2),
            "cpu_s": round(watch.cpu_s, 2),
            "peak_rss_bytes": watch.peak_rss_bytes,
        }


async def _uploaded(client: httpx2.AsyncClient, name: str, data: bytes) -> str:
    answer = await client.post("/v1/documents", files={"file": (name, data)})
    document_id: str = answer.raise_for_status().json()["id"]
    return document_id


async def _asked(client: httpx2.AsyncClient, document_id: str, n: int) -> Ended:
    """A question that the workers can't answer well, so that the simulated cloud is asked too."""
    body = {"question": LOAD_QUESTION.format(n=n), "documents": [document_id], "wait": True}
    began = time.monotonic()
    try:
        answer = await client.post("/v1/questions", json=body)
        answered = answer.status_code == 200 and answer.json()["status"] == "finished"
    except httpx2.TransportError:
        answered = False
    return Ended(elapsed_s=time.monotonic() - began, answered=answered)


async def _small_rest(client: httpx2.AsyncClient, document_id: str, n: int) -> float:
    body = {
        "question": SMALL_QUESTION.format(n=n),
        "documents": [document_id],
        "strategy": StrategyName.LOCAL.value,
        "wait": True,
    }
    began = time.perf_counter()
    (await client.post("/v1/questions", json=body)).raise_for_status()
    return 1000 * (time.perf_counter() - began)


async def _small(app: App, document_id: str, n: int) -> float:
    question = Question(
        text=SMALL_QUESTION.format(n=n),
        document_ids=(document_id,),
        options=Options(strategy=StrategyName.LOCAL, target=app.settings.target),
    )
    began = time.perf_counter()
    await app.desk.ask(question)
    return 1000 * (time.perf_counter() - began)


def service(
    questions: Annotated[int, typer.Option(min=2, help="Asked all at once.")] = 200,
    keys: Annotated[int, typer.Option(min=1, help="Askers, each with a key.")] = 20,
    small: Annotated[int, typer.Option(min=2, help="Questions that measure overhead.")] = 100,
    cloud_ms: Annotated[int, typer.Option(min=0, help="Delay of the simulated cloud.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Measure the service on this machine: latency of questions at once, and what REST adds.

    Starts a service and a simulated cloud of its own on loopback and stops them."""
    from minions.cloud.sim import SimPlan, running

    err.print(f"[dim]{questions} questions at once from {keys} keys ...[/]")
    with (
        tempfile.TemporaryDirectory(prefix="minions-bench-") as folder,
        running(SimPlan(latency_s=cloud_ms / 1000)) as cloud_url,
    ):
        bench = Bench(
            n_questions=questions,
            n_keys=keys,
            n_small=small,
            state=Path(folder),
            cloud_url=cloud_url,
            port=_free_port(),
        )
        figures = asyncio.run(bench.run())
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            out.print(f"{name:>16}  {value:,}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
