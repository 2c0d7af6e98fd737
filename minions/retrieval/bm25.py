"""BM25 over the chunks of one document, with postings that are made once.

The same formula and constants as `minions.store.bm25`, which has no index.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from minions.store.bm25 import K1, B


class WordIndex:
    """Which texts hold which words, how often."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        """`texts` are words in order, one sequence per text."""
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, text in enumerate(texts):
            for word, count in Counter(text).items():
                self._postings[word].append((number, count))
        n_words = sum(map(len, texts))
        mean_length = n_words / len(texts) if n_words else 1.0
        self._brakes = [K1 * (1 - B + B * len(text) / mean_length) for text in texts]

    def scores(self, query: Iterable[str]) -> list[float]:
        """One score per text, 0 where no word of the query occurs. Words may repeat."""
        scores = [0.0] * len(self._brakes)
        for word in query:
            held = self._postings.get(word, ())
            idf = math.log(1 + (len(scores) - len(held) + 0.5) / (len(held) + 0.5))
            for number, count in held:
                scores[number] += idf * count * (K1 + 1) / (count + self._brakes[number])
        return scores
