"""What an LLM judge says of a run: beside the rules, and only where people vouch for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.grader_agreement import kappa
from eval.judge import CORRECT, UNSCORED
from eval.judge_trust import Standing
from eval.report.wording import percent, percent_interval, usd
from eval.rows import Row, RunFolder
from eval.statistics import Estimate, resample_clusters


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeFigures:
    """A run's verdicts."""

    model: str
    standing: Standing | None
    """How it did on labelled answers; None when that was not measured."""
    n: int
    """Answers that it was shown."""
    n_unscored: int
    agreement: float | None
    """With the rules, over the scored ones; None without any."""
    kappa: float | None
    usd: float | None
    """Of all verdicts; None when unknown."""
    accuracy: Mapping[str, Estimate]
    """By strategy, its verdicts in place of the rules'; empty unless the judge is trusted."""

    @property
    def why_not(self) -> str | None:
        """Why its verdicts decide nothing; None when they do."""
        if self.standing is None:
            return "its agreement with people was never measured (`minions eval grader --judge`)"
        return self.standing.why_not

    def told(self) -> str:
        """All of it in a few sentences."""
        said = (
            f"Judge {self.model}: {self.n} answers judged for {usd(self.usd)}, {self.n_unscored} "
            f"of them without a readable verdict; it agrees with the rules on "
            f"{percent(self.agreement)} (kappa {_number(self.kappa)})."
        )
        if self.why_not is not None:
            return f"{said} Its verdicts decide nothing here: {self.why_not}."
        judged = ", ".join(f"{label} {percent_interval(a)}" for label, a in self.accuracy.items())
        return f"{said} By its verdicts the accuracy is: {judged}."


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def judge_of(run: RunFolder, *, seed: int = 0) -> JudgeFigures | None:
    """The judge's figures; None for a run without one."""
    manifest = run.manifest
    if manifest.judge is None:
        return None
    standing = None
    if manifest.judge_standing is not None:
        standing = Standing(**manifest.judge_standing)
    judged = [row for row in run.rows if row.judge is not None]
    pairs = [(_says_right(row), row.correct) for row in judged if not _is_unscored(row)]
    prices = [row.judge.get("usd") for row in judged if row.judge is not None]
    known = [price for price in prices if price is not None]
    return JudgeFigures(
        model=manifest.judge,
        standing=standing,
        n=len(judged),
        n_unscored=len(judged) - len(pairs),
        agreement=sum(a == b for a, b in pairs) / len(pairs) if pairs else None,
        kappa=kappa(pairs) if pairs else None,
        usd=sum(known) if len(known) == len(prices) else None,
        accuracy=_accuracy(run, seed) if standing is not None and standing.trusted else {},
    )


def _accuracy(run: RunFolder, seed: int) -> dict[str, Estimate]:
    return {label: _share(rows, seed) for label in run.manifest.labels if (rows := run.of(label))}


def _share(rows: Sequence[Row], seed: int) -> Estimate:
    """Rows that the judge did not score count as the rules say."""
    right = [
        row.correct if row.judge is None or _is_unscored(row) else _says_right(row) for row in rows
    ]
    draws = resample_clusters([row.document or row.item_id for row in rows], seed=seed)
    return draws.mean(right)


def _is_unscored(row: Row) -> bool:
    return row.judge is None or row.judge["verdict"] == UNSCORED


def _says_right(row: Row) -> bool:
    return row.judge is not None and row.judge["verdict"] == CORRECT
