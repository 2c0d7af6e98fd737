"""Profiles: fitted on labelled runs, kept as JSON, refused when stale, honest on new documents."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.calibrate import CalibrationReport, calibrate, hold_back, quality
from eval.chance_fit import fit_chance
from eval.labelled import LabelledRun
from minions.errors import BadRequest
from router import (
    Calibration,
    Rung,
    StaleCalibration,
    chances,
    conformal_threshold,
    p_answer,
    p_cloud,
    p_cloud_answer,
    p_local,
)
from router.profile import along
from tests.labelled import CLOUD, KEY, draw_runs
from tests.unit.test_router import CLOUD_RUNGS, GOOD, signals

FIELDS = ("model", "model_sha256", "quantisation", "prompt_version")


@cache
def fitted(n: int = 300) -> CalibrationReport:
    return calibrate(draw_runs(n))


def right(runs: list[LabelledRun]) -> list[bool]:
    return [run.local_correct for run in runs]


@pytest.mark.parametrize(("n", "ece"), [(300, 0.09), (1200, 0.05)])
def test_a_profile_is_calibrated_and_ranks_on_new_documents(n: int, ece: float) -> None:
    """On 1,200 labels the curve is isotonic, on 300 a beta curve."""
    fresh = draw_runs(2000, seed=7)
    local = fitted(n).calibration.local
    found = quality([local.of(run.signals) for run in fresh], right(fresh))
    assert found.ece < ece
    assert found.auroc is not None and found.auroc > 0.86
    prior = quality([p_local(run.signals) for run in fresh], right(fresh))
    assert found.brier < prior.brier


def test_what_is_reported_is_about_what_new_documents_show() -> None:
    fresh = draw_runs(2000, seed=8)
    report = fitted(1200)
    local = report.calibration.local
    found = quality([local.of(run.signals) for run in fresh], right(fresh))
    assert report.calibration.quality.brier == pytest.approx(found.brier, abs=0.03)
    assert report.held_back is not None
    assert report.held_back.n + report.calibration.quality.n == report.n_labels == 1200


def test_thresholds_come_from_documents_that_the_fit_never_saw() -> None:
    runs = draw_runs(300)
    rest, held_back = hold_back(runs, 0.3, seed=0)
    assert not {run.group for run in rest} & {run.group for run in held_back}
    assert {row.group for row in fitted().calibration.risk_rows} == {r.group for r in held_back}
    assert hold_back(draw_runs(60), 0.3, seed=0)[1] == []


def test_a_threshold_keeps_its_promise_on_new_documents() -> None:
    """One fit only, so with the slack that 60 held-back documents leave."""
    report = calibrate(draw_runs(1200, seed=3, n_documents=200))
    threshold = conformal_threshold(report.calibration.risk_rows, 0.05)
    assert threshold.n_units == 60 and threshold.value is not None
    fresh = draw_runs(2000, seed=9)
    lost = [
        threshold.keeps(report.calibration.local.of(run.signals))
        and not run.local_correct
        and run.outcomes[Rung.DOCUMENT].correct
        for run in fresh
    ]
    assert 0.01 < sum(lost) / len(lost) < 0.08


def test_a_profile_goes_through_json() -> None:
    calibration = fitted().calibration
    kept = json.loads(json.dumps(calibration.to_json()))
    assert Calibration.from_json(kept) == calibration


@pytest.mark.parametrize("field", FIELDS)
def test_a_stale_profile_is_refused_and_says_what_differs(field: str) -> None:
    other = replace(KEY, **{field: "another"})
    with pytest.raises(StaleCalibration, match="another") as caught:
        chances(GOOD, fitted().calibration, other, CLOUD)
    assert set(caught.value.differences) == {field}
    assert caught.value.differences[field][1] == "another"


def broken(**changes: Any) -> dict[str, Any]:
    return {**fitted().calibration.to_json(), **changes}


def test_a_file_that_is_no_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="no calibration of format 1"):
        Calibration.from_json({"hello": "world"})
    with pytest.raises(StaleCalibration, match="features"):
        Calibration.from_json(broken(features=0))
    with pytest.raises(ValueError, match="KeyError 'curve'"):
        Calibration.from_json(broken(local={"intercept": 0, "weights": [], "n_labels": 1}))
    local = fitted().calibration.to_json()["local"]
    with pytest.raises(ValueError, match="monotone"):
        Calibration.from_json(broken(local={**local, "curve": [[0.1, 0.9], [0.5, 0.2]]}))
    odd = {**local["weights"][0], "feature": "phase_of_the_moon"}
    with pytest.raises(ValueError, match="phase_of_the_moon"):
        Calibration.from_json(broken(local={**local, "weights": [odd]}))


@given(signals)
def test_without_a_profile_the_prior_is_used_and_says_so(s: Any) -> None:
    found = chances(s, None, KEY, CLOUD)
    assert (found.p_local, found.source) == (p_local(s), "prior")
    for rung in CLOUD_RUNGS:
        assert found.cloud[rung].p_correct == p_cloud(rung, s)
        assert found.cloud[rung].p_fixes is None
        assert found.cloud[rung].source == "prior"


@given(signals)
def test_calibrated_chances_are_probabilities_between_fix_and_keep(s: Any) -> None:
    found = chances(s, fitted().calibration, KEY, CLOUD)
    assert 0 <= found.p_local <= 1 and found.source == "calibrated"
    cloud = found.cloud[Rung.DOCUMENT]
    assert cloud.source == "calibrated"
    assert cloud.p_fixes is not None and cloud.p_keeps is not None
    low, high = sorted((cloud.p_fixes, cloud.p_keeps))
    assert low - 1e-9 <= cloud.p_correct <= high + 1e-9


def test_rungs_without_labels_and_other_clouds_fall_back_to_the_prior() -> None:
    calibration = fitted().calibration
    assert chances(GOOD, calibration, KEY, CLOUD).cloud[Rung.EVIDENCE].source == "prior"
    other = chances(GOOD, calibration, KEY, "another-cloud")
    assert other.source == "calibrated"
    assert all(chance.source == "prior" for chance in other.cloud.values())
    rung = Rung.DOCUMENT
    known = p_answer(rung, calibration, CLOUD, abstained=False, verified=True)
    assert known[1] == "calibrated" and known[0] > 0.8
    doubtful = p_answer(rung, calibration, CLOUD, abstained=False, verified=False)
    assert doubtful[0] < known[0]
    for abstained in (True, False):
        prior = p_cloud_answer(rung, abstained=abstained, verified=False)
        found = p_answer(rung, None, CLOUD, abstained=abstained, verified=False)
        assert found == (prior, "prior")


def test_what_the_labels_say_of_the_cloud() -> None:
    (known,) = fitted(1200).calibration.rungs
    assert known.keeps == pytest.approx(0.95, abs=0.04)
    assert known.noticed == pytest.approx(0.6, abs=0.1)


@pytest.mark.parametrize(
    ("runs", "missing"),
    [
        (draw_runs(49), "49 labelled questions, at least 50"),
        (draw_runs(200, n_documents=4), "4 documents, at least 5"),
        ([run for run in draw_runs(300) if run.local_correct], "0 of the rarer"),
    ],
)
def test_too_few_labels_are_refused_with_the_reason(runs: list[LabelledRun], missing: str) -> None:
    with pytest.raises(BadRequest, match=missing):
        calibrate(runs)


def test_too_few_of_a_class_give_the_base_rate_whatever_the_signals() -> None:
    runs = draw_runs(30)
    labels = [i < 3 for i in range(30)]
    chance = fit_chance([r.signals for r in runs], labels, [r.group for r in runs])
    assert {chance.of(run.signals) for run in runs} == {4 / 32}


@given(st.floats(-1, 2), st.floats(-1, 2))
def test_curves_never_fall(one: float, other: float) -> None:
    low, high = sorted((one, other))
    for n in (300, 1200):
        curve = fitted(n).calibration.local.curve
        assert along(curve, low) <= along(curve, high)
        assert all(a < b for (a, _), (b, _) in pairwise(curve))
        assert along(curve, low) > 0 and along(curve, high) < 1
