"""`LlamaCppEngine`: many jobs at once on one llama.cpp context.

What is where: `schedule` decides which tokens are computed next, `frame` and `tokenizer` make the
tokens, `generation` (with `grammar` and `sampling`) writes an answer from logits, `api` is the only
one that calls llama.cpp. This module moves values between them, a step at a time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import heapq
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workers.answer import parse_answer
from workers.errors import EngineCrashed, EngineUnavailable, JobRejected, ModelCorrupt
from workers.gguf_file import check_gguf
from workers.jobs import Job, JobResult, JobStatus, WorkerUsage
from workers.llama.api import (
    Batch,
    DecodeOutcome,
    LlamaContext,
    LlamaModel,
    can_offload,
    free_gpu_bytes,
)
from workers.llama.frame import build_frame
from workers.llama.generation import Generation
from workers.llama.grammar import PREFILL, AnswerGrammar
from workers.llama.sampling import check_sampling
from workers.llama.schedule import Branch, Limits, Request, Schedule, Step
from workers.llama.sizing import (
    LlamaSettings,
    MemoryNeed,
    file_bytes,
    free_ram_bytes,
    free_threads,
)
from workers.llama.tokenizer import LlamaTokenizer
from workers.prompt import WorkerPrompt, worker_prompt
from workers.seams import EngineInfo

_ALL_LAYERS = 10_000
_REMEMBERED_TEXTS = 256


@dataclass(slots=True, eq=False)
class _Work:
    """A submitted job until its result is returned."""

    job: Job
    submitted_at: float
    prompt_tokens: int = 0
    is_scheduled: bool = False
    """The schedule knows it; a rejected job never gets there."""
    generation: Generation | None = None
    """Exists from the first generated token on."""


class LlamaCppEngine:
    """`workers.seams.Engine` over llama.cpp. Build it with `LlamaCppEngine.load`."""

    def __init__(
        self,
        *,
        model: LlamaModel,
        context: LlamaContext,
        info: EngineInfo,
        live_chunks: int,
        prompt: WorkerPrompt,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Owns `model` and `context` from now on. `clock` gives seconds, for deadlines.

        Raises EngineUnavailable when the model can't carry the worker's prompt, ValueError when
        the prompt does not end where the grammar begins."""
        if prompt.prefill != PREFILL:
            raise ValueError(f"the prompt's prefill is {prompt.prefill!r}, must be {PREFILL!r}")
        self._model = model
        self._context = context
        self._info = info
        self._clock = clock
        self._tokenizer = LlamaTokenizer(model)
        self._frame = build_frame(model, self._tokenizer, prompt)
        self._grammar = AnswerGrammar(model, self._tokenizer.control_tokens)
        self._bytes_of = functools.lru_cache(maxsize=None)(model.token_bytes)
        self._chunk_tokens = functools.lru_cache(_REMEMBERED_TEXTS)(self._frame.chunk_tokens)
        self._job_tokens = functools.lru_cache(_REMEMBERED_TEXTS)(self._frame.job_tokens)
        limits = Limits(
            n_sequences=context.n_sequences,
            n_cells=context.n_ctx,
            n_batch=context.n_batch,
            live_chunks=live_chunks,
        )
        self._schedule = Schedule(limits=limits, instructions=self._frame.instructions)
        self._batch = Batch(context.n_batch)
        self._next_ticket = itertools.count()
        self._works: dict[int, _Work] = {}
        self._tickets: dict[str, set[int]] = {}
        self._doomed: dict[int, str] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._dead: str | None = None

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
        sha256 = _checked_sha256(path, expected_sha256, settings.hash_below_bytes)
        room = _Room.of(settings)
        room.check_weights(path)
        with contextlib.ExitStack() as opened:
            model = LlamaModel(path, n_gpu_layers=room.n_gpu_layers)
            opened.callback(model.close)
            context = _new_context(model, path, settings, room)
            opened.callback(context.close)
            engine = cls(
                model=model,
                context=context,
                info=_describe(model, context, name or path.stem, sha256, settings, prompt),
                live_chunks=settings.live_chunks,
                prompt=prompt,
            )
            opened.pop_all()  # the engine closes them from here on
        return engine

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def tokenizer(self) -> LlamaTokenizer:
        return self._tokenizer

    @property
    def n_pending(self) -> int:
        return len(self._works)

    def prompt_overhead_tokens(self, task: str) -> int:
        """Tokens of a job's prompt beside its chunk."""
        return self._frame.n_tokens + self._tokenizer.count(task)

    def submit(self, job: Job) -> None:
        """Queue a job. A job that can't run comes back as FAILED from the next step."""
        ticket, now = next(self._next_ticket), self._clock()
        work = self._works[ticket] = _Work(job=job, submitted_at=now)
        self._tickets.setdefault(job.job_id, set()).add(ticket)
        if job.deadline_s is not None:
            heapq.heappush(self._deadlines, (now + job.deadline_s, ticket))
        try:
            self._schedule.add(self._request(ticket, work))
            work.is_scheduled = True
        except JobRejected as error:
            self._doomed[ticket] = f"{error}; a retry will not help"

    def cancel(self, job_id: str) -> None:
        """Let every pending job of this id end in the next step."""
        for ticket in self._tickets.get(job_id, ()):
            self._doomed.setdefault(ticket, "cancelled by the caller")

    def step(self) -> list[JobResult]:
        """Advance by one batch; return the jobs that ended in it."""
        if self._dead:
            raise EngineCrashed(self._dead)
        if self._doomed or self._is_any_late():
            return self._end_doomed()  # no batch with them: a crash in it would lose their results
        try:
            return self._advance()
        except EngineCrashed as error:
            self._dead = str(error)
            raise

    def close(self) -> None:
        """Free the engine's memory; pending jobs are dropped. Safe to call twice."""
        self._dead = "the engine was closed: build a new one"
        for work in self._works.values():
            if work.generation:
                work.generation.close()
        self._works.clear()
        self._tickets.clear()
        self._grammar.close()
        self._context.close()
        self._model.close()

    # -- before the batch ---------------------------------------------------------------------

    def _request(self, ticket: int, work: _Work) -> Request:
        """The job as the schedule wants it. Raises JobRejected when it can never run."""
        job = work.job
        check_sampling(job.sampling)
        request = Request(
            ticket=ticket,
            chunk=(job.chunk_id, job.chunk_text),
            chunk_tokens=self._chunk_tokens(job.chunk_text),
            job_tokens=self._job_tokens(job.task),
            max_output_tokens=job.sampling.max_output_tokens,
        )
        n_needed = self._schedule.n_cells_needed(request)
        work.prompt_tokens = n_needed - request.max_output_tokens
        if n_needed > self._info.context_tokens:
            raise JobRejected(
                f"the prompt has {work.prompt_tokens} tokens and the output may have "
                f"{request.max_output_tokens}, together over the context of "
                f"{self._info.context_tokens}: use a smaller chunk or a larger context"
            )
        return request

    def _is_any_late(self) -> bool:
        return bool(self._deadlines) and self._deadlines[0][0] <= self._clock()

    def _end_doomed(self) -> list[JobResult]:
        """Results of jobs that were rejected, cancelled or are past their deadline."""
        while self._is_any_late():
            _, ticket = heapq.heappop(self._deadlines)
            if ticket in self._works:
                deadline_s = self._works[ticket].job.deadline_s
                self._doomed.setdefault(ticket, f"not done within its {deadline_s} s")
        doomed, self._doomed = self._doomed, {}
        return [self._fail(ticket, reason) for ticket, reason in doomed.items()]

    # -- the batch ----------------------------------------------------------------------------

    def _advance(self) -> list[JobResult]:
        """Plan a batch, compute it, and give each answer its next token."""
        step = self._schedule.plan()
        self._arrange(step)
        if step.is_idle:
            return []
        if self._decode(step) is DecodeOutcome.NO_SLOT:
            self._make_room()
            return []
        self._schedule.commit(step)
        return self._write(step)

    def _arrange(self, step: Step) -> None:
        """Bring the cache's sequences into the state that the step begins with."""
        for sequence in step.clear:
            self._context.clear(sequence)
        for fork in step.forks:
            self._context.fork(parent=fork.parent, child=fork.child)

    def _decode(self, step: Step) -> DecodeOutcome:
        """Compute one row per running answer, then the pieces of prompts."""
        self._batch.clear()
        for branch in step.decode:
            self._add_last_token(branch)
        for piece in step.prefill:
            self._batch.add(
                piece.tokens,
                first_position=piece.first_position,
                sequence=piece.branch.sequence,
                wanted=piece.needs_logits,
            )
        return self._context.decode(self._batch)

    def _add_last_token(self, branch: Branch) -> None:
        generation = self._generation_of(branch.ticket)
        self._batch.add(
            np.array([generation.last_token], np.int32),
            first_position=branch.end + generation.n_tokens - 1,
            sequence=branch.sequence,
            wanted=True,
        )

    def _generation_of(self, ticket: int | None) -> Generation:
        """The answer of a job, begun if need be."""
        if ticket is None:
            raise ValueError("only a job's branch has an answer")
        work = self._works[ticket]
        if work.generation is None:
            work.generation = Generation(
                sampling=work.job.sampling, grammar=self._grammar, bytes_of=self._bytes_of
            )
        return work.generation

    def _make_room(self) -> None:
        """The cache was fuller than counted: put work back, to be tried again later."""
        withdrawn = self._schedule.give_way()
        if withdrawn is None:
            raise EngineCrashed(
                f"the cache of {self._context.n_ctx} cells has no room for a single job"
            )
        self._clear(withdrawn.sequences)
        for ticket in withdrawn.tickets:
            work = self._works[ticket]
            if work.generation:
                work.generation.close()
            work.generation = None

    def _clear(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            self._context.clear(sequence)

    # -- after the batch ----------------------------------------------------------------------

    def _write(self, step: Step) -> list[JobResult]:
        """Give each answer its row of logits; return those that ended with it."""
        tickets = step.sampled
        if not tickets:
            return []
        rows = self._context.logits(len(tickets))
        ended = []
        for ticket, row in zip(tickets, rows, strict=True):
            generation = self._generation_of(ticket)
            try:
                generation.take(row)
            except JobRejected as error:
                ended.append(self._fail(ticket, f"{error}; a retry will not help"))
                continue
            if generation.is_over:
                ended.append(self._finish(ticket, generation))
        return ended

    def _finish(self, ticket: int, generation: Generation) -> JobResult:
        """The result of an answer that is complete or reached its cap."""
        try:
            parsed = parse_answer(generation.text, complete=generation.is_complete)
        except ValueError as error:
            cap = self._works[ticket].job.sampling.max_output_tokens
            return self._fail(ticket, f"after {cap} tokens {error}; raise max_output_tokens")
        status = JobStatus.ABSTAINED if parsed.abstained else JobStatus.ANSWERED
        return self._end(ticket, status, answer=parsed.answer, citation=parsed.citation)

    def _fail(self, ticket: int, reason: str) -> JobResult:
        return self._end(ticket, JobStatus.FAILED, error=reason)

    def _end(
        self,
        ticket: int,
        status: JobStatus,
        *,
        answer: str | None = None,
        citation: str | None = None,
        error: str | None = None,
    ) -> JobResult:
        """Take the job out of everything and say what became of it."""
        work = self._works.pop(ticket)
        self._forget_id(work.job.job_id, ticket)
        generation = work.generation
        usage = WorkerUsage(
            prompt_tokens=work.prompt_tokens,
            prefilled_tokens=self._leave_schedule(ticket, work),
            output_tokens=generation.n_tokens if generation else 0,
        )
        if generation:
            generation.close()
        return JobResult(
            job_id=work.job.job_id,
            chunk_id=work.job.chunk_id,
            status=status,
            answer=answer,
            citation=citation,
            margin=generation.margin if generation else None,
            logprob=generation.logprob if generation else None,
            cut=generation.was_cut if generation else False,
            usage=usage,
            raw_output=generation.text if generation else "",
            error=error,
            elapsed_s=self._clock() - work.submitted_at,
        )

    def _forget_id(self, job_id: str, ticket: int) -> None:
        tickets = self._tickets[job_id]
        tickets.discard(ticket)
        if not tickets:
            del self._tickets[job_id]

    def _leave_schedule(self, ticket: int, work: _Work) -> int:
        """Free the job's sequences; returns the prompt tokens computed on its account."""
        if not work.is_scheduled:
            return 0
        ended = self._schedule.end(ticket)
        self._clear(ended.sequences)
        return ended.prefilled_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class _Room:
    """Where the model goes and what is free there, measured before anything is loaded."""

    n_gpu_layers: int
    available_bytes: int

    @classmethod
    def of(cls, settings: LlamaSettings) -> _Room:
        """Raises EngineUnavailable when GPU layers are asked for in vain."""
        n_gpu_layers = _gpu_layers(settings)
        on_gpu = n_gpu_layers >= _ALL_LAYERS
        return cls(
            n_gpu_layers=n_gpu_layers,
            available_bytes=free_gpu_bytes() if on_gpu else free_ram_bytes(),
        )

    def check_weights(self, path: Path) -> None:
        """Raise ModelTooLarge before a minute is spent on loading what can't fit."""
        need = MemoryNeed(model=path.name, file_bytes=file_bytes(path), kv_values_per_cell=0)
        need.cells(settings=LlamaSettings(), available_bytes=self.available_bytes)


def _gpu_layers(settings: LlamaSettings) -> int:
    """Layers to offload. Raises EngineUnavailable when layers are asked for in vain."""
    if settings.n_gpu_layers is None:
        return _ALL_LAYERS if can_offload() else 0
    if settings.n_gpu_layers > 0 and not can_offload():
        raise EngineUnavailable(
            f"{settings.n_gpu_layers} GPU layers are asked for, but llama-cpp-python was built "
            "without GPU support: rebuild it with CMAKE_ARGS=-DGGML_CUDA=on, or ask for 0"
        )
    return settings.n_gpu_layers


def _new_context(
    model: LlamaModel, path: Path, settings: LlamaSettings, room: _Room
) -> LlamaContext:
    """A context as large as the settings ask and the memory allows."""
    need = MemoryNeed(
        model=path.name, file_bytes=file_bytes(path), kv_values_per_cell=model.kv_values_per_cell
    )
    return LlamaContext(
        model,
        n_ctx=need.cells(settings=settings, available_bytes=room.available_bytes),
        n_sequences=settings.n_seq_max,
        n_batch=settings.n_batch,
        n_threads=settings.n_threads or free_threads(need.file_bytes),
        kv_type=settings.kv_type,
    )


def _describe(
    model: LlamaModel,
    context: LlamaContext,
    name: str,
    sha256: str | None,
    settings: LlamaSettings,
    prompt: WorkerPrompt,
) -> EngineInfo:
    return EngineInfo(
        engine="llama.cpp",
        model=name,
        model_sha256=sha256,
        quantisation=model.quantisation,
        prompt_version=prompt.version,
        context_tokens=min(context.n_ctx, model.n_ctx_train or context.n_ctx),
        n_slots=settings.n_slots,
        has_logits=True,
        shares_prefixes=True,
    )


def _checked_sha256(path: Path, expected: str | None, hash_below_bytes: int) -> str | None:
    """The file's hash, if it is cheap or asked for. Raises ModelCorrupt on a mismatch."""
    if expected is None and path.stat().st_size >= hash_below_bytes:
        return None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if expected is not None and found != expected.lower():
        raise ModelCorrupt(
            f"{path} has SHA-256 {found}, expected {expected}: download the model again"
        )
    return found
