"""Which tokens go into the next batch. All policy and no llama.cpp: this module only counts.

The prompts of all jobs form a tree of three levels: the instructions, then the chunks, then the
jobs (task and frame). A branch of the tree holds one sequence of the context. A child begins as a
fork of its parent's sequence, which shares the parent's cells instead of computing them again.

    instructions         kept while there is room, for the next chunks
    |-- chunk "p3"       live until its last job ends
    |   |-- job 7        prefilled, then decoded: one row per step, more when tokens are known ahead
    |   |   `-- job 8    another sample of the same task: waits for job 7's prompt and forks it
    |   `-- job 9
    `-- chunk "p4"

Few chunks are live at a time: on a CPU, attention over a unified cache looks at every cell in use
for every row, so many half-finished chunks would slow all rows. Chunks are opened in the order in
which they first came; no later chunk overtakes one that waits for cells.

A batch with a single row costs nearly as much as one with ten, since the weights are read for all
rows at once. Where cells are dear (`Limits.reads_apart`), the next few chunks are therefore read
one after the other, each alone in the cache, and put aside; then they are brought back, for which
nothing is computed, and their jobs are worked on together.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int32]
"""Token ids, one dimension."""

_KEPT_ROOTS = 3
"""Instructions that are kept though no live chunk has them: one per reasoning effort."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What the context can hold."""

    n_sequences: int
    """Sequences, the one of the instructions included; at least 3 (instructions, chunk, job)."""
    n_cells: int
    """Tokens that the cache holds; a token shared by several sequences counts once."""
    n_batch: int
    """Rows of one batch; at least `n_sequences` and `n_extra_rows` together, so that every live
    job can decode in it."""
    live_chunks: int
    """Most chunks in work at the same time."""
    live_work: int | None = None
    """A further chunk is opened only while the chunks in work, with it, have no more than this of
    jobs times tokens; None for no such bound.

    With n jobs and N tokens in all, a row costs W / n for the reading of the weights, which a batch
    shares, and m N for the cells that the row looks at in vain. Another chunk is worth its cells
    while n N stays below W / m or so, whatever the sizes of chunks are."""
    reads_apart: bool = False
    """Chunks that will be worked on together are read before, each alone, and put aside."""
    busy_jobs: int = 1
    """Further chunks are opened while fewer jobs than this are in work, so that chunks with a
    single job each also share their decode batches."""
    n_extra_rows: int = 0
    """Rows of a batch, beside one per job, for tokens that jobs know or guess ahead."""

    def __post_init__(self) -> None:
        if self.n_sequences < 3:
            raise ValueError(f"n_sequences is {self.n_sequences}, must be at least 3")
        if self.n_batch < self.n_sequences + self.n_extra_rows:
            raise ValueError(
                f"n_batch {self.n_batch} is below n_sequences {self.n_sequences} with "
                f"{self.n_extra_rows} extra rows"
            )
        for name in ("live_chunks", "busy_jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Request:
    """One job as the schedule sees it."""

    ticket: int
    """Unique name of the job."""
    root: Tokens
    """The instructions, shared by many chunks; may be empty."""
    chunk: Hashable
    """Jobs with an equal `chunk` carry equal `root` and `chunk_tokens`."""
    chunk_tokens: Tokens
    job_tokens: Tokens
    """The prompt after the chunk; at least one token."""
    max_output_tokens: int
    """Tokens that may come after the prompt, of whatever kind."""
    is_kept: bool = False
    """Whether the computed chunk is worth keeping for later questions."""
    is_stored: bool = False
    """Whether the chunk was read before and need probably not be computed."""

    @property
    def n_cells(self) -> int:
        """Cells that the job may come to use beside its chunk and the instructions."""
        return len(self.job_tokens) + self.max_output_tokens


@dataclass(slots=True, eq=False)
class Branch:
    """A run of prompt tokens with the sequence it is computed on."""

    tokens: Tokens
    sequence: int
    parent: Branch | None = None
    ticket: int | None = None
    """The job whose prompt ends with this branch; None for instructions and chunks."""
    is_kept: bool = False
    """See `Request.is_kept`."""
    n_done: int = 0
    """Tokens computed so far."""
    n_unbilled: int = 0
    """Tokens computed and not yet on any job's account."""
    n_wanted_rows: int = 1
    """Rows that the job, once decoding, has tokens for."""
    lead: Branch | None = None
    """The branch that computes the same tokens for this one, until it is done."""
    is_apart: bool = False
    """The chunk is read to be put aside; see `Schedule.put_aside`."""
    saved: object = None
    """What the chunk was put aside as."""

    @property
    def is_ready(self) -> bool:
        return self.lead is None and self.n_done == len(self.tokens)

    @property
    def start(self) -> int:
        """Position of the first token in the prompt."""
        return self.parent.end if self.parent else 0

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
class Turn:
    """A decoding job's part of a batch."""

    branch: Branch
    n_rows: int
    """At least 1, at most `branch.n_wanted_rows`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fork:
    """Let sequence `child` begin as `parent` is now."""

    parent: int
    child: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One batch: first clear, then fork, then compute the turns and the pieces."""

    clear: tuple[int, ...]
    forks: tuple[Fork, ...]
    opened: tuple[Branch, ...]
    """Instructions and chunks that begin with this step; whoever has them computed already may put
    them into their sequence, call `Schedule.revived` and plan anew."""
    decode: tuple[Turn, ...]
    prefill: tuple[Piece, ...]

    @property
    def is_idle(self) -> bool:
        """There is nothing to compute; forks alone need no batch."""
        return not self.decode and not self.prefill


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

    root_tokens: Tokens
    tokens: Tokens
    is_kept: bool
    is_stored: bool
    waiting: deque[Request] = field(default_factory=deque)
    running: dict[int, tuple[Request, Branch]] = field(default_factory=dict)
    branch: Branch | None = None
    """The chunk's own branch while the chunk is live, or is read apart."""
    saved: object = None
    """What the chunk was put aside as."""

    @property
    def is_read(self) -> bool:
        """Nothing is to be computed for the chunk itself."""
        return self.saved is not None or self.is_stored or not len(self.tokens)

    @property
    def is_empty(self) -> bool:
        return not self.waiting and not self.running

    @property
    def n_jobs(self) -> int:
        return len(self.waiting) + len(self.running)

    @property
    def n_cells(self) -> int:
        """Cells reserved while live: the chunk, and all that its running jobs may use."""
        return len(self.tokens) + sum(request.n_cells for request, _ in self.running.values())

    def branches(self) -> Iterator[Branch]:
        """The branches of the running jobs."""
        return (branch for _, branch in self.running.values())

    def lead_for(self, request: Request) -> Branch | None:
        """A running job that is still computing the very same tokens."""
        computing = (branch for branch in self.branches() if not (branch.lead or branch.is_ready))
        same = (b for b in computing if np.array_equal(b.tokens, request.job_tokens))
        return next(same, None)

    def followers(self, lead: Branch) -> list[Branch]:
        """The jobs that wait for `lead`."""
        return [branch for branch in self.branches() if branch.lead is lead]


class Schedule:
    """The state of the tree. `plan` decides, the engine computes, `commit` notes that it did."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits
        self._n_cells = limits.n_cells
        self._free = deque(range(limits.n_sequences))
        self._roots: OrderedDict[bytes, Branch] = OrderedDict()
        """Instructions by their tokens, the longest unused first."""
        self._queue: OrderedDict[Hashable, _Group] = OrderedDict()
        self._live: dict[Hashable, _Group] = {}
        self._reading: Hashable | None = None
        """The chunk of the queue that is read apart."""
        self._chunk_of: dict[int, Hashable] = {}
        self._billed: dict[int, int] = {}

    def n_cells_needed(self, request: Request) -> int:
        """Cells that `request` needs if it runs alone."""
        return len(request.root) + len(request.chunk_tokens) + request.n_cells

    def add(self, request: Request) -> None:
        """Queue a job, beside the others of its chunk if there are any.

        Raises ValueError when it could never run; ask `n_cells_needed` before."""
        if self.n_cells_needed(request) > self._limits.n_cells:
            raise ValueError(f"job {request.ticket} is over the {self._limits.n_cells} cells")
        group = self._live.get(request.chunk) or self._queue.get(request.chunk)
        if group is None:
            group = self._queue[request.chunk] = _Group(
                request.root, request.chunk_tokens, request.is_kept, request.is_stored
            )
        group.waiting.append(request)
        self._chunk_of[request.ticket] = request.chunk
        self._billed[request.ticket] = 0

    def plan(self) -> Step:
        """Admit what fits, then fill a batch: decode rows first, then prompts.

        Live chunks that block one another are resolved by putting the newest back."""
        clear: tuple[int, ...] = ()
        opened: list[Branch] = []
        while True:
            clear += self._retire_roots()
            forks = self._admit(opened)
            decode = self._turns()
            n_rows = sum(turn.n_rows for turn in decode)
            prefill = tuple(self._pieces(self._limits.n_batch - n_rows))
            if forks or decode or prefill or len(self._live) < 2:
                return Step(
                    clear=clear,
                    forks=tuple(forks),
                    opened=tuple(opened),
                    decode=decode,
                    prefill=prefill,
                )
            clear += self._withdraw_newest_chunk().sequences

    def revived(self, branch: Branch) -> None:
        """Note that all of `branch` is in its sequence, without having been computed."""
        branch.n_done = len(branch.tokens)

    def put_aside(self, branch: Branch, saved: object) -> None:
        """Note that a chunk that was read apart is safe outside the cache; its sequence is to be
        cleared before the next plan. `saved` comes back with the branch that opens the chunk."""
        if self._reading is None or branch is not self._queue[self._reading].branch:
            raise ValueError("only the chunk that is read apart can be put aside")
        group = self._queue[self._reading]
        n_root = branch.parent.bill() if branch.parent else 0
        self._billed[group.waiting[0].ticket] += n_root + branch.bill()
        self._free.append(branch.sequence)
        group.saved, group.branch, self._reading = saved, None, None

    def want_rows(self, ticket: int, n_rows: int) -> None:
        """Say how many tokens a decoding job has for its next turn; it gets at least one row."""
        _, branch = self._live[self._chunk_of[ticket]].running[ticket]
        branch.n_wanted_rows = n_rows

    def commit(self, step: Step) -> tuple[Fork, ...]:
        """Note that the batch of `step` was computed; the forks that follow from it are to be made
        before anything else."""
        forks: list[Fork] = []
        for piece in step.prefill:
            branch = piece.branch
            branch.n_done = piece.end
            branch.n_unbilled += piece.end - piece.begin
            if piece.needs_logits:
                forks += self._release(branch)
        return tuple(forks)

    def tickets_of(self, piece: Piece) -> tuple[int, ...]:
        """The jobs whose first token the last row of `piece` chooses: one, and its followers. Ask
        before `commit`."""
        ticket = piece.branch.ticket
        if ticket is None or not piece.needs_logits:
            return ()
        group = self._live[self._chunk_of[ticket]]
        followers = (branch.ticket for branch in group.followers(piece.branch))
        return (ticket, *(follower for follower in followers if follower is not None))

    def end(self, ticket: int) -> Ended:
        """Take a job out, wherever it is. Raises KeyError for an unknown ticket."""
        chunk = self._chunk_of.pop(ticket)
        group = self._live.get(chunk) or self._queue[chunk]
        n_prefilled, sequences = self._billed.pop(ticket), []
        if ticket in group.running:
            _, branch = group.running.pop(ticket)
            n_prefilled += branch.bill()
            sequences.append(self._hand_over(group, branch))
        else:
            group.waiting = deque(r for r in group.waiting if r.ticket != ticket)
        if group.is_empty:
            n_prefilled += self._drop(chunk, group, sequences)
        self._free.extend(sequences)
        return Ended(sequences=tuple(sequences), prefilled_tokens=n_prefilled)

    def give_way(self) -> Withdrawn | None:
        """Answer to a cache that found no room: put the newest work back and plan for less.

        None when a single job is left that has nobody to make room for it."""
        idle = self._drop_idle_roots(keep=0)
        if idle:
            return Withdrawn(tickets=(), sequences=idle)
        if len(self._live) > 1:
            withdrawn = self._withdraw_newest_chunk()
        else:
            group = next(iter(self._live.values()), None)
            if group is None or len(group.running) < 2:
                return None
            withdrawn = self._withdraw_newest_job(group)
        self._n_cells = self._n_reserved()
        return withdrawn

    # -- roots --------------------------------------------------------------------------------

    def _retire_roots(self) -> tuple[int, ...]:
        """Let go of instructions that stand in the way of the next chunk."""
        if not self._queue:
            return ()
        group = next(iter(self._queue.values()))
        needs_root = len(group.root_tokens) > 0 and group.root_tokens.tobytes() not in self._roots
        n_cells = group.n_cells + group.waiting[0].n_cells + len(group.root_tokens) * needs_root
        is_short = len(self._free) < 2 + needs_root or not self._fits(n_cells)
        return self._drop_idle_roots(keep=0 if is_short else _KEPT_ROOTS)

    def _drop_idle_roots(self, *, keep: int) -> tuple[int, ...]:
        """Forget instructions that no live chunk and not the next one has; returns sequences."""
        groups = [*self._live.values(), *itertools.islice(self._queue.values(), 1)]
        groups += [group for group in (self._read_apart,) if group]
        used = {group.root_tokens.tobytes() for group in groups}
        idle = [key for key in self._roots if key not in used]
        dropped = tuple(self._roots.pop(key).sequence for key in idle[: max(len(idle) - keep, 0)])
        self._free.extend(dropped)
        return dropped

    def _root_of(self, group: _Group, opened: list[Branch]) -> Branch | None:
        """The instructions of `group`, begun if need be; None when it has none."""
        key = group.root_tokens.tobytes()
        if not key:
            return None
        if key not in self._roots:
            root = Branch(tokens=group.root_tokens, sequence=self._free.popleft(), is_kept=True)
            self._roots[key] = root
            opened.append(root)
        self._roots.move_to_end(key)
        return self._roots[key]

    # -- admission ----------------------------------------------------------------------------

    def _n_reserved(self) -> int:
        n_roots = sum(len(root.tokens) for root in self._roots.values())
        n_apart = self._read_apart.n_cells if self._read_apart else 0
        return n_roots + n_apart + sum(group.n_cells for group in self._live.values())

    def _fits(self, n_cells: int) -> bool:
        return self._n_reserved() + n_cells <= self._n_cells

    def _admit(self, opened: list[Branch]) -> list[Fork]:
        """Start jobs of live chunks, then open chunks. Jobs first: that ends what blocks."""
        forks = [fork for group in self._live.values() for fork in self._start_jobs(group)]
        if self._limits.reads_apart and not self._live:
            self._reading = self._next_to_read() if self._reading is None else self._reading
        if self._reading is not None:
            return self._begin_reading(self._queue[self._reading], opened)
        while self._may_open_chunk():
            group = next(iter(self._queue.values()))
            root = self._root_of(group, opened)
            if root and not root.is_ready:
                break
            forks += self._open_chunk(root, opened)
        return forks

    def _start_jobs(self, group: _Group) -> Iterator[Fork]:
        """Fork the chunk for each waiting job that fits, in order; one that repeats the task of a
        job in work waits for that one's prompt instead."""
        chunk = group.branch
        while chunk and chunk.is_ready and group.waiting and self._may_start(group):
            request = group.waiting.popleft()
            branch = Branch(
                tokens=request.job_tokens,
                parent=chunk,
                sequence=self._free.popleft(),
                ticket=request.ticket,
                lead=group.lead_for(request),
            )
            group.running[request.ticket] = (request, branch)
            self._billed[request.ticket] += chunk.bill()
            if chunk.parent:
                self._billed[request.ticket] += chunk.parent.bill()
            if branch.lead is None:
                yield Fork(parent=chunk.sequence, child=branch.sequence)

    def _may_start(self, group: _Group) -> bool:
        """A job that is alone always may, else a lowered limit could block it for ever."""
        is_alone = len(self._live) == 1 and not group.running
        return bool(self._free) and (is_alone or self._fits(group.waiting[0].n_cells))

    @property
    def _read_apart(self) -> _Group | None:
        return None if self._reading is None else self._queue[self._reading]

    def _next_to_read(self) -> Hashable | None:
        """The first chunk that is not read, of those that will be worked on together; None where
        that is one alone, which is read in its place."""
        together: dict[Hashable, _Group] = {}
        n_cells = self._n_reserved()
        for chunk, group in self._queue.items():
            n_cells += len(group.root_tokens) + group.n_cells + group.waiting[0].n_cells
            is_full = len(together) >= self._limits.live_chunks or n_cells > self._n_cells
            if together and (is_full or not self._is_light([*together.values(), group])):
                break
            together[chunk] = group
        unread = (chunk for chunk, group in together.items() if not group.is_read)
        return next(unread, None) if len(together) > 1 else None

    def _begin_reading(self, group: _Group, opened: list[Branch]) -> list[Fork]:
        """Begin to read a chunk apart, once its instructions are computed."""
        root = self._root_of(group, opened)
        if group.branch or (root and not root.is_ready):
            return []
        group.branch = self._branch_of(group, root, is_apart=True)
        opened.append(group.branch)
        return [Fork(parent=root.sequence, child=group.branch.sequence)] if root else []

    def _branch_of(self, group: _Group, root: Branch | None, *, is_apart: bool = False) -> Branch:
        return Branch(
            tokens=group.tokens,
            parent=root,
            sequence=self._free.popleft(),
            is_kept=group.is_kept,
            is_apart=is_apart,
            saved=group.saved,
        )

    def _may_open_chunk(self) -> bool:
        """The head of the queue fits with its first job; alone it always does."""
        if not self._queue or not self._wants_chunk():
            return False
        group = next(iter(self._queue.values()))
        if self._limits.reads_apart and self._live and not group.is_read:
            return False
        root = group.root_tokens.tobytes()
        needs_root = bool(root) and root not in self._roots
        if len(self._free) < 2 + needs_root:
            return False
        n_cells = group.n_cells + group.waiting[0].n_cells + needs_root * len(group.root_tokens)
        return not self._live or self._fits(n_cells)

    def _wants_chunk(self) -> bool:
        """No chunk is in work, or so few that another one is worth its cells, or few jobs."""
        groups = list(self._live.values())
        if sum(group.n_jobs for group in groups) < self._limits.busy_jobs:
            return True
        head = next(iter(self._queue.values()))
        return len(groups) < self._limits.live_chunks and self._is_light([*groups, head])

    def _is_light(self, groups: Sequence[_Group]) -> bool:
        """See `Limits.live_work`."""
        if self._limits.live_work is None:
            return True
        n_tokens = sum(len(group.tokens) for group in groups)
        return sum(group.n_jobs for group in groups) * n_tokens <= self._limits.live_work

    def _open_chunk(self, root: Branch | None, opened: list[Branch]) -> list[Fork]:
        chunk, group = self._queue.popitem(last=False)
        group.branch = self._branch_of(group, root)
        self._live[chunk] = group
        opened.append(group.branch)
        return [Fork(parent=root.sequence, child=group.branch.sequence)] if root else []

    # -- the batch ----------------------------------------------------------------------------

    def _turns(self) -> tuple[Turn, ...]:
        """Jobs whose prompt is computed, oldest chunk first; spare rows to those who want them."""
        spare, turns = self._limits.n_extra_rows, []
        for group in self._live.values():
            for branch in group.branches():
                if branch.is_ready:
                    n_more = min(branch.n_wanted_rows - 1, spare)
                    spare -= n_more
                    turns.append(Turn(branch=branch, n_rows=1 + n_more))
        return tuple(turns)

    def _pieces(self, room: int) -> Iterator[Piece]:
        """Pieces of unfinished prompts, up to `room` rows in all."""
        for branch in self._unfinished():
            n_rows = min(room, len(branch.tokens) - branch.n_done)
            if n_rows > 0:
                yield Piece(branch=branch, begin=branch.n_done, end=branch.n_done + n_rows)
                room -= n_rows

    def _unfinished(self) -> Iterator[Branch]:
        """Jobs before chunks, since a job that decodes sooner ends its chunk sooner."""
        for group in self._live.values():
            yield from (b for b in group.branches() if b.lead is None and not b.is_ready)
        for group in self._live.values():
            if group.branch and not group.branch.is_ready:
                yield group.branch
        if next_group := self._read_apart or next(iter(self._queue.values()), None):
            root = self._roots.get(next_group.root_tokens.tobytes())
            if root and not root.is_ready:
                yield root
            elif next_group.branch:
                yield next_group.branch

    # -- ending -------------------------------------------------------------------------------

    def _release(self, lead: Branch) -> Iterator[Fork]:
        """Let the followers of a finished prompt begin where it is."""
        if lead.ticket is None:
            return
        for branch in self._live[self._chunk_of[lead.ticket]].followers(lead):
            branch.lead, branch.n_done = None, len(branch.tokens)
            yield Fork(parent=lead.sequence, child=branch.sequence)

    def _hand_over(self, group: _Group, branch: Branch) -> int:
        """The sequence that becomes free when `branch` ends: its own, or that of its first
        follower, which goes on in its place."""
        followers = group.followers(branch)
        if not followers:
            return branch.sequence
        heir, *others = followers
        freed, heir.sequence = heir.sequence, branch.sequence
        heir.lead, heir.n_done = None, branch.n_done
        for other in others:
            other.lead = heir
        return freed

    def _drop(self, chunk: Hashable, group: _Group, sequences: list[int]) -> int:
        """Forget a chunk without jobs; returns its tokens that nobody has paid for."""
        self._queue.pop(chunk, None)
        self._live.pop(chunk, None)
        self._reading = None if chunk == self._reading else self._reading
        if group.branch is None:
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
        """Put a running job back to the head of its chunk's jobs; returns its sequence. Followers
        are newer than their lead, so that they have left before it."""
        request, branch = group.running.pop(ticket)
        self._billed[ticket] += branch.bill()
        group.waiting.appendleft(request)
        return branch.sequence
