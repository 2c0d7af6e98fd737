"""Recorded MinionS runs on FinanceBench, as the product's own evidence would see them.

Licence: MIT (HazyResearch/minions, arXiv 2502.15964); its questions and filings are FinanceBench's,
CC BY-NC 4.0: for measuring only. Read from a folder, never copied into the project. Rows used:

    runs.jsonl            {config, financebench_id, question}
    chunks.jsonl.gz       {financebench_id, chunk_hash, chunk_id, text, gold_overlap: [for each gold
                          evidence text the share of it that stands in the chunk]}
    worker_jobs.jsonl.gz  {config, financebench_id, round, job_id, task, chunk_hash, answer,
                          citation}

The workers' explanations and the supervisor's advice are left out: the product has none.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from minions.cloud.tokens import count_tokens
from minions.documents.model import Chunk, Document, Page
from minions.errors import BadRequest, NotFound
from minions.evidence.anchors import Anchors
from minions.evidence.answers import answer_in_quote
from minions.evidence.features import Features, features_of
from minions.evidence.lexicon import Lexicon
from minions.evidence.model import Claim
from minions.evidence.verify import make_citation

GOLD_SHARE = 0.5
"""A chunk is gold when it holds at least this share of a gold evidence text."""

_ABSTENTIONS = frozenset({"", "none", "null", "n/a"})
"""Recorded answers that stand for no answer; all others count, refusals in words included."""
_FILES = ("runs.jsonl", "chunks.jsonl.gz", "worker_jobs.jsonl.gz")

_Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The document of one question as it was chunked, with its gold."""

    question: str
    group: str
    """Rows of one group are never on both sides of a fit: the company, or else the document."""
    document: Document
    chunks: Mapping[str, Chunk]
    lexicon: Lexicon
    gold: tuple[frozenset[str], ...]
    """For each gold evidence text the chunks that hold it; empty where none does."""

    @property
    def gold_chunks(self) -> frozenset[str]:
        return frozenset[str]().union(*self.gold)


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """One recorded run of one question, as the product would see it."""

    config: str
    """Which of the recorded configurations ran it."""
    source: Source
    claims: tuple[Claim, ...]
    """The answered calls; abstentions are left out."""
    tasks: Mapping[str, str]
    """By job id."""
    features: tuple[Features, ...]
    anchors: Anchors
    answers_tokens: int
    """Tokens of all answers with their citations, as recorded: what is sent without ranking."""

    @property
    def labels(self) -> list[bool]:
        """For each claim whether it comes from a gold chunk."""
        gold = self.source.gold_chunks
        return [claim.chunk_id in gold for claim in self.claims]


def load_replays(folder: Path) -> list[Replay]:
    """The runs of `folder`, or of `minions_runs` in it, that have recorded worker calls.

    Companies come from FinanceBench's `questions.jsonl` beside it, where there is one. Raises
    NotFound when a file is missing and BadRequest when no call is answered."""
    found = next((f for f in (folder, folder / "minions_runs") if (f / _FILES[0]).is_file()), None)
    if found is None:
        raise NotFound(f"There is no {folder / _FILES[0]}. Give the folder of the recorded runs.")
    companies = _companies(found)
    questions = {row["financebench_id"]: row["question"] for row in _rows(found / _FILES[0])}
    by_question: defaultdict[str, list[_Row]] = defaultdict(list)
    for row in _rows(found / _FILES[1]):
        by_question[row["financebench_id"]].append(row)
    sources = {
        key: _source(key, questions[key], companies.get(key), rows)
        for key, rows in by_question.items()
    }
    calls: defaultdict[tuple[str, str], list[_Row]] = defaultdict(list)
    for row in _rows(found / _FILES[2]):
        calls[row["financebench_id"], row["config"]].append(row)
    replays = [_replay(key[1], sources[key[0]], calls[key]) for key in sorted(calls)]
    if not any(replay.claims for replay in replays):
        raise BadRequest(f"No worker call in {found / _FILES[2]} is answered: nothing to rank.")
    return replays


def _rows(path: Path) -> Iterator[_Row]:
    """Rows of a JSON-lines file; with or without `.gz`, whichever is there."""
    plain = path.with_name(path.name.removesuffix(".gz"))
    if plain.is_file():
        with plain.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
        return
    if not path.is_file():
        raise NotFound(f"There is no {path}. The folder of recorded runs holds {_FILES}.")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _companies(folder: Path) -> dict[str, str]:
    """Company by question id; empty where no list of questions lies beside the runs."""
    nearby = (folder, folder / "financebench", folder.parent / "financebench")
    listed = next((f for f in nearby if (f / "questions.jsonl").is_file()), None)
    if listed is None:
        return {}
    return {row["financebench_id"]: row["company"] for row in _rows(listed / "questions.jsonl")}


def _source(key: str, question: str, company: str | None, rows: list[_Row]) -> Source:
    rows = sorted(rows, key=lambda row: row["chunk_id"])
    ends = list(accumulate(len(row["text"]) for row in rows))
    text = "".join(row["text"] for row in rows)
    chunks = {
        row["chunk_hash"]: _chunk(key, index, row, end)
        for index, (row, end) in enumerate(zip(rows, ends, strict=True))
    }
    return Source(
        question=question,
        group=company or f"document {rows[0]['chunk_hash']}",
        document=Document(
            document_id=key,
            sha256="",
            name=key,
            media_type="text/plain",
            n_bytes=len(text.encode()),
            text=text,
            pages=(Page(number=1, start=0, end=len(text)),),
        ),
        chunks=chunks,
        lexicon=Lexicon({chunk_id: chunk.text for chunk_id, chunk in chunks.items()}),
        gold=_gold(rows),
    )


def _chunk(document_id: str, index: int, row: _Row, end: int) -> Chunk:
    return Chunk(
        chunk_id=row["chunk_hash"],
        document_id=document_id,
        index=index,
        start=end - len(row["text"]),
        end=end,
        text=row["text"],
        first_page=1,
        last_page=1,
        n_tokens=0,
    )


def _gold(rows: Sequence[_Row]) -> tuple[frozenset[str], ...]:
    n_texts = max(len(row["gold_overlap"]) for row in rows)
    return tuple(
        frozenset(row["chunk_hash"] for row in rows if row["gold_overlap"][n] >= GOLD_SHARE)
        for n in range(n_texts)
    )


def _replay(config: str, source: Source, calls: Iterable[_Row]) -> Replay:
    answered = [row for row in calls if row["answer"].strip().lower() not in _ABSTENTIONS]
    named = {f"{row['round']}.{row['job_id']}": row for row in answered}
    tasks = {job_id: row["task"] for job_id, row in named.items()}
    claims = tuple(_claim(job_id, row, source) for job_id, row in named.items())
    sent = (json.dumps([row["answer"], row["citation"]]) for row in answered)
    return Replay(
        config=config,
        source=source,
        claims=claims,
        tasks=tasks,
        features=tuple(features_of(claims, source.chunks, source.question, tasks, source.lexicon)),
        anchors=Anchors(
            source.question,
            source.chunks,
            {source.document.document_id: source.document},
            source.lexicon,
            tasks,
        ),
        answers_tokens=sum(map(count_tokens, sent)),
    )


def _claim(job_id: str, row: _Row, source: Source) -> Claim:
    citation = make_citation(row["citation"], source.chunks[row["chunk_hash"]], source.document)
    return Claim(
        job_id=job_id,
        chunk_id=row["chunk_hash"],
        answer=row["answer"],
        citation=citation,
        answer_in_quote=citation is not None and answer_in_quote(row["answer"], citation.quote),
        margin=None,
        logprob=None,
    )
