"""The project's own experiment: its questions, its price, its page."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from eval.datasets.registry import Dataset
from eval.experiment_page import Account, experiment_page
from eval.experiment_plan import (
    AIMED,
    CARD,
    N_CONTRACTS,
    N_GENERATED,
    N_LEARN_CONTRACTS,
    PER_CONTRACT,
    PER_GENERATED,
    Experiment,
    Quote,
    learn,
    load_experiment,
    quote,
)
from eval.plan import Plan
from eval.report.figures import run_figures
from eval.rows import read_run
from eval.run import run_plan
from eval.strategies import parse_strategies
from minions.app import open_app
from minions.cloud.prices import GenaiPrices
from minions.errors import BadRequest
from minions.question import Options
from minions.settings import Settings
from tests.cloud import sim_running
from tests.unit.test_datasets_formats import LEASE, write_rows
from workers.nano.splits import training_contracts

N_MADE = 57


def write_contracts(folder: Path, n: int, known: Sequence[str] = ()) -> Path:
    """`n` contracts with four questions each, half of them answered; the first are called as in
    `known`."""
    names = [*known, *(f"lease {number}" for number in range(len(known), n))]
    texts = [f"{LEASE} No. {name}." for name in names]
    contracts = [{"doc_id": a, "text": b} for a, b in zip(names, texts, strict=True)]
    span = {"text": "Ada Quill", "start": LEASE.index("Ada"), "end": LEASE.index("Ada") + 9}
    questions = [
        {
            "item_id": f"{name}::{k}",
            "doc_id": name,
            "category": f"clause {k}",
            "question": f"Who is the tenant in version {k}?",
            "answerable": k < 2,
            "answer": "Ada Quill" if k < 2 else "",
            "evidence": [span] if k < 2 else [],
        }
        for name in names
        for k in range(4)
    ]
    write_rows(folder / "contracts.jsonl.gz", contracts)
    write_rows(folder / "questions.jsonl.gz", questions)
    return folder


def test_learning_and_testing_are_on_different_documents(tmp_path: Path) -> None:
    found = load_experiment(write_contracts(tmp_path, N_MADE))
    test = {item.document_name for item in found.test.items}
    learnt = {item.document_name for item in found.learn.items}
    assert not test & learnt
    assert len(test) == N_CONTRACTS + N_GENERATED
    assert sum(name.startswith("lease") for name in learnt) == N_LEARN_CONTRACTS
    assert len(found.test.items) == N_CONTRACTS * PER_CONTRACT + N_GENERATED * PER_GENERATED
    kinds = {item.kind for item in found.test.items}
    assert kinds == {
        f"{origin}, {what}"
        for origin in ("held-out contract", "generated")
        for what in ("stated", "absent")
    }
    assert found.n_held_out == N_CONTRACTS  # nobody was trained on these


def test_contracts_that_the_worker_knows_are_told_apart(tmp_path: Path) -> None:
    known = sorted(training_contracts())[:37]
    found = load_experiment(write_contracts(tmp_path, N_MADE, known))
    assert found.n_held_out == N_MADE - len(known) == 20
    of_kind = {item.document_name: item.kind for item in found.test.items}
    trained = {name.removesuffix(".txt") for name, kind in of_kind.items() if kind[0] == "c"}
    assert len(trained) == N_CONTRACTS - found.n_held_out and trained <= set(known)


def test_too_few_contracts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="holds 5 contracts; the experiment needs 54"):
        load_experiment(write_contracts(tmp_path, 5))


def small(tmp_path: Path) -> Experiment:
    whole = load_experiment(write_contracts(tmp_path / "data", N_MADE))
    items = [item for item in whole.test.items if item.document_name.startswith("lease")][:6]
    part = Dataset(card=CARD, items=tuple(items))
    return Experiment(learn=part, test=part, n_held_out=2)


async def test_the_quote_is_no_less_than_what_is_paid(tmp_path: Path) -> None:
    experiment = small(tmp_path)
    with sim_running() as sim:
        settings = Settings(state_dir=tmp_path, model="scripted", cloud_url=sim.base_url)
        async with open_app(settings) as app:
            said: list[str] = []
            quoted = await quote(app, experiment, 500, said.append)
            strategies = parse_strategies(["cloud", "rag", "minions"], Options())
            plan = Plan(dataset=experiment.test, strategies=strategies)
            result = await run_plan(app, plan, tmp_path / "run", lambda _: None)
    paid = sum(Decimal(str(row.paid_usd)) for row in result.rows)
    assert 0 < paid < quoted.usd
    assert said[-1] == "12/12" and quoted.n_questions == 12


async def test_the_page_says_what_the_run_says(tmp_path: Path) -> None:
    experiment = small(tmp_path)
    with sim_running() as sim:
        settings = Settings(state_dir=tmp_path, model="scripted", cloud_url=sim.base_url)
        async with open_app(settings) as app:
            plan = Plan(
                dataset=experiment.test,
                strategies=parse_strategies(["local", "cloud", "ladder@0.75", AIMED], Options()),
            )
            await run_plan(app, plan, tmp_path / "run", lambda _: None)
    learnt = learn([tmp_path / "run"])
    assert isinstance(learnt, str) and "Too few labels" in learnt
    figures = run_figures(read_run(tmp_path / "run"))
    account = Account(
        experiment=experiment,
        learnt=learnt,
        relevance="too few claims",
        prices=GenaiPrices(),
        quote=Quote(usd=Decimal("12.3"), n_questions=12, document_tokens=3456),
        command="minions eval experiment",
        minutes=7.4,
        made_on="2026-01-01",
        simulated=True,
    )
    page = experiment_page(figures, account)
    assert "documented prior was used" in page and "took 7 minutes" in page
    assert "The cloud is a simulator" in page and "--budget-usd 16" in page
    for label in ("local", "cloud", "ladder@0.75", AIMED):
        assert f"| `{label}` |" in page
    assert f"It was asked of `{AIMED}`" in page and f"`{AIMED}` kept" in page
    assert "The other settings: `ladder@0.75` kept" in page
    tables = [block for block in page.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
