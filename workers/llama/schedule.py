"""Which tokens go into the next batch. All policy and no llama.cpp: this module only counts.

The prompts of all jobs form a tree of three levels: the instructions, then the chunks, then the
jobs (task and frame). A branch of the tree holds one sequence of the context. A child begins as a
fork of its parent's sequence, which shares the parent's cells instead of computing them again.

    instructions (sequence 0, kept for the engine's life)
    |-- chunk "p3"  (live until its last job ends)
    |   |-- job 7   prefilled, then one decoded token per step
    |   `-- job 8
    `-- chunk "p4"

Few chunks are live at a time: attention over a unified cache costs by the cells in use, so many
half-finished chunks would slow every row. Chunks are opened in the order in which they first came;
no later chunk overtakes one that waits for cells.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]
"""Token ids, one dimension."""

ROOT_SEQUENCE = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the context can hold."""

    n_sequences: int
    """Sequences, the one of the instructions included; at least 3 (instructions, chunk, job)."""
    n_cells: int
    """Tokens that the cache holds; a token shared by several sequences counts once."""
    n_batch: int
    """Rows of one batch; at least `n_sequences`, so that every live job can decode in it."""
    live_chunks: int
    """Chunks in work at the same time."""

    def __post_init__(self) -> None:
        if self.n_sequences < 3:
            raise ValueError(f"n_sequences is {self.n_sequences}, must be at least 3")
        if self.n_batch < self.n_sequences:
            raise ValueError(f"n_batch {self.n_batch} is below n_sequences {self.n_sequences}")
        if self.live_chunks < 1:
            raise ValueError(f"live_chunks is {self.live_chunks}, must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Request:
    """One job as the schedule sees it."""

    ticket: int
    """Unique name of the job."""
    chunk: Hashable
    """Jobs with an equal `chunk` carry equal `chunk_tokens`."""
    chunk_tokens: Tokens
    job_tokens: Tokens
    """The prompt after the chunk; at least one token."""
    max_output_tokens: int

    @property
    def n_cells(self) -> int:
        """Cells that the job may come to use beside its chunk and the instructions."""
        return len(self.job_tokens) + self.max_output_tokens


@dataclass(slots=True, eq=False)
class Branch:
    """A run of prompt tokens with the sequence it is computed on."""

    tokens: Tokens
    start: int
    """Position of the first token in the prompt."""
    sequence: int
    ticket: int | None = None
    """The job whose prompt ends with this branch; None for the instructions and for chunks."""
    n_done: int = 0
    """Tokens computed so far."""
    n_unbilled: int = 0
    """Tokens computed and not yet on any job's account."""

    @property
    def is_ready(self) -> bool:
        return self.n_done == len(self.tokens)

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + len(self.tokens)

    def bill(self) -> int:
        """Tokens computed since the last bill."""
        n_tokens, self.n_unbilled = self.n_unbilled, 0
        return n_tokens


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Piece:
    """Tokens `begin:end` of a branch, computed in one batch."""

    branch: Branch
    begin: int
    end: int

    @property
    def tokens(self) -> Tokens:
        return self.branch.tokens[self.begin : self.end]

    @property
    def first_position(self) -> int:
        return self.branch.start + self.begin

    @property
    def needs_logits(self) -> bool:
        """The piece ends a job's prompt: its last row chooses the first token of the answer."""
        return self.branch.ticket is not None and self.end == len(self.branch.tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fork:
    """Let sequence `child` begin as `parent` is now."""

    parent: int
    child: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One batch: first clear, then fork, then compute one row per `decode` and the pieces."""

    clear: tuple[int, ...]
    forks: tuple[Fork, ...]
    decode: tuple[Branch, ...]
    prefill: tuple[Piece, ...]

    @property
    def is_idle(self) -> bool:
        """There is nothing to compute; forks alone need no batch."""
        return not self.decode and not self.prefill

    @property
    def sampled(self) -> tuple[int, ...]:
        """Tickets whose logits the batch yields, in the order of its rows."""
        branches = (*self.decode, *(p.branch for p in self.prefill if p.needs_logits))
        return tuple(branch.ticket for branch in branches if branch.ticket is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """What a job leaves behind."""

    sequences: tuple[int, ...]
    """To be cleared before the next plan."""
    prefilled_tokens: int
    """Prompt tokens computed on this job's account."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Withdrawn:
    """Jobs put back into the queue to make room; they start again later."""

    tickets: tuple[int, ...]
    sequences: tuple[int, ...]
    """To be cleared before the next plan."""


@dataclass(slots=True, eq=False)
class _Group:
    """The jobs of one chunk."""

    tokens: Tokens
    waiting: deque[Request] = field(default_factory=deque)
    running: dict[int, tuple[Request, Branch]] = field(default_factory=dict)
    branch: Branch | None = None
    """The chunk's own branch while the chunk is live."""

    @property
    def is_empty(self) -> bool:
        return not self.waiting and not self.running

    @property
    def n_cells(self) -> int:
        """Cells reserved while live: the chunk, and all that its running jobs may use."""
        return len(self.tokens) + sum(request.n_cells for request, _ in self.running.values())

    def branches(self) -> Iterator[Branch]:
        """The branches of the running jobs."""
        return (branch for _, branch in self.running.values())


class Schedule:
    """The state of the tree. `plan` decides, the engine computes, `commit` notes that it did."""

    def __init__(self, *, limits: Limits, instructions: Tokens) -> None:
        self._limits = limits
        self._n_cells = limits.n_cells
        self._root = Branch(tokens=instructions, start=0, sequence=ROOT_SEQUENCE)
        self._free = deque(range(ROOT_SEQUENCE + 1, limits.n_sequences))
        self._queue: OrderedDict[Hashable, _Group] = OrderedDict()
        self._live: dict[Hashable, _Group] = {}
        self._chunk_of: dict[int, Hashable] = {}
        self._billed: dict[int, int] = {}

    def n_cells_needed(self, request: Request) -> int:
        """Cells that `request` needs if it runs alone."""
        return len(self._root.tokens) + len(request.chunk_tokens) + request.n_cells

    def add(self, request: Request) -> None:
        """Queue a job, beside the others of its chunk if there are any.

        Raises ValueError when it could never run; ask `n_cells_needed` before."""
        if self.n_cells_needed(request) > self._limits.n_cells:
            raise ValueError(f"job {request.ticket} is over the {self._limits.n_cells} cells")
        group = self._live.get(request.chunk) or self._queue.get(request.chunk)
        if group is None:
            group = self._queue[request.chunk] = _Group(request.chunk_tokens)
        group.waiting.append(request)
        self._chunk_of[request.ticket] = request.chunk
        self._billed[request.ticket] = 0

    def plan(self) -> Step:
        """Admit what fits, then fill a batch: decode rows first, then prompts.

        Live chunks that block one another are resolved by putting the newest back."""
        clear: tuple[int, ...] = ()
        while True:
            forks = self._admit()
            decode = tuple(self._decoding())
            prefill = tuple(self._pieces(self._limits.n_batch - len(decode)))
            if forks or decode or prefill or len(self._live) < 2:
                return Step(clear=clear, forks=tuple(forks), decode=decode, prefill=prefill)
            clear += self._withdraw_newest_chunk().sequences

    def commit(self, step: Step) -> None:
        """Note that the batch of `step` was computed."""
        for piece in step.prefill:
            piece.branch.n_done = piece.end
            piece.branch.n_unbilled += piece.end - piece.begin

    def end(self, ticket: int) -> Ended:
        """Take a job out, wherever it is. Raises KeyError for an unknown ticket."""
        chunk = self._chunk_of.pop(ticket)
        group = self._live.get(chunk) or self._queue[chunk]
        n_prefilled, sequences = self._billed.pop(ticket), []
        if ticket in group.running:
            _, branch = group.running.pop(ticket)
            n_prefilled += branch.bill()
            sequences.append(branch.sequence)
        else:
            group.waiting = deque(r for r in group.waiting if r.ticket != ticket)
        if group.is_empty:
            n_prefilled += self._drop(chunk, group, sequences)
        self._free.extend(sequences)
        return Ended(sequences=tuple(sequences), prefilled_tokens=n_prefilled)

    def give_way(self) -> Withdrawn | None:
        """Answer to a cache that found no room: put the newest work back and plan for less.

        None when a single job is left that has nobody to make room for it."""
        if len(self._live) > 1:
            withdrawn = self._withdraw_newest_chunk()
        else:
            group = next(iter(self._live.values()), None)
            if group is None or len(group.running) < 2:
                return None
            withdrawn = self._withdraw_newest_job(group)
        self._n_cells = self._n_reserved()
        return withdrawn

    def _n_reserved(self) -> int:
        return len(self._root.tokens) + sum(group.n_cells for group in self._live.values())

    def _fits(self, n_cells: int) -> bool:
        return self._n_reserved() + n_cells <= self._n_cells

    def _admit(self) -> list[Fork]:
        """Start jobs of live chunks, then open chunks. Jobs first: that ends what blocks."""
        if not self._root.is_ready:
            return []
        forks = [fork for group in self._live.values() for fork in self._start_jobs(group)]
        while self._may_open_chunk():
            forks.append(self._open_chunk())
        return forks

    def _start_jobs(self, group: _Group) -> Iterator[Fork]:
        """Fork the chunk for each waiting job that fits, in order."""
        chunk = group.branch
        while chunk and chunk.is_ready and group.waiting and self._may_start(group):
            request = group.waiting.popleft()
            branch = Branch(
                tokens=request.job_tokens,
                start=chunk.end,
                sequence=self._free.popleft(),
                ticket=request.ticket,
            )
            group.running[request.ticket] = (request, branch)
            self._billed[request.ticket] += chunk.bill() + self._root.bill()
            yield Fork(parent=chunk.sequence, child=branch.sequence)

    def _may_start(self, group: _Group) -> bool:
        """A job that is alone always may, else a lowered limit could block it for ever."""
        is_alone = len(self._live) == 1 and not group.running
        return bool(self._free) and (is_alone or self._fits(group.waiting[0].n_cells))

    def _may_open_chunk(self) -> bool:
        """The head of the queue fits with its first job; alone it always does."""
        if not self._queue or len(self._live) >= self._limits.live_chunks or len(self._free) < 2:
            return False
        group = next(iter(self._queue.values()))
        return not self._live or self._fits(group.n_cells + group.waiting[0].n_cells)

    def _open_chunk(self) -> Fork:
        chunk, group = self._queue.popitem(last=False)
        group.branch = Branch(
            tokens=group.tokens, start=self._root.end, sequence=self._free.popleft()
        )
        self._live[chunk] = group
        return Fork(parent=ROOT_SEQUENCE, child=group.branch.sequence)

    def _decoding(self) -> Iterator[Branch]:
        """Jobs whose prompt is computed, oldest chunk first."""
        for group in self._live.values():
            yield from (branch for branch in group.branches() if branch.is_ready)

    def _pieces(self, room: int) -> Iterator[Piece]:
        """Pieces of unfinished prompts, up to `room` rows in all."""
        for branch in self._unfinished():
            n_rows = min(room, len(branch.tokens) - branch.n_done)
            if n_rows > 0:
                yield Piece(branch=branch, begin=branch.n_done, end=branch.n_done + n_rows)
                room -= n_rows

    def _unfinished(self) -> Iterator[Branch]:
        """Jobs before chunks, since a job that decodes sooner ends its chunk sooner."""
        has_work = bool(self._queue or self._live)
        if has_work and not self._root.is_ready:
            yield self._root
        for group in self._live.values():
            yield from (branch for branch in group.branches() if not branch.is_ready)
        for group in self._live.values():
            if group.branch and not group.branch.is_ready:
                yield group.branch

    def _drop(self, chunk: Hashable, group: _Group, sequences: list[int]) -> int:
        """Forget a chunk without jobs; returns its tokens that nobody has paid for."""
        self._queue.pop(chunk, None)
        if self._live.pop(chunk, None) is None or group.branch is None:
            return 0
        sequences.append(group.branch.sequence)
        return group.branch.bill()

    def _withdraw_newest_chunk(self) -> Withdrawn:
        """Put the live chunk that was opened last back to the head of the queue."""
        chunk, group = self._live.popitem()
        tickets = tuple(group.running)
        sequences = [self._withdraw_job(group, ticket) for ticket in reversed(tickets)]
        if group.branch:
            self._billed[group.waiting[0].ticket] += group.branch.bill()
            sequences.append(group.branch.sequence)
            group.branch = None
        self._queue[chunk] = group
        self._queue.move_to_end(chunk, last=False)
        self._free.extend(sequences)
        return Withdrawn(tickets=tickets, sequences=tuple(sequences))

    def _withdraw_newest_job(self, group: _Group) -> Withdrawn:
        ticket = next(reversed(group.running))
        sequence = self._withdraw_job(group, ticket)
        self._free.append(sequence)
        return Withdrawn(tickets=(ticket,), sequences=(sequence,))

    def _withdraw_job(self, group: _Group, ticket: int) -> int:
        """Put a running job back to the head of its chunk's jobs; returns its sequence."""
        request, branch = group.running.pop(ticket)
        self._billed[ticket] += branch.bill()
        group.waiting.appendleft(request)
        return branch.sequence
