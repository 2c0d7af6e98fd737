"""What the cloud is sent at each rung, and how its reply is read."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from pydantic import BaseModel, ValidationError

from minions.cloud.model import CloudRequest
from minions.documents.model import Document
from minions.errors import CloudProtocolError
from minions.model_json import excerpt, read_object

_SLOT = re.compile(r"\{(document|pages|text)\}")


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
    named: str | None = None
    for span in spans:
        is_new = span.document_id != named
        blocks.append(_source_block(span, documents[span.document_id], is_new=is_new))
        named = span.document_id
    content = "\n\n".join(blocks)
    identity = json.dumps([run_id, model, max_output_tokens, prompt.instructions, content])
    return CloudRequest(
        model=model,
        instructions=prompt.instructions,
        content=content,
        max_output_tokens=max_output_tokens,
        idempotency_key=f"call_{hashlib.sha256(identity.encode()).hexdigest()[:40]}",
    )


def _source_block(span: SourceSpan, document: Document, *, is_new: bool) -> str:
    """One source; its document is named unless the source before it was of the same."""
    values = {
        "document": _document_attribute(document) if is_new else "",
        "pages": _pages_attribute(span, document),
        "text": escape(document.text[span.start : span.end]),
    }
    # In one pass: a brace in a name or a text is no part of the template.
    return _SLOT.sub(lambda slot: values[slot[1]], cloud_prompt().source)


def _document_attribute(document: Document) -> str:
    name = escape(document.name).replace('"', "'")
    return f' document="{name}"'


def _pages_attribute(span: SourceSpan, document: Document) -> str:
    """Nothing where there is one page only."""
    if len(document.pages) < 2:
        return ""
    first, last = document.page_at(span.start), document.page_at(max(span.start, span.end - 1))
    return f' pages="{first}"' if first == last else f' pages="{first}-{last}"'


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
