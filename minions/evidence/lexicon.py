"""The chunks that were read, as word statistics: how well a query or a claim fits each of them.

Words are folded, and a plural `s` is dropped. The weight of a word or a phrase is its idf among the
chunks, so that what stands everywhere in these documents counts for nothing.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from minions.evidence.words import STOP_WORDS, words
from minions.store.bm25 import K1, B

_SHORTEST_PLURAL = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """How one chunk answers to one query, among all chunks."""

    rank: int
    """From 0, by BM25; ties in reading order."""
    standing: float
    """BM25 in standard deviations above the mean chunk; 0 when all chunks are alike."""
    word_share: float
    """Share of the query's words that stand in the chunk, by weight, 0..1."""
    phrase_share: float
    """The same for its pairs of neighbouring words."""


@functools.lru_cache(maxsize=4096)
def terms(text: str) -> tuple[str, ...]:
    """All words of a short text, in order, singular."""
    return tuple(map(_singular, words(text)))


def telling_terms(text: str) -> frozenset[str]:
    """The words of a short text that are no stop words."""
    return frozenset(term for term in terms(text) if term not in STOP_WORDS)


def _singular(word: str) -> str:
    is_plural = len(word) >= _SHORTEST_PLURAL and word.endswith("s") and not word.endswith("ss")
    return word[:-1] if is_plural else word


def _phrases(found: Iterable[str]) -> frozenset[tuple[str, str]]:
    pairs = pairwise(found)
    return frozenset(pair for pair in pairs if not STOP_WORDS.issuperset(pair))


class Lexicon:
    """Statistics of a set of chunks, made once per question.

    `texts` maps chunk ids to texts, in reading order. About 0.1 s for a filing of 100,000 tokens.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        found = {key: tuple(map(_singular, words(text))) for key, text in texts.items()}
        self._counts = {key: Counter(sequence) for key, sequence in found.items()}
        self._phrases = {key: _phrases(sequence) for key, sequence in found.items()}
        self._n_holders: Counter[Hashable] = Counter()
        for key, count in self._counts.items():
            self._n_holders.update(count.keys())
            self._n_holders.update(self._phrases[key])
        self._mean_length = sum(map(len, found.values())) / max(1, len(found)) or 1.0
        self._fits: dict[str, dict[str, Fit]] = {}

    def weight(self, term: Hashable) -> float:
        """Idf of a word or a phrase; above 0, and highest when no chunk holds it."""
        n_holders = self._n_holders[term]
        return math.log(1 + (len(self._counts) - n_holders + 0.5) / (n_holders + 0.5))

    def share(self, wanted: frozenset[str], there: frozenset[str]) -> float:
        """Share of the words `wanted` that are among `there`, by weight; 0 when none is wanted."""
        return self._share(wanted, there)

    def share_in_chunk(self, wanted: frozenset[str], chunk_id: str) -> float:
        """`share` of the chunk's words."""
        return self._share(wanted, self._counts[chunk_id].keys())

    def fits(self, query: str) -> Mapping[str, Fit]:
        """How every chunk, by id, answers to the query."""
        if query not in self._fits:
            self._fits[query] = self._all_fits(query)
        return self._fits[query]

    def _all_fits(self, query: str) -> dict[str, Fit]:
        wanted = telling_terms(query)
        # A phrase that stands nowhere tells no chunk from another: it is not missed.
        phrases = frozenset(p for p in _phrases(terms(query)) if p in self._n_holders)
        scores = [self._bm25(wanted, count) for count in self._counts.values()]
        standings = _standings(scores)
        best_first = sorted(range(len(scores)), key=lambda at: -scores[at])
        ranks = {at: rank for rank, at in enumerate(best_first)}
        return {
            key: Fit(
                rank=ranks[at],
                standing=standings[at],
                word_share=self.share_in_chunk(wanted, key),
                phrase_share=self._share(phrases, self._phrases[key]),
            )
            for at, key in enumerate(self._counts)
        }

    def _bm25(self, wanted: Iterable[str], count: Counter[str]) -> float:
        length = K1 * (1 - B + B * count.total() / self._mean_length)
        held = [word for word in wanted if word in count]
        gains = (self.weight(w) * count[w] * (K1 + 1) / (count[w] + length) for w in held)
        return math.fsum(gains)

    def _share(self, wanted: Iterable[Hashable], there: Iterable[Hashable]) -> float:
        weights = {term: self.weight(term) for term in wanted}
        held = weights.keys() & there
        total = math.fsum(weights.values())
        return math.fsum(weights[term] for term in held) / total if total else 0.0


def _standings(scores: Sequence[float]) -> list[float]:
    if not scores:
        return []
    mean = math.fsum(scores) / len(scores)
    deviation = math.sqrt(math.fsum((s - mean) ** 2 for s in scores) / len(scores))
    return [(score - mean) / deviation if deviation > 0 else 0.0 for score in scores]
