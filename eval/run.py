"""Answer labelled questions with one strategy and say what it scored and cost.

One JSON line per item is written as soon as the item ends, so that a run that was killed goes on
where it stopped; an item that failed is an outcome of its own, apart from wrong and from abstained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from eval.items import Item
from eval.labelled import observed_outcomes, observed_signals
from eval.score import abstention_f1, auroc, token_f1
from minions.app import App
from minions.errors import MinionsError
from minions.question import Options, Question

CORRECT_F1 = 0.5
"""An answer whose token-F1 with a gold answer reaches this counts as correct."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What became of one item; a line of the run's file."""

    item_id: str
    kind: str
    outcome: str
    """`answered`, `abstained` or `error`."""
    answerable: bool
    f1: float
    """Token-F1 of the answer with the best gold answer; 0 for errors and wrong abstentions, 1 for
    a right abstention."""
    p_correct: float | None
    rung: str | None
    cloud_usd: float | None
    cloud_only_usd: float | None
    answer: str | None
    error: str | None
    trace_id: str | None
    document: str | None = None
    """Its name; rows of one document stay together when the router is calibrated."""
    signals: dict[str, Any] | None = None
    """What the router saw of the local results; None when nothing was read locally."""
    worker: dict[str, Any] | None = None
    """The local model's calibration key."""
    cloud: str | None = None
    """The cloud model that was asked, or would have been."""
    outcomes: dict[str, Any] | None = None
    """What each rung that answered was worth; see `eval.labelled`."""

    @property
    def correct(self) -> bool:
        return self.f1 >= CORRECT_F1


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The figures of a run. Items that were not reached are counted, never dropped."""

    n_items: int
    n_done: int
    n_errors: int
    accuracy: float
    """Share of all done items that are correct, right abstentions included."""
    answer_f1: float
    """Mean token-F1 over answerable items."""
    abstention_f1: float
    """F1 of abstaining, unanswerable items being the positive class."""
    auroc: float | None
    """Of P(correct) against correctness; None when all are right or all wrong."""
    cloud_usd: float | None
    """None when any item's price is unknown."""
    cloud_only_usd: float | None


async def run_items(
    app: App,
    items: Sequence[Item],
    options: Options,
    target: Path,
    on_row: Callable[[Row, int], None],
) -> list[Row]:
    """Answer what `target` does not hold yet; returns the rows of all items, old and new.

    `on_row` is told of each new row with the number of rows done. Errors of one item end that item,
    not the run."""
    _drop_cut_line(target)
    done = {row.item_id: row for row in read_rows(target)}
    with target.open("a", encoding="utf-8") as file:
        for item in items:
            if item.item_id not in done:
                done[item.item_id] = await _answer(app, item, options)
                _append(file, done[item.item_id])
                on_row(done[item.item_id], len(done))
    return [done[item.item_id] for item in items]


def read_rows(path: Path) -> list[Row]:
    """The rows of a run's file; none when there is no such file."""
    if not path.exists():
        return []
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _drop_cut_line(path: Path) -> None:
    """Forget a last line that a crash cut, so that the next row does not run into it."""
    if path.exists():
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])


def summarise(items: Sequence[Item], rows: Sequence[Row]) -> Summary:
    """Figures over what is done. Raises ZeroDivisionError on no rows: there is nothing to say."""
    answerable = [row for row in rows if row.answerable]
    scored = [(row.p_correct, row.correct) for row in rows if row.p_correct is not None]
    return Summary(
        n_items=len(items),
        n_done=len(rows),
        n_errors=sum(row.outcome == "error" for row in rows),
        accuracy=sum(row.correct for row in rows) / len(rows),
        answer_f1=sum(row.f1 for row in answerable) / max(len(answerable), 1),
        abstention_f1=abstention_f1(
            [row.outcome == "abstained" for row in rows], [not row.answerable for row in rows]
        ),
        auroc=_auroc_or_none(scored),
        cloud_usd=_sum_or_none([row.cloud_usd for row in rows]),
        cloud_only_usd=_sum_or_none([row.cloud_only_usd for row in rows]),
    )


async def _answer(app: App, item: Item, options: Options) -> Row:
    try:
        document = await app.add_document(item.document_text.encode(), item.document_name)
        asked = Question(text=item.question, document_ids=(document.document_id,), options=options)
        reply = (await app.desk.ask(asked)).to_json()
    except MinionsError as error:
        return _row(item, "error", 0.0, {}, f"{error.code}: {error}")
    outcome = "abstained" if reply["abstained"] else "answered"
    row = _row(item, outcome, f1_of(item, reply["answer"]), reply, None)
    trace = await app.store.get_trace(reply["trace_id"])
    return replace(
        row,
        **observed_signals(trace),
        outcomes=observed_outcomes(reply, trace, lambda answer: f1_of(item, answer) >= CORRECT_F1),
    )


def f1_of(item: Item, answer: str | None) -> float:
    """Token-F1 with the best gold answer; an abstention (None) is all right or all wrong."""
    if answer is None:
        return float(not item.answerable)
    return token_f1(answer, item.gold_answers) if item.answerable else 0.0


def _row(item: Item, outcome: str, f1: float, reply: dict[str, Any], error: str | None) -> Row:
    cost = reply.get("cost", {})
    return Row(
        item_id=item.item_id,
        kind=item.kind,
        outcome=outcome,
        answerable=item.answerable,
        f1=f1,
        p_correct=reply.get("p_correct"),
        rung=reply.get("rung"),
        cloud_usd=cost.get("cloud_usd"),
        cloud_only_usd=cost.get("cloud_only_usd"),
        answer=reply.get("answer"),
        error=error,
        trace_id=reply.get("trace_id"),
        document=item.document_name,
    )


def _append(file: TextIO, row: Row) -> None:
    file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
    file.flush()


def _auroc_or_none(scored: Sequence[tuple[float, bool]]) -> float | None:
    labels = [label for _, label in scored]
    if all(labels) or not any(labels):
        return None
    return auroc([score for score, _ in scored], labels)


def _sum_or_none(amounts: Sequence[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None
