"""kill -9, SIGTERM, hanging clouds: what was accepted ends, and nothing is done or paid twice."""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from minions.cli.demo import contract_path
from minions.cloud.sim import Fault, FaultKind, SimPlan, running
from tests.cloud import Sim
from tests.command import free_port
from tests.house import CONTRACT
from tests.served import Served, served, start

log = logging.getLogger(__name__)
N_KILLS = int(os.environ.get("MINIONS_KILLS", "100"))
N_HOUSES = 3
SEED = 20261121
LAW = "Which state's laws govern this agreement?"
UNREADABLE = "Whose statutes apply to disputes about pumps between companies?"
"""The scripted worker abstains on it, so that the ladder climbs."""
WAIT_S = 60.0
MAX_GROWTH_BYTES = 16 * 1024**2
"""What hundreds of refusals may leave behind: what the allocator keeps, and nothing per request."""
INLINE = [{"name": "contract.txt", "text": CONTRACT}]


def ask(client: httpx.Client, question: str, key: str | None = None, **options: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"question": question, "documents": INLINE, **options}
    return client.post("/v1/questions", json=body, headers=headers)


def ended(client: httpx.Client, question_id: str) -> dict[str, Any]:
    """The question once it has its outcome."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        run: dict[str, Any] = client.get(f"/v1/questions/{question_id}").json()
        if run["status"] not in ("queued", "running", "interrupted"):
            return run
        time.sleep(0.02)
    raise AssertionError(f"{question_id} has no outcome: {run['status']}")


def rows(state: Path, statement: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(state / "minions.db")) as connection:
        return connection.execute(statement).fetchall()


class Asker:
    """A client as they should be: each question has a key, and is sent until it is accepted."""

    def __init__(self, house: int) -> None:
        self.house = house
        self.accepted: dict[str, str] = {}
        """Question ids by key."""

    def question(self, key: str) -> str:
        return f"{UNREADABLE} This is number {key} of house {self.house}."

    def ask_until_killed(self, service: Served) -> None:
        with service.client() as client:
            while service.process.is_alive():
                with contextlib.suppress(httpx.TransportError):
                    self.ask_next(client)
                time.sleep(0.05)

    def ask_next(self, client: httpx.Client) -> None:
        """The question after the last accepted one. Its run may be there already, when a kill came
        between the disk and the reply."""
        key = str(len(self.accepted))
        answer = ask(client, self.question(key), key)
        assert answer.status_code == 202, answer.text
        self.accepted[key] = answer.json()["id"]


class Moment(enum.Enum):
    """What a kill follows, after a random time of up to a third of a second."""

    START = "the start of the process"
    READY = "its first healthy answer"
    ACCEPTED = "its first accepted question"


@contextlib.contextmanager
def killed(service: Served, asker: Asker, moment: Moment, delay_s: float) -> Iterator[None]:
    n_accepted = len(asker.accepted)

    def reached() -> bool:
        if moment is Moment.ACCEPTED:
            return len(asker.accepted) > n_accepted
        return moment is Moment.START or is_healthy(service)

    def kill() -> None:
        wait_until(reached)
        time.sleep(delay_s)
        service.signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        killer.join()
        service.process.join()


def is_healthy(service: Served) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(service.url + "/healthz").status_code == 200
    return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.mark.timeout(600)
def test_a_hundred_kills_lose_nothing_and_pay_nothing_twice(tmp_path: Path) -> None:
    """In three houses at once, because most of a start is waiting."""
    with running(SimPlan(latency_s=0.05)) as url, ThreadPoolExecutor(N_HOUSES) as pool:
        begun = [pool.submit(killed_house, tmp_path / str(n), url, n) for n in range(N_HOUSES)]
        houses = [house.result() for house in begun]
        calls = Sim(base_url=url).ledger()
    runs = [run for house in houses for run in house]
    log.info("seed %d: %d kills, %d questions, %d calls", SEED, N_KILLS, len(runs), len(calls))
    assert len(runs) > N_KILLS // 5, "too few questions for the kills to meet many"
    assert Counter(run["status"] for run in runs) == {"finished": len(runs)}
    answered: Counter[str] = Counter()
    for n, house in enumerate(houses):
        answered += check_the_record(tmp_path / str(n), n_questions=len(house))
    billed = {call["idempotency_key"] for call in calls}
    assert len(billed) == len(calls), "no key is billed twice"
    # A kill between an answer and its place on the disk: it is asked for again, and comes free.
    assert answered == dict.fromkeys(billed, 1), "what was billed is on our books, and once"


def killed_house(state: Path, cloud_url: str, number: int) -> list[dict[str, Any]]:
    """A share of the kills on one house; its questions once they have their outcome."""
    state.mkdir()
    rng, asker, port = random.Random(SEED + number), Asker(house=number), free_port()
    options = {"cloud_url": cloud_url, "max_running": 4}
    for _ in range(number, N_KILLS, N_HOUSES):
        service = start(state, port, **options)
        with killed(service, asker, rng.choice(list(Moment)), rng.uniform(0, 0.35)):
            asker.ask_until_killed(service)
    with served(state, **options) as service, service.client() as client:
        asker.ask_next(client)
        runs = [ended(client, run_id) for run_id in asker.accepted.values()]
        again = [ask(client, asker.question(key), key).json()["id"] for key in asker.accepted]
    assert again == list(asker.accepted.values())
    return runs


def check_the_record(state: Path, *, n_questions: int) -> Counter[str]:
    """One run per question, one result per job; returns the paid rows of each call."""
    assert rows(state, "SELECT count(*) FROM runs") == [(n_questions,)]
    per_run = rows(state, "SELECT count(*) FROM job_results GROUP BY run_id")
    assert len(per_run) == n_questions
    assert len(set(per_run)) == 1, "each question has as many job results as any other"
    sent = rows(state, "SELECT run_id, rung, count(DISTINCT call_key) FROM egress GROUP BY 1, 2")
    assert all(n_keys == 1 for *_, n_keys in sent), "a rung of a question is one purchase"
    paid = "SELECT call_key FROM ledger WHERE kind = 'cloud' AND cost_nano_usd > 0"
    return Counter(key for (key,) in rows(state, paid))


def test_sigterm_lets_questions_end(tmp_path: Path) -> None:
    """Stopped while the cloud takes its time: the answer still comes, over the open connection."""
    with (
        running(SimPlan(latency_s=0.7)) as url,
        served(tmp_path, cloud_url=url, drain_s=20) as service,
        service.client() as client,
    ):
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(ask(client, UNREADABLE, wait=True)), daemon=True
        )
        asking.start()
        wait_for_cloud_call(tmp_path)
        service.signal(signal.SIGTERM)
        asking.join(WAIT_S)
        service.process.join(WAIT_S)
        assert service.process.exitcode is not None
    assert answers[0].status_code == 200
    assert answers[0].json()["status"] == "finished"


def test_what_outlives_the_grace_goes_on_at_the_next_start(tmp_path: Path) -> None:
    """The cloud hangs, the grace is short: the question stays unfinished, then finishes."""
    with running(SimPlan()) as url:
        Sim(base_url=url).fail_with(Fault(kind=FaultKind.TIMEOUT))
        with (
            served(tmp_path, cloud_url=url, drain_s=0.2) as service,
            service.client() as client,
        ):
            question_id = ask(client, UNREADABLE).json()["id"]
            wait_for_fault(url)
            service.terminate()
        assert rows(tmp_path, "SELECT status FROM runs") == [("running",)]
        with served(tmp_path, cloud_url=url) as service, service.client() as client:
            assert ended(client, question_id)["status"] == "finished"


def test_cancel_stops_a_hanging_cloud_call_within_a_second(tmp_path: Path) -> None:
    with (
        running(SimPlan()) as url,
        served(tmp_path, cloud_url=url) as service,
        service.client() as client,
    ):
        Sim(base_url=url).fail_with(Fault(kind=FaultKind.TIMEOUT))
        question_id = ask(client, UNREADABLE).json()["id"]
        wait_for_fault(url)
        began = time.monotonic()
        cancelled = client.post(f"/v1/questions/{question_id}/cancel").json()
        elapsed_s = time.monotonic() - began
        kinds = event_kinds(client, question_id)
    assert cancelled["status"] == "cancelled"
    assert elapsed_s < 1.0, "the promise is a second, and is asked of nothing but a hanging call"
    assert kinds[-3:] == ["error", "status", "done"]
    attempts = rows(tmp_path, "SELECT outcome FROM ledger WHERE kind = 'cloud'")
    assert attempts == [("cancelled",)], "the attempt is on the books, as one of unknown price"


def test_who_leaves_a_stream_cancels_unless_in_the_background(tmp_path: Path) -> None:
    with (
        running(SimPlan()) as url,
        served(tmp_path, cloud_url=url) as service,
        service.client() as client,
    ):
        faults = [Fault(kind=FaultKind.TIMEOUT), Fault(kind=FaultKind.SLOW, delay_s=4)]
        Sim(base_url=url).fail_with(*faults)
        left = ask(client, UNREADABLE).json()["id"]
        wait_for_fault(url, n_left=1)
        leave_stream(service, left, after="rung")
        kept = ask(client, UNREADABLE + " Really?", background=True).json()["id"]
        leave_stream(service, kept, after="rung")
        assert ended(client, left)["status"] == "cancelled"
        assert ended(client, kept)["status"] == "finished"


def test_a_full_queue_answers_429_and_health_stays_green(tmp_path: Path) -> None:
    with (
        running(SimPlan()) as url,
        served(tmp_path, cloud_url=url, max_questions=2, max_running=1) as service,
        service.client() as client,
    ):
        Sim(base_url=url).fail_with(Fault(kind=FaultKind.TIMEOUT))
        accepted = [ask(client, f"{UNREADABLE} {n}").json()["id"] for n in range(2)]
        refused = ask(client, f"{UNREADABLE} 3")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "max_questions" in refused.json()["error"]["message"]
        assert refusing(client, 50) and (before := memory_of(service))
        assert refusing(client, 400)
        assert memory_of(service) - before < MAX_GROWTH_BYTES
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        for question_id in accepted:
            client.post(f"/v1/questions/{question_id}/cancel")
        assert ask(client, LAW, wait=True, privacy="local").status_code == 200


def refusing(client: httpx.Client, n: int) -> bool:
    """Whether so many more questions are all turned away."""
    return all(ask(client, f"{UNREADABLE} {k}").status_code == 429 for k in range(n))


def memory_of(service: Served) -> int:
    return psutil.Process(service.process.pid).memory_info().rss


def test_cancel_stops_local_reading_within_a_second(tmp_path: Path) -> None:
    """The real engine in the middle of a long document: it answers at once, and works no more."""
    with (
        served(tmp_path, model="nano") as service,
        service.client() as client,
        contract_path().open("rb") as file,
    ):
        document = client.post("/v1/documents", files={"file": ("c.pdf", file)}).json()["id"]
        body = {"question": LAW, "documents": [document]}
        question_id = client.post("/v1/questions", json=body).json()["id"]
        leave_stream(service, question_id, after="job")
        began = time.monotonic()
        cancelled = client.post(f"/v1/questions/{question_id}/cancel").json()
        elapsed_s = time.monotonic() - began
        time.sleep(0.5)
        worked_s = cpu_of(service)
        time.sleep(1.0)
        worked_s = cpu_of(service) - worked_s
    assert cancelled["status"] == "cancelled"
    assert elapsed_s < 1.0, "the promise is a second"
    assert worked_s < 0.5, "nothing goes on reading"


def cpu_of(service: Served) -> float:
    """Seconds that the service and its processes have worked."""
    parent = psutil.Process(service.process.pid)
    times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def test_events_are_replayed_after_a_kill_without_a_gap(tmp_path: Path) -> None:
    """A client that has seen event n asks the next process for what follows n."""
    with running(SimPlan()) as url:
        Sim(base_url=url).fail_with(Fault(kind=FaultKind.TIMEOUT))
        with served(tmp_path, cloud_url=url) as service, service.client() as client:
            question_id = ask(client, UNREADABLE).json()["id"]
            seen = leave_stream(service, question_id, after="rung")
            wait_for_fault(url)
            service.kill()
        with served(tmp_path, cloud_url=url) as service, service.client() as client:
            rest = list(read_events(client, question_id, last_event_id=seen[-1][0]))
            whole = list(read_events(client, question_id))
    assert [number for number, _ in whole] == list(range(1, len(whole) + 1))
    assert seen + rest == whole
    assert whole[-1][1] == "done"


def wait_for_cloud_call(state: Path) -> None:
    """Until something is about to leave."""
    wait_until(lambda: bool(rows(state, "SELECT 1 FROM egress")))


def wait_for_fault(url: str, n_left: int = 0) -> None:
    """Until a call has met its fault: only then does it hang at the provider."""
    wait_until(lambda: Sim(base_url=url).n_faults_waiting == n_left)


def read_events(
    client: httpx.Client, question_id: str, last_event_id: int | None = None
) -> Iterator[tuple[int, str]]:
    """(number, kind) of each event."""
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    kind = ""
    with client.stream("GET", f"/v1/questions/{question_id}/events", headers=headers) as stream:
        assert stream.status_code == 200
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            if line.startswith("id: "):
                yield int(line.removeprefix("id: ")), kind


def event_kinds(client: httpx.Client, question_id: str) -> list[str]:
    return [kind for _, kind in read_events(client, question_id)]


def leave_stream(service: Served, question_id: str, *, after: str) -> list[tuple[int, str]]:
    """Follow until an event of this kind, then hang up."""
    seen = []
    with service.client() as client, contextlib.closing(read_events(client, question_id)) as events:
        for number, kind in events:
            seen.append((number, kind))
            if kind == after:
                break
    return seen
