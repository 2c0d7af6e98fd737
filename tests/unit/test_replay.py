"""Labelled runs from row files, the replay of them, and both commands."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from eval.datasets.recorded_answers import FILE, load_pair
from eval.labelled import (
    LabelledRun,
    RungOutcome,
    observed_outcomes,
    observed_signals,
    read_labelled,
)
from eval.replay import Prices, apgr, reliability, replay
from eval.score import expected_calibration_error
from minions.cli.eval_calibrate import (
    calibrate,
    parse_prices,
    parse_thresholds,
)
from minions.cli.eval_calibrate import replay as replay_command
from minions.errors import BadRequest, MinionsError, NotFound
from minions.profiles import read_calibration
from router import Rung, StaleCalibration
from tests.labelled import CLOUD, KEY, draw_runs
from tests.unit.test_router import GOOD

DATA = Path(os.environ.get("MINIONS_DATA", Path(__file__).parents[3] / "shared" / "data"))
COMMANDS = typer.Typer()
COMMANDS.command("calibrate")(calibrate)
COMMANDS.command("replay")(replay_command)


def as_row(run: LabelledRun, *rungs: Rung) -> dict[str, Any]:
    """A row of a run that labelled these rungs only."""
    outcomes = {
        rung.value: {**asdict(run.outcomes[rung]), "usd": str(run.outcomes[rung].usd)}
        for rung in rungs
    }
    local = Rung.LOCAL in rungs
    return {
        "item_id": run.item_id,
        "document": run.group,
        "outcome": "answered",
        "signals": run.signals.to_json() if local else None,
        "worker": asdict(run.key) if local else None,
        "cloud": run.cloud_model,
        "outcomes": outcomes,
    }


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The same questions, once by strategy `local` and once by `cloud`."""
    runs = draw_runs(200)
    local = write_rows(tmp_path / "local.jsonl", [as_row(r, Rung.LOCAL) for r in runs])
    cloud = write_rows(tmp_path / "cloud.jsonl", [as_row(r, Rung.DOCUMENT) for r in runs])
    return [local, cloud]


def test_rows_of_one_item_are_merged_over_runs(files: list[Path]) -> None:
    assert read_labelled(files) == draw_runs(200) == read_labelled(files[::-1])
    (first, *_) = read_labelled(files[:1])
    assert set(first.outcomes) == {Rung.LOCAL} and first.cloud_model is None


def test_a_run_folder_is_read_without_what_other_strategies_sent(tmp_path: Path) -> None:
    one, two = (as_row(run, Rung.LOCAL, Rung.DOCUMENT) for run in draw_runs(2))
    rows = [{**one, "strategy": "ladder@0.75"}, {**two, "strategy": "rag"}]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert [run.item_id for run in read_labelled([tmp_path])] == ["q0"]


def test_errors_have_no_label(tmp_path: Path) -> None:
    one, two = (as_row(run, Rung.LOCAL) for run in draw_runs(2))
    path = write_rows(tmp_path / "run.jsonl", [one, {**two, "outcome": "error"}])
    assert [run.item_id for run in read_labelled([path])] == ["q0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signals": None}, "has signals and a labelled local answer"),
        ({"signals": {"answered": True}}, "q1 can't be read"),
        ({"worker": {**asdict(KEY), "model": "other"}}, "2 different workers"),
        ({"item_id": "q0", "cloud": "other", "outcomes": {"document": {}}}, "two clouds"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    one, two = (as_row(run, Rung.LOCAL, Rung.DOCUMENT) for run in draw_runs(2))
    rows = [one, {**two, **change}] if change.get("signals", 1) else [{**two, **change}]
    with pytest.raises(BadRequest, match=message):
        read_labelled([write_rows(tmp_path / "run.jsonl", rows)])


def test_files_that_are_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no run"):
        read_labelled([tmp_path / "missing.jsonl"])
    path = tmp_path / "run.jsonl"
    for text, message in (
        ("{\n", "line 1 is no JSON"),
        ("[]\n", "line 1 is no JSON object"),
        ("{}\n", "has no item_id"),
    ):
        path.write_text(text)
        with pytest.raises(BadRequest, match=message):
            read_labelled([path])


def test_a_trace_says_what_each_rung_was_worth() -> None:
    def step(name: str, **facts: Any) -> dict[str, Any]:
        return {"name": name, "facts": facts}

    said = {"answer": "Oregon", "citations": ["Oregon"], "sufficient": True}
    trace = {
        "steps": [
            step("signals", signals=GOOD.to_json(), worker=asdict(KEY), draft="Ohio"),
            step("offers", cloud=CLOUD),
            step("cloud", rung="evidence", text="I can't", call_key="k"),
            step("cloud", rung="passages", text='{"answer": null}', n_citations={"verified": 0}),
            step("cloud", rung="document", text=json.dumps(said), n_citations={"verified": 1}),
        ]
    }
    offers = [
        {"rung": "passages", "expected_usd": None, "prompt_tokens": 900},
        {"rung": "document", "expected_usd": 0.25, "prompt_tokens": 9000},
    ]
    found = observed_outcomes({"offers": offers}, trace, lambda answer: answer == "Oregon")
    assert found == {
        "local": {
            "correct": False,
            "abstained": False,
            "verified": True,
            "usd": "0",
            "prompt_tokens": 0,
        },
        "passages": {
            "correct": False,
            "abstained": True,
            "verified": False,
            "usd": None,
            "prompt_tokens": 900,
        },
        "document": {
            "correct": True,
            "abstained": False,
            "verified": True,
            "usd": "0.25",
            "prompt_tokens": 9000,
        },
    }
    seen = observed_signals(trace)
    assert (seen["signals"], seen["worker"], seen["cloud"]) == (GOOD.to_json(), asdict(KEY), CLOUD)
    assert observed_signals({"steps": []}) == {"signals": None, "worker": None, "cloud": None}


def known_runs() -> list[LabelledRun]:
    """Four questions, too few to learn from; the prior ranks the well-cited answers first."""
    good, bad = GOOD, replace(GOOD, verified=False, answer_in_quote=False)
    table = [(good, True, True), (good, False, True), (bad, False, True), (bad, False, False)]
    return [
        LabelledRun(
            item_id=f"q{i}",
            group=f"d{i}",
            key=KEY,
            cloud_model=CLOUD,
            signals=signals,
            outcomes={
                Rung.LOCAL: RungOutcome(correct=local),
                Rung.DOCUMENT: RungOutcome(
                    correct=cloud, usd=Decimal("0.10"), prompt_tokens=10_000
                ),
            },
        )
        for i, (signals, local, cloud) in enumerate(table)
    ]


def test_the_replay_of_four_questions_by_hand() -> None:
    found = replay(known_runs(), alpha=0.5, thresholds=(0.0, 0.6, 1.0))
    assert (found.n, found.source) == (4, "prior")
    assert (found.local_accuracy, found.cloud_accuracy) == (0.25, 0.75)
    assert (found.oracle_accuracy, found.cloud_only_usd) == (0.75, pytest.approx(0.4))
    everything, half, nothing = found.curve
    assert (everything.kept_local, everything.accuracy, everything.usd) == (1.0, 0.25, 0.0)
    assert (half.kept_local, half.accuracy, half.loss) == (0.5, 0.5, 0.25)
    assert half.usd == pytest.approx(0.2) and half.relative_accuracy == pytest.approx(2 / 3)
    assert (nothing.kept_local, nothing.relative_accuracy, nothing.loss) == (0.0, 1.0, 0.0)
    assert half.of_cloud.value == pytest.approx(2 / 3)
    assert half.usd_of_cloud.value == pytest.approx(0.5)
    assert nothing.of_cloud.low == nothing.of_cloud.high == nothing.usd_of_cloud.value == 1.0


def test_other_prices_are_what_ifs_and_unknown_ones_stay_unknown() -> None:
    runs = known_runs()
    flat = replay(runs, alpha=0.5, prices=Prices(per_question={Rung.DOCUMENT: Decimal("0.01")}))
    assert flat.cloud_only_usd == pytest.approx(0.04)
    tokens = Prices(input_usd=Decimal(2), output_usd=Decimal(10))
    assert replay(runs, alpha=0.5, prices=tokens).cloud_only_usd == pytest.approx(4 * 0.0215)
    document = replace(runs[0].outcomes[Rung.DOCUMENT], usd=None)
    unpriced = replace(runs[0], outcomes={**runs[0].outcomes, Rung.DOCUMENT: document})
    assert replay([unpriced, *runs[1:]], alpha=0.5).cloud_only_usd is None


def test_rows_without_a_cloud_label_are_counted() -> None:
    runs = known_runs()
    local_only = replace(runs[0], outcomes={Rung.LOCAL: runs[0].outcomes[Rung.LOCAL]})
    found = replay([local_only, *runs[1:]], alpha=0.5)
    assert (found.n, found.n_without_cloud) == (3, 1)
    with pytest.raises(BadRequest, match="No row has a labelled answer at `evidence`"):
        replay(runs, alpha=0.5, rung=Rung.EVIDENCE)


def test_a_replay_is_cross_fitted_and_watches_its_risk() -> None:
    found = replay(draw_runs(300, n_documents=60), alpha=0.1)
    assert found.source == "cross-fitted"
    assert found.apgr is not None and found.apgr > 0.6
    assert found.risk.threshold.n_units == 60 and found.risk.n_splits == 200
    assert found.risk.mean_loss is not None and found.risk.mean_loss <= 0.1
    assert found.risk.violation_rate is not None and found.risk.violation_rate < 0.5
    losses = [point.loss for point in found.curve]
    assert losses == sorted(losses, reverse=True) and losses[-1] == 0


def test_too_few_documents_for_an_alpha_are_said() -> None:
    found = replay(known_runs(), alpha=0.05)
    assert found.risk.threshold.value is None and found.risk.n_splits == 0
    assert "at least 19 needed" in found.risk.threshold.reason
    assert found.risk.mean_loss is None and found.risk.violation_rate is None


def test_apgr_of_an_oracle_a_coin_and_a_fool() -> None:
    local, cloud = [True] * 5 + [False] * 5, [True] * 10
    assert apgr([0.9] * 5 + [0.1] * 5, local, cloud) == pytest.approx(0.75)
    assert apgr([0.5] * 10, local, cloud) == pytest.approx(0.5)
    assert apgr([0.1] * 5 + [0.9] * 5, local, cloud) == pytest.approx(0.25)
    assert apgr([0.5] * 10, cloud, local) is None


def test_reliability_bins_are_those_of_the_calibration_error() -> None:
    chances = [0.0, 0.1, 0.1000001, 0.55, 0.6, 1.0]
    right = [False, True, False, True, True, True]
    bins = reliability(chances, right)
    assert [(bar.low, bar.n) for bar in bins] == [(0.0, 2), (0.1, 1), (0.5, 2), (0.9, 1)]
    error = sum(bar.n * abs(bar.mean_p - bar.accuracy) for bar in bins) / len(chances)
    assert error == pytest.approx(expected_calibration_error(chances, right))


def test_calibrate_then_replay_from_the_command_line(files: list[Path], tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    runs = [str(path) for path in files]
    made = CliRunner().invoke(COMMANDS, ["calibrate", *runs, "--out", str(profile), "--json"])
    assert made.exit_code == 0, made.output
    figures = json.loads(made.output)
    assert figures["key"] == asdict(KEY) and figures["n_labels"] == 200
    assert figures["cross_validated"]["auroc"] > 0.7
    assert read_calibration(profile).key == KEY
    options = ["--alpha", "0.2", "--profile", str(profile), "--thresholds", "0.7,0.5", "--json"]
    again = CliRunner().invoke(COMMANDS, ["replay", *runs, *options])
    assert again.exit_code == 0, again.output
    found = json.loads(again.output)
    assert found["source"] == "profile"
    assert [point["threshold"] for point in found["curve"]] == [0.5, 0.7]
    for command in (["calibrate", *runs, "--out", str(profile)], ["replay", *runs]):
        shown = CliRunner().invoke(COMMANDS, command)
        assert shown.exit_code == 0 and "alpha" in shown.output


def test_commands_say_what_is_wrong(files: list[Path], tmp_path: Path) -> None:
    def error(*arguments: str) -> str:
        result = CliRunner().invoke(COMMANDS, ["replay", str(files[0]), *arguments])
        assert isinstance(result.exception, MinionsError)
        return str(result.exception)

    assert "--alpha is a share" in error("--alpha", "5")
    assert "both --weak and --strong" in error("--weak", "a")
    assert "There is no profile" in error("--profile", str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{}")
    assert "can't be used as a profile" in error("--profile", str(tmp_path / "bad.json"))
    assert "strategy that buys it" in error()


def test_a_profile_of_another_worker_is_not_replayed(files: list[Path], tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    runs = [str(path) for path in files]
    CliRunner().invoke(COMMANDS, ["calibrate", *runs, "--out", str(profile)])
    kept = json.loads(profile.read_text())
    profile.write_text(json.dumps({**kept, "key": {**kept["key"], "quantisation": "Q4_0"}}))
    with pytest.raises(StaleCalibration, match="Q4_0"):
        replay(draw_runs(60), alpha=0.1, calibration=read_calibration(profile))
    result = CliRunner().invoke(COMMANDS, ["replay", *runs, "--profile", str(profile)])
    assert isinstance(result.exception, BadRequest) and "Q4_0" in str(result.exception)


def test_prices_and_thresholds_as_typed() -> None:
    assert parse_prices(None) == Prices()
    assert parse_prices("local=0.001,document=0.2") == Prices(
        per_question={Rung.LOCAL: Decimal("0.001"), Rung.DOCUMENT: Decimal("0.2")}
    )
    tokens = parse_prices("input=2.5, output=10")
    assert (tokens.input_usd, tokens.output_usd) == (Decimal("2.5"), Decimal(10))
    for text in ("document", "document=-1", "document=nan", "moon=1", "input=2"):
        with pytest.raises(BadRequest, match="--prices"):
            parse_prices(text)
    assert parse_thresholds("0.9,0.5") == (0.5, 0.9)
    for text in ("high", "1.5", "nan", ""):
        with pytest.raises(BadRequest, match="--thresholds"):
            parse_thresholds(text)


def test_recorded_answers_make_weak_to_strong_pairs(tmp_path: Path) -> None:
    def row(config: str, number: int, answer: str, correct: bool) -> dict[str, Any]:
        return {
            "financebench_id": f"q{number}",
            "config": config,
            "question": "How much is it?",
            "model_answer": answer,
            "correct": correct,
        }

    rows = [row("small", 1, "I'm sorry", False), row("small", 2, "$5", True)]
    write_rows(tmp_path / FILE, [*rows, row("large", 1, "$7", True)])
    (pair,) = load_pair(tmp_path, "small", "large")
    assert (pair.group, pair.key.model, pair.cloud_model) == ("q1", "small", "large")
    assert pair.signals.hedged and not pair.local_correct
    with pytest.raises(BadRequest, match="there are large, small"):
        load_pair(tmp_path, "tiny", "large")


def test_real_recorded_answers_are_replayed() -> None:
    """Signals of text alone: strong where the weak model refuses honestly, weak where it
    invents."""
    folder = DATA / "financebench"
    if not (folder / FILE).is_file():
        pytest.skip(f"no {FILE} under {folder}: set MINIONS_DATA to the data's folder")
    strong = "gpt-4-1106-preview_inContext_reverse"
    refuses = replay(load_pair(folder, "gpt-4_sharedStore", strong), alpha=0.1)
    invents = replay(load_pair(folder, "llama2_singleStore", strong), alpha=0.1)
    assert refuses.source == invents.source == "cross-fitted"
    assert refuses.quality.auroc is not None and invents.quality.auroc is not None
    assert refuses.quality.auroc > 0.85 > invents.quality.auroc
    assert refuses.cloud_only_usd is None
