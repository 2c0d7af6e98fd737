"""Recorded answers of weak and strong systems to the same questions: what deferring would bring.

FinanceBench's people judged every answer, so accuracy here is measured, not graded by a model. All
that is known of a weak answer is its text: signals of margins, citations or agreement, which the
product has, are missing, so these curves are a floor for text alone. Answers carry no usage. The
strong system's dollars are *quoted* where it was given the whole filing and the filing is at hand:
its tokens and a short answer at the list price, by the receipt's own method; elsewhere they are
unknown. A weak system that a person can run at home counts as free, any other as of unknown price.

FinanceBench is CC BY-NC 4.0: for measuring only; none of its text leaves this module.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from eval.datasets.recorded_answers import load_pair
from eval.deferral import Curve, deferral_curve
from eval.labelled import LabelledRun
from eval.replay import chances_of
from eval.score import auroc
from eval.statistics import UNKNOWN, Estimate, reliability, resample_clusters
from minions.cloud.model import CloudUsage, PriceBook
from minions.cloud.tokens import count_tokens
from minions.offers import EXPECTED_OUTPUT_TOKENS
from router import Rung

WHOLE_FILING = "_inContext_reverse"
"""Configurations that read the whole filing, with the question after it."""
WEAK = (
    "llama2_sharedStore",
    "llama2_singleStore",
    "gpt-4_sharedStore",
    "gpt-4_singleStore",
    "gpt-4-1106-preview_sharedStore",
    "gpt-4-1106-preview_singleStore",
)
"""Retrieval systems: what a careful household runs."""
STRONG = (f"gpt-4-1106-preview{WHOLE_FILING}", f"claude-2{WHOLE_FILING}")
AT_HOME = ("llama2",)
"""Weak models with public weights: their calls count as free."""
SHARES = (0.5, 0.8)
N_RESAMPLES = 500

Stated = tuple[list[float], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairFigures:
    """One weak and one strong system."""

    weak: str
    strong: str
    n: int
    n_companies: int
    weak_accuracy: Estimate
    strong_accuracy: Estimate
    of_strong: Estimate
    """The weak accuracy as a share of the strong."""
    chance_source: str
    """Where P(weak is right) comes from: `cross-fitted` by company."""
    auroc: float | None
    """None when all weak answers are right, or all wrong."""
    ece: Estimate
    apgr: Estimate
    cpt: Mapping[str, Estimate]
    """By share of the gap: least share of strong calls."""
    n_quoted: int
    """Questions whose strong call could be quoted, where the weak calls are free; the figures in
    dollars are of these alone."""
    quoted_usd: float | None
    """Their strong calls, all together; None when there is none."""
    apgr_usd: Estimate
    cpt_usd: Mapping[str, Estimate]
    """Least share of the strong system's dollars."""


def all_pairs(
    folder: Path,
    prices: PriceBook,
    *,
    weak: Sequence[str] = WEAK,
    strong: Sequence[str] = STRONG,
    seed: int = 0,
) -> list[PairFigures]:
    """Every weak with every strong system. Raises NotFound for missing answers."""
    tokens = filing_tokens(folder)
    usd = {name: quoted(folder, name, tokens, prices) for name in strong}
    found = []
    for one in weak:
        pairs = {name: load_pair(folder, one, name) for name in strong}
        stated: Stated | None = None
        for name, runs in pairs.items():
            stated = stated or chances_of(runs, None)  # of the weak answers alone
            found.append(pair_figures(runs, usd[name], stated, seed))
    return found


def filing_tokens(folder: Path) -> dict[str, int]:
    """Tokens of each filing whose pages are there, by name; empty without them."""
    path = folder / "pages.jsonl.gz"
    if not path.is_file():
        return {}
    totals: defaultdict[str, int] = defaultdict(int)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            totals[row["doc_name"]] += count_tokens(row["text"])
    return dict(totals)


def quoted(
    folder: Path, strong: str, tokens: Mapping[str, int], prices: PriceBook
) -> dict[str, Decimal]:
    """Dollars of the strong call, by question: only for systems that read the whole filing."""
    if not strong.endswith(WHOLE_FILING) or not tokens:
        return {}
    found: dict[str, Decimal] = {}
    for row in _questions(folder):
        if row["doc_name"] not in tokens:
            continue
        usage = CloudUsage(
            prompt_tokens=tokens[row["doc_name"]] + count_tokens(row["question"]),
            completion_tokens=EXPECTED_OUTPUT_TOKENS,
        )
        usd = prices.cost_usd(strong.removesuffix(WHOLE_FILING), usage)
        if usd is not None:
            found[row["financebench_id"]] = usd
    return found


def _questions(folder: Path) -> list[dict[str, Any]]:
    path = folder / "questions.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def pair_figures(
    runs: Sequence[LabelledRun], usd: Mapping[str, Decimal], stated: Stated, seed: int = 0
) -> PairFigures:
    """The figures of one pair; `usd` quotes the strong calls by question, `stated` has P(the weak
    answer is right) of each and where that comes from."""
    right, groups = [run.local_correct for run in runs], [run.group for run in runs]
    strong_right = [run.outcomes[Rung.DOCUMENT].correct for run in runs]
    chances, source = stated
    draws = resample_clusters(groups, seed=seed)
    curves = _Curves(
        scores=[-p for p in chances],
        gains=[float(a) - b for a, b in zip(strong_right, right, strict=True)],
        usd=[_price(run, usd) for run in runs],
        groups=groups,
        seed=seed,
    )
    priced, mixed = curves.priced, any(right) and not all(right)
    return PairFigures(
        weak=runs[0].key.model,
        strong=runs[0].cloud_model or "",
        n=len(runs),
        n_companies=draws.n_clusters,
        weak_accuracy=draws.mean(right),
        strong_accuracy=draws.mean(strong_right),
        of_strong=draws.ratio(right, strong_right),
        chance_source=source,
        auroc=auroc(chances, right) if mixed else None,
        ece=reliability(chances, right, groups, seed=seed).ece,
        apgr=curves.estimate(Curve.apgr),
        cpt={str(s): curves.estimate(_at(Curve.cpt, s)) for s in SHARES},
        n_quoted=len(priced.usd) if priced else 0,
        quoted_usd=sum(usd for usd in priced.usd if usd) if priced else None,
        apgr_usd=priced.estimate(Curve.apgr_usd) if priced else UNKNOWN,
        cpt_usd={
            str(s): priced.estimate(_at(Curve.cpt_usd, s)) if priced else UNKNOWN for s in SHARES
        },
    )


def _price(run: LabelledRun, usd: Mapping[str, Decimal]) -> float | None:
    """Of the strong call; None when unknown, or when the weak call is not free."""
    known = run.key.model.startswith(AT_HOME) and run.item_id in usd
    return float(usd[run.item_id]) if known else None


def _at(figure: Callable[[Curve, float], float], share: float) -> Callable[[Curve], float]:
    return lambda curve: figure(curve, share)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Curves:
    """One pair's deferral curve, and the same in every resample."""

    scores: Sequence[float]
    gains: Sequence[float]
    usd: Sequence[float | None]
    groups: Sequence[str]
    seed: int

    @property
    def priced(self) -> _Curves | None:
        """Of the questions whose price is known; None without any."""
        rows = [i for i, usd in enumerate(self.usd) if usd is not None]
        if not rows:
            return None
        return _Curves(
            scores=[self.scores[i] for i in rows],
            gains=[self.gains[i] for i in rows],
            usd=[self.usd[i] for i in rows],
            groups=[self.groups[i] for i in rows],
            seed=self.seed,
        )

    def estimate(self, figure: Callable[[Curve], float]) -> Estimate:
        """A figure of the curve, with its interval by company."""
        draws = resample_clusters(self.groups, n_resamples=N_RESAMPLES, seed=self.seed)
        usd = [each for each in self.usd if each is not None]
        weak, strong = ([0.0] * len(usd), usd) if len(usd) == len(self.usd) else (None, None)
        return draws.statistic(
            lambda counts: figure(deferral_curve(self.scores, self.gains, weak, strong, counts))
        )
