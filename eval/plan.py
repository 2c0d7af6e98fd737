"""What an evaluation run is to do, where it stands, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from eval.datasets.registry import Dataset
from eval.rows import Manifest, Row
from eval.strategies import Strategy


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run is to do."""

    dataset: Dataset
    strategies: tuple[Strategy, ...]
    seed: int = 0
    limit: int | None = None
    parallel: int = 1
    """Items at the same time; the strategies of one item come one after another."""
    budget_usd: Decimal | None = None
    """Hard cap on what this run pays, earlier processes of it included."""
    use_cache: bool = True
    """Take the cloud's answer to a request that some run of this state directory has paid for."""
    retry_errors: bool = False
    """Ask again what ended in an error."""
    judge: str | None = None
    """Cloud model that judges answers, beside the rules."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a run stands after a row."""

    row: Row
    n_done: int
    """Rows, those of earlier processes included."""
    n_total: int
    accuracy: dict[str, float]
    """Share of correct rows so far, by strategy."""
    paid_usd: float | None
    """By all rows so far; None when a price is unknown."""
    eta_s: float
    """Seconds left, at the pace of this process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """A run when its process ends."""

    folder: Path
    manifest: Manifest
    rows: tuple[Row, ...]
    stopped: str | None
    """Why it ended before the last item; None when it did not."""

    @property
    def n_missing(self) -> int:
        """Rows that the run still lacks, over all its strategies."""
        return self.manifest.n_items * len(self.manifest.strategies) - len(self.rows)
