"""What the cloud is sent at each rung, and how its reply is read."""

from __future__ import annotations

import functools
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from pydantic import BaseModel, ValidationError

from minions.cloud.model import CloudRequest
from minions.documents.model import Document
from minions.errors import CloudProtocolError
from minions.model_json import excerpt, read_object


@dataclass(frozen=True, kw_only=True, slots=True)
class CloudPrompt:
    """The parts of the supervisor's prompt."""

    instructions: str
    question: str
    source: str
    version: str
    """First 12 hex digits of the file's SHA-256."""


@functools.cache
def cloud_prompt() -> CloudPrompt:
    """Load `prompts/cloud.toml`."""
    raw = resources.files("minions").joinpath("prompts/cloud.toml").read_bytes()
    parts = tomllib.loads(raw.decode())
    return CloudPrompt(
        instructions=parts["instructions"].strip(),
        question=parts["question"],
        source=parts["source"],
        version=hashlib.sha256(raw).hexdigest()[:12],
    )


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class SourceSpan:
    """A piece of a document that is to leave the machine."""

    document_id: str
    start: int
    end: int
    """Half-open span in the document's text."""


def escape(text: str) -> str:
    """Text that can't close or open a frame: document text is data, wherever it stands."""
    for tag in ("source", "question"):
        text = text.replace(f"</{tag}", f"<\\/{tag}").replace(f"<{tag}", f"<\\{tag}")
    return text


def build_request(
    question: str,
    spans: Sequence[SourceSpan],
    documents: Mapping[str, Document],
    *,
    model: str,
    max_output_tokens: int,
    run_id: str,
) -> CloudRequest:
    """The exact request of one rung.

    The idempotency key covers the run and every byte that is sent: the same rung of the same run
    gives the same key after a crash, and two different runs never share one."""
    prompt = cloud_prompt()
    blocks = [prompt.question.replace("{question}", escape(question))]
    blocks += [_source_block(i, span, documents) for i, span in enumerate(spans, 1)]
    content = "\n\n".join(blocks)
    identity = json.dumps([run_id, model, max_output_tokens, prompt.instructions, content])
    return CloudRequest(
        model=model,
        instructions=prompt.instructions,
        content=content,
        max_output_tokens=max_output_tokens,
        idempotency_key=f"call_{hashlib.sha256(identity.encode()).hexdigest()[:40]}",
    )


def _source_block(number: int, span: SourceSpan, documents: Mapping[str, Document]) -> str:
    document = documents[span.document_id]
    first, last = document.page_at(span.start), document.page_at(max(span.start, span.end - 1))
    values = {
        "{id}": str(number),
        "{document}": escape(document.name).replace('"', "'"),
        "{pages}": str(first) if first == last else f"{first}-{last}",
    }
    block = cloud_prompt().source
    for name, value in values.items():
        block = block.replace(name, value)
    return block.replace("{text}", escape(document.text[span.start : span.end]))


class CloudReply(BaseModel):
    """The JSON object that the supervisor must send."""

    answer: str | None
    citations: list[str] = []
    sufficient: bool = True


def parse_reply(text: str) -> CloudReply:
    """Read the supervisor's JSON; broken JSON is repaired. Raises CloudProtocolError when even
    that gives no object with an `answer`."""
    data = read_object(text)
    try:
        reply = CloudReply.model_validate(data)
    except ValidationError:
        raise CloudProtocolError(
            f"The cloud model did not reply with the JSON object asked for: {excerpt(text)}"
        ) from None
    if reply.answer is not None and not reply.answer.strip():
        return reply.model_copy(update={"answer": None})
    return reply
