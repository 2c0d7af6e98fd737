"""`OpenAIEngine`: a server that speaks the OpenAI chat API (Ollama, llama-server, vLLM).

Slower than the engine of our own: it shares no prefixes, and results carry a margin only where the
server sends log-probabilities. Requests run as tasks of a private event loop that turns only inside
`step()`, so that a cancelled or late job closes its connection, at which these servers stop
generating.

Nothing here retries: a failed call is a FAILED result, and whoever retries it can see it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import openai
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionTokenLogprob
from openai.types.chat.chat_completion import Choice

from workers.answer import parse_answer
from workers.chat import ChatDelta, ChatJob, ChatResult
from workers.errors import EngineCrashed, EngineUnavailable, JobRejected
from workers.jobs import WEIGHED_TOKENS, Job, JobResult, JobStatus, WorkerUsage
from workers.openai_chat import (
    ChatDraft,
    chat_body,
    effort_body,
    efforts_of,
    prompt_tokens,
    usage_of,
)
from workers.prompt import worker_prompt
from workers.seams import EngineInfo, Outcome, Tokenizer, Work
from workers.vocabulary import TiktokenTokenizer

DEFAULT_CONTEXT_TOKENS = 4096
"""Assumed when the server doesn't tell: Ollama's default, which cuts longer prompts silently."""
DEFAULT_N_SLOTS = 4
STEP_S = 0.05
CUT_PROMPT_SHARE = 0.5
"""A server that counts less than this share of our own count of a prompt has not read all of it.
Far below 1, because tokenizers differ."""

_EXTRAS: dict[str, Any] = {
    "response_format": {"type": "json_object"},
    "logprobs": True,
    "top_logprobs": 2,
}
_ANSWER_KEY = re.compile(r'"answer"\s*:\s*')


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """What a server says of itself."""

    name: str
    context_tokens: int | None = None
    """Prompt + output of one request; None when it doesn't tell."""
    n_slots: int | None = None
    """Requests decoded at once; None when it doesn't tell."""


class OpenAIEngine:
    """Engine over `POST {base_url}/chat/completions`. `step()` must not be called inside a running
    event loop (a pool's engine thread has none)."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        context_tokens: int = DEFAULT_CONTEXT_TOKENS,
        n_slots: int = DEFAULT_N_SLOTS,
        api_key: str = "none",
        timeout_s: float = 600.0,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """Contacts nothing: with no server there, jobs fail and say so. `timeout_s` bounds one
        call; `tokenizer` should be the served model's (default: o200k, gpt-oss's own)."""
        self._base_url = base_url
        self._prompt = worker_prompt()
        self._tokenizer = tokenizer or TiktokenTokenizer()
        self._info = EngineInfo(
            engine="openai",
            model=model,
            model_sha256=None,
            quantisation="unknown",
            prompt_version=self._prompt.version,
            context_tokens=context_tokens,
            n_slots=n_slots,
            has_logits=False,
            shares_prefixes=False,
            chats=True,
            efforts=efforts_of(model),
        )
        self._timeout_s = timeout_s
        self._extras = _EXTRAS
        self._client = _client(base_url, api_key, timeout_s)
        self._loop = asyncio.new_event_loop()
        self._slots = asyncio.Semaphore(n_slots)
        self._tasks: dict[asyncio.Task[Outcome], tuple[Work, float]] = {}
        self._spoken: list[ChatDelta] = []

    @classmethod
    def connect(
        cls, base_url: str, model: str | None = None, *, n_slots: int | None = None
    ) -> OpenAIEngine:
        """Ask the server what it serves, and build the engine for `model` (default: the first).

        Raises EngineUnavailable when no server answers or it doesn't serve that model."""
        served = asyncio.run(_look_at(base_url, model))
        return cls(
            base_url,
            served.name,
            context_tokens=served.context_tokens or DEFAULT_CONTEXT_TOKENS,
            n_slots=n_slots or served.n_slots or DEFAULT_N_SLOTS,
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def n_pending(self) -> int:
        return len(self._tasks)

    def prompt_overhead_tokens(self, task: str) -> int:
        """Counted as the messages' text plus ten tokens for the frame of a chat template."""
        parts = self._prompt
        texts = (parts.instructions, parts.before_chunk, parts.between, task, parts.after_task)
        return 10 + sum(map(self._tokenizer.count, texts))

    def submit(self, job: Work) -> None:
        submitted_at = self._loop.time()
        task = self._loop.create_task(self._run(job, submitted_at))
        self._tasks[task] = (job, submitted_at)

    def cancel(self, job_id: str) -> None:
        for task, (job, _) in self._tasks.items():
            if job.job_id == job_id:
                task.cancel()

    def step(self) -> list[Outcome | ChatDelta]:
        """Wait up to 50 ms for a request to end."""
        if self._loop.is_closed():
            raise EngineCrashed("the engine is closed: build a new one")
        if self._tasks:
            self._loop.run_until_complete(
                asyncio.wait(self._tasks, timeout=STEP_S, return_when=asyncio.FIRST_COMPLETED)
            )
        done = [task for task in self._tasks if task.done()]
        spoken, self._spoken = self._spoken, []
        return [*spoken, *(self._result_of(task, *self._tasks.pop(task)) for task in done)]

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._loop.run_until_complete(self._end_calls())
        self._loop.close()
        self._tasks.clear()

    async def _end_calls(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    def _result_of(self, task: asyncio.Task[Outcome], job: Work, submitted_at: float) -> Outcome:
        if task.cancelled():
            return self._failed(job, submitted_at, "cancelled by the caller")
        return task.result()

    async def _run(self, job: Work, submitted_at: float) -> Outcome:
        """One job from its submission to its result."""
        until = None if job.deadline_s is None else submitted_at + job.deadline_s
        try:
            async with asyncio.timeout_at(until), self._slots:
                self._check_length(job)
                if isinstance(job, ChatJob):
                    return self._read_chat(job, await self._converse(job), submitted_at)
                completion = await self._complete(job)
            return self._read(job, completion, submitted_at)
        except TimeoutError:
            error = f"deadline of {job.deadline_s:g} s passed; a longer one may help"
        except openai.OpenAIError as fault:
            error = _explain(fault, self._base_url, self._timeout_s)
        except (JobRejected, ValueError) as fault:
            error = str(fault)
        except (AttributeError, TypeError) as fault:
            # The SDK builds its types unchecked: a field that is missing shows itself only here.
            error = f"{self._base_url} sent a chat completion with a wrong field: {fault}"
        return self._failed(job, submitted_at, error)

    def _check_length(self, job: Work) -> None:
        needed = self._prompt_tokens(job) + job.sampling.max_output_tokens
        if needed > self._info.context_tokens:
            raise JobRejected(
                f"the prompt and {job.sampling.max_output_tokens} output tokens need {needed}, the "
                f"context of {self._info.model} is {self._info.context_tokens}: use smaller chunks"
            )

    def _prompt_tokens(self, job: Work) -> int:
        if isinstance(job, ChatJob):
            return prompt_tokens(job, self._tokenizer)
        return self.prompt_overhead_tokens(job.task) + self._tokenizer.count(job.chunk_text)

    async def _complete(self, job: Job) -> ChatCompletion:
        """Ask with JSON mode and log-probabilities; a server that refuses with 400 and then takes
        the bare request is never asked for them again."""
        if not self._extras:
            return await self._request(job, {})
        try:
            return await self._request(job, self._extras)
        except openai.BadRequestError:
            completion = await self._request(job, {})
            self._extras = {}
            return completion

    async def _request(self, job: Job, extras: dict[str, Any]) -> ChatCompletion:
        parts, sampling = self._prompt, job.sampling
        effort: dict[str, Any] = dict(effort_body(job.effort, self._info.efforts))
        user = "".join(
            (parts.before_chunk, job.chunk_text, parts.between, job.task, parts.after_task)
        )
        completion = await self._client.chat.completions.create(
            model=self._info.model,
            messages=[
                {"role": "system", "content": parts.instructions},
                {"role": "user", "content": user},
            ],
            temperature=sampling.temperature,
            seed=sampling.seed,
            max_tokens=sampling.max_output_tokens,
            **effort,
            **extras,
        )
        if not isinstance(completion, ChatCompletion) or not completion.choices:
            raise ValueError(
                f"{self._base_url} answered, but not with a chat completion: "
                "does the URL end in /v1, and is it an OpenAI-compatible server?"
            )
        return completion

    async def _converse(self, job: ChatJob) -> ChatDraft:
        """Stream the next turn. Raises ValueError for what is no stream of a chat completion."""
        draft = ChatDraft(
            on_text=lambda text: self._spoken.append(ChatDelta(job_id=job.job_id, text=text))
        )
        stream = await self._client.chat.completions.create(
            model=self._info.model,
            stream=True,
            stream_options={"include_usage": True},
            **chat_body(job, self._info.efforts),
        )
        async with stream:
            async for chunk in stream:
                draft.add(chunk)
        if draft.finish_reason is None:
            raise ValueError(
                f"{self._base_url} ended the stream before the answer ended, or sent no chat "
                "completion: does the URL end in /v1? A retry may help"
            )
        return draft

    def _read_chat(self, job: ChatJob, draft: ChatDraft, submitted_at: float) -> ChatResult:
        usage = draft.counted(job, self._tokenizer)
        cut = self._cut_prompt(job, usage)
        if cut is not None:
            return self._failed_chat(job, submitted_at, cut, usage)
        return ChatResult(
            job_id=job.job_id,
            status=JobStatus.ANSWERED,
            text="".join(draft.text),
            tool_calls=draft.tool_calls,
            analysis="".join(draft.analysis),
            finish_reason=draft.reason,
            logprob=draft.mean_logprob,
            usage=usage,
            elapsed_s=self._loop.time() - submitted_at,
        )

    def _cut_prompt(self, job: Work, usage: WorkerUsage) -> str | None:
        """What is wrong when the server has read only a part of the prompt."""
        ours = self._prompt_tokens(job)
        if usage.prompt_tokens >= CUT_PROMPT_SHARE * ours:
            return None
        return (
            f"the server read {usage.prompt_tokens} tokens of a prompt of about {ours}: "
            "its context is too small (Ollama: set OLLAMA_CONTEXT_LENGTH)"
        )

    def _read(self, job: Job, completion: ChatCompletion, submitted_at: float) -> JobResult:
        choice = completion.choices[0]
        raw = choice.message.content or ""
        usage = self._usage(job, completion, raw)
        cut = self._cut_prompt(job, usage)
        if cut is not None:
            return self._failed_job(job, submitted_at, cut, usage, raw)
        try:
            parsed = parse_answer(raw, complete=choice.finish_reason != "length")
        except ValueError as fault:
            return self._failed_job(job, submitted_at, _unusable(job, choice, fault), usage, raw)
        margin, logprob = value_confidence(_logprobs(choice))
        return JobResult(
            job_id=job.job_id,
            chunk_id=job.chunk_id,
            status=JobStatus.ABSTAINED if parsed.abstained else JobStatus.ANSWERED,
            answer=parsed.answer,
            citation=parsed.citation,
            margin=margin,
            logprob=logprob,
            usage=usage,
            raw_output=raw,
            elapsed_s=self._loop.time() - submitted_at,
        )

    def _usage(self, job: Job, completion: ChatCompletion, raw: str) -> WorkerUsage:
        """The server's own counts, or ours where it sends none."""
        counted = completion.usage
        if counted is None or not counted.prompt_tokens:
            prompt = self._prompt_tokens(job)
            output = self._tokenizer.count(raw)
            return WorkerUsage(prompt_tokens=prompt, prefilled_tokens=prompt, output_tokens=output)
        return usage_of(counted)

    def _failed(self, job: Work, submitted_at: float, error: str) -> Outcome:
        if isinstance(job, ChatJob):
            return self._failed_chat(job, submitted_at, error)
        return self._failed_job(job, submitted_at, error)

    def _failed_chat(
        self, job: ChatJob, submitted_at: float, error: str, usage: WorkerUsage | None = None
    ) -> ChatResult:
        return ChatResult(
            job_id=job.job_id,
            status=JobStatus.FAILED,
            usage=usage or WorkerUsage(),
            error=error,
            elapsed_s=self._loop.time() - submitted_at,
        )

    def _failed_job(
        self,
        job: Job,
        submitted_at: float,
        error: str,
        usage: WorkerUsage | None = None,
        raw: str = "",
    ) -> JobResult:
        return JobResult(
            job_id=job.job_id,
            chunk_id=job.chunk_id,
            status=JobStatus.FAILED,
            usage=usage or WorkerUsage(),
            raw_output=raw,
            error=error,
            elapsed_s=self._loop.time() - submitted_at,
        )


def value_confidence(
    tokens: Sequence[ChatCompletionTokenLogprob],
) -> tuple[float | None, float | None]:
    """Margin and mean log-probability of the `answer` value, from an output's token logprobs.

    The margin is that of `JobResult`: gaps in nats are gaps of logits. It takes two candidates for
    each token. (None, None) when there are no logprobs or no such value.
    """
    text = "".join(token.token for token in tokens)
    keys = list(_ANSWER_KEY.finditer(text))
    if not keys:
        return None, None
    start = keys[-1].end()
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return None, None
    value = _tokens_between(tokens, start, end)
    weighed = value[:WEIGHED_TOKENS]
    leads = [lead for token in weighed if (lead := _lead(token)) is not None]
    margin = min(leads) if len(leads) == len(weighed) else None
    return margin, sum(token.logprob for token in weighed) / len(weighed)


def _lead(token: ChatCompletionTokenLogprob) -> float | None:
    """By how much a token is ahead of its best rival, at least 0; None without a rival."""
    rivals = [top.logprob for top in token.top_logprobs if top.token != token.token]
    return max(0.0, token.logprob - max(rivals)) if rivals else None


def _tokens_between(
    tokens: Sequence[ChatCompletionTokenLogprob], start: int, end: int
) -> list[ChatCompletionTokenLogprob]:
    """Tokens that overlap the characters start..end of their joined text."""
    found, at = [], 0
    for token in tokens:
        if at < end and at + len(token.token) > start:
            found.append(token)
        at += len(token.token)
    return found


def _logprobs(choice: Choice) -> list[ChatCompletionTokenLogprob]:
    return (choice.logprobs and choice.logprobs.content) or []


def _unusable(job: Job, choice: Choice, fault: ValueError) -> str:
    if choice.finish_reason != "length":
        return f"the output is not the JSON asked for: {fault}"
    return (
        f"the output was cut at {job.sampling.max_output_tokens} tokens before its answer ended: "
        "raise max_output_tokens, or lower the server's reasoning effort (reasoning counts)"
    )


def _client(base_url: str, api_key: str, timeout_s: float) -> openai.AsyncOpenAI:
    """A client that goes straight to the server: no proxy, and no redirect, which could send the
    document to another host."""
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key,
        max_retries=0,
        timeout=timeout_s,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False, follow_redirects=False),
    )


def _explain(fault: openai.OpenAIError, base_url: str, timeout_s: float) -> str:
    if isinstance(fault, openai.APITimeoutError):
        return f"{base_url} gave no answer within {timeout_s:g} s; a retry may help"
    if isinstance(fault, openai.APIConnectionError):
        return (
            f"no connection: is the server running at {base_url}? Start it (`ollama serve`, "
            "`llama-server -m MODEL.gguf`) or correct the URL"
        )
    if isinstance(fault, openai.APIStatusError):
        return f"{base_url} answered HTTP {fault.status_code}: {fault.message[:300]}"
    return f"{base_url} answered with something unreadable: {fault}"


async def _look_at(base_url: str, wanted: str | None) -> ServedModel:
    async with _client(base_url, "none", timeout_s=10.0) as client:
        try:
            models = (await client.models.list()).data
        except (openai.OpenAIError, ValueError, AttributeError) as fault:
            # AttributeError: the SDK hands a body that isn't JSON through as text.
            raise EngineUnavailable(_explain_models(fault, base_url)) from fault
        props = await _llama_server_props(client, base_url)
    return choose_model(base_url, models, wanted, props)


def _explain_models(fault: Exception, base_url: str) -> str:
    if isinstance(fault, openai.OpenAIError):
        return _explain(fault, base_url, timeout_s=10.0)
    return f"{base_url}/models is not a list of models: does the URL end in /v1?"


async def _llama_server_props(client: openai.AsyncOpenAI, base_url: str) -> dict[str, Any]:
    """llama-server's own description of its slots; empty for any other server."""
    url = urljoin(base_url.rstrip("/") + "/", "../props")
    try:
        props = await client.get(url, cast_to=object)
    except (openai.OpenAIError, ValueError):
        return {}
    return props if isinstance(props, dict) else {}


def choose_model(
    base_url: str, models: Sequence[Model], wanted: str | None, props: dict[str, Any]
) -> ServedModel:
    """The wanted (or first) model of `/models`, with vLLM's `max_model_len` or llama-server's
    `/props` as its context. Raises EngineUnavailable when it isn't there."""
    names = [model.id for model in models]
    if wanted is not None and f"{wanted}:latest" in names:
        wanted = f"{wanted}:latest"  # Ollama's way to name a model without a tag
    if not names or (wanted is not None and wanted not in names):
        raise EngineUnavailable(
            f"{base_url} does not serve {wanted or 'any model'}; it serves: "
            f"{', '.join(names) or 'nothing'}. Load it there, or name one as URL#MODEL"
        )
    model = models[names.index(wanted)] if wanted else models[0]
    settings = props.get("default_generation_settings") or {}
    context = getattr(model, "max_model_len", None) or settings.get("n_ctx")
    return ServedModel(
        name=model.id,
        context_tokens=context if isinstance(context, int) else None,
        n_slots=props.get("total_slots"),
    )
