"""How the worker's prompt becomes tokens: one frame per engine, around every chunk and task.

    instructions | chunk | between | task | suffix

Each part is tokenised on its own, so that a chunk's ids do not depend on the task beside it and
its cells can be shared; nano was trained on just this. Chunk and task are data
(`LlamaTokenizer.encode`), the rest is ours.

For gpt-oss with its published vocabulary the frame is rendered by `openai-harmony`; every other
model gets the chat template of its own GGUF. Either way a gpt-oss prompt ends with an opened final
channel, because without it the grammar would force JSON where a channel header belongs.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

import jinja2
import numpy as np
import openai_harmony as harmony
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workers.errors import EngineUnavailable
from workers.llama.api import LlamaModel
from workers.llama.schedule import Tokens
from workers.llama.tokenizer import LlamaTokenizer
from workers.prompt import WorkerPrompt

GPT_OSS: Final = "gpt-oss"
_ASSISTANT: Final = "<|start|>assistant"
_FINAL_CHANNEL: Final = "<|channel|>final<|message|>"

# Private-use characters: no template trims, escapes or compares them.
_CHUNK: Final = "\ue000chunk\ue001"
_TASK: Final = "\ue000task\ue001"

_TEMPLATE_DATE: Final = "2025-01-01"
"""What templates print as today: with the real date, results would change overnight."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Frame:
    """The tokens that are the same for every job of an engine."""

    instructions: Tokens
    """From the start of the prompt to the chunk."""
    between: Tokens
    """From the chunk to the task."""
    suffix: Tokens
    """From the task to the first generated token, the prefilled start of the JSON included."""
    tokenizer: LlamaTokenizer

    @property
    def n_tokens(self) -> int:
        """Length of a prompt with an empty chunk and an empty task."""
        return len(self.instructions) + len(self.between) + len(self.suffix)

    def chunk_tokens(self, text: str) -> Tokens:
        """A chunk as data. Raises JobRejected as `LlamaTokenizer.encode` does."""
        return as_tokens(self.tokenizer.encode(text))

    def job_tokens(self, task: str) -> Tokens:
        """All that follows the chunk in the prompt of one job."""
        return np.concatenate((self.between, as_tokens(self.tokenizer.encode(task)), self.suffix))


def build_frame(model: LlamaModel, tokenizer: LlamaTokenizer, prompt: WorkerPrompt) -> Frame:
    """The frame for `model`. Raises EngineUnavailable when its chat template can't carry a job."""
    parts = _harmony_parts(model, tokenizer, prompt) or _template_parts(model, tokenizer, prompt)
    instructions, between, suffix = parts
    bos = model.bos_token
    if bos is not None and instructions[:1] != [bos]:
        instructions = [bos, *instructions]
    return Frame(
        instructions=as_tokens(instructions),
        between=as_tokens(between),
        suffix=as_tokens(suffix + tokenizer.encode_trusted(prompt.prefill)),
        tokenizer=tokenizer,
    )


def as_tokens(ids: Sequence[int]) -> Tokens:
    """A read-only token array."""
    tokens = np.asarray(ids, dtype=np.int32)
    tokens.flags.writeable = False
    return tokens


_Parts = tuple[list[int], list[int], list[int]]


# -- harmony ----------------------------------------------------------------------------------


def _harmony_parts(
    model: LlamaModel, tokenizer: LlamaTokenizer, prompt: WorkerPrompt
) -> _Parts | None:
    """The frame as gpt-oss was trained on it; None for a model with another vocabulary."""
    if model.architecture != GPT_OSS or not _speaks_o200k(model):
        return None
    encoding = _harmony_encoding()
    ids = encoding.render_conversation_for_completion(
        _conversation(prompt.instructions), harmony.Role.ASSISTANT
    )
    # The user's message is empty: what stands before and after its content is the frame.
    content = len(ids) - ids[::-1].index(_id_of(encoding, "<|message|>"))
    closing = ids[content:] + encoding.encode(_FINAL_CHANNEL, allowed_special="all")
    encode = tokenizer.encode_trusted
    return (
        ids[:content] + encode(prompt.before_chunk),
        encode(prompt.between),
        encode(prompt.after_task) + closing,
    )


def _speaks_o200k(model: LlamaModel) -> bool:
    """Whether harmony's ids mean in this vocabulary what harmony thinks they mean."""
    encoding = _harmony_encoding()
    sample = f"{_ASSISTANT}{_FINAL_CHANNEL}The excerpt is data, 4096.<|end|><|return|>"
    ids = encoding.encode(sample, allowed_special="all")
    if max(ids) >= model.n_vocab:
        return False
    return b"".join(map(model.token_bytes, ids)) == sample.encode()


@functools.cache
def _harmony_encoding() -> harmony.HarmonyEncoding:
    """Harmony's encoding, from the vocabulary file that ships with this package.

    The library downloads the file unless this variable names the folder it lies in; it reads the
    variable in Rust, so it is set for the process, not passed."""
    with resources.as_file(resources.files("workers").joinpath("data")) as folder:
        os.putenv("TIKTOKEN_ENCODINGS_BASE", str(folder))
        return harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS)


def _conversation(instructions: str) -> harmony.Conversation:
    """System, developer and an empty user message.

    Low effort is what the prefilled final channel amounts to: no analysis will follow."""
    system = harmony.SystemContent.new().with_reasoning_effort(harmony.ReasoningEffort.LOW)
    developer = harmony.DeveloperContent.new().with_instructions(instructions)
    return harmony.Conversation.from_messages(
        [
            harmony.Message.from_role_and_content(harmony.Role.SYSTEM, system),
            harmony.Message.from_role_and_content(harmony.Role.DEVELOPER, developer),
            harmony.Message.from_role_and_content(harmony.Role.USER, ""),
        ]
    )


def _id_of(encoding: harmony.HarmonyEncoding, control: str) -> int:
    return int(encoding.encode(control, allowed_special="all")[0])


# -- the GGUF's own template ------------------------------------------------------------------


def _template_parts(model: LlamaModel, tokenizer: LlamaTokenizer, prompt: WorkerPrompt) -> _Parts:
    """The frame as the model's own chat template writes it."""
    text = _rendered(model, prompt)
    head, found, rest = text.partition(_CHUNK)
    between, found_too, tail = rest.partition(_TASK)
    if not (found and found_too) or _CHUNK in rest or _TASK in tail:
        raise EngineUnavailable(
            f"the chat template of this {model.architecture} model does not carry the user's "
            "message once and unchanged: use another GGUF of the model"
        )
    if model.architecture == GPT_OSS and tail.endswith(_ASSISTANT):
        tail += _FINAL_CHANNEL
    encode = tokenizer.encode_trusted
    return encode(head), encode(between), encode(tail)


def _rendered(model: LlamaModel, prompt: WorkerPrompt) -> str:
    """The whole prompt with sentinels for chunk and task."""
    source = model.chat_template
    if not source:
        raise EngineUnavailable(
            f"this {model.architecture} model has no chat template: use an instruction-tuned GGUF"
        )
    user = f"{prompt.before_chunk}{_CHUNK}{prompt.between}{_TASK}{prompt.after_task}"
    system = {"role": "system", "content": prompt.instructions}
    try:
        template = _environment().from_string(source)
        render = functools.partial(
            template.render,
            add_generation_prompt=True,
            bos_token=model.special_text("bos"),
            eos_token=model.special_text("eos"),
        )
        try:
            return render(messages=[system, {"role": "user", "content": user}])
        except _RoleRefused:
            merged = f"{prompt.instructions}\n\n{user}"
            return render(messages=[{"role": "user", "content": merged}])
    except (jinja2.TemplateError, TypeError) as error:
        raise EngineUnavailable(f"the model's chat template fails: {error}") from error


class _RoleRefused(jinja2.TemplateError):
    """The template called `raise_exception`, as some do for a system message."""


@functools.cache
def _environment() -> jinja2.Environment:
    """What chat templates expect of their surroundings, in a sandbox: a GGUF is not trusted."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda _format: _TEMPLATE_DATE
    environment.filters["tojson"] = functools.partial(json.dumps, ensure_ascii=False)
    return environment


def _raise_exception(message: str) -> None:
    raise _RoleRefused(message)
