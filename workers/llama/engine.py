"""`LlamaCppEngine`: many jobs at once on one llama.cpp context.

What is where: `schedule` decides which tokens are computed next; `work` makes a prompt of each job
and a result of what was written; `writing` keeps writers and cache in step; `kv_store` keeps what
was read; `api` and `context` are the only ones that call llama.cpp. This module moves values
between them, a step at a time.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from workers.chat import ChatDelta
from workers.errors import EngineCrashed, JobRejected
from workers.gguf_file import check_gguf
from workers.llama.api import Logits
from workers.llama.context import Batch, DecodeOutcome, State
from workers.llama.kv_store import KvStore
from workers.llama.loading import Loaded, load_parts, open_kv_store
from workers.llama.schedule import Branch, Fork, Request, Schedule, Step, Tokens
from workers.llama.sizing import LlamaSettings
from workers.llama.tokenizer import LlamaTokenizer
from workers.llama.work import Account, Language, Parts, Work, failure_of
from workers.llama.writing import Tail
from workers.prompt import WorkerPrompt, worker_prompt
from workers.seams import EngineInfo, Outcome
from workers.seams import Work as AnyJob


@dataclass(slots=True, eq=False)
class _Pending:
    """A submitted job until its result is returned."""

    job: AnyJob
    submitted_at: float
    work: Work | None = None
    """None for a job that was rejected; the schedule knows all others."""
    prompt_tokens: int = 0
    tail: Tail | None = None
    """Exists from the first generated token on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """Whose are the next rows of a batch's logits."""

    tickets: tuple[int, ...]
    n_rows: int
    branch: Branch | None = None
    """Of the one ticket, when it was decoding; None for the end of a prompt."""


@dataclass(kw_only=True, slots=True)
class Counters:
    """What an engine did since it was built; times in seconds."""

    n_steps: int = 0
    n_rows: int = 0
    decode_s: float = 0.0
    """Inside llama_decode, wall time."""
    decode_cpu_s: float = 0.0
    """The same in CPU time of all threads."""
    decode_own_s: float = 0.0
    """The same in CPU time of the thread that steps the engine."""
    n_guessed: int = 0
    n_guessed_right: int = 0
    n_revived_tokens: int = 0
    """Prompt tokens that were restored instead of computed."""
    n_interrupted: int = 0
    largest_batch: int = 0


@dataclass(kw_only=True, slots=True, eq=False)
class _Deadlines:
    """The deadlines of pending jobs, earliest first."""

    heap: list[tuple[float, int]] = field(default_factory=list)

    def add(self, at: float, ticket: int) -> None:
        heapq.heappush(self.heap, (at, ticket))

    def is_any_past(self, now: float) -> bool:
        return bool(self.heap) and self.heap[0][0] <= now

    def pop_past(self, now: float) -> Iterable[int]:
        while self.is_any_past(now):
            yield heapq.heappop(self.heap)[1]


def _key_tokens(before: Tokens, own: Tokens) -> Tokens:
    """The store's key of a branch: where its own tokens begin, then all tokens."""
    return np.concatenate(([len(before)], before, own)).astype(np.int32)


class LlamaCppEngine:
    """`workers.seams.Engine` over llama.cpp. Build it with `LlamaCppEngine.load`."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        prompt: WorkerPrompt,
        kv_store: KvStore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Owns `loaded` and `kv_store` from now on. `clock` gives seconds, for deadlines.

        Raises as `Language` does."""
        self._model = loaded.model
        self._context = loaded.context
        self._kv_store = kv_store
        self._clock = clock
        self._language = Language(loaded.model, prompt, name=loaded.name)
        self._info = loaded.describe(
            prompt_version=prompt.version,
            chats=self._language.chats,
            efforts=self._language.efforts,
        )
        self._schedule = Schedule(limits=loaded.limits)
        self._batch = Batch(loaded.context.n_batch)
        self._next_ticket = itertools.count()
        self._pending: dict[int, _Pending] = {}
        self._tickets: dict[str, set[int]] = {}
        self._doomed: dict[int, str] = {}
        self._deadlines = _Deadlines()
        self._dead: str | None = None
        self.counters = Counters()
        self.plan = str(loaded.placement or "")
        """Where the model is, in words."""

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        name: str | None = None,
        settings: LlamaSettings | None = None,
        prompt: WorkerPrompt | None = None,
        expected_sha256: str | None = None,
    ) -> LlamaCppEngine:
        """Load a GGUF file into an engine of its own.

        Raises ModelNotFound, ModelCorrupt (not a GGUF, cut, another hash than expected),
        ModelTooLarge (with the numbers) or EngineUnavailable (llama.cpp can't run it here)."""
        settings = settings or LlamaSettings()
        prompt = prompt or worker_prompt()
        check_gguf(path)
        with contextlib.ExitStack() as opened:
            loaded = load_parts(path, settings, name=name, expected_sha256=expected_sha256)
            opened.callback(loaded.close)
            store = open_kv_store(path, settings, loaded, prompt)
            engine = cls(loaded, prompt=prompt, kv_store=store)
            opened.pop_all()  # the engine closes them from here on
        return engine

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def tokenizer(self) -> LlamaTokenizer:
        return self._language.tokenizer

    @property
    def n_pending(self) -> int:
        return len(self._pending)

    def prompt_overhead_tokens(self, task: str) -> int:
        """Tokens of a job's prompt beside its chunk."""
        return self._language.overhead_tokens(task)

    def submit(self, job: AnyJob) -> None:
        """Queue a job. A job that can't run comes back as FAILED from the next step."""
        ticket, now = next(self._next_ticket), self._clock()
        pending = self._pending[ticket] = _Pending(job=job, submitted_at=now)
        self._tickets.setdefault(job.job_id, set()).add(ticket)
        if job.deadline_s is not None:
            self._deadlines.add(now + job.deadline_s, ticket)
        try:
            self._schedule_work(ticket, pending)
        except JobRejected as error:
            self._doomed[ticket] = f"{error}; a retry will not help"

    def cancel(self, job_id: str) -> None:
        """Let every pending job of this id end in the next step."""
        for ticket in self._tickets.get(job_id, ()):
            self._doomed.setdefault(ticket, "cancelled by the caller")

    def interrupt(self) -> None:
        """Let the step that is running, or else the next one, end soon with its batch uncomputed,
        so that a cancelled job need not wait for it. The one method that is thread-safe."""
        self._context.interrupt()

    def step(self) -> list[Outcome | ChatDelta]:
        """Advance by one batch; return what ended or was written in it."""
        if self._dead:
            raise EngineCrashed(self._dead)
        if self._doomed or self._deadlines.is_any_past(self._clock()):
            return self._end_doomed()  # no batch with them: a crash in it would lose their results
        try:
            return self._advance()
        except EngineCrashed as error:
            self._dead = str(error)
            raise

    def close(self) -> None:
        """Free the engine's memory; pending jobs are dropped. Safe to call twice."""
        self._dead = "the engine was closed: build a new one"
        for pending in self._pending.values():
            if pending.work:
                pending.work.close()
        self._pending.clear()
        self._tickets.clear()
        self._language.close()
        if self._kv_store:
            self._kv_store.close()
        self._context.close()
        self._model.close()

    # -- before the batch ---------------------------------------------------------------------

    def _schedule_work(self, ticket: int, pending: _Pending) -> None:
        """Raises JobRejected when the job can never run."""
        work = self._language.work(pending.job)
        parts = work.parts
        pending.prompt_tokens = parts.n_tokens
        if parts.n_tokens + parts.max_output_tokens > self._info.context_tokens:
            work.close()
            raise JobRejected(
                f"the prompt has {parts.n_tokens} tokens and the output may have "
                f"{parts.max_output_tokens}, together over the context of "
                f"{self._info.context_tokens}: use a smaller chunk or a larger context"
            )
        self._schedule.add(
            Request(
                ticket=ticket,
                root=parts.root,
                chunk=parts.chunk,
                chunk_tokens=parts.chunk_tokens,
                job_tokens=parts.job_tokens,
                max_output_tokens=parts.max_output_tokens,
                is_kept=parts.is_kept,
                is_stored=self._is_stored(parts),
            )
        )
        pending.work = work

    def _end_doomed(self) -> list[Outcome | ChatDelta]:
        """Results of jobs that were rejected, cancelled or are past their deadline."""
        for ticket in self._deadlines.pop_past(self._clock()):
            if ticket in self._pending:
                deadline_s = self._pending[ticket].job.deadline_s
                self._doomed.setdefault(ticket, f"not done within its {deadline_s} s")
        doomed, self._doomed = self._doomed, {}
        return [self._fail(ticket, reason) for ticket, reason in doomed.items()]

    # -- the batch ----------------------------------------------------------------------------

    def _advance(self) -> list[Outcome | ChatDelta]:
        """Plan a batch, compute it, and give each writer its rows of logits."""
        step = self._planned()
        if step.is_idle:
            return []
        owners = self._fill(step)
        outcome = self._decode()
        if outcome is DecodeOutcome.NO_SLOT:
            self._make_room()
        if outcome is not DecodeOutcome.DONE:
            return []
        self._fork(self._schedule.commit(step))
        self._keep(step)
        return self._write(owners)

    def _planned(self) -> Step:
        """The next step, with the cache's sequences as it wants them. Instructions and chunks that
        were read before are restored first, which may change the plan."""
        while True:
            step = self._schedule.plan()
            for sequence in step.clear:
                self._context.clear(sequence)
            self._fork(step.forks)
            n_revived = sum(self._revive(branch) for branch in step.opened)
            if not n_revived:
                return step

    def _fork(self, forks: Iterable[Fork]) -> None:
        for fork in forks:
            self._context.fork(parent=fork.parent, child=fork.child)

    def _fill(self, step: Step) -> list[_Rows]:
        """Put the step's tokens into the batch; returns whose logits come out, in order."""
        self._batch.clear()
        owners = []
        for turn in step.decode:
            branch, tail = turn.branch, self._tail_of(turn.branch.ticket)
            offer = tail.offer(turn.n_rows)
            self._batch.add(
                offer.tokens,
                first_position=branch.end + offer.first,
                sequence=branch.sequence,
                wanted=offer.n_wanted,
            )
            if branch.ticket is not None:
                owners.append(_Rows(tickets=(branch.ticket,), n_rows=offer.n_wanted, branch=branch))
        for piece in step.prefill:
            tickets = self._schedule.tickets_of(piece)
            self._batch.add(
                piece.tokens,
                first_position=piece.first_position,
                sequence=piece.branch.sequence,
                wanted=bool(tickets),
            )
            owners.append(_Rows(tickets=tickets, n_rows=int(bool(tickets))))
        return owners

    def _decode(self) -> DecodeOutcome:
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        begin_own_s = time.thread_time()
        outcome = self._context.decode(self._batch)
        counters = self.counters
        counters.decode_s += time.perf_counter() - begin_s
        counters.decode_cpu_s += time.process_time() - begin_cpu_s
        counters.decode_own_s += time.thread_time() - begin_own_s
        counters.n_steps += 1
        counters.n_rows += self._batch.n_rows
        counters.largest_batch = max(counters.largest_batch, self._batch.n_rows)
        counters.n_interrupted += outcome is DecodeOutcome.INTERRUPTED
        return outcome

    def _tail_of(self, ticket: int | None) -> Tail:
        """What a job wrote, begun if need be."""
        pending = self._pending[ticket] if ticket is not None else None
        if pending is None or pending.work is None:
            raise ValueError("only a job's branch is written on")
        if pending.tail is None:
            pending.tail = pending.work.begin()
        return pending.tail

    def _make_room(self) -> None:
        """The cache was fuller than counted: put work back, to be tried again later."""
        withdrawn = self._schedule.give_way()
        if withdrawn is None:
            raise EngineCrashed(
                f"the cache of {self._context.n_ctx} cells has no room for a single job"
            )
        self._clear(withdrawn.sequences)
        for ticket in withdrawn.tickets:
            pending = self._pending[ticket]
            pending.tail = None
            if pending.work:
                pending.work.close()

    def _clear(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            self._context.clear(sequence)

    # -- what was read before -----------------------------------------------------------------

    def _revive(self, branch: Branch) -> bool:
        """Bring back instructions or a chunk that was put aside or is in the store."""
        state = self._saved(branch)
        if state is None:
            return False
        if branch.is_apart:
            self._put_aside(branch, state)
            return True
        is_whole = self._context.restore(branch.sequence, state)
        if branch.parent:
            self._context.fork(parent=branch.parent.sequence, child=branch.sequence)
        if is_whole:
            self._schedule.revived(branch)
            self.counters.n_revived_tokens += len(branch.tokens)
        return is_whole

    def _saved(self, branch: Branch) -> State | None:
        """What there is of a branch outside the cache."""
        if isinstance(branch.saved, np.ndarray):
            return branch.saved
        if self._kv_store is None or not branch.is_kept or not len(branch.tokens):
            return None
        return self._kv_store.get(self._store_key(branch))

    def _put_aside(self, branch: Branch, state: State) -> None:
        """Make room in the cache for the next chunk that is read alone."""
        self._context.clear(branch.sequence)
        self._schedule.put_aside(branch, state)

    def _is_stored(self, parts: Parts) -> bool:
        """Whether the chunk of a job was read before."""
        if self._kv_store is None or not parts.is_kept:
            return False
        return self._kv_store.may_have(_key_tokens(parts.root, parts.chunk_tokens))

    def _keep(self, step: Step) -> None:
        """Save what the step has finished reading, for later questions or for its own jobs."""
        for piece in step.prefill:
            branch = piece.branch
            is_stored = branch.is_kept and self._kv_store is not None
            if piece.end == len(branch.tokens) and (is_stored or branch.is_apart):
                state = self._context.save(branch.sequence, branch.start)
                if self._kv_store and is_stored:
                    self._kv_store.put(self._store_key(branch), state)
                if branch.is_apart:
                    self._put_aside(branch, state)

    def _store_key(self, branch: Branch) -> Tokens:
        """All tokens that the cells of a branch depend on, and where its own begin."""
        before = branch.parent.tokens if branch.parent else np.empty(0, np.int32)
        return _key_tokens(before, branch.tokens)

    # -- after the batch ----------------------------------------------------------------------

    def _write(self, owners: Sequence[_Rows]) -> list[Outcome | ChatDelta]:
        """Give each writer its rows; return what was written or ended with them."""
        logits = self._context.logits(sum(rows.n_rows for rows in owners))
        written: list[Outcome | ChatDelta] = []
        begin = 0
        for rows in owners:
            own = logits[begin : begin + rows.n_rows]
            begin += rows.n_rows
            for ticket in rows.tickets:
                written += self._take(ticket, own, rows.branch)
        return written

    def _take(
        self, ticket: int, rows: Logits, branch: Branch | None
    ) -> Iterable[Outcome | ChatDelta]:
        """Let one job write from its rows: none while forced tokens are still being computed."""
        pending, tail = self._pending[ticket], self._tail_of(ticket)
        try:
            is_ahead = tail.take(rows)
        except JobRejected as error:
            return [self._fail(ticket, f"{error}; a retry will not help")]
        written: list[Outcome | ChatDelta] = []
        fresh = pending.work.fresh() if pending.work else ""
        if fresh:
            written.append(ChatDelta(job_id=pending.job.job_id, text=fresh))
        if tail.writer.is_over:
            return [*written, self._finish(ticket)]
        if is_ahead and branch:
            self._context.cut(branch.sequence, branch.end + tail.n_cached)
        self._schedule.want_rows(ticket, tail.n_rows)
        return written

    def _finish(self, ticket: int) -> Outcome:
        pending, account = self._end(ticket)
        if pending.work is None:
            raise ValueError("a job that was rejected has written nothing")
        outcome = pending.work.outcome(account)
        pending.work.close()
        return outcome

    def _fail(self, ticket: int, reason: str) -> Outcome:
        pending, account = self._end(ticket)
        if pending.work is None:
            return failure_of(pending.job, reason, account)
        outcome = pending.work.failure(reason, account)
        pending.work.close()
        return outcome

    def _end(self, ticket: int) -> tuple[_Pending, Account]:
        """Take the job out of everything; returns it and what it cost."""
        pending = self._pending.pop(ticket)
        self._forget_id(pending.job.job_id, ticket)
        n_prefilled = 0
        if pending.work:
            ended = self._schedule.end(ticket)
            self._clear(ended.sequences)
            n_prefilled = ended.prefilled_tokens
        if pending.tail:
            self.counters.n_guessed += pending.tail.n_guessed
            self.counters.n_guessed_right += pending.tail.n_guessed_right
        return pending, Account(
            prompt_tokens=pending.prompt_tokens,
            prefilled_tokens=n_prefilled,
            elapsed_s=self._clock() - pending.submitted_at,
        )

    def _forget_id(self, job_id: str, ticket: int) -> None:
        tickets = self._tickets[job_id]
        tickets.discard(ticket)
        if not tickets:
            del self._tickets[job_id]
