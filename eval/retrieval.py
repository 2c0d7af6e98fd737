"""First-stage ranking against gold evidence: is a piece of it in the first five chunks?

Each question is asked of its own document, cut into chunks of about 1,000 tokens (o200k) or of any
other size. Gold
pieces are FinanceBench's evidence pages, QMSum's ranges of turns, and the marked spans of CUAD and
COVID-QA. `any_at_k` is the share of the `n` questions that have gold with at least one chunk among
the first k that overlaps a gold piece; `half_at_k` asks that they share at least half of the piece
or of the chunk, so that a chunk which only ends on a gold page does not count. Every piece makes at
least one chunk gold in both senses. Beside them stand the same figures of plain BM25 over the same
chunks (`bm25_`), with all of the question's words, and without stop words (`bm25_stop_`).

The rows look like this:

    financebench  pages.jsonl.gz {doc_name, page (from 0), text}
                  questions.jsonl {financebench_id, doc_name, question, evidence: [{doc_name,
                  evidence_page_num, evidence_text_full_page}]}
    qmsum         meetings.jsonl.gz {doc_id, turns: [{speaker, content}]}
                  questions.jsonl {item_id, doc_id, question, evidence_turns: [[first, last]]}
    cuad          contracts.jsonl.gz {doc_id, text}, questions.jsonl.gz {item_id, doc_id, question,
                  evidence: [{start, end}]}
    covidqa       documents.jsonl.gz, questions.jsonl, as cuad

The data is read from its folder and never copied into the project.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from eval.score import paired_bootstrap
from minions.chunking import chunk_document
from minions.documents.model import Chunk, Document, Page
from minions.errors import BadRequest, NotFound
from minions.retrieval import DocumentIndex
from minions.retrieval.bm25 import WordIndex
from minions.store.words import query_words, words
from workers.seams import Tokenizer

CHUNK_TOKENS = 1_000
DEPTHS = (1, 3, 5, 10)
LONG_CHUNKS = 40
"""A document of more chunks than this is long."""
LONG_DEPTHS = (1, 2, 4, 8, 12, 16, 24, 32, 48)
"""Of long documents the figures go deeper: `router.reach` rests on them."""
_HALF = 0.5
_SAME_PAGE = 0.5
"""Least share of an evidence page's words that its page in the file must hold."""

_Row = dict[str, Any]
Span = tuple[int, int]
"""Half-open character range in a document's text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledQuestion:
    """A question of one document, with where its answer stands."""

    question_id: str
    document_id: str
    text: str
    gold: tuple[Span, ...]
    """Never empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A dataset's documents and those of its questions that have gold evidence in them."""

    name: str
    documents: Mapping[str, Document]
    questions: tuple[LabelledQuestion, ...]


def find_corpora(folder: Path) -> dict[str, Path]:
    """Names and folders of the datasets in `folder` itself or right below it.

    Raises NotFound when there is none, BadRequest when there are two of a kind."""
    found: dict[str, Path] = {}
    for candidate in [folder, *sorted(path for path in folder.glob("*") if path.is_dir())]:
        for name in _datasets_in(candidate):
            if name in found:
                raise BadRequest(
                    f"{name} is in {found[name]} and in {candidate}: give one of them, so that "
                    "its figures are not mixed up."
                )
            found[name] = candidate
    if not found:
        wanted = "; ".join(f"{d} and {q} ({name})" for name, (d, q, _) in _LOADERS.items())
        raise NotFound(f"There is no retrieval dataset in {folder}. Looked for {wanted}.")
    return found


def _datasets_in(folder: Path) -> list[str]:
    return [
        name
        for name, (documents, questions, _) in _LOADERS.items()
        if (folder / documents).is_file() and (folder / questions).is_file()
    ]


def load_corpus(name: str, folder: Path) -> Corpus:
    """Read a dataset. Raises BadRequest when none of its questions has gold evidence."""
    documents_file, questions_file, load = _LOADERS[name]
    corpus = load(_rows(folder / documents_file), _rows(folder / questions_file))
    if not corpus.questions:
        raise BadRequest(
            f"No question in {folder / questions_file} has evidence in {documents_file}: "
            "nothing can be scored. Give the folder with both files of the same split."
        )
    return corpus


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)


def _document(document_id: str, parts: Mapping[int, str]) -> Document:
    """A document whose pages are `parts` (by page number), joined as they are."""
    numbers = sorted(parts)
    bounds = pairwise(accumulate((len(parts[number]) for number in numbers), initial=0))
    pages = (
        Page(number=number, start=start, end=end)
        for number, (start, end) in zip(numbers, bounds, strict=True)
    )
    text = "".join(parts[number] for number in numbers)
    encoded = text.encode()
    return Document(
        document_id=document_id,
        sha256=hashlib.sha256(encoded).hexdigest(),
        name=document_id,
        media_type="text/plain",
        n_bytes=len(encoded),
        text=text,
        pages=tuple(pages),
    )


def _load_financebench(pages: Iterator[_Row], questions: Iterator[_Row]) -> Corpus:
    texts: dict[str, dict[int, str]] = defaultdict(dict)
    for row in pages:
        text = row["text"].replace("\r\n", "\n").rstrip("\n") + "\n"
        texts[row["doc_name"]][row["page"] + 1] = text
    documents = {name: _document(name, parts) for name, parts in texts.items()}
    labelled = []
    for row in questions:
        document = documents.get(row["doc_name"])
        pieces = [e for e in row["evidence"] if document and e["doc_name"] == row["doc_name"]]
        spans = [_evidence_page(document, piece) for piece in pieces] if document else []
        gold = tuple(span for span in spans if span)
        labelled.append(_labelled(row["financebench_id"], row["doc_name"], row, gold))
    return _corpus("financebench", documents, labelled)


def _evidence_page(document: Document, piece: _Row) -> Span | None:
    """The page that the evidence's text stands on; None when the page is not in the file.

    The dataset counts pages from 0. Its text decides between that page and its neighbours."""
    wanted = set(words(piece["evidence_text_full_page"] or piece["evidence_text"]))
    near = [p for p in document.pages if abs(p.number - 1 - piece["evidence_page_num"]) <= 1]
    shares = [
        len(wanted & set(words(document.text[page.start : page.end]))) / max(len(wanted), 1)
        for page in near
    ]
    if not near or max(shares) < _SAME_PAGE:
        return None
    page = near[shares.index(max(shares))]
    return page.start, page.end


def _load_qmsum(meetings: Iterator[_Row], questions: Iterator[_Row]) -> Corpus:
    documents: dict[str, Document] = {}
    turns: dict[str, list[Span]] = {}
    for row in meetings:
        lines = [f"{turn['speaker']}: {turn['content']}\n" for turn in row["turns"]]
        documents[row["doc_id"]] = _document(row["doc_id"], {1: "".join(lines)})
        turns[row["doc_id"]] = list(pairwise(accumulate(map(len, lines), initial=0)))
    labelled = []
    for row in questions:
        spans = turns.get(row["doc_id"], [])
        ranges = [(first, last) for first, last in row["evidence_turns"] if last < len(spans)]
        gold = tuple((spans[first][0], spans[last][1]) for first, last in ranges)
        labelled.append(_labelled(row["item_id"], row["doc_id"], row, gold))
    return _corpus("qmsum", documents, labelled)


def _load_spans(name: str, texts: Iterator[_Row], questions: Iterator[_Row]) -> Corpus:
    """CUAD and COVID-QA: character spans are given."""
    documents = {row["doc_id"]: _document(row["doc_id"], {1: row["text"]}) for row in texts}
    labelled = []
    for row in questions:
        gold = tuple((piece["start"], piece["end"]) for piece in row["evidence"])
        labelled.append(_labelled(row["item_id"], row["doc_id"], row, gold))
    return _corpus(name, documents, labelled)


def _labelled(
    question_id: str, document_id: str, row: _Row, gold: tuple[Span, ...]
) -> LabelledQuestion:
    return LabelledQuestion(
        question_id=question_id, document_id=document_id, text=row["question"], gold=gold
    )


def _corpus(
    name: str, documents: Mapping[str, Document], labelled: Sequence[LabelledQuestion]
) -> Corpus:
    questions = tuple(q for q in labelled if q.gold and q.document_id in documents)
    return Corpus(name=name, documents=documents, questions=questions)


_LOADERS: dict[str, tuple[str, str, Callable[[Iterator[_Row], Iterator[_Row]], Corpus]]] = {
    "financebench": ("pages.jsonl.gz", "questions.jsonl", _load_financebench),
    "qmsum": ("meetings.jsonl.gz", "questions.jsonl", _load_qmsum),
    "cuad": ("contracts.jsonl.gz", "questions.jsonl.gz", partial(_load_spans, "cuad")),
    "covidqa": ("documents.jsonl.gz", "questions.jsonl", partial(_load_spans, "covidqa")),
}
"""Name -> file of documents, file of questions, loader."""


def overlaps(chunk: Chunk, gold: Span) -> bool:
    """Whether a gold piece and the chunk share any text."""
    return min(chunk.end, gold[1]) > max(chunk.start, gold[0])


def shares_half(chunk: Chunk, gold: Span) -> bool:
    """Whether they share at least half of the piece, or half of the chunk."""
    shared = min(chunk.end, gold[1]) - max(chunk.start, gold[0])
    return shared > 0 and shared >= _HALF * min(chunk.end - chunk.start, gold[1] - gold[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Hits:
    """Where the first gold chunk came, from 1, in one order of one question's chunks."""

    touched: int
    """Rank of the first chunk that overlaps a gold piece."""
    halved: int
    """Rank of the first chunk that shares half."""
    n_chunks: int
    """Chunks of the document."""


Rankers = Mapping[str, Callable[[str], Sequence[Chunk]]]
"""Prefix of the figures' names -> a way to order one document's chunks."""


def score_corpus(
    corpus: Corpus, tokenizer: Tokenizer, chunk_tokens: int = CHUNK_TOKENS
) -> dict[str, float]:
    """The figures of one dataset, each a share of its `n` questions, rounded to 4 digits.

    `gain_low` and `gain_high` bound the gain at 5 over plain BM25 (paired bootstrap, 95%)."""
    questions: dict[str, list[LabelledQuestion]] = defaultdict(list)
    for question in corpus.questions:
        questions[question.document_id].append(question)
    hits: dict[str, list[Hits]] = defaultdict(list)
    for document_id, asked in questions.items():
        chunks = chunk_document(corpus.documents[document_id], tokenizer, chunk_tokens)
        for prefix, rank in _rankers(chunks).items():
            hits[prefix] += [_first_hits(rank(question.text), question.gold) for question in asked]
    return _figures(hits)


def _rankers(chunks: Sequence[Chunk]) -> Rankers:
    """Ours (no prefix) and the two baselines, over the same chunks."""
    index = DocumentIndex(chunks)
    plain = WordIndex([words(chunk.text) for chunk in chunks])

    def bm25(query: Sequence[str]) -> list[Chunk]:
        scores = plain.scores(query)
        return [chunks[n] for n in sorted(range(len(chunks)), key=lambda n: -scores[n])]

    return {
        "": lambda question: [ranked.chunk for ranked in index.rank(question)],
        "bm25_": lambda question: bm25(words(question)),
        "bm25_stop_": lambda question: bm25(query_words(question)),
    }


def _first_hits(ranked: Sequence[Chunk], gold: Sequence[Span]) -> Hits:
    return Hits(
        touched=_first(ranked, gold, overlaps),
        halved=_first(ranked, gold, shares_half),
        n_chunks=len(ranked),
    )


def _first(
    ranked: Sequence[Chunk], gold: Sequence[Span], is_gold: Callable[[Chunk, Span], bool]
) -> int:
    """Rank from 1 of the first gold chunk; one past the end when there is none."""
    found = (n for n, chunk in enumerate(ranked, 1) if any(is_gold(chunk, g) for g in gold))
    return next(found, len(ranked) + 1)


def _figures(hits: Mapping[str, Sequence[Hits]]) -> dict[str, float]:
    figures: dict[str, float] = {"n": len(hits[""])}
    for prefix, each in hits.items():
        for depth in DEPTHS:
            figures[f"{prefix}any_at_{depth}"] = _share(h.touched <= depth for h in each)
        figures[f"{prefix}half_at_5"] = _share(h.halved <= 5 for h in each)
    gain = paired_bootstrap(
        [float(h.touched <= 5) for h in hits[""]], [float(h.touched <= 5) for h in hits["bm25_"]]
    )
    return {
        **figures,
        "gain_low": round(gain.low, 4),
        "gain_high": round(gain.high, 4),
        **_long_figures(hits[""]),
    }


def _long_figures(hits: Sequence[Hits]) -> dict[str, float]:
    """Ours over the questions of long documents; only their number where there is none."""
    deep = [h for h in hits if h.n_chunks > LONG_CHUNKS]
    figures: dict[str, float] = {"n_long": len(deep)}
    if deep:
        for depth in LONG_DEPTHS:
            figures[f"long_any_at_{depth}"] = _share(h.touched <= depth for h in deep)
    return figures


def _share(found: Iterable[bool]) -> float:
    every = list(found)
    return round(sum(every) / len(every), 4)
