"""How an evaluation run tells where it stands: a line per row."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING

from minions.cli.common import err

if TYPE_CHECKING:
    from eval.plan import Progress

MAX_QUESTION_CHARS = 40


def tell_progress(progress: Progress) -> None:
    """The row that ended, accuracy so far, dollars, and about how long the rest will take."""
    row = progress.row
    so_far = "  ".join(f"{label} {share:.0%}" for label, share in progress.accuracy.items())
    paid = "unknown" if progress.paid_usd is None else f"{progress.paid_usd:.4f}"
    asked = shorten(row.question or row.item_id, MAX_QUESTION_CHARS)
    err.print(
        f"{progress.n_done}/{progress.n_total} {row.strategy} {row.outcome} {row.score:.2f} "
        f"{asked} | {so_far} | paid ${paid} | {_duration(progress.eta_s)} left",
        style="dim",
        markup=False,
        soft_wrap=True,
    )


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{left:02}s"
