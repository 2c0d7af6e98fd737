"""Pure scorers, shared by every evaluation. No IO, no model, no clock.

Each says where its definition comes from. Higher is better unless the docstring says otherwise.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from minions.evidence.values import Quantity, same_unit, values_of

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_BOOTSTRAP_BLOCK = 1_000_000
_ROUGE_WORD = re.compile(r"[a-z0-9]+")
_LETTER = re.compile(r"\W*(?:(?:the )?answer(?: is)?\W+)?([A-Za-z])(?:[.):,]|\W*\Z)", re.IGNORECASE)
_YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
_HARD_BREAK = re.compile(r"\s*(?:\n|;)\s*")
_SOFT_BREAK = re.compile(r",\s+(?:and\s+)?|\s+and\s+", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•–]|\d+[.)])\s+")


def normalise_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, articles and extra white space.

    As in SQuAD's evaluate-v1.1.py (Rajpurkar et al. 2016, arXiv 1606.05250).
    """
    without_marks = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", without_marks).split())


def exact_match(prediction: str, gold: str | Sequence[str]) -> bool:
    """Whether the prediction equals one of the golds after `normalise_answer` (SQuAD EM)."""
    return any(normalise_answer(prediction) == normalise_answer(one) for one in _golds(gold))


def token_f1(prediction: str, gold: str | Sequence[str]) -> float:
    """SQuAD F1: harmonic mean of token precision and recall, the best over several golds.

    As in evaluate-v2.0.py, an empty prediction or gold scores 1 when both are empty, else 0.
    """
    return max(_token_f1(prediction, one) for one in _golds(gold))


def _token_f1(prediction: str, gold: str) -> float:
    ours = normalise_answer(prediction).split()
    theirs = normalise_answer(gold).split()
    if not (ours and theirs):
        return float(ours == theirs)
    n_shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * n_shared / (len(ours) + len(theirs))


def _golds(gold: str | Sequence[str]) -> Sequence[str]:
    golds = [gold] if isinstance(gold, str) else gold
    if not golds:
        raise ValueError("No gold answer to score against: use abstention_f1 for the unanswerable.")
    return golds


def numeric_match(
    prediction: str, gold: str | Sequence[str], tolerance: float | Decimal = 0.01
) -> bool:
    """Whether the prediction's number is within the relative `tolerance` of the gold's number.

    After TAT-QA's numeric exact match (Zhu et al. 2021, arXiv 2105.07624), with the relative
    tolerance usual for FinanceBench. Parentheses are negative. Units ($, %) must be equal where
    both are stated. A scale (`million`) that only one side states is taken as the other's too, and
    `0.019` equals `1.9%`. A gold of 0 needs 0. Of several numbers in the prediction, the first or
    the last must match; years beside other numbers don't count, and numbers with the gold's own
    unit are preferred. False when either side has no number.
    """
    limit = Decimal(str(tolerance))
    return any(_numeric_match(prediction, one, limit) for one in _golds(gold))


def _numeric_match(prediction: str, gold: str, tolerance: Decimal) -> bool:
    wanted = _telling(values_of(gold).quantities)
    if not wanted:
        return False
    ours = _telling(values_of(prediction).quantities)
    if wanted[0].unit:
        ours = [q for q in ours if q.unit == wanted[0].unit] or ours
    return any(_close(quantity, wanted[0], tolerance) for quantity in (*ours[:1], *ours[-1:]))


def _telling(quantities: Sequence[Quantity]) -> list[Quantity]:
    return [q for q in quantities if not q.looks_like_year] or list(quantities)


def _close(ours: Quantity, gold: Quantity, tolerance: Decimal) -> bool:
    if not same_unit(ours, gold):
        return False
    pairs = [(ours.amount, gold.amount)]
    if ours.scale is None or gold.scale is None:
        pairs.append((ours.value, gold.value))
    if (ours.unit == "%") != (gold.unit == "%"):
        pairs.append((_as_fraction(ours), _as_fraction(gold)))
    return any(abs(a - b) <= tolerance * abs(b) for a, b in pairs)


def _as_fraction(quantity: Quantity) -> Decimal:
    return quantity.amount / 100 if quantity.unit == "%" else quantity.amount


def list_f1(predicted: Sequence[str], gold: Sequence[str]) -> float:
    """F1 over sets of items that are equal after `normalise_answer`.

    The exact-match F1 of MultiSpanQA (Li et al. 2022, NAACL), per question. Both empty: 1.
    """
    ours = set(map(normalise_answer, predicted))
    theirs = set(map(normalise_answer, gold))
    if not ours and not theirs:
        return 1.0
    return 2 * len(ours & theirs) / (len(ours) + len(theirs))


def matched_list_f1(
    predicted: Sequence[str], gold: Sequence[str], same: Callable[[str, str], bool]
) -> float:
    """F1 over items paired one to one by `same(ours, gold)`, each with the first that is left.

    As `list_f1` where items may agree in other ways than word for word. Both empty: 1."""
    left = list(gold)
    for ours in predicted:
        found = next((each for each in left if same(ours, each)), None)
        if found is not None:
            left.remove(found)
    n_paired = len(gold) - len(left)
    return 2 * n_paired / (len(predicted) + len(gold)) if predicted or gold else 1.0


def rouge_l(prediction: str, gold: str | Sequence[str]) -> float:
    """ROUGE-L F1: by the longest common subsequence of words, the best over several golds.

    Lin 2004 (W04-1013) with beta 1, on lower-case runs of letters and digits, without stemming and
    without the sentence-wise union of ROUGE-Lsum. Both empty: 1."""
    return max(_rouge_l(prediction, one) for one in _golds(gold))


def _rouge_l(prediction: str, gold: str) -> float:
    ours, theirs = _ROUGE_WORD.findall(prediction.lower()), _ROUGE_WORD.findall(gold.lower())
    if not (ours and theirs):
        return float(ours == theirs)
    return 2 * _n_common(ours, theirs) / (len(ours) + len(theirs))


def _n_common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """Length of the longest common subsequence; time is the product of the lengths."""
    best = [0] * (len(theirs) + 1)
    for word in ours:
        diagonal = 0
        for place, other in enumerate(theirs, start=1):
            above = best[place]
            best[place] = diagonal + 1 if word == other else max(above, best[place - 1])
            diagonal = above
    return best[-1]


def chosen(answer: str, choices: Sequence[str]) -> int | None:
    """Which of `choices` an answer names: by its words, by its letter at the beginning (`B`, `(b)`,
    `B. ...`, `Answer: B`), or as the only choice whose words stand in it. None when that is not
    clear. The place counts from 0."""
    ours = normalise_answer(answer)
    texts = [normalise_answer(choice) for choice in choices]
    if ours in texts:
        return texts.index(ours)
    letter = _LETTER.match(answer)
    if letter:
        place = ord(letter[1].upper()) - ord("A")
        return place if place < len(choices) else None
    named = [n for n, text in enumerate(texts) if text and f" {text} " in f" {ours} "]
    return named[0] if len(named) == 1 else None


def yes_or_no(text: str) -> str | None:
    """`yes` or `no` where the text begins with it; else None."""
    found = _YES_NO.match(text)
    return found[1].lower() if found else None


def as_list(answer: str) -> list[str]:
    """The items of an answer that is a list: by lines or semicolons, else by commas and `and`.

    A comma inside a number, as in 1,571.7, separates nothing."""
    parts = _HARD_BREAK.split(answer)
    if len(parts) == 1:
        parts = _SOFT_BREAK.split(answer)
    cleaned = (_BULLET.sub("", part).strip(" .") for part in parts)
    return [part for part in cleaned if part]


def shares_words(one: str, other: str, n_words: int = 5) -> bool:
    """Whether two quotes have `n_words` words in a row in common, or all of the shorter one.

    After `normalise_answer`; an empty text shares nothing."""
    ours, theirs = normalise_answer(one).split(), normalise_answer(other).split()
    n = min(n_words, len(ours), len(theirs))
    return n > 0 and not _runs(ours, n).isdisjoint(_runs(theirs, n))


def _runs(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + n]) for start in range(len(words) - n + 1)}


def abstention_f1(predicted_abstain: Sequence[bool], gold_unanswerable: Sequence[bool]) -> float:
    """F1 of abstaining, with `unanswerable` as the positive class.

    After SQuAD 2.0's NoAns (Rajpurkar et al. 2018, arXiv 1806.03822), as a detection F1. When
    nothing is unanswerable and nobody abstains it is 1. Raises ValueError on unequal lengths.
    """
    pairs = list(zip(predicted_abstain, gold_unanswerable, strict=True))
    n_right = sum(ours and theirs for ours, theirs in pairs)
    n_positive = sum(map(bool, predicted_abstain)) + sum(map(bool, gold_unanswerable))
    return 2 * n_right / n_positive if n_positive else 1.0


def auroc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """P(a positive scores above a negative), ties counted half: Mann-Whitney U / (n+ n-).

    Fawcett 2006, "An introduction to ROC analysis". Raises ValueError when a class is missing,
    since it is then undefined, when lengths differ and when a score is NaN.
    """
    values, positive = _paired_arrays(scores, labels)
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not (n_positive and n_negative):
        raise ValueError(
            f"AUROC needs both classes: there are {n_positive} positives, {n_negative} negatives."
        )
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    u = mean_ranks[inverse][positive].sum() - n_positive * (n_positive + 1) / 2
    return float(u / (n_positive * n_negative))


def expected_calibration_error(
    probs: Sequence[float], labels: Sequence[bool], n_bins: int = 10
) -> float:
    """Mean gap between confidence and accuracy over equal-width bins, weighted by size. Lower is
    better.

    Guo et al. 2017 (arXiv 1706.04599), eq. 3: bin m holds ((m-1)/M, m/M]; 0 goes to the first.
    Raises ValueError for no data, unequal lengths, fewer than one bin or a probability outside
    [0, 1].
    """
    values, hits = _paired_arrays(probs, labels)
    if n_bins < 1 or not len(values):
        raise ValueError(f"Calibration needs data and bins: {len(values)} rows, {n_bins} bins.")
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"Probabilities lie in [0, 1], not {values.min()} to {values.max()}.")
    inner_edges = np.arange(1, n_bins) / n_bins
    bins = np.searchsorted(inner_edges, values, side="left")
    gaps = np.bincount(bins, weights=values - hits, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(values))


def _paired_arrays(
    scores: Sequence[float], labels: Sequence[bool]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    if len(scores) != len(labels):
        raise ValueError(f"{len(scores)} scores for {len(labels)} labels: they must pair up.")
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("A score is NaN: leave out the rows that have no score.")
    return values, np.asarray(labels, dtype=np.bool_)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A difference of means with its interval."""

    difference: float
    """mean(ours) - mean(theirs) on the data as they are."""
    low: float
    high: float
    confidence: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of mean(ours) - mean(theirs) over the same questions, resampled together.

    Efron & Tibshirani 1993, ch. 13; paired as in Koehn 2004 (W04-3250). The same seed gives the
    same interval. Raises ValueError for no data, unequal lengths or impossible settings.
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"Paired scores must pair up: {len(ours)} against {len(theirs)}.")
    if n_resamples < 1 or not 0 < confidence < 1:
        raise ValueError(f"Need resamples and 0 < confidence < 1: {n_resamples}, {confidence}.")
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    means = _resampled_means(differences, n_resamples, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(
        difference=float(differences.mean()),
        low=float(low),
        high=float(high),
        confidence=confidence,
    )


def _resampled_means(
    values: npt.NDArray[np.float64], n_resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Means of resamples with replacement, drawn in blocks so that memory stays bounded."""
    n = len(values)
    block = max(1, _BOOTSTRAP_BLOCK // n)
    means = [
        values[rng.integers(0, n, size=(min(block, n_resamples - done), n))].mean(axis=1)
        for done in range(0, n_resamples, block)
    ]
    return np.concatenate(means)
