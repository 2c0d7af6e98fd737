"""Reading rates from a recorded run: what a chunk's tokens cost in seconds, by least squares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression

from eval.capacity import CloudShare
from eval.rows import ERROR, Row, RunFolder
from minions.errors import BadRequest

MIN_READINGS = 5
CLOCK_S = 0.01
"""By which a job's own clock and its step's may differ."""
CLOUD_LATENCY_S = 5.0
"""Of a cloud call, where the run has none to measure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One question's reading, from its trace."""

    n_jobs: int
    prefilled_tokens: int
    output_tokens: int
    elapsed_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What a run says of its worker and its ladder."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    n_readings: int
    output_tokens: float
    """Per chunk."""
    prefilled_tokens: float
    """Per chunk, question and frame included."""
    explained: float
    """Share of the seconds' variance that the two rates explain (R squared)."""
    cloud: CloudShare


def rates_of(run: RunFolder) -> Rates:
    """From the traces of all rows that read, and the rows of the ladder (or `local`).

    Questions with a job that was taken from an earlier reading are left out. Raises
    BadRequest when fewer than `MIN_READINGS` readings are recorded."""
    readings = list(_readings(run))
    if len(readings) < MIN_READINGS:
        raise BadRequest(
            f"{run.path} has {len(readings)} recorded readings, at least {MIN_READINGS} are "
            "needed for rates. Give --prefill-rate and --decode-rate instead."
        )
    n_jobs = sum(one.n_jobs for one in readings)
    prefill_s, decode_s = _seconds_per_token(readings)
    return Rates(
        prefill_tokens_per_s=1 / prefill_s,
        decode_tokens_per_s=1 / decode_s,
        n_readings=len(readings),
        output_tokens=sum(one.output_tokens for one in readings) / n_jobs,
        prefilled_tokens=sum(one.prefilled_tokens for one in readings) / n_jobs,
        explained=_explained(readings, prefill_s, decode_s),
        cloud=_cloud(run),
    )


def _readings(run: RunFolder) -> Iterator[Reading]:
    for row in run.rows:
        for step in (run.trace(row) or {}).get("steps", []):
            jobs = (step.get("facts") or {}).get("jobs")
            if step.get("name") == "read" and jobs and _read_then(jobs, step.get("elapsed_s")):
                yield _reading(jobs, step["elapsed_s"])


def _read_then(jobs: list[dict[str, Any]], elapsed_s: float | None) -> bool:
    """Whether the jobs were done in this very step. One that took longer than the whole step was
    taken from an earlier reading, with its tokens and its time."""
    if not elapsed_s or not any(job["prefilled_tokens"] for job in jobs):
        return False
    return bool(max(job["elapsed_s"] for job in jobs) <= elapsed_s + CLOCK_S)


def _reading(jobs: list[dict[str, Any]], elapsed_s: float) -> Reading:
    return Reading(
        n_jobs=len(jobs),
        prefilled_tokens=sum(job["prefilled_tokens"] for job in jobs),
        output_tokens=sum(job["output_tokens"] for job in jobs),
        elapsed_s=elapsed_s,
    )


def _seconds_per_token(readings: list[Reading]) -> tuple[float, float]:
    """(of prefill, of decode). Where the readings can't tell the two apart (one comes out as 0),
    every token counts the same."""
    tokens = np.array([[one.prefilled_tokens, one.output_tokens] for one in readings], dtype=float)
    seconds = np.array([one.elapsed_s for one in readings])
    prefill_s, decode_s = (
        LinearRegression(fit_intercept=False, positive=True).fit(tokens, seconds).coef_
    )
    if prefill_s > 0 and decode_s > 0:
        return float(prefill_s), float(decode_s)
    same = float(seconds.sum() / tokens.sum())
    return same, same


def _explained(readings: list[Reading], prefill_s: float, decode_s: float) -> float:
    seconds = np.array([one.elapsed_s for one in readings])
    told = np.array(
        [one.prefilled_tokens * prefill_s + one.output_tokens * decode_s for one in readings]
    )
    spread = ((seconds - seconds.mean()) ** 2).sum()
    return float(1 - ((seconds - told) ** 2).sum() / spread) if spread else 0.0


def _cloud(run: RunFolder) -> CloudShare:
    """What the run's first ladder bought; nothing in a run without one."""
    label = next((one for one in run.manifest.labels if one.startswith("ladder")), None)
    rows = [row for row in run.of(label) if row.outcome != ERROR] if label else []
    if not rows:
        return CloudShare()
    usd = [row.cloud_usd for row in rows]
    known = [each for each in usd if each is not None]
    bought = [row for row in rows if row.cloud_tokens]
    return CloudShare(
        share=len(bought) / len(rows),
        usd_per_question=fmean(known) if len(known) == len(usd) else None,
        latency_s=_cloud_latency(run, bought),
    )


def _cloud_latency(run: RunFolder, rows: list[Row]) -> float:
    """Mean seconds of all cloud steps of a question that had one."""
    totals = []
    for row in rows:
        steps = (run.trace(row) or {}).get("steps", [])
        spent = [step["elapsed_s"] or 0.0 for step in steps if step.get("name") == "cloud"]
        if spent:
            totals.append(sum(spent))
    return fmean(totals) if totals else CLOUD_LATENCY_S
