"""How the worker's prompt becomes tokens: one frame per reasoning effort, around chunk and task.

    instructions | chunk | between | task | suffix

Each part is tokenised on its own, so that a chunk's ids do not depend on the task beside it and
its cells can be shared, with those of what always follows it; nano was trained on just this. Chunk
and task are data (`LlamaTokenizer.encode`), the rest is ours.

Without reasoning, a gpt-oss prompt ends with an opened final channel and the start of the JSON,
because else the grammar would force JSON where a channel header belongs. With reasoning it ends
with an opened analysis channel, and `closing` leads from there to the JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import openai_harmony

from workers.errors import EngineUnavailable
from workers.jobs import Effort
from workers.llama.api import LlamaModel
from workers.llama.harmony import (
    ANALYSIS,
    ASSISTANT,
    END,
    FINAL,
    GPT_OSS,
    control_id,
    efforts_of,
    render,
    speaks_harmony,
    system_message,
    template_effort,
)
from workers.llama.schedule import Tokens
from workers.llama.templates import render_template
from workers.llama.tokenizer import LlamaTokenizer
from workers.prompt import WorkerPrompt

# Private-use characters: no template trims, escapes or compares them.
_CHUNK: Final = "\ue000chunk\ue001"
_TASK: Final = "\ue000task\ue001"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Frame:
    """The tokens that are the same for every job of one effort."""

    instructions: Tokens
    """From the start of the prompt to the chunk."""
    between: Tokens
    """From the chunk to the task."""
    suffix: Tokens
    """From the task to the first generated token."""
    closing: Tokens
    """With reasoning: from the end of the analysis to the first token of the JSON's value, the
    token that ends the analysis first. Empty without."""
    tokenizer: LlamaTokenizer

    @property
    def n_tokens(self) -> int:
        """Length of a prompt with an empty chunk and an empty task."""
        return len(self.instructions) + len(self.between) + len(self.suffix)

    def chunk_tokens(self, text: str) -> Tokens:
        """A chunk as data, and what leads from it to any task. Raises JobRejected as
        `LlamaTokenizer.encode` does."""
        return np.concatenate((as_tokens(self.tokenizer.encode(text)), self.between))

    def job_tokens(self, task: str) -> Tokens:
        """The rest of the prompt of one job."""
        return np.concatenate((as_tokens(self.tokenizer.encode(task)), self.suffix))


def build_frames(
    model: LlamaModel, tokenizer: LlamaTokenizer, prompt: WorkerPrompt
) -> dict[Effort, Frame]:
    """A frame for each effort that the model has; see `build_frame`."""
    return {
        effort: build_frame(model, tokenizer, prompt, effort=effort) for effort in efforts_of(model)
    }


def build_frame(
    model: LlamaModel,
    tokenizer: LlamaTokenizer,
    prompt: WorkerPrompt,
    *,
    effort: Effort = Effort.NONE,
) -> Frame:
    """The frame for `model`. Raises EngineUnavailable when its chat template can't carry a job."""
    if speaks_harmony(model):
        instructions, between, suffix = _harmony_parts(tokenizer, prompt, effort)
    else:
        instructions, between, suffix = _template_parts(model, tokenizer, prompt, effort)
    encode = tokenizer.encode_trusted
    bos = model.bos_token
    if bos is not None and instructions[:1] != [bos]:
        instructions = [bos, *instructions]
    opens_channel = b"".join(map(model.token_bytes, suffix)).endswith(ASSISTANT.encode())
    answer = encode(prompt.prefill)
    closing: list[int] = []
    if effort is not Effort.NONE:
        closing = encode(END + ASSISTANT + FINAL) + answer
        suffix = suffix + encode(ANALYSIS)
    elif model.architecture == GPT_OSS and opens_channel:
        suffix = suffix + encode(FINAL) + answer
    else:
        suffix = suffix + answer
    return Frame(
        instructions=as_tokens(instructions),
        between=as_tokens(between),
        suffix=as_tokens(suffix),
        closing=as_tokens(closing),
        tokenizer=tokenizer,
    )


def as_tokens(ids: Sequence[int]) -> Tokens:
    """A read-only token array."""
    tokens = np.asarray(ids, dtype=np.int32)
    tokens.flags.writeable = False
    return tokens


_Parts = tuple[list[int], list[int], list[int]]


def _harmony_parts(tokenizer: LlamaTokenizer, prompt: WorkerPrompt, effort: Effort) -> _Parts:
    """The frame as gpt-oss was trained on it."""
    role, message = openai_harmony.Role, openai_harmony.Message.from_role_and_content
    developer = openai_harmony.DeveloperContent.new().with_instructions(prompt.instructions)
    ids = render(
        [system_message(effort), message(role.DEVELOPER, developer), message(role.USER, "")]
    )
    # The user's message is empty: what stands before and after its content is the frame.
    content = len(ids) - ids[::-1].index(control_id("<|message|>"))
    encode = tokenizer.encode_trusted
    return (
        ids[:content] + encode(prompt.before_chunk),
        encode(prompt.between),
        encode(prompt.after_task) + ids[content:],
    )


def _template_parts(
    model: LlamaModel, tokenizer: LlamaTokenizer, prompt: WorkerPrompt, effort: Effort
) -> _Parts:
    """The frame as the model's own chat template writes it."""
    user = f"{prompt.before_chunk}{_CHUNK}{prompt.between}{_TASK}{prompt.after_task}"
    messages = [
        {"role": "system", "content": prompt.instructions},
        {"role": "user", "content": user},
    ]
    text = render_template(model, messages, reasoning_effort=template_effort(effort))
    head, found, rest = text.partition(_CHUNK)
    between, found_too, tail = rest.partition(_TASK)
    if not (found and found_too) or _CHUNK in rest or _TASK in tail:
        raise EngineUnavailable(
            f"the chat template of this {model.architecture} model does not carry the user's "
            "message once and unchanged: use another GGUF of the model"
        )
    encode = tokenizer.encode_trusted
    return encode(head), encode(between), encode(tail)
