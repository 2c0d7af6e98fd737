"""The chat router: is a plain question worth the strong model, before anyone answered it?

A linear model over hashed n-grams of the question. It is learned elsewhere (`eval.routing`) on
questions that both models answered, and applied here: hash, weigh, add up. Pure; about a
millisecond for a question of a few hundred characters.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections import Counter

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

N_BUCKETS = 2**18
"""Hash buckets for n-grams (feature hashing, Weinberger et al. 2009, arXiv 0902.2206)."""
CHAR_GRAMS = (2, 3, 4, 5)
MAX_WORD_CHARS = 40
"""A longer run without white space (a URL, base64) is hashed by its first characters only."""

_WORD = re.compile(r"\w\w+")


def count_terms(question: str) -> tuple[Ids, Floats]:
    """Distinct buckets of a question, ascending, with `1 + ln(count)` of each.

    Terms are words, pairs of neighbouring words, and the character 2- to 5-grams of each run
    without white space with its borders marked, all in lower case."""
    lowered = question.lower()
    counts: Counter[int] = Counter()
    for run, n_times in Counter(lowered.split()).items():
        for bucket in _char_buckets(run[:MAX_WORD_CHARS]):
            counts[bucket] += n_times
    words = _WORD.findall(lowered)
    counts.update(_bucket(f"w {word}") for word in words)
    counts.update(_bucket(f"w {one} {two}") for one, two in zip(words, words[1:], strict=False))
    ids = np.array(sorted(counts), dtype=np.int64)
    values = np.array([counts[int(i)] for i in ids], dtype=np.float32)
    return ids, 1 + np.log(values)


def _bucket(term: str) -> int:
    return zlib.crc32(term.encode()) % N_BUCKETS


@functools.lru_cache(maxsize=2**15)
def _char_buckets(run: str) -> tuple[int, ...]:
    framed = f" {run} "
    return tuple(
        _bucket(f"c{framed[start : start + size]}")
        for size in CHAR_GRAMS
        for start in range(max(len(framed) - size + 1, 1))
    )
