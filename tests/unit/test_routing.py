"""Learning the chat router: files, leaks, what is learned, the command's figures."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from eval.datasets.routing import Duel, load_duels
from eval.deferral import deferral_curve
from eval.routing import fit_and_score, fit_main_profile, forecast_others, score_set
from eval.routing_fit import Forecasts, cross_fitted, fit_profile, prepare, topic_means
from minions.cli.eval_routing import routing
from minions.errors import BadRequest, NotFound
from router.chat import Forecast
from router.chat_profile import ChatProfile

DATA = Path(os.environ.get("MINIONS_DATA", Path(__file__).parents[3] / "shared" / "data"))
MIXTRAL, GPT = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
NOUNS = ("river", "engine", "violin", "harbour", "garden", "comet", "ledger", "winter")


def duel(number: int, question: str, weak: float, strong: float, **columns: Any) -> Duel:
    settings: dict[str, Any] = {
        "item_id": f"made::{number}",
        "set_name": "made",
        "topic": "made/all",
        "weak_model": "small",
        "strong_model": "large",
        "draft": None,
        "weak_usd": Decimal(1),
        "strong_usd": Decimal(10),
        "contaminated": False,
    }
    return Duel(question=question, weak_score=weak, strong_score=strong, **{**settings, **columns})


def made(n: int, seed: int = 0) -> list[Duel]:
    """Questions that the weak model gets wrong when they ask for a proof, nine times in ten."""
    rng = np.random.default_rng(seed)
    duels = []
    for number in range(n):
        hard = bool(rng.random() < 0.4)
        verb = "Prove" if hard else "Name"
        question = f"{verb} fact {rng.integers(10**6)} of the {rng.choice(NOUNS)}."
        weak = float((rng.random() < 0.9) != hard)
        draft = "However, I cannot" if weak == 0 and rng.random() < 0.8 else "#### 4"
        duels.append(duel(number, question, weak, 1.0, draft=draft))
    return duels


def apgr_of(duels: Sequence[Duel], said: Sequence[Forecasts]) -> float:
    gains = [each.gain for each in duels]
    return deferral_curve([each.question.gain for each in said], gains).apgr()


def test_what_makes_questions_hard_is_learned_and_carries_over() -> None:
    fitted_on, others = made(300), made(300, seed=1)
    said = forecast_others(fitted_on, others)
    gains = [each.gain for each in others]
    assert apgr_of(others, said) > 0.9 * deferral_curve(gains, gains).apgr()
    chances: dict[bool, list[float]] = {True: [], False: []}
    for row, forecasts in zip(others, said, strict=True):
        chances["Prove" in row.question].append(forecasts.question.p_local)
    assert np.mean(chances[True]) < 0.4
    assert np.mean(chances[False]) > 0.7


def test_the_same_question_twice_never_leaks() -> None:
    rng = np.random.default_rng(0)
    duels = []
    for number in range(150):
        question, weak = f"Fact {rng.integers(10**9)} {rng.integers(10**9)}?", rng.integers(2)
        duels.append(duel(2 * number, question, weak, 1.0))
        duels.append(duel(2 * number + 1, f"  {question.upper()}", weak, 1.0))
    assert apgr_of(duels, cross_fitted(prepare(duels))) < 0.6


def test_contaminated_rows_are_scored_but_never_learned_from() -> None:
    duels = made(120)
    poison = [replace(each, weak_score=1 - each.weak_score, contaminated=True) for each in made(99)]
    clean, poisoned = (fit_profile(prepare(rows)) for rows in (duels, [*duels, *poison]))
    assert poisoned.n_rows == clean.n_rows == 120
    for question in ("Prove fact 3 of the comet.", "Name fact 3 of the comet."):
        one, other = (each.question.forecast(question) for each in (clean, poisoned))
        assert one.gain == pytest.approx(other.gain)


def test_fitted_forecasts_survive_the_profile_file() -> None:
    fitted = fit_profile(prepare(made(120)))
    kept = ChatProfile.from_json(json.loads(json.dumps(fitted.to_json())))
    question = "Prove fact 3 of the comet."
    assert kept.question.forecast(question) == fitted.question.forecast(question)
    assert kept.draft is not None
    gains = fitted.question_gains
    assert all(a >= b for a, b in pairwise(gains))


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(BadRequest, match="49 clean recorded questions and 50"):
        prepare(made(49))


def test_topic_means_by_hand() -> None:
    targets = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    means = topic_means(targets, np.array([0, 1, 1, 1]))
    assert means[0] == pytest.approx([(1 + 20 * 0.25) / 21, (0 + 20 * 0.75) / 21])
    assert means[1] == pytest.approx([(0 + 20 * 0.25) / 23, (3 + 20 * 0.75) / 23])


def told(gain: float, *, draft: bool = True) -> Forecasts:
    said = Forecast(p_local=0.5, gain=gain)
    return Forecasts(question=said, draft=said if draft else None)


def test_dollars_of_a_cascade_include_the_weak_answers() -> None:
    rows = [duel(1, "a", 0, 1), duel(2, "b", 0, 1), duel(3, "c", 1, 1), duel(4, "d", 1, 1)]
    said = [(row, told(gain)) for row, gain in zip(rows, (0.9, 0.8, 0.2, 0.1), strict=True)]
    figures = score_set(said)
    assert figures["router"] == "draft"
    assert figures["cpt50"] == figures["question_only"]["cpt50"] == 0.25
    assert figures["cpt50_usd"] == pytest.approx((4 * 1 + 10) / 40)
    assert figures["question_only"]["cpt50_usd"] == pytest.approx((3 * 1 + 10) / 40)
    assert figures["usd_per_1000"]["strong"] == 10_000
    assert figures["random"]["apgr"] == pytest.approx(0.5)
    assert figures["oracle"]["apgr"] == figures["apgr"]


@pytest.mark.parametrize("strong_usd", [None, Decimal("0.5")])
def test_unknown_or_pointless_dollars_are_none(strong_usd: Decimal | None) -> None:
    rows = [duel(i, f"q{i}", i % 2, 1, strong_usd=strong_usd) for i in range(6)]
    figures = score_set([(row, told(row.gain, draft=False)) for row in rows])
    assert figures["cpt50"] is not None
    assert figures["cpt50_usd"] is None
    assert figures["cpt50_usd_interval"] is None


def test_clean_rows_count_and_all_rows_are_told() -> None:
    rows = [duel(i, f"q{i}", i % 2, 1, contaminated=i > 3) for i in range(6)]
    figures = score_set([(row, told(0.5)) for row in rows])
    assert (figures["n"], figures["n_contaminated"]) == (4, 2)
    assert figures["all_rows"]["apgr"] == pytest.approx(0.5)


def write_gsm8k(folder: Path, n: int, seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / "routellm_gsm8k.jsonl.gz", "wt", encoding="utf-8") as file:
        for one in made(n, seed):
            row = {
                "item_id": one.item_id,
                "prompt": one.question,
                "weak_model": MIXTRAL,
                "strong_model": GPT,
                "weak_correct": bool(one.weak_score),
                "strong_correct": True,
                "weak_response": one.draft,
                "strong_response": "It is 4.",
                "contaminated": False,
            }
            file.write(json.dumps(row) + "\n")
    return folder


def test_rows_are_read_with_their_prices(tmp_path: Path) -> None:
    first = load_duels(write_gsm8k(tmp_path, 3))[0]
    assert (first.set_name, first.weak_model) == ("gsm8k", MIXTRAL)
    assert first.weak_usd is not None
    assert first.strong_usd is not None
    assert first.strong_usd > 10 * first.weak_usd > 0


def test_a_folder_without_files_and_a_bad_row_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none of routellm_mmlu\.jsonl\.gz"):
        load_duels(tmp_path)
    (tmp_path / "routellm_mtbench.jsonl").write_text('{"item_id": "x"}\n')
    with pytest.raises(BadRequest, match=r"Line 1 of .*mtbench.*KeyError: 'scores'"):
        load_duels(tmp_path)


def test_scoring_models_that_were_not_learned_is_refused(tmp_path: Path) -> None:
    fit, score = write_gsm8k(tmp_path / "fit", 60), tmp_path / "score"
    score.mkdir()
    models = {name: {"score": 1, "answer": "a", "cost_usd": 0.1} for name in ("x", "y")}
    models |= {
        "claude-3-haiku-20240307": models["x"],
        "gemini-2.0-flash-001": models["y"],
    }
    row = {"item_id": "r::1", "source": "s", "prompt": "q", "models": models}
    with gzip.open(score / "routerarena_sub10.jsonl.gz", "wt") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(BadRequest, match=r"claude-3-haiku.*none to learn from"):
        fit_and_score(fit, score)


def test_the_command_scores_and_saves(tmp_path: Path) -> None:
    fit, score = write_gsm8k(tmp_path / "fit", 200), write_gsm8k(tmp_path / "score", 100, seed=1)
    saved = tmp_path / "profile.json"
    face = typer.Typer()
    face.command()(routing)
    asked = ["--fit", str(fit), "--score", str(score), "--save", str(saved), "--json"]
    reply = CliRunner().invoke(face, asked)
    assert reply.exit_code == 0, reply.output
    figures = json.loads(reply.stdout)["gsm8k"]
    assert figures["apgr"] > 0.7
    low, high = figures["apgr_interval"]
    assert low < figures["apgr"] < high
    assert figures["forecasts"] == "fitted elsewhere"
    kept = ChatProfile.from_json(json.loads(saved.read_text()))
    assert kept.fingerprint == fit_main_profile(fit).fingerprint
    table = CliRunner().invoke(face, ["--fit", str(fit), "--score", str(fit)])
    assert "apgr_interval" in table.stdout


def test_the_command_wants_something_to_do(tmp_path: Path) -> None:
    face = typer.Typer()
    face.command()(routing)
    result = CliRunner().invoke(face, ["--fit", str(tmp_path)])
    assert isinstance(result.exception, BadRequest)


def test_recorded_questions_are_ordered_better_than_published() -> None:
    """A fifth of MMLU and all of GSM8K, learned on even rows and scored on odd ones."""
    folder = DATA / "routing"
    if not (folder / "routellm_gsm8k.jsonl.gz").exists():
        pytest.skip(f"no recorded answers in {folder}: set MINIONS_DATA to the data's folder")
    duels = [each for each in load_duels(folder) if not each.contaminated]
    mmlu = [each for each in duels if each.set_name == "mmlu"][::5]
    gsm8k = [each for each in duels if each.set_name == "gsm8k"]
    fitted_on, scored = [*mmlu[::2], *gsm8k[::2]], [*mmlu[1::2], *gsm8k[1::2]]
    said = list(zip(scored, forecast_others(fitted_on, scored), strict=True))
    by_set = {
        name: score_set([pair for pair in said if pair[0].set_name == name])
        for name in ("mmlu", "gsm8k")
    }
    assert by_set["mmlu"]["apgr"] > 0.603
    assert by_set["gsm8k"]["apgr"] > 0.7
    assert by_set["gsm8k"]["router"] == "draft"
