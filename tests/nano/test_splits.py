"""Validation documents are chosen by document, from a seed, and recorded."""

from __future__ import annotations

from pathlib import Path

from workers.nano.splits import (
    N_VALIDATION_CONTRACTS,
    VALIDATION_SHARE,
    is_validation,
    training_contracts,
    validation_contracts,
)

RECORDED = Path(__file__).parents[2] / "workers" / "nano" / "validation_contracts.txt"


def test_the_choice_depends_on_ids_only() -> None:
    ids = [f"contract {i}" for i in range(115)]
    chosen = validation_contracts(ids)
    assert chosen == validation_contracts(reversed(ids))
    assert len(set(chosen)) == N_VALIDATION_CONTRACTS
    assert set(chosen) < set(ids)


def test_about_the_right_share_of_papers_is_kept_back() -> None:
    share = sum(is_validation(str(i)) for i in range(2000)) / 2000
    assert abs(share - VALIDATION_SHARE) < 0.03


def test_no_contract_is_on_both_sides() -> None:
    trained = training_contracts()
    assert len(trained) == 100
    assert not trained & set(RECORDED.read_text(encoding="utf-8").splitlines())


def test_the_recorded_contracts_choose_themselves() -> None:
    recorded = RECORDED.read_text(encoding="utf-8").splitlines()
    assert len(recorded) == N_VALIDATION_CONTRACTS
    assert validation_contracts(recorded) == sorted(recorded)
