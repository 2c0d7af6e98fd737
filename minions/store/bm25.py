"""Okapi BM25 in plain Python, for the store that has no database."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

K1 = 1.2
"""How soon more of the same word stops counting; the value of SQLite's FTS5."""
B = 0.75
"""How much long texts are held back; the value of SQLite's FTS5."""


def bm25_scores(texts: Mapping[str, Sequence[str]], query: Sequence[str]) -> dict[str, float]:
    """Scores of the texts (id -> its words) that hold any word of the query; higher is better.

    Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), with an idf that stays
    above zero.
    """
    counts = {key: Counter(words) for key, words in texts.items()}
    mean_length = sum(map(len, texts.values())) / max(len(texts), 1)
    scores: dict[str, float] = {}
    for word in query:
        holders = [key for key, count in counts.items() if word in count]
        idf = math.log(1 + (len(texts) - len(holders) + 0.5) / (len(holders) + 0.5))
        for key in holders:
            n = counts[key][word]
            length = len(texts[key]) / mean_length
            gain = idf * n * (K1 + 1) / (n + K1 * (1 - B + B * length))
            scores[key] = scores.get(key, 0.0) + gain
    return scores
