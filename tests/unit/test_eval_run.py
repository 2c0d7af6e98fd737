"""Runs of several strategies over the whole house: scripted workers and a simulated cloud."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eval.datasets.registry import Dataset
from eval.items import DatasetCard, GoldEvidence, Item, ItemDocument
from eval.plan import Plan, Progress, RunResult
from eval.rows import read_run
from eval.run import run_plan
from eval.strategies import parse_strategies
from minions.app import App, open_app
from minions.cli.evaluation import evaluation
from minions.cloud.sim import FaultKind, SimPlan
from minions.errors import BadRequest, MinionsError, PriceUnknown
from minions.question import Options
from minions.settings import Settings
from tests.cloud import Sim, fault, sim_running
from tests.house import CONTRACT

CARD = DatasetCard(name="test", source="this test", licence="Apache-2.0", metric="token-F1")
FILLER = "Nothing of interest is said about the weather here. " * 40
ALL = ("local", "cloud", "rag", "minion", "minions", "ladder@0.5", "ladder@0.99")


def item(number: int, question: str, *golds: str) -> Item:
    text = f"Contract {number}.\n\n{CONTRACT}\n\n{FILLER}"
    start = text.index("This agreement is governed")
    end = text.index("\n", start)
    evidence = GoldEvidence(text=text[start:end], start=start, end=end)
    return Item(
        item_id=f"q{number}",
        documents=(ItemDocument(name=f"contract-{number}.txt", text=text),),
        question=question,
        gold_answers=golds,
        kind="law" if golds else "absent",
        evidence=(evidence,) if golds else (),
    )


ITEMS = (
    item(1, "Which state's laws govern this agreement?", "State of Oregon"),
    item(2, "Which state's laws govern the contract?", "Oregon"),
    item(3, "Whose zebras graze on blue moons?"),
)


@pytest.fixture
def sim() -> Iterator[Sim]:
    with sim_running(SimPlan()) as running:
        yield running


@dataclass(kw_only=True)
class Place:
    """Where runs of a test are, and what they told."""

    folder: Path
    sim: Sim
    told: list[Progress]

    @asynccontextmanager
    async def app(self, **changes: Any) -> AsyncIterator[App]:
        fields: dict[str, Any] = {
            "state_dir": self.folder / "state",
            "model": "scripted",
            "cloud_url": self.sim.base_url,
            **changes,
        }
        async with open_app(Settings(**fields)) as app:
            yield app

    async def run(self, plan: Plan, name: str = "run", **changes: Any) -> RunResult:
        async with self.app(**changes) as app:
            return await run_plan(app, plan, self.folder / name, self.told.append)


@pytest.fixture
def place(tmp_path: Path, sim: Sim) -> Place:
    return Place(folder=tmp_path, sim=sim, told=[])


def plan(*labels: str, **fields: Any) -> Plan:
    items = fields.pop("items", ITEMS)
    return Plan(
        dataset=Dataset(card=CARD, items=items),
        strategies=parse_strategies(labels, Options()),
        **fields,
    )


async def test_all_strategies_side_by_side(place: Place) -> None:
    result = await place.run(plan(*ALL, parallel=3))
    run = read_run(place.folder / "run")
    assert result.stopped is None and result.rows == run.rows
    assert {(row.item_id, row.strategy) for row in run.rows} == {
        (each.item_id, label) for each in ITEMS for label in ALL
    }
    assert all(run.n_missing(label) == 0 for label in ALL)
    assert {row.outcome for row in run.rows} <= {"answered", "abstained"}
    for row in run.rows:
        trace = run.trace(row)
        assert trace is not None and trace["trace_id"] == row.trace_id
        assert row.cloud_only_usd and row.latency_s
    (local,) = (row for row in run.of("local") if row.item_id == "q1")
    assert (local.cloud_usd, local.paid_usd, local.cloud_tokens) == (0, 0, 0)
    assert local.local_tokens and local.correct and local.citation_correct
    assert set(local.outcomes or ()) == {"local"}
    (cloud,) = (row for row in run.of("cloud") if row.item_id == "q1")
    assert cloud.cloud_usd and set(cloud.outcomes or ()) == {"document"}
    assert all(row.outcomes == {} for row in run.of("rag"))
    assert [p.n_done for p in place.told] == list(range(1, 22))
    assert place.told[-1].eta_s == 0


async def test_readings_are_shared_but_counted_for_each(place: Place) -> None:
    result = await place.run(plan("local", "ladder@0.5", items=ITEMS[:1]))
    local, ladder = result.rows
    assert local.local_tokens == ladder.local_tokens != 0


async def test_done_rows_are_not_asked_again(place: Place) -> None:
    await place.run(plan("cloud", items=ITEMS[:2]))
    n_paid = len(place.sim.ledger())
    result = await place.run(plan("cloud", "rag", use_cache=False))
    assert [row.strategy for row in result.rows].count("cloud") == 3
    assert len(place.sim.ledger()) == n_paid + 1 + 3


async def test_the_same_request_is_paid_once_and_counted_as_if_bought(place: Place) -> None:
    first = await place.run(plan("cloud"), "one")
    n_paid = len(place.sim.ledger())
    second = await place.run(plan("cloud"), "two")
    assert len(place.sim.ledger()) == n_paid
    for bought, kept in zip(first.rows, second.rows, strict=True):
        assert (bought.n_cached_calls, kept.n_cached_calls) == (0, 1)
        assert bought.paid_usd == bought.cloud_usd == kept.cloud_usd != 0
        assert kept.paid_usd == 0
        assert (bought.answer, bought.cloud_tokens) == (kept.answer, kept.cloud_tokens)
    await place.run(plan("cloud", use_cache=False), "three")
    assert len(place.sim.ledger()) == 2 * n_paid


async def test_errors_are_outcomes_and_can_be_tried_again(place: Place) -> None:
    place.sim.fail_with(fault(FaultKind.REFUSAL))
    missing = replace(
        ITEMS[0], item_id="gone", documents=(ItemDocument(name="no.pdf", path=Path("no.pdf")),)
    )
    items = (missing, *ITEMS)
    first = await place.run(plan("cloud", items=items))
    gone, refused, *fine = first.rows
    assert (gone.outcome, refused.outcome) == ("error", "error")
    assert gone.error is not None and "no file" in gone.error and gone.cloud_usd == 0
    assert refused.error is not None and "refused" in refused.error
    assert refused.cloud_usd and not refused.correct and refused.trace_id
    assert {row.outcome for row in fine} <= {"answered", "abstained"}
    assert len((await place.run(plan("cloud", items=items))).rows) == 4
    again = await place.run(plan("cloud", items=items, retry_errors=True, use_cache=False))
    outcomes = {row.item_id: row.outcome for row in again.rows}
    assert outcomes["gone"] == "error" and outcomes["q1"] == "answered"


async def test_the_budget_is_a_hard_stop_that_can_be_raised(place: Place) -> None:
    """One call of each item may cost its worst price; the second is no longer covered."""
    async with place.app() as app:
        worst = app.desk.terms.price_usd(2000, app.desk.terms.max_output_tokens)
    assert worst is not None
    stopped = await place.run(plan("cloud", budget_usd=worst, parallel=2))
    assert stopped.stopped is not None and "--budget-usd" in stopped.stopped
    assert 0 < len(stopped.rows) < 3 and stopped.n_missing == 3 - len(stopped.rows)
    paid = [Decimal(str(row.paid_usd)) for row in stopped.rows]
    assert 0 < sum(paid) <= worst
    again = await place.run(plan("cloud", budget_usd=worst))
    assert again.stopped is not None and len(again.rows) >= len(stopped.rows)
    keys = [call["idempotency_key"] for call in place.sim.ledger()]
    done = await place.run(plan("cloud", budget_usd=Decimal(1)))
    assert done.stopped is None and len(done.rows) == 3
    later = [call["idempotency_key"] for call in place.sim.ledger()][len(keys) :]
    assert not set(keys) & set(later)


async def test_a_budget_needs_a_price(place: Place) -> None:
    with pytest.raises(PriceUnknown, match="--budget-usd"):
        await place.run(plan("cloud", budget_usd=Decimal(1)), cloud_model="no-such-model")


async def test_a_judge_without_a_price_under_a_budget_ends_the_run(place: Place) -> None:
    with pytest.raises(PriceUnknown, match="price of this cloud model is unknown"):
        await place.run(plan("cloud", judge="no-such-model", budget_usd=Decimal(1), parallel=2))


async def test_a_judge_that_says_nothing_usable_leaves_answers_unscored(place: Place) -> None:
    fine, bad = fault(FaultKind.SLOW, delay_s=0), fault(FaultKind.BAD_ANSWER)
    place.sim.fail_with(fine, bad, bad, fine, bad, bad)
    result = await place.run(plan("cloud", judge="gpt-4.1-mini"))
    judged = [row for row in result.rows if row.judge is not None]
    assert [row.item_id for row in judged] == ["q1", "q2"]
    for row in judged:
        assert row.judge is not None and row.judge["verdict"] == "unscored"
        assert "judge" not in row.scores and row.judge["usd"] > 0
    assert len(place.sim.ledger()) == 3 + 2 * 2  # each verdict was asked for twice


@pytest.mark.parametrize(
    ("second", "changes", "message"),
    [
        (plan("local", seed=1), {}, "seed 0, and this one has 1"),
        (plan("local"), {"cloud_model": "gpt-4.1-mini"}, "cloud 'gpt-4.1'"),
        (plan("local", items=ITEMS[1:]), {}, "a row of 'q1', which is not among"),
        (replace(plan("local"), strategies=parse_strategies(["local"], Options(redact=True))), {},
         "`local` with other options"),
    ],
)  # fmt: skip
async def test_another_run_in_the_same_folder_is_refused(
    place: Place, second: Plan, changes: dict[str, Any], message: str
) -> None:
    await place.run(plan("local"))
    with pytest.raises(BadRequest, match=message):
        await place.run(second, **changes)


async def test_a_run_grows_by_items_and_strategies(place: Place) -> None:
    await place.run(plan("local", items=ITEMS[:1]))
    grown = await place.run(plan("ladder@0.5"))
    assert [(row.item_id, row.strategy) for row in grown.rows][:2] == [
        ("q1", "local"),
        ("q1", "ladder@0.5"),
    ]
    assert grown.manifest.labels == ("local", "ladder@0.5")
    assert (grown.manifest.n_items, grown.n_missing) == (3, 2)


async def test_a_cloud_is_asked_for_before_anything_is_done(place: Place) -> None:
    with pytest.raises(BadRequest, match="cloud, rag: this needs a cloud"):
        await place.run(plan("local", "cloud", "rag"), cloud_url=None)
    assert not (place.folder / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["own"], "Say where own is: --data"),
        (["own", "--data", "no.csv"], "There is no table no.csv"),
        (["generated", "--documents", "1", "--strategy", "magic"], "there is local"),
        (["generated", "--documents", "1", "--strategy", "cloud"], "this needs a cloud"),
        (["generated", "--documents", "1", "--budget-usd", "much"], "--budget-usd must be dollars"),
    ],
)
def test_wrong_commands_are_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    where = ["--out", str(tmp_path / "run"), "--state-dir", str(tmp_path), "--model", "scripted"]
    done = CliRunner().invoke(evaluation, ["run", *arguments, *where])
    assert isinstance(done.exception, MinionsError) and message in str(done.exception)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["oracle"], "there is local, cloud"),
        (["local@0.5"], "only the ladder has a target"),
        (["ladder/nothing"], "worth dollars, such as 0.05"),
        (["ladder:local"], "the rungs to buy are evidence, passages, document"),
        (["ladder@1.5"], "chance from 0 to 1"),
        (["ladder@high"], "chance from 0 to 1"),
        (["ladder", "ladder@0.75"], "`ladder@0.75` is given twice"),
    ],
)
def test_wrong_strategies_are_refused(labels: list[str], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        parse_strategies(labels, Options())


async def test_a_rung_that_is_bought_for_every_question_is_labelled(place: Place) -> None:
    result = await place.run(plan("ladder:passages", items=ITEMS[:2]))
    assert all(set(row.outcomes or ()) == {"local", "passages"} for row in result.rows)
    assert all(row.rung == "passages" for row in result.rows)


def test_a_ladder_by_what_an_answer_is_worth() -> None:
    (ladder,) = parse_strategies(["ladder/0.05"], Options())
    assert (ladder.label, ladder.options.value_usd) == ("ladder/0.05", Decimal("0.05"))


def test_a_ladder_without_a_target_takes_the_users() -> None:
    (ladder,) = parse_strategies(["ladder"], Options(target=0.9))
    assert (ladder.label, ladder.spec.options["target"]) == ("ladder@0.9", 0.9)
