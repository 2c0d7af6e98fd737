"""The schedule against a small model of llama.cpp's unified cache, with hypothesis as the user."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.llama.schedule import Fork, Limits, Request, Schedule, Step, Tokens


def tokens(n: int, token: int = 0) -> Tokens:
    return np.full(n, token, np.int32)


def request(
    ticket: int,
    chunk: str = "c",
    n_chunk: int = 10,
    n_job: int = 4,
    n_output: int = 3,
    n_root: int = 0,
    task: int | None = None,
) -> Request:
    """Jobs with one `task` are samples of it; without, each job has a task of its own."""
    return Request(
        ticket=ticket,
        root=tokens(n_root),
        chunk=(chunk, n_root),
        chunk_tokens=tokens(n_chunk),
        job_tokens=tokens(n_job, 1 + ticket if task is None else -task),
        max_output_tokens=n_output,
    )


def limits(
    n_sequences: int = 8,
    n_cells: int = 200,
    n_batch: int = 16,
    live_chunks: int = 2,
    busy_jobs: int = 1,
    n_extra_rows: int = 0,
    live_work: int | None = None,
    reads_apart: bool = False,
) -> Limits:
    return Limits(
        n_sequences=n_sequences,
        n_cells=n_cells,
        n_batch=n_batch,
        live_chunks=live_chunks,
        busy_jobs=busy_jobs,
        n_extra_rows=n_extra_rows,
        live_work=live_work,
        reads_apart=reads_apart,
    )


@dataclass
class Cache:
    """A unified cache: every computed token is a cell, a fork shares its parent's cells."""

    n_cells: int
    n_sequences: int
    cells: dict[int, list[int]] = field(default_factory=dict)
    serial: itertools.count[int] = field(default_factory=itertools.count)
    n_prefilled: int = 0

    def clear(self, sequence: int) -> None:
        self.cells.pop(sequence, None)

    def apply(self, step: Step) -> None:
        for sequence in step.clear:
            self.clear(sequence)
        self.fork(step.forks)

    def fork(self, forks: Iterable[Fork]) -> None:
        for fork in forks:
            assert fork.child not in self.cells, "a sequence was reused before it was cleared"
            self.cells[fork.child] = list(self.cells.get(fork.parent, []))

    def compute(self, step: Step) -> None:
        for turn in step.decode:
            self._extend(turn.branch.sequence, 1)
        for piece in step.prefill:
            assert len(self.cells.get(piece.branch.sequence, [])) == piece.first_position
            self._extend(piece.branch.sequence, len(piece.tokens))
            self.n_prefilled += len(piece.tokens)
        in_use = {cell for cells in self.cells.values() for cell in cells}
        assert len(in_use) <= self.n_cells
        assert len(self.cells) <= self.n_sequences
        assert all(0 <= sequence < self.n_sequences for sequence in self.cells)

    def _extend(self, sequence: int, n: int) -> None:
        held = self.cells.setdefault(sequence, [])
        held.extend(itertools.islice(self.serial, n))


class Run:
    """Drives a schedule as the engine does and keeps what came of each job."""

    def __init__(self, schedule: Schedule, bounds: Limits) -> None:
        self.schedule = schedule
        self.bounds = bounds
        self.cache = Cache(bounds.n_cells, bounds.n_sequences)
        self.outputs_left: dict[int, int] = {}
        self.ended: list[int] = []
        self.billed = 0
        self.n_aside = 0

    def add(self, asked: Request) -> None:
        self.schedule.add(asked)
        self.outputs_left[asked.ticket] = asked.max_output_tokens

    def end(self, ticket: int) -> None:
        ended = self.schedule.end(ticket)
        self.billed += ended.prefilled_tokens
        for sequence in ended.sequences:
            self.cache.clear(sequence)
        del self.outputs_left[ticket]
        self.ended.append(ticket)

    def planned(self) -> Step:
        """The next step, once all that was put aside and is opened by it is back in the cache."""
        while True:
            step = self.schedule.plan()
            self.cache.apply(step)
            back = [branch for branch in step.opened if branch.saved is not None]
            for branch in back:
                before = self.cache.cells.get(branch.parent.sequence, []) if branch.parent else []
                assert isinstance(branch.saved, list)
                self.cache.cells[branch.sequence] = [*before, *branch.saved]
                self.schedule.revived(branch)
            if not back:
                return step

    def put_aside(self, step: Step) -> None:
        for piece in step.prefill:
            branch = piece.branch
            if branch.is_apart:
                assert len(step.prefill) == 1 and not step.decode, "not alone in the cache"
            if branch.is_apart and piece.end == len(branch.tokens):
                cells = self.cache.cells.pop(branch.sequence)
                self.schedule.put_aside(branch, cells[branch.start :])
                self.n_aside += 1

    def step(self, *, no_slot: bool = False) -> Step:
        step = self.planned()
        n_rows = len(step.decode) + sum(len(piece.tokens) for piece in step.prefill)
        assert n_rows <= self.bounds.n_batch
        if no_slot:
            self.give_way()
            return step
        self.cache.compute(step)
        sampled = [turn.branch.ticket for turn in step.decode]
        for piece in step.prefill:
            sampled += self.schedule.tickets_of(piece)
        self.cache.fork(self.schedule.commit(step))
        self.put_aside(step)
        for ticket in sampled:
            assert ticket is not None
            self.sample(ticket)
        return step

    def sample(self, ticket: int) -> None:
        self.outputs_left[ticket] -= 1
        if self.outputs_left[ticket] == 0:
            self.end(ticket)

    def give_way(self) -> None:
        withdrawn = self.schedule.give_way()
        if withdrawn:
            for sequence in withdrawn.sequences:
                self.cache.clear(sequence)


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.integers(1, 20),
        st.integers(1, 12),
        st.sampled_from([None, None, 1, 2]),
        st.sampled_from([0, 0, 7, 13]),
    ),
    max_size=30,
)
CHUNK_SIZES = {"a": 0, "b": 1, "c": 17, "d": 40, "e": 63, "f": 90}


@settings(max_examples=150, deadline=None)
@given(
    asked=REQUESTS,
    n_sequences=st.integers(3, 9),
    n_batch=st.integers(9, 40),
    n_cells=st.integers(142, 260),
    live_chunks=st.integers(1, 4),
    busy_jobs=st.integers(1, 6),
    live_work=st.sampled_from([None, 1, 100, 400]),
    reads_apart=st.booleans(),
    events=st.lists(st.sampled_from(["go", "go", "go", "no slot", "cancel"]), max_size=60),
    data=st.data(),
)
def test_every_job_ends_once_within_the_limits(
    asked: list[tuple[str, int, int, int | None, int]],
    n_sequences: int,
    n_batch: int,
    n_cells: int,
    live_chunks: int,
    busy_jobs: int,
    live_work: int | None,
    reads_apart: bool,
    events: list[str],
    data: st.DataObject,
) -> None:
    bounds = limits(
        n_sequences,
        n_cells,
        n_batch,
        live_chunks,
        busy_jobs,
        live_work=live_work,
        reads_apart=reads_apart,
    )
    run = Run(Schedule(limits=bounds), bounds)
    script = iter(events)
    for ticket, (chunk, n_job, n_output, task, n_root) in enumerate(asked):
        run.add(request(ticket, chunk, CHUNK_SIZES[chunk], n_job, n_output, n_root, task))
    for _ in range(3000):
        if not run.outputs_left:
            break
        event = next(script, "go")
        if event == "cancel":
            run.end(data.draw(st.sampled_from(sorted(run.outputs_left))))
        run.step(no_slot=event == "no slot")
    assert sorted(run.ended) == list(range(len(asked)))
    assert len(run.cache.cells) <= len({n_root for *_, n_root in asked if n_root})
    # Instructions wait for a job that starts; every other computed token is on some job's account.
    unpaid = run.cache.n_prefilled - run.billed
    assert unpaid >= 0
    if "cancel" not in events and "no slot" not in events:
        assert unpaid == 0


def test_chunk_is_computed_once_and_its_first_job_pays() -> None:
    bounds = limits(n_batch=64)
    schedule = Schedule(limits=bounds)
    run = Run(schedule, bounds)
    for ticket in range(3):
        run.add(request(ticket, n_chunk=10, n_job=4, n_output=1, n_root=5))
    while run.outputs_left:
        run.step()
    assert run.cache.n_prefilled == 5 + 10 + 3 * 4


def test_bills_of_the_jobs() -> None:
    schedule = Schedule(limits=limits(n_batch=64))
    for ticket in range(2):
        schedule.add(request(ticket, n_chunk=10, n_job=4, n_root=5))
    for _ in range(3):
        schedule.commit(schedule.plan())
    assert [schedule.end(ticket).prefilled_tokens for ticket in (1, 0)] == [4, 5 + 10 + 4]


def test_decode_rows_come_first_and_the_rest_of_the_batch_prefills() -> None:
    bounds = limits(n_batch=12, n_cells=400)
    run = Run(Schedule(limits=bounds), bounds)
    run.add(request(0, "a", n_chunk=5, n_output=50, n_root=3))
    run.add(request(1, "b", n_chunk=100, n_root=3))
    for _ in range(5):
        step = run.step()
    assert [turn.branch.ticket for turn in step.decode] == [0]
    assert sum(len(piece.tokens) for piece in step.prefill) == 11


def test_no_more_chunks_are_live_than_allowed_and_they_open_in_order() -> None:
    bounds = limits(live_chunks=1, n_cells=10_000, n_batch=512)
    run = Run(Schedule(limits=bounds), bounds)
    for ticket, chunk in enumerate("abcabc"):
        run.add(request(ticket, chunk, n_root=3))
    while run.outputs_left:
        run.step()
    assert run.ended == [0, 3, 1, 4, 2, 5]


def most_live(bounds: Limits, n_chunk: int, n_jobs: int = 1) -> int:
    """Chunks that were in work at once while eight of them were read, each with so many jobs."""
    run = Run(Schedule(limits=bounds), bounds)
    for ticket, chunk in enumerate(chunk for chunk in "abcdefgh" for _ in range(n_jobs)):
        run.add(request(ticket, chunk, n_chunk=n_chunk, n_output=9))
    most = 0
    while run.outputs_left:
        step = run.step()
        working = {turn.branch.parent for turn in step.decode}
        most = max(most, len(working))
    return most


def roomy(live_work: int | None = None, live_chunks: int = 4) -> Limits:
    """Limits in which nothing but the work bounds how many chunks are live."""
    return limits(
        n_sequences=60,
        n_cells=10_000,
        n_batch=512,
        live_chunks=live_chunks,
        live_work=live_work,
        reads_apart=True,
    )


@pytest.mark.parametrize(
    ("n_chunk", "n_jobs", "expected"),
    [(10, 1, 4), (25, 1, 4), (26, 1, 3), (100, 1, 2), (101, 1, 1), (11, 4, 3), (300, 9, 1)],
)
def test_chunks_are_live_while_jobs_times_tokens_are_few(
    n_chunk: int, n_jobs: int, expected: int
) -> None:
    assert most_live(roomy(live_work=400), n_chunk, n_jobs) == expected


def test_chunks_that_are_live_together_are_read_before_one_by_one() -> None:
    bounds = roomy()
    run = Run(Schedule(limits=bounds), bounds)
    for ticket, chunk in enumerate("abcdef"):
        run.add(request(ticket, chunk, n_chunk=30, n_output=9, n_root=5))
    read = []
    while not run.ended:
        step = run.step()
        read += [len(step.prefill)] if any(p.branch.is_apart for p in step.prefill) else []
    assert read == [1] * 4 and run.n_aside == 4
    assert run.cache.n_prefilled == 5 + 4 * (30 + 4)
    while run.outputs_left:
        run.step()
    assert run.n_aside == 6
    assert run.billed == run.cache.n_prefilled == 5 + 6 * (30 + 4)


def test_what_was_read_before_is_not_read_apart() -> None:
    bounds = roomy()
    run = Run(Schedule(limits=bounds), bounds)
    for ticket, chunk in enumerate("ab"):
        run.add(replace(request(ticket, chunk), is_stored=chunk == "a"))
    while run.outputs_left:
        run.step()
    assert run.n_aside == 1


def test_only_the_chunk_that_is_read_apart_can_be_put_aside() -> None:
    schedule = Schedule(limits=roomy())
    schedule.add(request(0))
    (branch,) = schedule.plan().opened
    with pytest.raises(ValueError, match="read apart"):
        schedule.put_aside(branch, object())


def test_chunks_with_single_jobs_fill_the_batch_where_that_is_asked() -> None:
    bounds = limits(n_sequences=20, n_cells=10_000, n_batch=512, live_chunks=1, busy_jobs=5)
    assert most_live(bounds, 50) == 5


def test_a_job_of_a_live_chunk_joins_it() -> None:
    bounds = limits(n_batch=64)
    run = Run(Schedule(limits=bounds), bounds)
    run.add(request(0, "a", n_output=20))
    for _ in range(4):
        run.step()
    run.add(request(1, "a", n_output=1))
    while run.outputs_left:
        run.step()
    assert run.cache.n_prefilled == 10 + 2 * 4


def test_chunks_that_block_one_another_are_resolved_by_putting_the_newest_back() -> None:
    """Both chunks fit with their small job, but no large job fits beside both chunks."""
    bounds = limits(n_cells=100, n_batch=64)
    run = Run(Schedule(limits=bounds), bounds)
    for chunk in "ab":
        for n_job in (
            4,
            60,
        ):
            run.add(request(len(run.outputs_left), chunk, n_chunk=30, n_job=n_job, n_output=1))
    while run.outputs_left:
        run.step()
    assert run.ended == [0, 2, 1, 3]
    assert run.billed == run.cache.n_prefilled == 3 * 30 + 2 * 64


def test_a_job_over_the_cells_is_refused() -> None:
    schedule = Schedule(limits=limits(n_cells=30))
    asked = request(0, n_chunk=14, n_job=4, n_output=3, n_root=10)
    assert schedule.n_cells_needed(asked) == 31
    with pytest.raises(ValueError, match="over the 30 cells"):
        schedule.add(asked)


def test_a_lone_job_has_nobody_to_make_room() -> None:
    schedule = Schedule(limits=limits(n_batch=64))
    schedule.add(request(0))
    for _ in range(3):
        schedule.commit(schedule.plan())
    assert schedule.give_way() is None


@pytest.mark.parametrize(
    "bad", [{"n_sequences": 2}, {"n_batch": 4}, {"live_chunks": 0}], ids=lambda bad: next(iter(bad))
)
def test_limits_that_could_not_work_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        limits(**bad)
