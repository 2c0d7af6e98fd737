"""One job inside the engine: its prompt's parts, its writer, and what becomes of it.

`Language` knows how one model is spoken to; it makes a `Work` of every job that can run at all.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from workers.answer import parse_answer
from workers.chat import ChatJob, ChatResult, ToolCall
from workers.errors import JobRejected
from workers.jobs import Effort, Job, JobResult, JobStatus, WorkerUsage
from workers.llama.api import LlamaModel
from workers.llama.chat_writing import OVERHEAD_TOKENS, RawCall, Turn, Vocabulary
from workers.llama.conversation import Conversation
from workers.llama.extracting import METADATA_KEY, Extraction, TokenTexts
from workers.llama.frame import as_tokens, build_frames
from workers.llama.generation import Generation
from workers.llama.grammar import PREFILL, AnswerGrammar
from workers.llama.harmony import efforts_of
from workers.llama.reasoning import Analysis, Reasoned
from workers.llama.sampling import check_sampling
from workers.llama.schedule import Tokens
from workers.llama.tokenizer import LlamaTokenizer
from workers.llama.writing import Lookup, Tail
from workers.prompt import WorkerPrompt
from workers.seams import Outcome
from workers.seams import Work as AnyJob
from workers.verbatim import Verbatim

_REMEMBERED_TEXTS = 256


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Parts:
    """A prompt in the three parts that the schedule shares."""

    root: Tokens
    chunk: Hashable
    chunk_tokens: Tokens
    job_tokens: Tokens
    max_output_tokens: int
    """Of all kinds: reasoning, channels, answer."""
    is_kept: bool

    @property
    def n_tokens(self) -> int:
        return len(self.root) + len(self.chunk_tokens) + len(self.job_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """What a job cost so far."""

    prompt_tokens: int = 0
    prefilled_tokens: int = 0
    elapsed_s: float = 0.0

    def usage(self, output_tokens: int, reasoning_tokens: int) -> WorkerUsage:
        return WorkerUsage(
            prompt_tokens=self.prompt_tokens,
            prefilled_tokens=self.prefilled_tokens,
            output_tokens=output_tokens,
            reasoning_tokens=reasoning_tokens,
        )


class Work(Protocol):
    """A job that can run."""

    @property
    def parts(self) -> Parts: ...

    def begin(self) -> Tail:
        """Start writing, from nothing."""
        ...

    def fresh(self) -> str:
        """Text that was written since the last call and may be shown."""
        ...

    def outcome(self, account: Account) -> Outcome:
        """The result of a writer that is over."""
        ...

    def failure(self, reason: str, account: Account) -> Outcome:
        """The FAILED result, with what was written by now."""
        ...

    def close(self) -> None:
        """Free what C holds of it. Safe to call twice."""
        ...


def failure_of(job: AnyJob, reason: str, account: Account) -> Outcome:
    """The FAILED result of a job that wrote nothing."""
    usage = account.usage(0, 0)
    if isinstance(job, ChatJob):
        return ChatResult(
            job_id=job.job_id,
            status=JobStatus.FAILED,
            usage=usage,
            error=reason,
            elapsed_s=account.elapsed_s,
        )
    return JobResult(
        job_id=job.job_id,
        chunk_id=job.chunk_id,
        status=JobStatus.FAILED,
        usage=usage,
        error=reason,
        elapsed_s=account.elapsed_s,
    )


class Language:
    """How one model is spoken to: prompts, grammars, and the efforts it has."""

    def __init__(self, model: LlamaModel, prompt: WorkerPrompt, *, name: str) -> None:
        """Raises EngineUnavailable when the model can't carry the worker's prompt, ValueError when
        the prompt does not end where the grammar begins."""
        if prompt.prefill != PREFILL:
            raise ValueError(f"the prompt's prefill is {prompt.prefill!r}, must be {PREFILL!r}")
        self.name = name
        self.tokenizer = LlamaTokenizer(model)
        self.frames = build_frames(model, self.tokenizer, prompt)
        self.efforts = efforts_of(model)
        self.grammar = AnswerGrammar(model, self.tokenizer)
        self.bytes_of = functools.lru_cache(maxsize=None)(model.token_bytes)
        extracts = model.metadata(METADATA_KEY) == "true"
        self.texts = TokenTexts(self.bytes_of, model.n_vocab) if extracts else None
        """Of a model that extracts."""
        self.conversation = Conversation(model, self.tokenizer)
        self.chats = self.conversation.is_possible
        self.vocabulary = Vocabulary(model, self.tokenizer)
        self.chunk_tokens = functools.lru_cache(_REMEMBERED_TEXTS)(self._chunk_tokens)
        self.job_tokens = functools.lru_cache(_REMEMBERED_TEXTS)(self._job_tokens)

    def work(self, job: AnyJob) -> Work:
        """The job with its prompt. Raises JobRejected when it can never run."""
        check_sampling(job.sampling)
        if job.max_analysis_tokens < 1:
            raise JobRejected(
                f"max_analysis_tokens is {job.max_analysis_tokens}, must be at least 1; ask for "
                "effort none to have no reasoning"
            )
        if isinstance(job, Job):
            return AnswerWork(job, self)
        if not self.chats:
            raise JobRejected(f"{self.name} only answers questions about texts: it can't chat")
        return ChatWork(job, self)

    def effort(self, job: AnyJob) -> Effort:
        """The effort that a job gets: none where the model has no other."""
        return job.effort if job.effort in self.efforts else Effort.NONE

    def overhead_tokens(self, task: str) -> int:
        """Tokens of a job's prompt beside its chunk, without reasoning."""
        return self.frames[Effort.NONE].n_tokens + self.tokenizer.count(task)

    def close(self) -> None:
        self.grammar.close()

    def _chunk_tokens(self, text: str, effort: Effort) -> Tokens:
        return self.frames[effort].chunk_tokens(text)

    def _job_tokens(self, task: str, effort: Effort) -> Tokens:
        return self.frames[effort].job_tokens(task)


class AnswerWork:
    """A question about a chunk."""

    def __init__(self, job: Job, language: Language) -> None:
        self._job = job
        self._language = language
        self._effort = language.effort(job)
        frame = language.frames[self._effort]
        self._closing = frame.closing.tolist()
        n_reasoning = job.max_analysis_tokens + len(self._closing) if self._closing else 0
        self.parts = Parts(
            root=frame.instructions,
            chunk=(job.chunk_id, job.chunk_text, frame.instructions.tobytes()),
            chunk_tokens=language.chunk_tokens(job.chunk_text, self._effort),
            job_tokens=language.job_tokens(job.task, self._effort),
            max_output_tokens=job.sampling.max_output_tokens + n_reasoning,
            is_kept=True,
        )
        self._generation: Generation | None = None
        self._analysis: Analysis | None = None
        texts = language.texts
        self._extraction = (
            Extraction(source=Verbatim(job.chunk_text), texts=texts) if texts else None
        )
        self._n_tokens = 0

    def begin(self) -> Tail:
        self._analysis = None
        self._generation = Generation(
            sampling=self._job.sampling,
            grammar=self._language.grammar,
            bytes_of=self._language.bytes_of,
            lookup=Lookup(self.parts.chunk_tokens),
            extraction=self._extraction,
        )
        if self._effort is Effort.NONE:
            return Tail(self._generation)
        end_token, *bridge = self._closing
        self._analysis = Analysis(
            sampling=self._job.sampling,
            cap=self._job.max_analysis_tokens,
            end_token=end_token,
            mask=self._language.vocabulary.analysis,
            bytes_of=self._language.bytes_of,
        )
        return Tail(Reasoned(analysis=self._analysis, bridge=bridge, then=self._generation))

    def fresh(self) -> str:
        return ""  # half an answer in JSON helps nobody

    def outcome(self, account: Account) -> Outcome:
        generation = self._generation
        if generation is None:
            return self.failure("the engine ended this job before it began; retry it", account)
        try:
            parsed = parse_answer(generation.text, complete=generation.is_complete)
        except ValueError as error:
            cap = self._job.sampling.max_output_tokens
            reason = f"after {cap} tokens {error}; raise max_output_tokens"
            return self.failure(reason, account)
        status = JobStatus.ABSTAINED if parsed.abstained else JobStatus.ANSWERED
        citation = parsed.citation if self._bears_out(parsed.answer, parsed.citation) else None
        return self._result(account, status, answer=parsed.answer, citation=citation)

    def _bears_out(self, answer: str | None, citation: str | None) -> bool:
        """Whether a citation may stand; that of a model that extracts must touch the answer."""
        source = self._extraction.source if self._extraction else None
        if source is None or source.is_blank or not answer or not citation:
            return True
        return source.share_a_place(answer, citation)

    def failure(self, reason: str, account: Account) -> Outcome:
        return self._result(account, JobStatus.FAILED, error=reason)

    def close(self) -> None:
        if self._generation:
            self._generation.close()

    def _result(
        self,
        account: Account,
        status: JobStatus,
        *,
        answer: str | None = None,
        citation: str | None = None,
        error: str | None = None,
    ) -> JobResult:
        generation, analysis = self._generation, self._analysis
        n_reasoning = analysis.n_tokens if analysis else 0
        n_bridge = len(self._closing) - 1 if analysis and analysis.is_closed else 0
        n_answer = generation.n_tokens if generation else 0
        return JobResult(
            job_id=self._job.job_id,
            chunk_id=self._job.chunk_id,
            status=status,
            answer=answer,
            citation=citation,
            margin=generation.margin if generation else None,
            logprob=generation.logprob if generation else None,
            cut=generation.was_cut if generation else False,
            analysis=analysis.text if analysis else "",
            analysis_cut=analysis.was_cut if analysis else False,
            usage=account.usage(n_reasoning + n_bridge + n_answer, n_reasoning),
            raw_output=generation.text if generation and n_answer else "",
            error=error,
            elapsed_s=account.elapsed_s,
        )


class ChatWork:
    """The next turn of a conversation."""

    def __init__(self, job: ChatJob, language: Language) -> None:
        self._job = job
        self._language = language
        self._effort = language.effort(job)
        prompt = language.conversation.prompt(job, self._effort)
        self._turn = self._new_turn()
        job_tokens = as_tokens([*prompt.tolist(), *self._turn.opening])
        n_reasoning = job.max_analysis_tokens if self._effort is not Effort.NONE else 0
        self.parts = Parts(
            root=as_tokens([]),
            chunk=("chat", job_tokens.tobytes()),
            chunk_tokens=as_tokens([]),
            job_tokens=job_tokens,
            max_output_tokens=(job.sampling.max_output_tokens + n_reasoning + OVERHEAD_TOKENS),
            is_kept=False,
        )

    def begin(self) -> Tail:
        self._turn.close()
        self._turn = self._new_turn()
        return Tail(self._turn)

    def fresh(self) -> str:
        return self._turn.fresh()

    def outcome(self, account: Account) -> Outcome:
        return self._result(account, JobStatus.ANSWERED)

    def failure(self, reason: str, account: Account) -> Outcome:
        return self._result(account, JobStatus.FAILED, reason)

    def close(self) -> None:
        self._turn.close()

    def _new_turn(self) -> Turn:
        return Turn(self._job, self._effort, self._language.vocabulary)

    def _result(self, account: Account, status: JobStatus, error: str | None = None) -> ChatResult:
        turn = self._turn
        calls = () if error else turn.calls
        return ChatResult(
            job_id=self._job.job_id,
            status=status,
            text=turn.text,
            tool_calls=tuple(self._tool_call(call, number) for number, call in enumerate(calls)),
            analysis=turn.analysis,
            finish_reason="stop" if error else turn.finish_reason,
            logprob=turn.logprob,
            usage=account.usage(turn.n_tokens, turn.n_reasoning_tokens),
            error=error,
            elapsed_s=account.elapsed_s,
        )

    def _tool_call(self, call: RawCall, number: int) -> ToolCall:
        """With an id that is the same whenever the same is called in the same place."""
        seed = f"{self._job.job_id} {number} {call.name} {call.arguments}"
        call_id = f"call_{hashlib.sha256(seed.encode()).hexdigest()[:24]}"
        return ToolCall(call_id=call_id, name=call.name, arguments=call.arguments)
