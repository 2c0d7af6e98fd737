"""Shadow audit: a share of the answers kept local is asked of the cloud too, after the reply.

The service alone audits, in the background and one answer at a time. The cloud is asked through the
same door as ever: never above the question's privacy ceiling, never beyond its cap or the day's,
and never for strategy `local`. What that costs is in the ledger under the purpose `audit`, and in
no receipt. Which answers are audited follows from the run's id alone.

Each audit is a row in `STATE/audit/rows.jsonl`, of the form that `minions eval calibrate` reads; it
holds no text of question, answer or document. The cloud's answer is the label: `watch` tells when
the two agree less often than the stated chances promise.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from minions.drift import Audited, Drift, watch
from minions.errors import BadRequest, MinionsError
from minions.events import ignore_events
from minions.evidence.answers import agree, answer_in_quote, wording_of
from minions.offers import PreparedRung
from minions.question import Reply, StrategyName, as_number
from minions.receipt import AUDIT
from minions.strategies.ladder import ask_cloud
from minions.strategies.session import Session, Standing
from minions.trace import Trace
from router import Calibration, Rung, closed_because

KEEPS_RIGHT = 0.9
"""Chance that the cloud says the same as a right local answer, where no labels tell."""
PATIENCE_S = 20.0
"""How long a service that ends waits for the audits under way; they have been sent already."""

Gauge = Callable[[str, str, Callable[[], float]], None]


def rows_file(state_dir: Path) -> Path:
    """Where audits are kept: the row file of a run folder."""
    return state_dir / "audit" / "rows.jsonl"


@dataclass(kw_only=True)
class Auditor:
    """Asks the cloud about answers that were kept local. Does nothing before `open`."""

    rate: float
    """Share of the answers kept local, 0..1."""
    rows: Path
    calibration: Calibration | None = None
    n_failed: int = field(default=0, init=False)
    """Audits of this process without a usable answer of the cloud."""
    last_failure: str | None = field(default=None, init=False)
    _is_open: bool = field(default=False, init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _drift: Drift | None = field(default=None, init=False)

    def open(self, gauge: Gauge | None = None) -> None:
        """Audit from now on: said by a service. A command that ends with its reply does not.

        `gauge` takes the name, the meaning and the source of each figure that is shown of it."""
        self._is_open = True
        if gauge is not None:
            gauge(
                "minions_audits", "Audited answers of the present worker.", lambda: self.drift().n
            )
            gauge("minions_audits_agreed", "Of these, confirmed.", lambda: self.drift().n_agreed)
            gauge("minions_audits_failed", "Without a usable answer.", lambda: self.n_failed)
            gauge("minions_audit_alarm", "1 while the alarm is on.", lambda: self.drift().alarm)

    def consider(self, session: Session, reply: Reply) -> None:
        """Audit this reply in the background, or not. Returns at once."""
        if not (self._is_open and is_drawn(reply.trace_id, self.rate)):
            return
        prepared = best_open_rung(session, reply)
        if prepared is None:
            return
        task = asyncio.create_task(self._audit(session, reply, prepared))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def drift(self) -> Drift:
        """The test over all audits of the present worker and cloud so far."""
        if self._drift is None:
            self._drift = watch(expectations(read_audits(self.rows), self.calibration))
        return self._drift

    def warnings(self) -> list[str]:
        """For every reply while the alarm is on."""
        found = self.drift()
        return [f"Audit: {found.text()}"] if found.alarm else []

    async def close(self) -> None:
        """Let the audits that are under way end, for a while; then stop them."""
        self._is_open = False
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=PATIENCE_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self.n_failed += 1
            self.last_failure = f"{type(error).__name__}: {error}"

    async def _audit(self, session: Session, reply: Reply, prepared: PreparedRung) -> None:
        async with self._turn:
            shadow = shadow_of(session)
            bought = await ask_cloud(shadow, prepared)
            if bought is None:
                raise MinionsError(shadow.warnings[-1])
            row = audit_row(session, reply, bought, prepared)
            await asyncio.to_thread(self._keep, row)
            self._drift = None

    def _keep(self, row: dict[str, Any]) -> None:
        self.rows.parent.mkdir(parents=True, exist_ok=True)
        with self.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def is_drawn(run_id: str, rate: float) -> bool:
    """Whether this run is among the share that is audited: the same answer for ever."""
    digest = hashlib.sha256(f"audit {run_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < rate


def best_open_rung(session: Session, reply: Reply) -> PreparedRung | None:
    """The highest rung that ceiling and budgets leave open; None where the answer was not kept
    local, or the user's wishes leave no way to the cloud."""
    options = session.question.options
    kept = reply.rung is Rung.LOCAL and options.strategy is StrategyName.LADDER
    if not kept or session.client is None or not options.may_ask_cloud:
        return None
    wishes = replace(session.wishes, max_latency_s=None)  # nobody waits for an audit
    for prepared in reversed(session.prepared):
        if closed_because(prepared.offer, wishes, session.budget.spent_usd) is None:
            return prepared
    return None


def shadow_of(session: Session) -> Session:
    """The session as an audit uses it: the same ceiling and budgets, and nobody who listens."""
    shadow = replace(
        session,
        purpose=AUDIT,
        observe=ignore_events,
        trace=Trace(run_id=session.run_id),
        warnings=[],
        documents=dict(session.documents),
    )
    shadow.budget = session.budget
    return shadow


def audit_row(
    session: Session, reply: Reply, bought: Standing, prepared: PreparedRung
) -> dict[str, Any]:
    """A row of `eval.rows`, without text: the cloud's answer stands for the right one."""
    same = says_the_same(reply.answer, bought.answer)
    expected = prepared.offer.expected_usd
    local, rung = _outcome(reply.abstained, bool(reply.citations), same), prepared.offer.rung
    cloud = _outcome(bought.answer is None, bool(bought.citations), True)
    facts, paid_usd = _facts(session.trace), as_number(reply.receipt.cloud_usd)
    return {
        "item_id": session.run_id,
        "dataset": AUDIT,
        "strategy": f"ladder@{session.question.options.target:g}",
        "kind": str(facts["signals"].get("question_type", "other")),
        "outcome": "abstained" if reply.abstained else "answered",
        "answerable": bought.answer is not None,
        "score": float(same),
        "correct": same,
        "p_correct": reply.p_correct,
        "rung": reply.rung.value,
        "cloud_usd": paid_usd,
        "paid_usd": paid_usd,
        "cloud_only_usd": as_number(reply.receipt.cloud_only_usd),
        "local_tokens": reply.receipt.local_tokens,
        "cloud_tokens": reply.receipt.cloud_tokens,
        "trace_id": session.run_id,
        "document": session.question.document_ids[0],
        "signals": facts["signals"] or None,
        "worker": facts["worker"] or None,
        "cloud": session.terms.model,
        "outcomes": {
            Rung.LOCAL.value: {**local, "usd": "0", "prompt_tokens": 0},
            rung.value: {
                **cloud,
                "usd": None if expected is None else str(expected),
                "prompt_tokens": prepared.offer.prompt_tokens,
            },
        },
    }


def says_the_same(ours: str | None, cloud: str | None) -> bool:
    """Whether two answers agree: both abstain, both say the same, or one holds all that the other
    says, without a negation more. In doubt they do not."""
    if ours is None or cloud is None:
        return ours is cloud
    one, other = wording_of(ours), wording_of(cloud)
    if agree(one, other, same_source=True):
        return True
    holds = answer_in_quote(ours, cloud) or answer_in_quote(cloud, ours)
    return holds and one.kind[-1] == other.kind[-1]  # negations and other turning words


def _outcome(abstained: bool, verified: bool, correct: bool) -> dict[str, Any]:
    return {"correct": correct, "abstained": abstained, "verified": verified}


def _facts(trace: Trace) -> dict[str, dict[str, Any]]:
    """`signals` and `worker` as the trace has them; empty where nothing was read."""
    found: dict[str, dict[str, Any]] = {"signals": {}, "worker": {}}
    for step in trace.steps:
        if step.name == "signals":
            found |= {name: step.facts[name] for name in found if name in step.facts}
    return found


def read_audits(path: Path) -> list[dict[str, Any]]:
    """All audits, oldest first; none where nothing was audited. A last line that a crash cut is
    left out. Raises BadRequest, naming the line, for what is no row."""
    if not path.is_file():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [_row(line, f"{path}, line {n}") for n, line in enumerate(whole.splitlines(), start=1)]


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadRequest(f"{where} is no JSON ({error.msg}). Remove the line.") from None
    if not isinstance(row, dict) or not {"p_correct", "correct", "worker"} <= set(row):
        raise BadRequest(f"{where} is no audit. Remove the line.")
    return row


def expectations(
    rows: Sequence[dict[str, Any]], calibration: Calibration | None
) -> Iterator[Audited]:
    """The audits of the present worker, each with the agreement that was to be expected: the chance
    that the local answer is right, times the chance that the cloud then says the same.

    The present worker is the calibrated one; without a calibration, that of the newest audit."""
    if not rows:
        return
    worker = asdict(calibration.key) if calibration else rows[-1]["worker"]
    keeps = _keeps(calibration)
    for row in rows:
        if row["worker"] == worker:
            yield Audited(expected=row["p_correct"] * keeps, agreed=bool(row["correct"]))


def _keeps(calibration: Calibration | None) -> float:
    rungs = calibration.rungs if calibration else ()
    return next((one.keeps for one in rungs if one.rung is Rung.DOCUMENT), KEEPS_RIGHT)
