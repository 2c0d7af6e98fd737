"""`ScriptedEngine`: the second implementation of the Engine seam, for tests, demos and simulators.

It runs no model. A script, a function `Job -> ScriptedReply`, says what each job answers, how many
steps it takes and whether it fails, crashes the engine or hangs. The default, `KeywordReader`, is a
small honest reader: it can only quote the chunk, and abstains when no sentence fits the task.
"""

from __future__ import annotations

import enum
import json
import math
import re
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from workers.errors import EngineCrashed
from workers.jobs import Job, JobResult, JobStatus, WorkerUsage
from workers.prompt import WorkerPrompt, worker_prompt
from workers.seams import EngineInfo

_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\s?\w{1,16}|\s?[^\w\s]|\s+")
# Ends at a full stop before white space, at an empty line, or after 300 characters.
_SENTENCE = re.compile(r"\S(?:[^.!?\n]|[.!?](?=\S)|\n(?!\s*\n)){0,300}[.!?]*")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a an and any are as at be been by did do does for from had has have how i in is it "
        "its many much no of on or shall should that the their there this to under was were "
        "what when where which who whom whose why will with would you your"
    )
)
_IDLE_S = 0.001


class Fault(enum.StrEnum):
    """What a script can do to a job instead of answering it."""

    FAIL = "fail"
    """The job alone ends FAILED."""
    CRASH = "crash"
    """The engine dies: `step()` raises EngineCrashed."""
    HANG = "hang"
    """The job never ends by itself, only by cancel or deadline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScriptedReply:
    """What one job does."""

    answer: str | None = None
    """None abstains."""
    citation: str | None = None
    """A quote of the chunk, as a model would write it (nothing checks it here)."""
    margin: float = 1.0
    """As `JobResult.margin`, in logits."""
    logprob: float = -0.1
    """As `JobResult.logprob`, in nats; only an answer carries it."""
    steps: int = 1
    """Service time: engine steps from admission to the end, at least 1."""
    fault: Fault | None = None
    """What happens at the end of the service time instead of a reply."""


Script = Callable[[Job], ScriptedReply]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeywordReader:
    """Answers with the chunk's sentence that holds most of the task's words; abstains below."""

    threshold: float = 0.5
    """Share of the task's content words that a sentence must hold, 0 to 1."""
    steps: int = 1
    """Service time of every job, in steps."""

    def __call__(self, job: Job) -> ScriptedReply:
        sentence, overlap = best_sentence(job.chunk_text, job.task)
        found = overlap >= self.threshold and sentence != ""
        return ScriptedReply(
            answer=sentence if found else None,
            citation=sentence if found else None,
            margin=10 * abs(overlap - self.threshold),
            logprob=math.log(max(overlap, 1e-3)),
            steps=self.steps,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One row of a `RuleTable`."""

    contains: str
    """Applies to jobs whose chunk or task holds this text; the empty text applies to all."""
    reply: ScriptedReply


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleTable:
    """A script as a table: the first rule that applies decides; without one, `otherwise` does."""

    rules: tuple[Rule, ...]
    otherwise: Script = KeywordReader()

    def __call__(self, job: Job) -> ScriptedReply:
        for rule in self.rules:
            if rule.contains in job.chunk_text or rule.contains in job.task:
                return rule.reply
        return self.otherwise(job)


def best_sentence(text: str, task: str) -> tuple[str, float]:
    """The sentence of `text` with the largest share of the task's content words, and that share.

    The first wins a tie. ("", 0.0) when there is no sentence or the task has no content word.
    """
    wanted = _content_words(task)
    best, best_overlap = "", 0.0
    for match in _SENTENCE.finditer(text):
        overlap = len(wanted & _content_words(match.group())) / max(len(wanted), 1)
        if overlap > best_overlap:
            best, best_overlap = match.group().rstrip(), overlap
    return best, best_overlap


def _content_words(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.casefold()) if word not in _STOP_WORDS}


class WordTokenizer:
    """Words (in pieces of 16 characters), punctuation and runs of white space, each with the space
    before it. Every character belongs to a token, so text that is not empty counts at least 1."""

    def encode(self, text: str) -> list[int]:
        """One id per token, the same in every process; different tokens may share an id."""
        return [zlib.crc32(t.encode("utf-8", "surrogatepass")) for t in _TOKEN.findall(text)]

    def count(self, text: str) -> int:
        """Number of tokens."""
        return sum(1 for _ in _TOKEN.finditer(text))


@dataclass(kw_only=True, slots=True)
class _Running:
    """A submitted job on its way to its result."""

    job: Job
    submitted_at: float
    reply: ScriptedReply | None = None
    steps_left: int = 0
    prompt_tokens: int = 0
    prefilled_tokens: int = 0
    cancelled: bool = False


class ScriptedEngine:
    """Deterministic engine; see the module's text. Only deadlines depend on the time."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        n_slots: int = 4,
        context_tokens: int = 8192,
        model: str = "scripted",
        step_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`step_s` seconds are slept in each step; `clock` returns seconds, for deadlines."""
        if n_slots < 1:
            raise ValueError(f"n_slots is {n_slots}, must be at least 1")
        self._script = script or KeywordReader()
        self._tokenizer = WordTokenizer()
        self._prompt: WorkerPrompt = worker_prompt()
        self._info = _describe(model, context_tokens, n_slots, self._prompt.version)
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

    def submit(self, job: Job) -> None:
        self._queue.append(_Running(job=job, submitted_at=self._clock()))

    def cancel(self, job_id: str) -> None:
        for running in (*self._active, *self._queue):
            if running.job.job_id == job_id:
                running.cancelled = True

    def step(self) -> list[JobResult]:
        if self._dead:
            raise EngineCrashed(self._dead)
        time.sleep(self._step_s)
        ended = self._drop_cancelled_and_late() + self._admit() + self._serve()
        if not ended and self._active and all(map(_hangs, self._active)):
            time.sleep(_IDLE_S)  # nothing will change soon: whoever loops over step must not spin
        return ended

    def close(self) -> None:
        self._dead = "the scripted engine is closed: build a new one"
        self._queue.clear()
        self._active.clear()

    def _drop_cancelled_and_late(self) -> list[JobResult]:
        now = self._clock()
        ended, active, queue = [], [], deque[_Running]()
        for running in (*self._active, *self._queue):
            reason = _reason_to_stop(running, now)
            if reason is not None:
                ended.append(self._failed(running, reason))
            elif running.reply is not None:
                active.append(running)
            else:
                queue.append(running)
        self._active, self._queue = active, queue
        return ended

    def _admit(self) -> list[JobResult]:
        """Fill the free slots; jobs whose prompt is too long end at once."""
        ended = []
        while self._queue and len(self._active) < self._info.n_slots:
            running = self._queue.popleft()
            self._prefill(running)
            if running.prompt_tokens > self._info.context_tokens:
                ended.append(self._failed(running, self._too_long(running)))
            else:
                self._active.append(running)
        return ended

    def _prefill(self, running: _Running) -> None:
        """Count the prompt; the chunk that was read last is still in memory and costs nothing."""
        job = running.job
        overhead = self.prompt_overhead_tokens(job.task)
        chunk = self._tokenizer.count(job.chunk_text)
        shared = job.chunk_id == self._resident_chunk
        running.prompt_tokens = overhead + chunk
        running.prefilled_tokens = overhead if shared else overhead + chunk
        self._resident_chunk = job.chunk_id
        running.reply = self._script(job)
        running.steps_left = max(running.reply.steps, 1)

    def _too_long(self, running: _Running) -> str:
        return (
            f"the prompt has {running.prompt_tokens} tokens, the context is "
            f"{self._info.context_tokens}: use smaller chunks; a retry will not help"
        )

    def _serve(self) -> list[JobResult]:
        for running in self._active:
            running.steps_left -= 1
        due = [r for r in self._active if r.steps_left <= 0 and not _hangs(r)]
        crashing = next((r for r in due if _fault(r) is Fault.CRASH), None)
        if crashing is not None:
            self._dead = f"the scripted engine crashed in job {crashing.job.job_id}"
            raise EngineCrashed(self._dead)
        self._active = [r for r in self._active if r not in due]
        return [self._finish(running) for running in due]

    def _finish(self, running: _Running) -> JobResult:
        reply = running.reply
        if reply is None or reply.fault is Fault.FAIL:
            return self._failed(running, "the script lets this job fail; a retry will not help")
        raw = json.dumps({"answer": reply.answer, "citation": reply.citation}, ensure_ascii=False)
        cap = running.job.sampling.max_output_tokens
        if self._tokenizer.count(raw) > cap:
            return self._failed(running, f"the output was cut at {cap} tokens inside its JSON")
        answered = reply.answer is not None
        return JobResult(
            job_id=running.job.job_id,
            chunk_id=running.job.chunk_id,
            status=JobStatus.ANSWERED if answered else JobStatus.ABSTAINED,
            answer=reply.answer,
            citation=reply.citation if answered else None,
            margin=reply.margin,
            logprob=reply.logprob if answered else None,
            usage=self._usage(running, output_tokens=self._tokenizer.count(raw)),
            raw_output=raw,
            elapsed_s=self._clock() - running.submitted_at,
        )

    def _failed(self, running: _Running, error: str) -> JobResult:
        return JobResult(
            job_id=running.job.job_id,
            chunk_id=running.job.chunk_id,
            status=JobStatus.FAILED,
            usage=self._usage(running, output_tokens=0),
            error=error,
            elapsed_s=self._clock() - running.submitted_at,
        )

    def _usage(self, running: _Running, *, output_tokens: int) -> WorkerUsage:
        return WorkerUsage(
            prompt_tokens=running.prompt_tokens,
            prefilled_tokens=running.prefilled_tokens,
            output_tokens=output_tokens,
        )


def _fault(running: _Running) -> Fault | None:
    return running.reply.fault if running.reply else None


def _hangs(running: _Running) -> bool:
    return _fault(running) is Fault.HANG


def _reason_to_stop(running: _Running, now: float) -> str | None:
    if running.cancelled:
        return "cancelled by the caller"
    deadline_s = running.job.deadline_s
    if deadline_s is not None and now - running.submitted_at >= deadline_s:
        return f"deadline of {deadline_s:g} s passed; a retry with a longer one may help"
    return None


def _describe(model: str, context_tokens: int, n_slots: int, prompt_version: str) -> EngineInfo:
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
    )
