"""Who works on what: leases, turns, homes of chunks, hedges, crashes. All policy and no effects.

`Schedule` is told what happens and when (`now` is any monotonic clock, in seconds) and answers what
is to be done. It knows neither threads nor networks, and one thread owns it.

A job is open until its one result: `settle` and the ends that `leave` and `sweep` return name each
ticket once. A job may be leased to several workers at the same time (hedged, or given up by a
silent worker): the first result counts, what comes later is not known any more.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.chat import ChatJob
from workers.ray.costs import (
    Pace,
    fair_room,
    is_straggler,
    reading_units,
    spent_units,
    waits_for_home,
)
from workers.seams import Outcome, Work

MAX_CRASHES = 2
"""Worker processes that died with a job in them after which the job is failed."""
MAX_LOSSES = 5
"""Machines that vanished with a job on them after which the job is failed: one that takes whole
machines down must not wander on for ever."""
LEASE_S = 8.0
"""Seconds without a word from a worker after which others may have its jobs."""
HOMES = 4096
"""Chunks per worker that are remembered as read there."""
LOOK_AHEAD = 16
"""Chunks of a run that are looked through for one that is at home with the asking worker."""


@dataclass(kw_only=True, slots=True, eq=False)
class Run:
    """The jobs of one caller."""

    started_at: float
    groups: deque[deque[Ticket]] = field(default_factory=deque)
    """Waiting jobs by chunk, in the order in which the chunks first appear."""
    n_open: int = 0
    abandoned: bool = False


@dataclass(kw_only=True, slots=True, eq=False)
class Ticket:
    """One job on its way. Its `number` is unique in this process; job ids are so in their run."""

    number: str
    run: Run
    job: Work
    crashes: int = 0
    losses: int = 0
    leased_at: dict[str, float] = field(default_factory=dict)
    """When each worker that has it now got it."""
    waiting: bool = True
    """Whether it is in the queue of its run or among the suspects."""
    has_spoken: bool = False
    """Whether pieces of its answer were handed on, which can't be taken back."""

    def left_s(self, now: float) -> float | None:
        """Seconds to its deadline; None without one."""
        if self.job.deadline_s is None:
            return None
        return self.job.deadline_s - (now - self.run.started_at)


@dataclass(kw_only=True, slots=True, eq=False)
class Member:
    """A worker as the schedule sees it."""

    n_slots: int
    last_heard: float
    held: dict[str, Ticket] = field(default_factory=dict)
    homes: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Chunks whose KV it may hold, the least recently read first."""
    pace: Pace = field(default_factory=Pace)
    busy_since: float = 0.0
    """When it last returned a job, or got one while it had none."""
    silent: bool = False
    rests_until: float = -math.inf

    def rests(self, now: float) -> bool:
        """Whether it is given nothing for a while, since its engine keeps crashing."""
        return now < self.rests_until

    def remember(self, chunk_id: str) -> None:
        self.homes[chunk_id] = None
        self.homes.move_to_end(chunk_id)
        if len(self.homes) > HOMES:
            self.homes.popitem(last=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """A job that ends without a worker's result."""

    ticket: Ticket
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """The first result of a job."""

    ticket: Ticket
    others: tuple[str, ...]
    """Workers that still have it and may stop."""


class Schedule:
    """See the module's text."""

    def __init__(self, *, lease_s: float = LEASE_S) -> None:
        self._lease_s = lease_s
        self._members: dict[str, Member] = {}
        self._runs: deque[Run] = deque()
        self._suspects: deque[Ticket] = deque()
        self._open: dict[str, Ticket] = {}
        self._numbers = itertools.count()
        self._n_waiting = 0

    @property
    def n_open(self) -> int:
        """Jobs without a result."""
        return len(self._open)

    @property
    def n_waiting(self) -> int:
        """Jobs that no worker has."""
        return self._n_waiting

    @property
    def members(self) -> dict[str, Member]:
        """The workers that are here. To look at only."""
        return self._members

    # ---- runs ----

    def add(self, jobs: Sequence[Work], now: float) -> Run:
        """Queue a caller's jobs."""
        run = Run(started_at=now, n_open=len(jobs))
        groups: dict[str, deque[Ticket]] = {}
        for job in jobs:
            ticket = Ticket(number=str(next(self._numbers)), run=run, job=job)
            self._open[ticket.number] = ticket
            groups.setdefault(chunk_of(ticket), deque()).append(ticket)
        run.groups = deque(groups.values())
        self._n_waiting += len(jobs)
        if run.groups:
            self._runs.append(run)
        return run

    def drop(self, run: Run) -> dict[str, list[str]]:
        """Forget a run; returns the tickets that each worker may stop."""
        run.abandoned = True
        self._withdraw(run)
        to_stop: dict[str, list[str]] = {}
        for ticket in [t for t in self._open.values() if t.run is run]:
            for worker_id in ticket.leased_at:
                to_stop.setdefault(worker_id, []).append(ticket.number)
            self._close(ticket)
        return to_stop

    # ---- workers ----

    def join(self, worker_id: str, n_slots: int, now: float) -> None:
        """A worker is there and may be given jobs."""
        self._members[worker_id] = Member(n_slots=n_slots, last_heard=now, busy_since=now)

    def hear(self, worker_id: str, now: float) -> None:
        """A worker gave a sign of life."""
        member = self._members.get(worker_id)
        if member is not None:
            member.last_heard = now
            member.silent = False

    def leave(self, worker_id: str, *, crashed: bool, error: str) -> list[Ending]:
        """A worker is gone: its jobs go to others, but for those that have ended too many.

        `crashed`: its process died, so one of its jobs may be to blame, and each is run alone from
        now on. Else its machine or the network to it is gone, which is nobody's fault as a rule."""
        member = self._members.pop(worker_id, None)
        if member is None:
            return []
        return [
            ending
            for ticket in member.held.values()
            if (ending := self._bereave(ticket, worker_id, crashed=crashed, error=error))
        ]

    def rest(self, worker_id: str, until: float) -> list[Ending]:
        """Give a worker nothing until then; others may have its jobs."""
        member = self._members[worker_id]
        member.rests_until = until
        return self._take_back(worker_id, member, "its engine keeps crashing")

    def wake_all(self) -> None:
        """No worker rests any more."""
        for member in self._members.values():
            member.rests_until = -math.inf

    # ---- work ----

    def take(self, worker_id: str, now: float) -> list[Ticket]:
        """What this worker shall do next; empty when there is nothing for it."""
        member = self._members.get(worker_id)
        if member is None or member.silent or member.rests(now) or _runs_alone(member):
            return []
        if self._suspects and self._is_next_examiner(member, now):
            return self._take_suspect(worker_id, member, now)
        taken = self._take_groups(worker_id, member, now)
        return taken or self._take_hedge(worker_id, member, now)

    def find(self, number: str) -> Ticket | None:
        """The open job of that ticket; None when it has its result already, or nobody waits."""
        return self._open.get(number)

    def settle(self, worker_id: str, number: str, outcome: Outcome, now: float) -> Settled | None:
        """A result has come. None when the job had one before, or nobody waits for it."""
        member = self._members.get(worker_id)
        ticket = self._open.get(number)
        if member is not None:
            self._note(worker_id, member, number, outcome, now)
        if ticket is None:
            return None
        self._close(ticket)
        return Settled(ticket=ticket, others=tuple(ticket.leased_at))

    def sweep(self, now: float) -> list[Ending]:
        """End what is past its deadline, and take back what silent workers hold."""
        late = [t for t in self._open.values() if self._is_late(t, now)]
        endings = [
            self._end(t, "the deadline passed before the job's turn came; give it more time")
            for t in late
        ]
        for worker_id, member in self._members.items():
            if not member.silent and now - member.last_heard > self._lease_s:
                member.silent = True
                error = f"no word from the worker for {self._lease_s:g} s"
                endings += self._take_back(worker_id, member, error)
        return endings

    def end_all(self, error: str) -> list[Ending]:
        """End every open job."""
        for run in list(self._runs):
            self._withdraw(run)
        return [self._end(ticket, error) for ticket in list(self._open.values())]

    # ---- taking ----

    def _is_next_examiner(self, member: Member, now: float) -> bool:
        """Whether it falls to this worker to run a suspect: one at a time makes itself free for it,
        and the others go on."""
        able = [
            m
            for m in self._members.values()
            if not m.silent and not m.rests(now) and not _runs_alone(m)
        ]
        return min(able, key=lambda m: len(m.held), default=None) is member

    def _take_suspect(self, worker_id: str, member: Member, now: float) -> list[Ticket]:
        """One job that was in a crash, once this worker has nothing else."""
        if member.held:
            return []
        ticket = self._suspects.popleft()
        self._lease(worker_id, member, ticket, now)
        return [ticket]

    def _take_groups(self, worker_id: str, member: Member, now: float) -> list[Ticket]:
        taken: list[Ticket] = []
        while (room := self._room(member)) > 0:
            found = self._next_group(worker_id, member)
            if found is None:
                break
            run, group = found
            # A chunk's jobs go together, so they may be more than the room, but not without end.
            most = max(room, 2 * member.n_slots - len(member.held))
            part = [group.popleft() for _ in range(min(len(group), most))]
            for ticket in part:
                self._lease(worker_id, member, ticket, now)
            self._end_turn(run, group)
            taken += part
        return taken

    def _room(self, member: Member) -> int:
        return fair_room(
            n_slots=member.n_slots,
            n_held=len(member.held),
            n_waiting=self._n_waiting,
            share=self._share(member),
        )

    def _share(self, member: Member) -> float:
        """This worker's part of what all that are there do in a second."""
        present = [m for m in self._members.values() if not m.silent]
        rates = [m.pace.jobs_per_s for m in present if m.pace.jobs_per_s is not None]
        if not rates or member.pace.jobs_per_s is None:
            return 1 / max(len(present), 1)
        usual = sum(rates) / len(rates)
        total = sum(m.pace.jobs_per_s or usual for m in present)
        return member.pace.jobs_per_s / total

    def _next_group(self, worker_id: str, member: Member) -> tuple[Run, deque[Ticket]] | None:
        """The next chunk for this worker, and its run. The run whose turn it is comes first."""
        for run in self._runs:
            group = self._pick(run, worker_id, member)
            if group is not None:
                return run, group
        return None

    def _end_turn(self, run: Run, group: deque[Ticket]) -> None:
        """Runs take turns; but the rest of a chunk comes before another run's turn."""
        self._runs.remove(run)
        run.groups.remove(group)
        if group:
            run.groups.appendleft(group)
            self._runs.appendleft(run)
        elif run.groups:
            self._runs.append(run)

    def _pick(self, run: Run, worker_id: str, member: Member) -> deque[Ticket] | None:
        """A chunk that is at home here, else one that is at home nowhere, else one whose home is
        too busy."""
        near = list(itertools.islice(run.groups, LOOK_AHEAD))
        ranked = sorted(near, key=lambda group: self._distance(group, worker_id))
        return next((g for g in ranked if not self._waits(g, worker_id, member)), None)

    def _distance(self, group: deque[Ticket], worker_id: str) -> int:
        homes = self._homes(chunk_of(group[0]))
        return 0 if worker_id in homes else 1 if not homes else 2

    def _homes(self, chunk_id: str) -> list[str]:
        """Workers that are there and have read this chunk."""
        return [w for w, m in self._members.items() if not m.silent and chunk_id in m.homes]

    def _waits(self, group: deque[Ticket], worker_id: str, member: Member) -> bool:
        homes = self._homes(chunk_of(group[0]))
        if not homes or worker_id in homes:
            return False
        reading = reading_units([ticket.job for ticket in group])
        return any(
            waits_for_home(
                n_ahead=len(home.held), reading=reading, home=home.pace, here=member.pace
            )
            for home in map(self._members.__getitem__, homes)
        )

    def _take_hedge(self, worker_id: str, member: Member, now: float) -> list[Ticket]:
        """A job that another is late with: nothing waits, and here is an empty slot."""
        if self._n_waiting or len(member.held) >= member.n_slots:
            return []
        late = [t for t in self._open.values() if self._may_hedge(t, worker_id, member, now)]
        if not late:
            return []
        oldest = min(late, key=lambda ticket: min(ticket.leased_at.values()))
        self._lease(worker_id, member, oldest, now)
        return [oldest]

    def _may_hedge(self, ticket: Ticket, worker_id: str, member: Member, now: float) -> bool:
        if len(ticket.leased_at) != 1 or ticket.crashes or isinstance(ticket.job, ChatJob):
            return False
        holder_id, leased_at = next(iter(ticket.leased_at.items()))
        holder = self._members.get(holder_id)
        if holder is None or holder_id == worker_id:
            return False
        return is_straggler(age_s=now - leased_at, holder=holder.pace, here=member.pace)

    def _lease(self, worker_id: str, member: Member, ticket: Ticket, now: float) -> None:
        if not member.held:
            member.busy_since = now
        if ticket.waiting:
            ticket.waiting = False
            self._n_waiting -= 1
        member.held[ticket.number] = ticket
        member.remember(chunk_of(ticket))
        ticket.leased_at[worker_id] = now

    # ---- ending ----

    def _note(
        self, worker_id: str, member: Member, number: str, outcome: Outcome, now: float
    ) -> None:
        """Learn the worker's pace from a job that it returned, whether or not it counts."""
        ticket = member.held.pop(number, None)
        if ticket is None:
            return
        leased_at = ticket.leased_at.pop(worker_id, now)
        member.pace.note(
            units=spent_units(outcome.usage),
            busy_s=now - member.busy_since,
            latency_s=now - leased_at,
        )
        member.busy_since = now

    def _bereave(
        self, ticket: Ticket, worker_id: str, *, crashed: bool, error: str
    ) -> Ending | None:
        """A ticket has lost a worker. The job waits again, or ends."""
        had_it = ticket.leased_at.pop(worker_id, None) is not None
        if not had_it or ticket.number not in self._open:
            return None
        ticket.crashes += crashed
        ticket.losses += not crashed
        verdict = _verdict(ticket, error)
        if verdict is not None:
            return self._end(ticket, verdict)
        if not ticket.leased_at:
            self._queue_again(ticket)
        return None

    def _take_back(self, worker_id: str, member: Member, error: str) -> list[Ending]:
        """Let others have a silent worker's jobs. It keeps them too: it may only be cut off."""
        endings = []
        for ticket in list(member.held.values()):
            ending = self._bereave(ticket, worker_id, crashed=False, error=error)
            if ending is not None:
                endings.append(ending)
        return endings

    def _queue_again(self, ticket: Ticket) -> None:
        """To the front: others may be waiting for the run's last jobs."""
        ticket.waiting = True
        self._n_waiting += 1
        if ticket.crashes:
            self._suspects.append(ticket)
            return
        run = ticket.run
        same = next((g for g in run.groups if chunk_of(g[0]) == chunk_of(ticket)), None)
        if same is not None:
            same.appendleft(ticket)
        else:
            run.groups.appendleft(deque([ticket]))
        if run not in self._runs:
            self._runs.appendleft(run)

    def _end(self, ticket: Ticket, error: str) -> Ending:
        self._close(ticket)
        return Ending(ticket=ticket, error=error)

    def _close(self, ticket: Ticket) -> None:
        """The job has its end. Workers that still have it give it back when they have stopped, and
        only then is their room free."""
        del self._open[ticket.number]
        ticket.run.n_open -= 1
        if ticket.waiting:
            self._unqueue(ticket)

    def _unqueue(self, ticket: Ticket) -> None:
        """Out of the waiting ones."""
        ticket.waiting = False
        self._n_waiting -= 1
        run = ticket.run
        if ticket in self._suspects:
            self._suspects.remove(ticket)
            return
        group = next(group for group in run.groups if ticket in group)
        group.remove(ticket)
        if not group:
            run.groups.remove(group)
        if not run.groups and run in self._runs:
            self._runs.remove(run)

    def _withdraw(self, run: Run) -> None:
        """All that waits of a run, at once."""
        for ticket in itertools.chain.from_iterable(run.groups):
            ticket.waiting = False
            self._n_waiting -= 1
        run.groups.clear()
        if run in self._runs:
            self._runs.remove(run)

    def _is_late(self, ticket: Ticket, now: float) -> bool:
        """Past its deadline: by itself while it waits, and with some grace while a worker, who
        knows the deadline too, has it."""
        left_s = ticket.left_s(now)
        return left_s is not None and left_s <= (-self._lease_s if ticket.leased_at else 0.0)


def chunk_of(ticket: Ticket) -> str:
    """What jobs must share to be kept together; a chat is on its own."""
    job = ticket.job
    return f"chat {ticket.number}" if isinstance(job, ChatJob) else job.chunk_id


def _runs_alone(member: Member) -> bool:
    return any(ticket.crashes for ticket in member.held.values())


def _verdict(ticket: Ticket, error: str) -> str | None:
    """Why a job that has lost a worker is not tried again; None when it is."""
    if ticket.has_spoken:
        return f"its worker went while the answer was written: {error}. Ask again"
    if ticket.crashes >= MAX_CRASHES:
        return f"its worker's process crashed {MAX_CRASHES} times in this job: {error}"
    if ticket.losses >= MAX_LOSSES:
        return f"its machine was lost {MAX_LOSSES} times: {error}"
    return None
