"""The chat router: is a plain question, without documents, worth the strong model?

Before anyone answers, a linear model over hashed n-grams and a few signs of the question says how
likely the local model is to be right, and by how much the cloud would be better. Once there is a
local draft, its own signs say it far better. Both are learned by `eval.routing` on questions that
both models answered, and applied here: hash, weigh, add up. Pure; about a millisecond for a
question of a few hundred characters.
"""

from __future__ import annotations

import functools
import itertools
import re
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from router.chat_signs import Signs, WorkOut, draft_signs, question_signs

TERMS_VERSION = 1
"""Changes with what `term_buckets` or the signs count: an older profile is refused then."""
N_BUCKETS = 2**18
"""Hash buckets for n-grams (feature hashing, Weinberger et al. 2009, arXiv 0902.2206)."""
CHAR_GRAMS = (2, 3, 4, 5)
MAX_CHARS = 20_000
"""Of a question; the rest is not looked at."""
MAX_RUN_CHARS = 40
"""A longer run without white space (a URL, base64) is hashed by its first characters only."""

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
SignedBytes = npt.NDArray[np.int8]

_WORD = re.compile(r"\w\w+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What to expect of both models on one question."""

    p_local: float
    """Chance that the local answer is right, 0..1."""
    gain: float
    """Expected rise in score if the cloud answers instead, -1..1. The order of questions by this is
    what the router is measured on."""

    @property
    def p_cloud(self) -> float:
        """Chance that the cloud's answer is right, 0..1."""
        return min(max(self.p_local + self.gain, 0.0), 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedQuestion:
    """A question as a QuestionModel sees it."""

    buckets: Ids
    """See `term_buckets`."""
    signs: Signs
    """See `question_signs`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TermWeights:
    """Weights of all buckets in one byte each: `weight = scale * level`."""

    levels: SignedBytes
    """Shape (N_BUCKETS,)."""
    scale: float

    def dot(self, buckets: Ids, values: Floats) -> float:
        """The weighted sum of `values`, one for each of `buckets`."""
        return self.scale * float(self.levels[buckets].astype(np.float64) @ values)


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionModel:
    """Expected outcomes from the question alone."""

    rarity: Bytes
    """Shape (N_BUCKETS,): inverse document frequency of each bucket, in any unit; 0 for buckets
    that were not seen, or only once."""
    terms: tuple[TermWeights, TermWeights]
    """For the gain and for P(local is right)."""
    signs: Floats
    """Shape (2, len(QUESTION_SIGNS)), in the same order."""
    intercepts: tuple[float, float]

    def forecast(self, question: str) -> Forecast:
        """Before anyone has answered."""
        return self.forecast_counted(count_question(question))

    def forecast_counted(self, question: CountedQuestion) -> Forecast:
        """The same for a question that was counted before."""
        values = unit_length(self.rarity[question.buckets].astype(np.float64))
        scores = np.array([weights.dot(question.buckets, values) for weights in self.terms])
        return _forecast(scores + self.signs @ question.signs, self.intercepts)


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftModel:
    """Expected outcomes from the question and the local draft."""

    signs: Floats
    """Shape (2, len(DRAFT_SIGNS)): for the gain and for P(local is right)."""
    intercepts: tuple[float, float]

    def forecast(self, question: str, draft: str, work_out: WorkOut) -> Forecast:
        """Once the local model has answered."""
        return self.forecast_counted(draft_signs(question, draft, work_out))

    def forecast_counted(self, signs: Signs) -> Forecast:
        """The same for signs that were counted before."""
        return _forecast(self.signs @ signs, self.intercepts)


def count_question(question: str) -> CountedQuestion:
    """All that a QuestionModel looks at."""
    return CountedQuestion(buckets=term_buckets(question), signs=question_signs(question))


def term_buckets(question: str) -> Ids:
    """Buckets of a question's terms, ascending, each once: how often a term stands there tells less
    than that it does.

    Terms are words, pairs of neighbouring words, and the character 2- to 5-grams of each run
    without white space with its borders marked, all in lower case."""
    lowered = question[:MAX_CHARS].lower()
    buckets: set[int] = set()
    for run in set(lowered.split()):
        buckets.update(_char_buckets(run[:MAX_RUN_CHARS]))
    words = _WORD.findall(lowered)
    buckets.update(_bucket(f"w {word}") for word in set(words))
    buckets.update(_bucket(f"w {one} {two}") for one, two in set(itertools.pairwise(words)))
    return np.array(sorted(buckets), dtype=np.int64)


def unit_length(values: Floats) -> Floats:
    """`values` over their Euclidean length; unchanged when that is 0."""
    length = float(np.linalg.norm(values))
    return values / length if length else values


def _bucket(term: str) -> int:
    return zlib.crc32(term.encode("utf-8", "surrogatepass")) % N_BUCKETS


@functools.lru_cache(maxsize=2**15)
def _char_buckets(run: str) -> tuple[int, ...]:
    framed = f" {run} "
    return tuple(
        _bucket(f"c{framed[start : start + size]}")
        for size in CHAR_GRAMS
        for start in range(len(framed) - size + 1)
    )


def _forecast(scores: Floats, intercepts: tuple[float, float]) -> Forecast:
    gain, p_local = (float(score) + base for score, base in zip(scores, intercepts, strict=True))
    return Forecast(p_local=min(max(p_local, 0.0), 1.0), gain=min(max(gain, -1.0), 1.0))
