"""A conversation as an OpenAI-compatible server is asked for it, and its streamed answer read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaToolCall

from workers.chat import ChatJob, ToolCall
from workers.chat_wire import choice_body, message_body, tool_body
from workers.jobs import Effort, WorkerUsage
from workers.seams import Tokenizer

_REASONING_KEYS = ("reasoning_content", "reasoning")
"""Where servers put the analysis: llama-server and older vLLM, then Ollama and newer vLLM."""
_FRAME_TOKENS = 4
"""Around each message, in most chat templates."""


def efforts_of(model: str) -> tuple[Effort, ...]:
    """Efforts that a served model is known to tell apart, by its name."""
    if "gpt-oss" in model.lower():
        return (Effort.LOW, Effort.MEDIUM, Effort.HIGH)
    return (Effort.NONE,)


def effort_body(effort: Effort, efforts: Sequence[Effort]) -> dict[str, str]:
    """`reasoning_effort`, where the model knows it: others answer 400 to the parameter."""
    return {"reasoning_effort": effort.value} if effort in efforts and effort != "none" else {}


def chat_body(job: ChatJob, efforts: Sequence[Effort]) -> dict[str, Any]:
    """The request's fields that say what is asked; reasoning counts as output at such servers."""
    sampling = job.sampling
    effort = effort_body(job.effort, efforts)
    analysis = job.max_analysis_tokens if effort else 0
    body: dict[str, Any] = {
        "messages": [message_body(message) for message in job.messages],
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "max_tokens": sampling.max_output_tokens + analysis,
        **effort,
    }
    if job.stop:
        body["stop"] = list(job.stop)
    if job.tools:
        body["tools"] = [tool_body(tool) for tool in job.tools]
        body["tool_choice"] = choice_body(job.tool_choice)
    return body


def prompt_tokens(job: ChatJob, tokenizer: Tokenizer) -> int:
    """About how long the prompt is: texts, tools, and a frame per message."""
    tools = sum(tokenizer.count(str(tool_body(tool))) for tool in job.tools)
    calls = (call for message in job.messages for call in message.tool_calls)
    called = sum(tokenizer.count(call.name + call.arguments) for call in calls)
    said = sum(tokenizer.count(message.content) + _FRAME_TOKENS for message in job.messages)
    return tools + called + said


@dataclass(kw_only=True, slots=True)
class _CallDraft:
    call_id: str = ""
    name: str = ""
    arguments: str = ""

    def add(self, piece: ChoiceDeltaToolCall) -> None:
        self.call_id = self.call_id or piece.id or ""
        if piece.function:
            self.name += piece.function.name or ""
            self.arguments += piece.function.arguments or ""


@dataclass(kw_only=True, slots=True)
class ChatDraft:
    """The pieces of a streamed answer as they come."""

    on_text: Callable[[str], None]
    text: list[str] = field(default_factory=list)
    analysis: list[str] = field(default_factory=list)
    calls: dict[int, _CallDraft] = field(default_factory=dict)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str | None = None
    usage: CompletionUsage | None = None

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Take in one event of the stream."""
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices or ():
            self._add_delta(choice.delta)
            content = (choice.logprobs and choice.logprobs.content) or []
            self.logprobs += [token.logprob for token in content]
            self.finish_reason = choice.finish_reason or self.finish_reason

    def _add_delta(self, delta: ChoiceDelta) -> None:
        if delta.content:
            self.text.append(delta.content)
            self.on_text(delta.content)
        extra = delta.model_extra or {}
        self.analysis += [str(extra[key]) for key in _REASONING_KEYS if extra.get(key)][:1]
        for piece in delta.tool_calls or ():
            self.calls.setdefault(piece.index, _CallDraft()).add(piece)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(
            ToolCall(call_id=c.call_id or f"call_{i}", name=c.name, arguments=c.arguments)
            for i, c in sorted(self.calls.items())
        )

    @property
    def reason(self) -> str:
        """`stop`, `length` or `tool_calls`."""
        if self.calls:
            return "tool_calls"
        return "length" if self.finish_reason == "length" else "stop"

    @property
    def mean_logprob(self) -> float | None:
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else None

    def counted(self, job: ChatJob, tokenizer: Tokenizer) -> WorkerUsage:
        """The server's own counts, or ours where it sends none."""
        if self.usage is not None and self.usage.prompt_tokens:
            return usage_of(self.usage)
        prompt = prompt_tokens(job, tokenizer)
        reasoning = tokenizer.count("".join(self.analysis))
        called = sum(tokenizer.count(call.name + call.arguments) for call in self.tool_calls)
        output = tokenizer.count("".join(self.text)) + called + reasoning
        return WorkerUsage(
            prompt_tokens=prompt,
            prefilled_tokens=prompt,
            output_tokens=output,
            reasoning_tokens=reasoning,
        )


def usage_of(counted: CompletionUsage) -> WorkerUsage:
    """A server's counts as ours."""
    cached = counted.prompt_tokens_details and counted.prompt_tokens_details.cached_tokens
    details = counted.completion_tokens_details
    return WorkerUsage(
        prompt_tokens=counted.prompt_tokens,
        prefilled_tokens=max(counted.prompt_tokens - (cached or 0), 0),
        output_tokens=counted.completion_tokens,
        reasoning_tokens=(details and details.reasoning_tokens) or 0,
    )
