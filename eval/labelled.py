"""Labelled runs: what the workers' signals were, and at which rungs the answer was right.

They are made from the rows of `minions eval run` and of the shadow audit. One item may stand in
several rows (strategies `local`, `cloud`, `ladder`): they are merged, so that what each rung would
have answered is known. The keys that count here:

    {"item_id": "q1", "document": "contract.txt", "outcome": "answered",
     "signals": {"answered": true, "verified": true, ...},
     "worker": {"model": "nano", "model_sha256": "ab12", "quantisation": "MXFP4 MoE",
                "prompt_version": "0f3a"},
     "cloud": "gpt-4.1",
     "outcomes": {"local": {"correct": false, "abstained": false, "verified": true, "usd": "0",
                            "prompt_tokens": 0},
                  "document": {"correct": true, "abstained": false, "verified": true,
                               "usd": "0.0312", "prompt_tokens": 15012}}}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from eval.rows import row_objects, rows_path
from minions.cloud_prompt import parse_reply
from minions.errors import BadRequest, CloudProtocolError, NotFound
from router import CalibrationKey, Rung, Signals

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class RungOutcome:
    """What an answer at one rung was worth."""

    correct: bool
    """A right abstention is correct."""
    abstained: bool = False
    verified: bool = False
    """At least one quote of it was found."""
    usd: Decimal | None = None
    """Price as quoted; None when not known (Law 3)."""
    prompt_tokens: int | None = None
    """What the cloud would be sent; None when not recorded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledRun:
    """One question whose local answer is labelled, and maybe the cloud's."""

    item_id: str
    group: str
    """Its document, or the company behind it: never on both sides of a fit."""
    key: CalibrationKey
    cloud_model: str | None
    """None when no cloud answer is labelled."""
    signals: Signals
    outcomes: Mapping[Rung, RungOutcome]
    """Always has `local`."""

    @property
    def local_correct(self) -> bool:
        return self.outcomes[Rung.LOCAL].correct


def read_labelled(paths: Sequence[Path]) -> list[LabelledRun]:
    """The labelled questions of one or more runs (folders or row files), merged by item.

    Rows that ended in an error have no label and are left out. Raises NotFound for a missing file,
    and BadRequest when no row has signals or when rows are of different workers."""
    merged: dict[str, Json] = {}
    for path in paths:
        for row in _rows(path):
            _merge(merged.setdefault(row["item_id"], {}), row)
    usable = [row for row in merged.values() if row.get("signals") and "local" in row["outcomes"]]
    if not usable:
        raise BadRequest(
            f"No row of {', '.join(map(str, paths))} has signals and a labelled local answer. "
            "Record them with `minions eval run` and strategy `local` or `ladder`."
        )
    labelled = [_labelled(row) for row in usable]
    _check_same(labelled)
    return labelled


def observed_outcomes(
    reply: Mapping[str, Any],
    trace: Mapping[str, Any],
    is_right: Callable[[str | None], bool],
) -> Json:
    """What every rung that answered in a run was worth, for the run's row.

    `reply` and `trace` as kept by the store. `is_right` judges an answer; None is an abstention."""
    offers = {offer["rung"]: offer for offer in reply["offers"]}
    found: Json = {}
    for step in trace["steps"]:
        answered = _answer_of(step)
        if answered is not None:
            rung, answer, verified = answered
            offer = offers.get(rung, {"expected_usd": 0, "prompt_tokens": 0})
            found[rung] = {
                "correct": is_right(answer),
                "abstained": answer is None,
                "verified": verified,
                "usd": None if offer["expected_usd"] is None else str(offer["expected_usd"]),
                "prompt_tokens": offer["prompt_tokens"],
            }
    return found


def observed_signals(trace: Mapping[str, Any]) -> Json:
    """`signals`, `worker` and `cloud` of a run's row, from the steps of its trace.

    All None for a strategy that reads nothing locally."""
    facts: Json = {}
    for step in trace["steps"]:
        if step["name"] in ("signals", "offers"):
            facts |= step["facts"]
    return {name: facts.get(name) for name in ("signals", "worker", "cloud")}


def _answer_of(step: Mapping[str, Any]) -> tuple[str, str | None, bool] | None:
    """(rung, answer, verified) of a trace step that holds an answer; else None."""
    facts = step["facts"]
    if step["name"] == "signals" and facts.get("signals"):
        return Rung.LOCAL.value, facts["draft"], facts["signals"]["verified"]
    if step["name"] != "cloud" or "n_citations" not in facts:
        return None
    try:
        answer = parse_reply(facts["text"]).answer
    except CloudProtocolError:
        return None
    return facts["rung"], answer, facts["n_citations"]["verified"] > 0


def _rows(path: Path) -> Iterator[Json]:
    """Rows of a run's folder, or of a row file."""
    file = rows_path(path)
    if not file.is_file():
        raise NotFound(f"There is no run {path}. Make one with `minions eval run --out {path}`.")
    for row, where in row_objects(file):
        if "item_id" not in row:
            raise BadRequest(f"{where} is no row of a run: it has no item_id.")
        if row.get("outcome") != "error" and _on_the_ladder(row.get("strategy", "local")):
            yield row


def _on_the_ladder(strategy: str) -> bool:
    """Whether the cloud was shown what a rung shows. Other strategies (`rag`, `minion`, `minions`)
    send something else: their answers say nothing of our rungs."""
    return strategy in ("local", "cloud") or strategy.startswith("ladder")


def _merge(known: Json, row: Json) -> None:
    """Add what an earlier row of the same item lacks. A row without a cloud's answer only quotes
    that cloud, so its name says nothing of the labels."""
    outcomes = row.get("outcomes") or {}
    if set(outcomes) <= {"local"}:
        row = {**row, "cloud": None}
    elif known.get("cloud") not in (None, row.get("cloud")):
        raise BadRequest(
            f"{row['item_id']} was asked of two clouds, {known['cloud']} and {row.get('cloud')}. "
            "Calibrate each on its own runs."
        )
    for name in ("item_id", "document", "signals", "worker", "cloud"):
        if known.get(name) is None:
            known[name] = row.get(name)
    known["outcomes"] = {**outcomes, **known.get("outcomes", {})}


def _labelled(row: Json) -> LabelledRun:
    """Raises BadRequest when a field is not what it should be."""
    try:
        outcomes = {Rung(rung): _outcome(data) for rung, data in row["outcomes"].items()}
        return LabelledRun(
            item_id=row["item_id"],
            group=row["document"] or row["item_id"],
            key=CalibrationKey(**row["worker"]),
            cloud_model=row["cloud"] if len(outcomes) > 1 else None,
            signals=Signals.from_json(row["signals"]),
            outcomes=outcomes,
        )
    except (TypeError, ValueError, KeyError, ArithmeticError) as error:
        raise BadRequest(
            f"Row {row['item_id']} can't be read as a labelled run ({error}). It may be of another "
            "version: run it again."
        ) from None


def _outcome(data: Json) -> RungOutcome:
    usd = data.get("usd")
    return RungOutcome(**{**data, "usd": None if usd is None else Decimal(str(usd))})


def _check_same(runs: Sequence[LabelledRun]) -> None:
    """Raises BadRequest when the rows are of more than one worker or cloud."""
    workers = {run.key for run in runs}
    clouds = {run.cloud_model for run in runs} - {None}
    for what, found in (("workers", workers), ("clouds", clouds)):
        if len(found) > 1:
            raise BadRequest(
                f"The rows are of {len(found)} different {what}: "
                f"{'; '.join(sorted(map(str, found)))}. Calibrate each on its own rows."
            )
