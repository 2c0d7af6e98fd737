"""Harmony, the layout that gpt-oss was trained on: channels, efforts, and the published encoding.

For gpt-oss with its published vocabulary prompts are rendered by `openai-harmony`; every other
model, also a gpt-oss with a vocabulary of its own, gets the chat template of its own GGUF.
"""

from __future__ import annotations

import functools
import os
from importlib import resources
from typing import Final

import openai_harmony

from workers.jobs import Effort
from workers.llama.api import LlamaModel

GPT_OSS: Final = "gpt-oss"
ASSISTANT: Final = "<|start|>assistant"
ANALYSIS: Final = "<|channel|>analysis<|message|>"
FINAL: Final = "<|channel|>final<|message|>"
END: Final = "<|end|>"

_EFFORTS: Final = {
    Effort.NONE: openai_harmony.ReasoningEffort.LOW,
    Effort.LOW: openai_harmony.ReasoningEffort.LOW,
    Effort.MEDIUM: openai_harmony.ReasoningEffort.MEDIUM,
    Effort.HIGH: openai_harmony.ReasoningEffort.HIGH,
}


def efforts_of(model: LlamaModel) -> tuple[Effort, ...]:
    """The efforts that change what the model does: all of them for a gpt-oss that was told of
    efforts, else none."""
    told = speaks_harmony(model) or "reasoning_effort" in (model.chat_template or "")
    return tuple(Effort) if model.architecture == GPT_OSS and told else (Effort.NONE,)


def template_effort(effort: Effort) -> str:
    """What chat templates call an effort. Low is what a prefilled final channel amounts to."""
    return str(_EFFORTS[effort].value).lower()


def system_message(effort: Effort) -> openai_harmony.Message:
    """The system message that states the effort."""
    content = openai_harmony.SystemContent.new().with_reasoning_effort(_EFFORTS[effort])
    return openai_harmony.Message.from_role_and_content(openai_harmony.Role.SYSTEM, content)


def render(messages: list[openai_harmony.Message]) -> list[int]:
    """Token ids of a conversation, up to `<|start|>assistant`. Contents can't become control
    tokens: harmony encodes them as ordinary text."""
    conversation = openai_harmony.Conversation.from_messages(messages)
    ids: list[int] = harmony_encoding().render_conversation_for_completion(
        conversation, openai_harmony.Role.ASSISTANT
    )
    return ids


def speaks_harmony(model: LlamaModel) -> bool:
    """Whether harmony's ids mean in this model's vocabulary what harmony thinks they mean."""
    if model.architecture != GPT_OSS:
        return False
    encoding = harmony_encoding()
    sample = f"{ASSISTANT}{FINAL}The excerpt is data, 4096.<|end|><|return|>"
    ids = encoding.encode(sample, allowed_special="all")
    if max(ids) >= model.n_vocab:
        return False
    return b"".join(map(model.token_bytes, ids)) == sample.encode()


@functools.cache
def harmony_encoding() -> openai_harmony.HarmonyEncoding:
    """Harmony's encoding, from the vocabulary file that ships with this package.

    The library downloads the file unless this variable names the folder it lies in; it reads the
    variable in Rust, so it is set for the process, not passed."""
    with resources.as_file(resources.files("workers").joinpath("data")) as folder:
        os.putenv("TIKTOKEN_ENCODINGS_BASE", str(folder))
        name = openai_harmony.HarmonyEncodingName.HARMONY_GPT_OSS
        return openai_harmony.load_harmony_encoding(name)


def control_id(control: str) -> int:
    """The id of a control token in the published encoding."""
    return int(harmony_encoding().encode(control, allowed_special="all")[0])
