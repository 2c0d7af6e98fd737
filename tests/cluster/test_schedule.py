"""The schedule under any order of events: every job ends once, nothing is lost or kept for ever."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workers.jobs import Job, JobResult, JobStatus, WorkerUsage
from workers.ray.costs import Pace, fair_room, is_straggler, waits_for_home
from workers.ray.schedule import MAX_CRASHES, MAX_LOSSES, Ending, Run, Schedule, Ticket

LEASE_S = 5.0


def job(
    number: int, chunk: str = "c", *, text: str = "text", deadline_s: float | None = None
) -> Job:
    return Job(job_id=str(number), chunk_id=chunk, chunk_text=text, task="?", deadline_s=deadline_s)


def result(ticket: Ticket) -> JobResult:
    return JobResult(
        job_id=ticket.number,
        chunk_id="c",
        status=JobStatus.ANSWERED,
        answer="yes",
        usage=WorkerUsage(prefilled_tokens=100, output_tokens=10),
    )


class AnyOrder(RuleBasedStateMachine):
    """Workers come, go, crash, fall silent and speak again while runs come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule(lease_s=LEASE_S)
        self.now = 0.0
        self.workers: dict[str, dict[str, Ticket]] = {}
        self.ends: Counter[str] = Counter()
        self.runs: list[tuple[Run, int]] = []
        self.n_workers = 0

    def end(self, endings: list[Ending]) -> None:
        self.ends.update(ending.ticket.number for ending in endings)

    @rule(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), hurried=st.booleans())
    def ask(self, sizes: list[int], hurried: bool) -> None:
        jobs = [
            job(100 * chunk + n, f"c{chunk}", deadline_s=20.0 if hurried else None)
            for chunk, size in enumerate(sizes)
            for n in range(size)
        ]
        self.runs.append((self.schedule.add(jobs, self.now), len(jobs)))

    @rule(n_slots=st.integers(1, 4))
    def join(self, n_slots: int) -> None:
        self.n_workers += 1
        worker_id = f"w{self.n_workers}"
        self.workers[worker_id] = {}
        self.schedule.join(worker_id, n_slots, self.now)

    @rule()
    def hand_out(self) -> None:
        for worker_id, held in self.workers.items():
            tickets = self.schedule.take(worker_id, self.now)
            for ticket in tickets:
                assert ticket.crashes == 0 or (len(tickets) == 1 and not self.open_of(held))
                held[ticket.number] = ticket

    def open_of(self, held: dict[str, Ticket]) -> list[str]:
        return [number for number in held if self.schedule.find(number)]

    @precondition(lambda self: any(self.workers.values()))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from([w for w, held in self.workers.items() if held]))
        held = self.workers[worker_id]
        ticket = held.pop(data.draw(st.sampled_from(sorted(held))))
        self.schedule.hear(worker_id, self.now)
        if self.schedule.settle(worker_id, ticket.number, result(ticket), self.now):
            self.ends[ticket.number] += 1
        again = self.schedule.settle(worker_id, ticket.number, result(ticket), self.now)
        assert again is None, "a result that came twice counted twice"

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), crashed=st.booleans())
    def lose(self, data: st.DataObject, crashed: bool) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.workers)))
        del self.workers[worker_id]
        self.end(self.schedule.leave(worker_id, crashed=crashed, error="gone"))

    @rule(seconds=st.floats(0.1, 8.0), heard=st.booleans())
    def wait(self, seconds: float, heard: bool) -> None:
        self.now += seconds
        if heard:
            for worker_id in self.workers:
                self.schedule.hear(worker_id, self.now)
        self.end(self.schedule.sweep(self.now))

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def rest(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.workers)))
        self.end(self.schedule.rest(worker_id, self.now + 3.0))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.runs) - 1))
        run, _ = self.runs.pop(index)
        n_open = run.n_open
        before = self.schedule.n_open
        self.schedule.drop(run)
        assert self.schedule.n_open == before - n_open

    @invariant()
    def each_job_ends_at_most_once(self) -> None:
        assert all(n == 1 for n in self.ends.values())

    @invariant()
    def what_waits_is_counted(self) -> None:
        waiting = [t for t in self.schedule._open.values() if t.waiting]
        assert self.schedule.n_waiting == len(waiting)

    @invariant()
    def an_open_job_waits_or_is_leased(self) -> None:
        for ticket in self.schedule._open.values():
            leased = [w for w in ticket.leased_at if w in self.schedule.members]
            assert ticket.waiting or leased, "nobody has this job and nobody will"

    def teardown(self) -> None:
        """A healthy worker then ends all that is open."""
        for worker_id in list(self.workers):
            self.end(self.schedule.leave(worker_id, crashed=False, error="gone"))
        self.schedule.join("last", 4, self.now)
        for _ in range(1000):
            tickets = self.schedule.take("last", self.now)
            if not tickets:
                break
            for ticket in tickets:
                self.ends[ticket.number] += 1
                assert self.schedule.settle("last", ticket.number, result(ticket), self.now)
        assert self.schedule.n_open == 0
        assert all(run.n_open == 0 for run, _ in self.runs)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# ---- single rules ----


def busy_pair(*, slow_s: float, fast_s: float) -> Schedule:
    """Two workers whose pace is known: `slow` and `fast`, in seconds per job."""
    schedule = Schedule(lease_s=LEASE_S)
    for worker_id, seconds in (("slow", slow_s), ("fast", fast_s)):
        schedule.join(worker_id, 1, 0.0)
        schedule.members[worker_id].pace.note(units=100, busy_s=seconds, latency_s=seconds)
    return schedule


def test_a_job_in_two_crashes_is_failed_and_the_others_are_not() -> None:
    schedule = Schedule()
    schedule.add([job(i) for i in range(4)], 0.0)
    endings: list[Ending] = []
    for attempt in range(1 + MAX_CRASHES):
        schedule.join(f"w{attempt}", 4, 0.0)
        taken = schedule.take(f"w{attempt}", 0.0)
        assert len(taken) == (4 if attempt == 0 else 1), "after a crash jobs run alone"
        poison = next((t for t in taken if t.job.job_id == "0"), None)
        if poison is None:
            break
        endings += schedule.leave(f"w{attempt}", crashed=True, error="SIGSEGV")
    assert [ending.ticket.job.job_id for ending in endings] == ["0"]
    assert "crashed 2 times in this job: SIGSEGV" in endings[0].error
    assert schedule.n_open == 3


def test_a_job_whose_machines_vanish_is_not_tried_for_ever() -> None:
    schedule = Schedule()
    schedule.add([job(0)], 0.0)
    for attempt in range(MAX_LOSSES):
        schedule.join(f"w{attempt}", 1, 0.0)
        assert schedule.take(f"w{attempt}", 0.0)
        endings = schedule.leave(f"w{attempt}", crashed=False, error="cable")
    assert len(endings) == 1
    assert "lost 5 times: cable" in endings[0].error


def test_a_silent_workers_jobs_go_to_others_and_its_late_result_counts_once() -> None:
    schedule = Schedule(lease_s=LEASE_S)
    schedule.add([job(0)], 0.0)
    schedule.join("sleeper", 1, 0.0)
    (ticket,) = schedule.take("sleeper", 0.0)
    assert schedule.sweep(LEASE_S + 1) == []
    schedule.join("other", 1, LEASE_S + 1)
    assert schedule.take("sleeper", LEASE_S + 1) == []
    assert schedule.take("other", LEASE_S + 1) == [ticket]
    schedule.hear("sleeper", 9.0)
    settled = schedule.settle("sleeper", ticket.number, result(ticket), 9.0)
    assert settled is not None
    assert settled.others == ("other",), "the other may stop"
    assert schedule.settle("other", ticket.number, result(ticket), 9.5) is None


def test_a_known_chunk_goes_to_the_worker_that_read_it() -> None:
    schedule = busy_pair(slow_s=1.0, fast_s=1.0)
    schedule.members["slow"].remember("known")
    schedule.add([job(0, "new"), job(1, "known")], 0.0)
    assert schedule.take("slow", 0.0)[0].job.job_id == "1"
    assert [t.job.job_id for t in schedule.take("fast", 0.0)] == ["0"]


def test_a_known_chunk_does_not_wait_for_a_worker_that_is_too_busy() -> None:
    long = "x" * 400  # 100 units of reading: a second, where a job takes one
    schedule = busy_pair(slow_s=1.0, fast_s=1.0)
    home = schedule.members["slow"]
    home.remember("known")
    schedule.add([job(0, "known", text=long)], 0.0)
    assert schedule.take("fast", 0.0) == [], "its home is free: that is faster"
    for number in range(3):
        home.held[f"other {number}"] = Ticket(number="x", run=Run(started_at=0), job=job(9))
    assert len(schedule.take("fast", 0.0)) == 1


def test_the_tail_is_hedged_once_nothing_waits() -> None:
    schedule = busy_pair(slow_s=10.0, fast_s=1.0)
    schedule.add([job(0, "a"), job(1, "b")], 0.0)
    (late,) = schedule.take("slow", 0.0)
    (own,) = schedule.take("fast", 0.0)
    assert schedule.take("fast", 0.5) == [], "its slot is taken"
    schedule.settle("fast", own.number, result(own), 1.0)
    assert schedule.take("fast", 1.0) == [late]
    settled = schedule.settle("fast", late.number, result(late), 2.0)
    assert settled is not None
    assert settled.others == ("slow",)
    assert schedule.n_open == 0


def test_a_short_question_does_not_wait_for_a_long_document() -> None:
    schedule = busy_pair(slow_s=1.0, fast_s=1.0)
    schedule.add([job(i, f"long {i}") for i in range(500)], 0.0)
    schedule.take("slow", 0.0)
    schedule.take("fast", 0.0)
    short = schedule.add([job(i, f"short {i}") for i in range(2)], 1.0)
    taken: list[Ticket] = []
    for step in range(4):
        for worker_id in ("slow", "fast"):
            for ticket in list(schedule.members[worker_id].held.values()):
                schedule.settle(worker_id, ticket.number, result(ticket), 2.0 + step)
            taken += schedule.take(worker_id, 2.0 + step)
    assert short.n_open == 0, [t.job.chunk_id for t in taken]
    assert len(taken) < 20


def test_a_card_twice_as_fast_gets_twice_as_much() -> None:
    """Two workers with a clock of their own each; nobody tells the schedule who is faster."""
    schedule = Schedule()
    speed = {"slow": 0.2, "fast": 0.1}
    for worker_id in speed:
        schedule.join(worker_id, 2, 0.0)
    schedule.add([job(i, f"c{i}") for i in range(300)], 0.0)
    done: Counter[str] = Counter()
    for tick in range(1, 10_000):
        now = tick * 0.1
        for worker_id, seconds in speed.items():
            schedule.take(worker_id, now)
            if round(tick * 0.1 / seconds, 6).is_integer():
                for ticket in list(schedule.members[worker_id].held.values())[:2]:
                    done[worker_id] += bool(
                        schedule.settle(worker_id, ticket.number, result(ticket), now)
                    )
        if not schedule.n_open:
            break
    assert sum(done.values()) == 300
    assert 1.8 <= done["fast"] / done["slow"] <= 2.2


# ---- costs ----


def test_nothing_waits_for_a_home_without_figures() -> None:
    known = Pace(units=100, n_jobs=10, busy_s=1, latency_s=0.1)
    assert not waits_for_home(n_ahead=0, reading=1e9, home=Pace(), here=known)
    assert not waits_for_home(n_ahead=0, reading=1e9, home=known, here=Pace())
    assert waits_for_home(n_ahead=0, reading=10, home=known, here=known)
    assert not waits_for_home(n_ahead=100, reading=10, home=known, here=known)


def test_a_straggler_is_one_by_its_holders_own_measure() -> None:
    fast, slow = Pace(latency_s=1.0), Pace(latency_s=4.0)
    assert not is_straggler(age_s=0.1, holder=fast, here=fast)
    assert is_straggler(age_s=3.0, holder=fast, here=fast)
    assert is_straggler(age_s=0.0, holder=slow, here=fast)
    assert not is_straggler(age_s=0.0, holder=fast, here=slow)
    assert not is_straggler(age_s=9.0, holder=Pace(), here=Pace())


def test_slots_are_filled_and_the_queue_is_no_more_than_a_fair_share() -> None:
    assert fair_room(n_slots=4, n_held=0, n_waiting=1000, share=0.5) == 8
    assert fair_room(n_slots=4, n_held=0, n_waiting=4, share=0.5) == 6
    assert fair_room(n_slots=4, n_held=4, n_waiting=1, share=0.5) == 0
    assert fair_room(n_slots=4, n_held=9, n_waiting=9, share=1.0) == 0


def test_an_old_pace_is_forgotten() -> None:
    pace = Pace()
    for _ in range(100):
        pace.note(units=10, busy_s=1.0, latency_s=1.0)
    for _ in range(100):
        pace.note(units=10, busy_s=0.1, latency_s=0.1)
    assert pace.jobs_per_s is not None
    assert pace.jobs_per_s > 2.0
