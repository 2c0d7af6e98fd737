"""A run on disk: a folder with its manifest, one row per answered question, and their traces.

    RUN/manifest.json   what was asked of whom: dataset, strategies, worker, cloud, prices, seed
    RUN/rows.jsonl      one `Row` per (item, strategy), written and flushed as soon as it is known
    RUN/traces/ID.json  the trace of a row's run, by its `trace_id`

Items that have no row yet were not reached: `RunFolder.n_missing` counts them, nobody drops them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minions.errors import BadRequest, NotFound

MANIFEST, ROWS, TRACES = "manifest.json", "rows.jsonl", "traces"
ANSWERED, ABSTAINED, ERROR = "answered", "abstained", "error"
OUTCOMES = (ANSWERED, ABSTAINED, ERROR)
FORMAT = 1
"""Raised when a row's meaning changes; runs of another format are refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What became of one item under one strategy; a line of the run's file."""

    item_id: str
    dataset: str
    strategy: str
    """Its label: `local`, `cloud`, `rag`, `minion`, `minions`, `ladder@0.75`."""
    kind: str
    """Question type, for tables per type."""
    outcome: str
    """`answered`, `abstained` or `error`; an error is neither wrong nor an abstention."""
    answerable: bool
    score: float
    """The dataset's own main metric for this question, 0..1. A right abstention is 1; errors and
    wrong abstentions are 0."""
    correct: bool
    """By the answer type's own rule; a right abstention is correct, an error is not."""
    scores: dict[str, float] = field(default_factory=dict)
    """Every metric that applies, by name, each 0..1."""
    citation_correct: bool | None = None
    """A verified quote overlaps the gold evidence. None without gold evidence or an answer."""
    p_correct: float | None = None
    rung: str | None = None
    cloud_usd: float | None = None
    """Dollars of all cloud calls of the answer, those from the response cache at the price of
    buying them. None when a price is unknown."""
    paid_usd: float | None = None
    """What was really paid: as `cloud_usd`, with cached calls free. None when unknown."""
    n_cached_calls: int = 0
    """Cloud calls that the response cache answered."""
    cloud_only_usd: float | None = None
    """One call with the whole document; None when its price is unknown."""
    local_tokens: int | None = None
    """Tokens that the workers prefilled and generated, readings that were taken over from another
    strategy included. None where nothing was begun."""
    cloud_tokens: int | None = None
    """Prompt and completion tokens of every cloud attempt, cached calls included."""
    latency_s: float | None = None
    """Seconds in the process that ended the item; calls and jobs taken from a cache took none."""
    question: str = ""
    answer: str | None = None
    gold_answers: tuple[str, ...] = ()
    error: str | None = None
    trace_id: str | None = None
    document: str | None = None
    """Its name; rows of one document stay together when anything is fitted or resampled."""
    signals: dict[str, Any] | None = None
    """What the router saw of the local results; None when nothing was read for the question."""
    worker: dict[str, Any] | None = None
    """The local model's calibration key."""
    cloud: str | None = None
    """The cloud model that was asked, or would have been."""
    outcomes: dict[str, Any] | None = None
    """What each rung that answered was worth; see `eval.labelled`."""
    gold_claims: tuple[str, ...] | None = None
    """Ids of the jobs whose claim stands in the gold evidence; none for a question without an
    answer. None where nothing was read, or where the gold evidence is not known."""
    judge: dict[str, Any] | None = None
    """The LLM judge's verdict: {"verdict": "correct" | "wrong" | "unscored", "reason", "usd"}; None
    when no judge was asked. Its dollars are in no other field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StrategySpec:
    """A strategy as a run compares it."""

    label: str
    """Unique in the run."""
    options: dict[str, Any]
    """What the product was told: strategy, target, privacy, and so on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a run is of. Written before the first row."""

    dataset: str
    source: str
    """Who made the dataset, and where it is from."""
    licence: str
    strategies: tuple[StrategySpec, ...]
    worker: str
    """As the user named it; rows have the full calibration key."""
    cloud: str
    price_snapshot: str
    seed: int
    limit: int | None
    n_items: int
    """Questions, each answered once per strategy."""
    kinds: dict[str, int]
    """Items per question type."""
    items_sha256: str
    """Of the items' ids, questions and gold answers in order: the same for the same questions."""
    created_at: str
    """ISO 8601, UTC."""
    versions: dict[str, str]
    """Of the project, its prompts and the interpreter."""
    judge: str | None = None
    """The model that judged answers, beside the rules; None for none."""
    judge_standing: dict[str, Any] | None = None
    """What was known of the judge when the run was begun or gone on with (`eval.judge_trust`)."""
    format: int = FORMAT

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the strategies, in the order asked for."""
        return tuple(spec.label for spec in self.strategies)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """A run as it stands on disk."""

    path: Path
    manifest: Manifest
    rows: tuple[Row, ...]

    def of(self, label: str) -> tuple[Row, ...]:
        """The rows of one strategy, in the order they were written."""
        return tuple(row for row in self.rows if row.strategy == label)

    def n_missing(self, label: str) -> int:
        """Items that the strategy has not reached."""
        return self.manifest.n_items - len(self.of(label))

    def trace(self, row: Row) -> dict[str, Any] | None:
        """The trace of a row; None when it has none."""
        return None if row.trace_id is None else read_trace(self.path, row.trace_id)


def read_run(path: Path) -> RunFolder:
    """A run from its folder. Raises NotFound when there is none, and BadRequest, naming the file
    and line, for what is no run of this format."""
    return RunFolder(
        path=path, manifest=read_manifest(path), rows=tuple(read_rows(path / ROWS, missing_ok=True))
    )


def read_manifest(folder: Path) -> Manifest:
    """Raises NotFound and BadRequest as `read_run`."""
    path = folder / MANIFEST
    if not path.is_file():
        raise NotFound(f"There is no run {folder}: it has no {MANIFEST}. {_how_to_make(folder)}")
    data = _object(path.read_text(encoding="utf-8"), str(path))
    if data.get("format") != FORMAT:
        raise BadRequest(
            f"{path} is of format {data.get('format')}, this version reads {FORMAT}. "
            "Run it again into another folder."
        )
    try:
        specs = tuple(StrategySpec(**spec) for spec in data["strategies"])
        return Manifest(**{**data, "strategies": specs})
    except (TypeError, KeyError) as error:
        raise BadRequest(f"{path} is no manifest of a run ({error}).") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put the manifest into `folder`, which is made where it is missing; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_whole(folder / MANIFEST, json.dumps(asdict(manifest), indent=1, ensure_ascii=False))


def rows_path(run: Path) -> Path:
    """The row file of a run: of its folder, or the file itself where that is given."""
    return run / ROWS if run.is_dir() else run


def read_rows(path: Path, *, missing_ok: bool = False) -> list[Row]:
    """The rows of a row file. A last line that a crash cut is left out. Raises NotFound for a
    missing file unless `missing_ok`, and BadRequest naming the line for what is no row."""
    if not path.is_file():
        if missing_ok:
            return []
        raise NotFound(f"There are no rows in {path}. {_how_to_make(path.parent)}")
    return [_row(data, where) for data, where in row_objects(path)]


def row_objects(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Each whole line of a row file as a JSON object, with its place for messages."""
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    lines = whole.split("\n") if whole else []  # splitlines would cut at U+2028 too
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        yield _object(line, where), where


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replace a row file; whole or not at all."""
    _write_whole(path, "".join(_line(row) for row in rows))


def append_row(path: Path, row: Row) -> None:
    """Add a row; it is with the system, and so survives a kill of this process, on return."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(row))


def drop_cut_line(path: Path) -> None:
    """Forget a last line that a crash cut, so that the next row does not run into it."""
    if path.exists():
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])


def write_trace(run: Path, trace_id: str, trace: dict[str, Any]) -> None:
    """Keep the trace of one item's run."""
    folder = run / TRACES
    folder.mkdir(parents=True, exist_ok=True)
    _write_whole(folder / f"{trace_id}.json", json.dumps(trace, ensure_ascii=False))


def read_trace(run: Path, trace_id: str) -> dict[str, Any] | None:
    """The trace kept under this id; None when there is none."""
    path = run / TRACES / f"{Path(trace_id).name}.json"
    return _object(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else None


def duplicates(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(item_id, strategy) of rows that stand there more than once."""
    seen: set[tuple[str, str]] = set()
    twice = []
    for row in rows:
        key = (row.item_id, row.strategy)
        if key in seen:
            twice.append(key)
        seen.add(key)
    return twice


def _row(data: dict[str, Any], where: str) -> Row:
    known = {each.name: each for each in dataclasses.fields(Row)}
    missing = [
        name
        for name, each in known.items()
        if name not in data
        and each.default is dataclasses.MISSING
        and each.default_factory is dataclasses.MISSING
    ]
    unknown = sorted(set(data) - set(known))
    if missing or unknown:
        raise BadRequest(
            f"{where} is no row of this version (missing: {', '.join(missing) or 'nothing'}; "
            f"unknown: {', '.join(unknown) or 'nothing'}). Run it again: minions eval run."
        )
    if data["outcome"] not in OUTCOMES:
        raise BadRequest(f"{where}: the outcome {data['outcome']!r} is none of {OUTCOMES}.")
    gold_claims = data.get("gold_claims")
    return Row(
        **{
            **data,
            "gold_answers": tuple(data.get("gold_answers") or ()),
            "gold_claims": None if gold_claims is None else tuple(gold_claims),
        }
    )


def _line(row: Row) -> str:
    return json.dumps(asdict(row), ensure_ascii=False) + "\n"


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRequest(f"{where} is no JSON ({error.msg}).") from None
    if not isinstance(data, dict):
        raise BadRequest(f"{where} is no JSON object.")
    return data


def _write_whole(path: Path, text: str) -> None:
    """Through a file beside it, so that a crash leaves the old one or the new one."""
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _how_to_make(folder: Path) -> str:
    return f"Make one with `minions eval run DATASET --out {folder}`."
