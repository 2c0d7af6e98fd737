"""Signals: what is known about a draft answer before any money is spent.

Each is a number or a flag computed from local results alone. `None` means that the engine can't
tell (no logits, say), which is not the same as a bad value.
"""

from __future__ import annotations

import enum
import math
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


class QuestionType(enum.StrEnum):
    """What kind of answer a question asks for: local models differ most along this line (per-type
    tables of arXiv 2502.15964)."""

    YES_NO = "yes_no"
    NUMBER = "number"
    DATE = "date"
    LIST = "list"
    CLAUSE = "clause"
    """Wording of a contract: terms, governing law, notice periods."""
    SUMMARY = "summary"
    """Describe, explain, discuss: spread over many places of the document."""
    OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class Signals:
    """Everything the router may look at for one question."""

    answered: bool
    """There is a local draft answer."""
    verified: bool
    """The draft has at least one citation that was found in the document."""
    answer_in_quote: bool
    """The draft's own words or number stand in a verified quote that says more than they do."""
    agreement: float
    """Share of all answered jobs whose answer agrees with the draft, 0..1."""
    margin: float | None
    """Best answer-token margin among the draft's claims, in logits."""
    coverage: float
    """Share of the documents' tokens that workers really read, 0..1."""
    n_answered: int
    n_abstained: int
    n_failed: int
    hedged: bool
    """The draft's wording is unsure of itself."""
    mean_logprob: float | None = None
    """Best mean log-probability of answer tokens among the draft's claims, nats per token."""
    logprob_quantiles: tuple[float, float, float] | None = None
    """See `logprob_quantiles`, of the draft's best claim; None where only the mean is known."""
    sample_agreement: float | None = None
    """See `sample_agreement`; None when each task was sampled once."""
    verified_share: float | None = None
    """See `verified_share`; None when nothing was answered."""
    n_competing: int | None = None
    """Different answers that the workers gave beside the draft's."""
    rival_share: float | None = None
    """Share of all answered jobs behind the strongest competing answer, 0..1."""
    rival_margin_gap: float | None = None
    """See `margin_gap`, of the draft to the best competing answer."""
    abstention_margin: float | None = None
    """See `weakest_abstention`."""
    answer_words: int | None = None
    """Words of the draft; None when there is none. Log-probabilities of answers depend on length
    (arXiv 2404.10136), so a model over them needs it."""
    question_type: QuestionType | None = None
    retrieval_rank: int | None = None
    """See `rank_of`, of the draft's best-cited chunk."""
    retrieval_gap: float | None = None
    """See `retrieval_gap`."""

    def to_json(self) -> dict[str, Any]:
        """As kept in traces and run rows."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Signals:
        """The reverse of `to_json`. Fields that an older record lacks are unknown.

        Raises TypeError on an unknown or missing field, ValueError on an unknown question type."""
        read = dict(data)
        if read.get("logprob_quantiles") is not None:
            read["logprob_quantiles"] = tuple(read["logprob_quantiles"])
        if read.get("question_type") is not None:
            read["question_type"] = QuestionType(read["question_type"])
        return Signals(**read)


NOTHING_READ = Signals(
    answered=False,
    verified=False,
    answer_in_quote=False,
    agreement=0.0,
    margin=None,
    coverage=0.0,
    n_answered=0,
    n_abstained=0,
    n_failed=0,
    hedged=False,
)
"""Signals before anything was read: there is no draft, and nothing speaks for one."""


_HEDGES = re.compile(
    r"\b(?:not (?:stated|specified|mentioned|provided|clear|available)|unclear|unknown|n/a"
    r"|(?:cannot|can't|can not|could not|couldn't) (?:be determined|determine|say|tell|find|answer)"
    r"|appears to|it seems|unable to (?:find|determine|answer|locate|provide|access)"
    r"|(?:(?:does|do|did) not|doesn't|don't|didn't) (?:contain|specify|state|mention)"
    r"|(?:insufficient|not enough|no specific) information|(?:don't|do not) know"
    r"|(?:don't|do not) have (?:access|enough|sufficient|specific)"
    r"|(?:i'm|i am) (?:sorry|not able|afraid)|i (?:apologi[sz]e|regret)|as an ai)\b",
    re.IGNORECASE,
)
"""Only phrases that documents rarely use: "may be" or "possibly" stand in every contract."""


def is_hedged(answer: str) -> bool:
    """Whether an answer hedges. Strong where a model refuses honestly, weak where it invents
    (recorded deferral studies: APGR .787 against .521), so the rule uses it one way only: a hedge
    lowers the chance, its absence does not raise it."""
    return bool(_HEDGES.search(answer.replace("’", "'")))


def margin_confidence(margin: float | None) -> float:
    """A margin in logits as the two-way probability that the best token wins (logistic), 0.5..1.

    0.5 (no information) when there is no margin. Token margin is the strongest published single
    signal before calibration (arXiv 2605.18796); here it only orders, it is not a probability of
    being right."""
    if margin is None:
        return 0.5
    return 1.0 / (1.0 + math.exp(-max(margin, 0.0)))


def margin_gap(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Best margin of the draft's claims less the best of all competing claims, in logits.

    Positive when the draft is also the answer that its workers were surest of. None when either
    side has no margin. Ours; after the two-best gap of margin sampling (Scheffer et al. 2001)."""
    if not ours or not theirs:
        return None
    return max(ours) - max(theirs)


def weakest_abstention(margins: Sequence[float]) -> float | None:
    """The smallest margin of all jobs that abstained, in logits: how near the nearest came to
    answering. An abstention on the whole document is as sure as its least sure part. None when no
    margin is known. Ours; the margin as in `margin_confidence`."""
    return min(margins, default=None)


def mean_logprob(token_logprobs: Sequence[float]) -> float | None:
    """Mean log-probability of an answer's tokens, nats; None for no tokens.

    The mean and not the sum: the sum orders by length, and as a deferral signal it is worse than
    chance (arXiv 2404.10136)."""
    return sum(token_logprobs) / len(token_logprobs) if token_logprobs else None


def logprob_quantiles(token_logprobs: Sequence[float]) -> tuple[float, float, float] | None:
    """The 0, 0.1 and 0.5 quantiles of an answer's token log-probabilities, nats; None for none.

    Uncertainty of an answer sits in its few worst tokens, which a mean washes out: quantiles of
    token log-probabilities defer 10-15% better (arXiv 2404.10136). Interpolated linearly."""
    if not token_logprobs:
        return None
    ordered = sorted(token_logprobs)
    return ordered[0], _quantile(ordered, 0.1), _quantile(ordered, 0.5)


def _quantile(ordered: Sequence[float], share: float) -> float:
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def agreement_of(n_agreeing: int, n_answered: int) -> float:
    """Share of answered jobs that agree with the draft; 0 when nothing was answered.

    Self-consistency (arXiv 2310.03094), taken over chunks as well as over samples."""
    return n_agreeing / n_answered if n_answered else 0.0


def sample_agreement(answers: Sequence[Hashable | None]) -> float | None:
    """Share of the samples of one chunk and task that gave the most common answer, 0..1.

    `answers` holds one key per sample, equal for answers that say the same, None for an abstention,
    which counts as an answer of its own. None for fewer than two samples: one sample always agrees
    with itself. Self-consistency as a cascade's signal (arXiv 2310.03094)."""
    if len(answers) < 2:
        return None
    return Counter(answers).most_common(1)[0][1] / len(answers)


def verified_share(n_unverified: int, n_answered: int) -> float | None:
    """Share of answered jobs whose quote was found in their chunk, 0..1; None for no answer.

    A worker that invents its quotes invents its answers. Ours: no study of citation checks as a
    deferral signal is published."""
    return 1 - n_unverified / n_answered if n_answered else None


def rank_of(chunk_id: str, ranked: Sequence[str]) -> int | None:
    """Place of a chunk among the search's hits for the question, 1 for the best; None when it is
    not among them. An answer that stands where the search would look is more likely right: two
    readers that know nothing of each other agree. Ours."""
    return ranked.index(chunk_id) + 1 if chunk_id in ranked else None


def retrieval_gap(scores: Sequence[float]) -> float | None:
    """How far the best search hit stands out: (first - second) / first, 0..1, higher is clearer.

    Scores are positive, best first, as BM25 gives them. None for fewer than two hits or a best
    score that is not positive. After query performance prediction by score spread (Shtok et al.
    2012, NQC)."""
    if len(scores) < 2 or scores[0] <= 0:
        return None
    return (scores[0] - scores[1]) / scores[0]


_TYPES = {
    QuestionType.SUMMARY: re.compile(
        r"^(?:please )?(?:summari[sz]e|describe|explain|discuss|why|how (?:did|does))\b"
    ),
    QuestionType.LIST: re.compile(
        r"\b(?:list (?:all|the|of)|what are|which (?:of the )?\w+ are|name (?:all|the))\b"
    ),
    QuestionType.DATE: re.compile(
        r"\b(?:when|what (?:date|day|year|month)|(?:effective|expiration) date)\b"
    ),
    QuestionType.NUMBER: re.compile(
        r"\b(?:how (?:much|many|long|often)|ratio|percent(?:age)?|amount|total|average|rate|price"
        r"|number of|in (?:usd|us\$|millions|thousands|billions)|revenue|margin|capex)\b|[$%]"
    ),
    QuestionType.CLAUSE: re.compile(
        r"\b(?:clause|agreement|contract|governing law|part(?:y|ies)\b|licen[cs]e|liabil)"
    ),
}
"""In this order: a question that asks to describe or list an amount is no plain number."""
_YES_NO = re.compile(
    r"^(?:is|are|was|were|does|do|did|has|have|had|can|could|will|would|should|may|must)\b"
)


def question_type(question: str) -> QuestionType:
    """The kind of answer that a question asks for, by its wording (English).

    Rules in the manner of question taxonomies (Li and Roth 2002), cut down to the types on which
    document readers differ. The sentence that ends in a question mark decides, the last if there
    are several, since instructions often stand around it; they are looked at when it tells nothing.
    """
    whole = question.lower().strip()
    sentences = re.split(r"(?<=[.?!])\s+", whole)
    core = next((s for s in reversed(sentences) if s.endswith("?")), whole)
    if _YES_NO.match(core):
        return QuestionType.YES_NO
    return _type_of(core) or _type_of(whole) or QuestionType.OTHER


def _type_of(text: str) -> QuestionType | None:
    return next((kind for kind, words in _TYPES.items() if words.search(text)), None)
