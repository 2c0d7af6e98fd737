"""The strategy `rag`: the best-ranked passages to the cloud, once. The baseline that people use.

No worker reads anything: documents are cut by the cloud's own tokenizer, ranked by the product's
retrieval, and as many of the best as the rung `passages` holds are sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from minions.chunking import chunk_document
from minions.cloud.tokens import count_tokens, encode
from minions.cloud_prompt import SourceSpan
from minions.documents.model import Chunk, Document
from minions.errors import CloudProtocolError
from minions.events import RungChosen
from minions.offers import PASSAGES_TOKENS, PreparedRung, join_neighbours, prepare
from minions.question import JobCounts, Reply
from minions.retrieval import DocumentIndex
from minions.strategies.ladder import ask_cloud
from minions.strategies.session import Session
from router import Rung

REASON = "strategy `rag` sends the best-ranked passages"


@dataclass(frozen=True, slots=True)
class _CloudTokenizer:
    """The cloud's tokens in the shape that chunking asks for."""

    def encode(self, text: str) -> list[int]:
        return encode(text)

    def count(self, text: str) -> int:
        return count_tokens(text)


async def ask_rag(session: Session) -> Reply:
    """Send the passages. Raises before anything leaves when a wish forbids it."""
    with session.trace.step("offers", cloud=session.terms.model, reason=REASON) as facts:
        prepared = await asyncio.to_thread(_prepare, session)
        facts["prompt_tokens"] = prepared.offer.prompt_tokens
        session.refuse_when_closed(prepared)
    session.observe(RungChosen(rung=Rung.PASSAGES, reason=REASON))
    standing = await ask_cloud(session, prepared)
    if standing is None:
        raise CloudProtocolError(session.warnings[-1])
    return await session.reply(
        standing,
        reason=REASON,
        coverage=_coverage(prepared.spans, list(session.documents.values())),
        jobs=JobCounts(),
        rungs=(prepared,),
        document_rung=session.document_rung(),
    )


def _prepare(session: Session) -> PreparedRung:
    """The rung `passages` as retrieval alone fills it. Takes a second for a long document."""
    chunks = [
        chunk
        for document in session.documents.values()
        for chunk in chunk_document(document, _CloudTokenizer(), session.chunk_tokens)
    ]
    ranked = DocumentIndex(chunks).rank(session.question.text)
    spans = join_neighbours(_within_budget([each.chunk for each in ranked]))
    return prepare(
        Rung.PASSAGES,
        session.question.text,
        spans,
        session.documents,
        session.terms,
        session.run_id,
        None,
    )


def _within_budget(ranked: Sequence[Chunk]) -> Iterator[Chunk]:
    """Chunks in their order, those that no longer fit left out."""
    left = PASSAGES_TOKENS
    for chunk in ranked:
        if chunk.n_tokens <= left:
            left -= chunk.n_tokens
            yield chunk


def _coverage(spans: Sequence[SourceSpan], documents: Sequence[Document]) -> float:
    """Share of the text that was sent, in characters."""
    sent = sum(span.end - span.start for span in spans)
    return sent / max(1, sum(len(document.text) for document in documents))
