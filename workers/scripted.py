"""`ScriptedEngine`: the second implementation of the Engine seam, for tests, demos and simulators.

It runs no model. A script, a function `Job -> ScriptedReply`, says what each job answers, how many
steps it takes and whether it fails, crashes the engine or hangs; another, `ChatJob ->
ScriptedTurn`, does the same for conversations. The defaults can only quote what they were given.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from workers.chat import ChatDelta, ChatJob, ChatResult, cut_at_stop
from workers.errors import EngineCrashed
from workers.jobs import Job, JobResult, JobStatus, WorkerUsage
from workers.prompt import WorkerPrompt, worker_prompt
from workers.scripted_chat import (
    ChatScript,
    QuotingPartner,
    ScriptedTurn,
    prompt_texts,
)
from workers.scripted_reader import (
    Fault,
    KeywordReader,
    Rule,
    RuleTable,
    Script,
    ScriptedReply,
    WordTokenizer,
    best_sentence,
)
from workers.seams import EngineInfo, Outcome, Work

__all__ = [
    "ChatScript",
    "Fault",
    "KeywordReader",
    "QuotingPartner",
    "Rule",
    "RuleTable",
    "Script",
    "ScriptedEngine",
    "ScriptedReply",
    "ScriptedTurn",
    "WordTokenizer",
    "best_sentence",
]

_IDLE_S = 0.001


@dataclass(kw_only=True, slots=True)
class _Running:
    """A submitted job on its way to its result."""

    job: Work
    submitted_at: float
    admitted: bool = False
    fault: Fault | None = None
    steps_left: int = 0
    prompt_tokens: int = 0
    prefilled_tokens: int = 0
    cancelled: bool = False
    reply: ScriptedReply | None = None
    """Of an admitted `Job`."""
    turn: ScriptedTurn | None = None
    """Of an admitted `ChatJob`."""
    unsaid: deque[str] = field(default_factory=deque)
    """Pieces of the turn that are still to be streamed."""


class ScriptedEngine:
    """Deterministic engine; see the module's text. Only deadlines depend on the time."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        chat_script: ChatScript | None = None,
        chats: bool = True,
        n_slots: int = 4,
        context_tokens: int = 8192,
        model: str = "scripted",
        step_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`chats` False refuses conversations, as a model does that only extracts. `step_s` seconds
        are slept in each step; `clock` returns seconds, for deadlines."""
        if n_slots < 1:
            raise ValueError(f"n_slots is {n_slots}, must be at least 1")
        self._script = script or KeywordReader()
        self._chat_script = chat_script or QuotingPartner()
        self._tokenizer = WordTokenizer()
        self._prompt: WorkerPrompt = worker_prompt()
        self._info = _describe(model, context_tokens, n_slots, self._prompt.version, chats=chats)
        self._step_s = step_s
        self._clock = clock
        self._queue: deque[_Running] = deque()
        self._active: list[_Running] = []
        self._resident_chunk: str | None = None
        self._dead: str | None = None

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def tokenizer(self) -> WordTokenizer:
        return self._tokenizer

    @property
    def n_pending(self) -> int:
        return len(self._queue) + len(self._active)

    def prompt_overhead_tokens(self, task: str) -> int:
        parts = self._prompt
        frame = (parts.instructions, parts.before_chunk, parts.between, task, parts.after_task)
        return sum(map(self._tokenizer.count, (*frame, parts.prefill)))

    def submit(self, job: Work) -> None:
        self._queue.append(_Running(job=job, submitted_at=self._clock()))

    def cancel(self, job_id: str) -> None:
        for running in (*self._active, *self._queue):
            if running.job.job_id == job_id:
                running.cancelled = True

    def step(self) -> list[Outcome | ChatDelta]:
        if self._dead:
            raise EngineCrashed(self._dead)
        time.sleep(self._step_s)
        output = [*self._drop_cancelled_and_late(), *self._admit(), *self._speak(), *self._serve()]
        if not output and self._active and all(map(_hangs, self._active)):
            time.sleep(_IDLE_S)  # nothing will change soon: whoever loops over step must not spin
        return output

    def close(self) -> None:
        self._dead = "the scripted engine is closed: build a new one"
        self._queue.clear()
        self._active.clear()

    def _drop_cancelled_and_late(self) -> list[Outcome]:
        now = self._clock()
        ended: list[Outcome] = []
        active, queue = [], deque[_Running]()
        for running in (*self._active, *self._queue):
            reason = _reason_to_stop(running, now)
            if reason is not None:
                ended.append(self._failed(running, reason))
            elif running.admitted:
                active.append(running)
            else:
                queue.append(running)
        self._active, self._queue = active, queue
        return ended

    def _admit(self) -> list[Outcome]:
        """Fill the free slots; jobs that can't run here end at once."""
        ended: list[Outcome] = []
        while self._queue and len(self._active) < self._info.n_slots:
            running = self._queue.popleft()
            refusal = self._refusal(running)
            if refusal is not None:
                ended.append(self._failed(running, refusal))
            else:
                running.admitted = True
                self._active.append(running)
        return ended

    def _refusal(self, running: _Running) -> str | None:
        """Read the prompt; why the job can't run, or None."""
        if isinstance(running.job, ChatJob):
            if not self._info.chats:
                return f"{self._info.model} only extracts and can't chat: use a model that does"
            self._begin_turn(running, running.job)
        else:
            self._prefill(running, running.job)
        return self._too_long(running)

    def _begin_turn(self, running: _Running, job: ChatJob) -> None:
        running.prompt_tokens = sum(map(self._tokenizer.count, prompt_texts(job)))
        running.prefilled_tokens = running.prompt_tokens
        running.turn = turn = self._chat_script(job)
        pieces = ScriptedTurn(text=cut_at_stop(turn.text, job.stop)).pieces
        running.unsaid = deque(pieces[: job.sampling.max_output_tokens])
        running.fault, running.steps_left = turn.fault, len(running.unsaid) + 1

    def _prefill(self, running: _Running, job: Job) -> None:
        """Count the prompt; the chunk that was read last is still in memory and costs nothing."""
        overhead = self.prompt_overhead_tokens(job.task)
        chunk = self._tokenizer.count(job.chunk_text)
        shared = job.chunk_id == self._resident_chunk
        running.prompt_tokens = overhead + chunk
        running.prefilled_tokens = overhead if shared else overhead + chunk
        self._resident_chunk = job.chunk_id
        running.reply = reply = self._script(job)
        running.fault, running.steps_left = reply.fault, max(reply.steps, 1)

    def _too_long(self, running: _Running) -> str | None:
        if running.prompt_tokens <= self._info.context_tokens:
            return None
        return (
            f"the prompt has {running.prompt_tokens} tokens, the context is "
            f"{self._info.context_tokens}: use smaller chunks; a retry will not help"
        )

    def _speak(self) -> list[ChatDelta]:
        """The next word of every turn."""
        speaking = [running for running in self._active if running.unsaid]
        return [ChatDelta(job_id=r.job.job_id, text=r.unsaid.popleft()) for r in speaking]

    def _serve(self) -> list[Outcome]:
        for running in self._active:
            running.steps_left -= 1
        due = [r for r in self._active if r.steps_left <= 0 and not _hangs(r)]
        crashing = next((r for r in due if r.fault is Fault.CRASH), None)
        if crashing is not None:
            self._dead = f"the scripted engine crashed in job {crashing.job.job_id}"
            raise EngineCrashed(self._dead)
        self._active = [r for r in self._active if r not in due]
        return [self._finish(running) for running in due]

    def _finish(self, running: _Running) -> Outcome:
        if running.fault is Fault.FAIL:
            return self._failed(running, "the script lets this job fail; a retry will not help")
        if isinstance(running.job, ChatJob):
            return self._finish_turn(running, running.job, running.turn or ScriptedTurn())
        return self._finish_reply(running, running.job, running.reply or ScriptedReply())

    def _finish_turn(self, running: _Running, job: ChatJob, turn: ScriptedTurn) -> ChatResult:
        whole = ScriptedTurn(text=cut_at_stop(turn.text, job.stop)).pieces
        said = whole[: job.sampling.max_output_tokens]
        reasoning = self._tokenizer.count(turn.analysis)
        usage = self._usage(running, output_tokens=len(said) + reasoning, reasoning=reasoning)
        reason = "tool_calls" if turn.tool_calls else "stop"
        return ChatResult(
            job_id=job.job_id,
            status=JobStatus.ANSWERED,
            text="".join(said),
            tool_calls=turn.tool_calls,
            analysis=turn.analysis,
            finish_reason="length" if len(said) < len(whole) else reason,
            logprob=turn.logprob if said else None,
            usage=usage,
            elapsed_s=self._clock() - running.submitted_at,
        )

    def _finish_reply(self, running: _Running, job: Job, reply: ScriptedReply) -> JobResult:
        raw = json.dumps({"answer": reply.answer, "citation": reply.citation}, ensure_ascii=False)
        cap = job.sampling.max_output_tokens
        if self._tokenizer.count(raw) > cap:
            error = f"the output was cut at {cap} tokens inside its JSON"
            return self._failed_job(running, job, error)
        answered = reply.answer is not None
        return JobResult(
            job_id=job.job_id,
            chunk_id=job.chunk_id,
            status=JobStatus.ANSWERED if answered else JobStatus.ABSTAINED,
            answer=reply.answer,
            citation=reply.citation if answered else None,
            margin=reply.margin,
            logprob=reply.logprob if answered else None,
            usage=self._usage(running, output_tokens=self._tokenizer.count(raw)),
            raw_output=raw,
            elapsed_s=self._clock() - running.submitted_at,
        )

    def _failed(self, running: _Running, error: str) -> Outcome:
        if isinstance(running.job, Job):
            return self._failed_job(running, running.job, error)
        return ChatResult(
            job_id=running.job.job_id,
            status=JobStatus.FAILED,
            usage=self._usage(running, output_tokens=0),
            error=error,
            elapsed_s=self._clock() - running.submitted_at,
        )

    def _failed_job(self, running: _Running, job: Job, error: str) -> JobResult:
        return JobResult(
            job_id=job.job_id,
            chunk_id=job.chunk_id,
            status=JobStatus.FAILED,
            usage=self._usage(running, output_tokens=0),
            error=error,
            elapsed_s=self._clock() - running.submitted_at,
        )

    def _usage(self, running: _Running, *, output_tokens: int, reasoning: int = 0) -> WorkerUsage:
        return WorkerUsage(
            prompt_tokens=running.prompt_tokens,
            prefilled_tokens=running.prefilled_tokens,
            output_tokens=output_tokens,
            reasoning_tokens=reasoning,
        )


def _hangs(running: _Running) -> bool:
    """Whether nothing but a cancel or a deadline will change the job."""
    return running.fault is Fault.HANG and not running.unsaid


def _reason_to_stop(running: _Running, now: float) -> str | None:
    if running.cancelled:
        return "cancelled by the caller"
    deadline_s = running.job.deadline_s
    if deadline_s is not None and now - running.submitted_at >= deadline_s:
        return f"deadline of {deadline_s:g} s passed; a retry with a longer one may help"
    return None


def _describe(
    model: str, context_tokens: int, n_slots: int, prompt_version: str, *, chats: bool
) -> EngineInfo:
    return EngineInfo(
        engine="scripted",
        model=model,
        model_sha256=None,
        quantisation="none",
        prompt_version=prompt_version,
        context_tokens=context_tokens,
        n_slots=n_slots,
        has_logits=True,
        shares_prefixes=True,
        chats=chats,
    )
