"""Ranks the chunks of a document for a question, without a model."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minions.documents.model import Chunk
from minions.retrieval.lexicon import Concept, Part
from minions.retrieval.query import Query, analyse
from minions.retrieval.structure import Profile, profile
from minions.retrieval.words import terms
from minions.store.bm25 import K1, B


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """How much each signal counts; each signal is in 0..1 within a document."""

    words: float = 1.0
    window: float = 0.5
    items: float = 0.6
    part: float = 0.6
    named: float = 1.2
    results: float = 0.4
    years: float = 0.1
    furniture: float = 0.3
    neighbours: float = 0.1
    heading: float = 1.0
    window_words: int = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    chunk: Chunk
    score: float
    reasons: tuple[str, ...]


class DocumentIndex:
    def __init__(self, chunks: Sequence[Chunk], weights: Weights = Weights()) -> None:
        self.chunks = tuple(chunks)
        self.weights = weights
        self.profiles = [profile(c.text) for c in chunks]
        self.positions: dict[str, list[tuple[int, list[int]]]] = {}
        self.lengths = []
        self.heads = []
        post: dict[str, list[tuple[int, list[int]]]] = defaultdict(list)
        for i, c in enumerate(chunks):
            ts = terms(c.text)
            at: dict[str, list[int]] = defaultdict(list)
            for n, t in enumerate(ts):
                at[t].append(n)
            for t, ps in at.items():
                post[t].append((i, ps))
            self.lengths.append(len(ts))
            self.heads.append(Counter(terms(self.profiles[i].headings)))
        self.positions = dict(post)
        self.mean = sum(self.lengths) / max(1, len(chunks))
        best = [max((p.parts[part] for p in self.profiles), default=0) for part in (Part.BALANCE_SHEET, Part.INCOME_STATEMENT, Part.CASH_FLOW)]
        self.is_report = sum(b >= .5 for b in best) >= 1

    def idf(self, t: str) -> float:
        n = len(self.positions.get(t, ()))
        return math.log(1 + (len(self.chunks) - n + 0.5) / (n + 0.5))

    def bm25(self, ts: Sequence[str]) -> list[float]:
        s = [0.0] * len(self.chunks)
        h = self.weights.heading
        for t in ts:
            idf = self.idf(t)
            for i, ps in self.positions.get(t, ()):
                n = len(ps) + h * self.heads[i][t]
                s[i] += idf * n * (K1 + 1) / (n + K1 * (1 - B + B * self.lengths[i] / self.mean))
        return s

    def window(self, ts: Sequence[str]) -> list[float]:
        w = self.weights.window_words
        at: dict[int, list[tuple[int, str]]] = defaultdict(list)
        idf = {t: self.idf(t) for t in ts}
        for t in ts:
            for i, ps in self.positions.get(t, ()):
                at[i].extend((p, t) for p in ps)
        s = [0.0] * len(self.chunks)
        for i, found in at.items():
            found.sort()
            counts: Counter[str] = Counter()
            total = best = 0.0
            start = 0
            for p, t in found:
                counts[t] += 1
                if counts[t] == 1:
                    total += idf[t]
                while found[start][0] < p - w:
                    o = found[start][1]
                    counts[o] -= 1
                    if not counts[o]:
                        total -= idf[o]
                    start += 1
                best = max(best, total)
            s[i] = best
        return s

    def items(self, concepts: Sequence[Concept]) -> list[float]:
        if not concepts:
            return [0.0] * len(self.chunks)
        return [sum(_holds(c, p) for c in concepts) / len(concepts) for p in self.profiles]


def _holds(concept: Concept, p: Profile) -> float:
    if any(f" {w}" in p.rows for w in concept.written):
        return 1.0
    return 0.4 if any(f" {w}" in p.prose for w in concept.written) else 0.0


def _scaled(values: Sequence[float]) -> list[float]:
    top = max(values, default=0)
    return [v / top if top > 0 else 0.0 for v in values]


def signals(index: DocumentIndex, query: Query) -> dict[str, list[float]]:
    n = len(index.chunks)
    out = {"words": _scaled(index.bm25(query.terms)), "window": _scaled(index.window(query.terms))}
    if index.is_report:
        out["items"] = index.items(query.concepts)
        stm = (Part.BALANCE_SHEET, Part.INCOME_STATEMENT, Part.CASH_FLOW)
        wanted = {p for c in query.concepts for p in c.parts if p in stm}
        out["part"] = [max((pr.parts[w] for w in wanted), default=0.0) for pr in index.profiles]
        out["named"] = [max((pr.parts[w] for w in query.named), default=0.0) for pr in index.profiles]
        if query.named: out["part"] = [0.0]*n
        res = any(Part.RESULTS in c.parts for c in query.concepts)
        out["results"] = [pr.parts[Part.RESULTS] if res else 0.0 for pr in index.profiles]
    out["furniture"] = [-pr.is_furniture for pr in index.profiles]
    return out


def rank_chunks(question: str, chunks: Sequence[Chunk] | DocumentIndex, limit: int | None = None, weights: Weights|None=None) -> list[Ranked]:
    index = chunks if isinstance(chunks, DocumentIndex) else DocumentIndex(chunks)
    weights = weights or index.weights
    sig = signals(index, analyse(question))
    n = len(index.chunks)
    base = [sum(getattr(weights, k) * v[i] for k, v in sig.items()) for i in range(n)]
    nb = weights.neighbours
    sm = [base[i] + nb * max(base[i-1] if i else 0, base[i+1] if i+1 < n else 0) for i in range(n)]
    order = sorted(range(n), key=lambda i: (-sm[i], i))
    return [Ranked(chunk=index.chunks[i], score=sm[i], reasons=tuple(f"{k} {v[i]:.2f}" for k, v in sig.items() if v[i])) for i in order[:limit]]
