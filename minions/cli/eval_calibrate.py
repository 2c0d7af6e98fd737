"""`minions eval calibrate` and `minions eval replay`: labelled runs to profiles and what-ifs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from eval.report.wording import number_interval, percent_interval
from minions.cli.common import JsonOption, err, out
from minions.errors import BadRequest
from minions.evidence.relevance import save_profile
from minions.profiles import read_calibration
from router import Calibration, Rung, StaleCalibration, Threshold, conformal_threshold
from router.profile import FitQuality

if TYPE_CHECKING:
    from eval.calibrate import CalibrationReport
    from eval.labelled import LabelledRun
    from eval.replay import Prices, Replay
    from eval.statistics import Reliability, ReliabilityBin

ALPHAS = (0.01, 0.02, 0.05, 0.1)
"""Losses for which `calibrate` says whether they can be promised."""

RunsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...", help="Folders of `eval run` or of the audit; an item's rows are merged."
    ),
]


def calibrate(
    runs: RunsArgument,
    profile: Annotated[Path, typer.Option("--out", help="The profile goes here.")],
    risk_share: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Share of documents held back for loss guarantees."),
    ] = 0.3,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    relevance: Annotated[
        Path | None,
        typer.Option(
            help="Also fit what the rung `evidence` sends, on runs with gold evidence; goes here."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the router's profile on labelled runs. It holds for this worker and prompt only."""
    from eval.calibrate import calibrate as fit  # scikit-learn takes a second to load
    from eval.labelled import read_labelled

    report = fit(read_labelled(runs), risk_share=risk_share, seed=seed)
    profile.write_text(json.dumps(report.calibration.to_json(), indent=1), encoding="utf-8")
    if relevance is not None:
        _write_relevance(runs, relevance)
    figures = _calibration_figures(report, profile)
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
    else:
        _show_calibration(report, profile)


def _write_relevance(runs: Sequence[Path], path: Path) -> None:
    from eval.claims import fit_on_runs

    profile = fit_on_runs(runs)
    save_profile(profile, path)
    err.print(f"[dim]{escape(str(path))}: fitted on {profile.source}[/]")


def replay(
    runs: RunsArgument,
    alpha: Annotated[
        float, typer.Option(help="Loss against the cloud alone that is allowed, 0..1.")
    ] = 0.05,
    prices: Annotated[
        str | None,
        typer.Option(
            help="RUNG=USD per question, or input=USD,output=USD per million tokens; "
            "default: as recorded.",
            metavar="NAME=USD,...",
        ),
    ] = None,
    thresholds: Annotated[
        str | None, typer.Option(help="Thresholds on P(correct), e.g. 0.5,0.7,0.9.")
    ] = None,
    rung: Annotated[Rung, typer.Option(help="What is bought instead.")] = Rung.DOCUMENT,
    profile: Annotated[
        Path | None, typer.Option(help="A fitted profile; default: fits without the own document.")
    ] = None,
    weak: Annotated[
        str | None, typer.Option(help="With RUN a folder of recorded answers: the local model.")
    ] = None,
    strong: Annotated[str | None, typer.Option(help="Likewise: the cloud.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score recorded runs under other thresholds, prices and risks. No model is called."""
    from eval.replay import THRESHOLDS
    from eval.replay import replay as score_again

    if not 0 < alpha < 1:
        raise BadRequest(f"--alpha is a share between 0 and 1, such as 0.05, not {alpha}.")
    try:
        result = score_again(
            _labelled(runs, weak, strong),
            alpha=alpha,
            thresholds=THRESHOLDS if thresholds is None else parse_thresholds(thresholds),
            prices=parse_prices(prices),
            rung=rung,
            calibration=None if profile is None else read_calibration(profile),
        )
    except StaleCalibration as error:
        raise BadRequest(str(error)) from None
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=2))
    else:
        _show_replay(result)


def parse_thresholds(text: str) -> tuple[float, ...]:
    """`0.5,0.7` as numbers in rising order. Raises BadRequest unless all lie in 0..1."""
    try:
        found = sorted(float(part) for part in text.split(","))
    except ValueError:
        found = [-1.0]
    if not all(0 <= value <= 1 for value in found):
        raise BadRequest(f"--thresholds are numbers from 0 to 1 such as 0.5,0.7,0.9, not {text!r}.")
    return tuple(found)


def parse_prices(text: str | None) -> Prices:
    """`document=0.2` or `input=2.5,output=10`. Raises BadRequest naming what is wrong."""
    from eval.replay import Prices

    given: dict[str, Decimal] = {}
    for part in text.split(",") if text else []:
        name, _, amount = part.partition("=")
        given[name.strip()] = _usd(amount, part)
    rungs = {rung: given.pop(rung.value) for rung in Rung if rung.value in given}
    per_token = {name: given.pop(name, None) for name in ("input", "output")}
    if given or len({amount is None for amount in per_token.values()}) > 1:
        raise BadRequest(
            f"--prices {text!r}: name rungs ({', '.join(Rung)}), or both `input` and `output`."
        )
    return Prices(per_question=rungs, input_usd=per_token["input"], output_usd=per_token["output"])


def _usd(amount: str, part: str) -> Decimal:
    try:
        usd = Decimal(amount)
    except InvalidOperation:
        usd = Decimal(-1)
    if not usd.is_finite() or usd < 0:
        raise BadRequest(f"--prices: {part!r} is not of the form NAME=USD, such as document=0.2.")
    return usd


def _labelled(paths: Sequence[Path], weak: str | None, strong: str | None) -> list[LabelledRun]:
    from eval.datasets.recorded_answers import load_pair
    from eval.labelled import read_labelled

    if weak is None and strong is None:
        return read_labelled(paths)
    if weak is None or strong is None or len(paths) != 1:
        raise BadRequest("Recorded answers need one folder and both --weak and --strong.")
    return load_pair(paths[0], weak, strong)


def _calibration_figures(report: CalibrationReport, profile: Path) -> dict[str, Any]:
    fitted = report.calibration
    return {
        "profile": str(profile),
        "key": asdict(fitted.key),
        "cloud_model": fitted.cloud_model,
        "n_labels": report.n_labels,
        "n_groups": report.n_groups,
        "accuracy": report.accuracy,
        "cross_validated": asdict(fitted.quality),
        "prior": asdict(report.prior),
        "reliability": {"before": asdict(report.before), "after": asdict(report.after)},
        "held_back": asdict(report.held_back) if report.held_back else None,
        "rungs": {
            known.rung.value: {
                "n_labels": known.n_labels,
                "keeps": known.keeps,
                "fix_rate_learned": bool(known.fixes.weights),
            }
            for known in fitted.rungs
        },
        "risk": [asdict(threshold) for threshold in _thresholds(fitted)],
    }


def _thresholds(calibration: Calibration) -> list[Threshold]:
    return [conformal_threshold(calibration.risk_rows, alpha) for alpha in ALPHAS]


def _show_calibration(report: CalibrationReport, profile: Path) -> None:
    fitted = report.calibration
    table = Table("P(local answer is right)", "rows", "ECE", "Brier", "AUROC", box=None)
    table.add_row("profile, cross-validated by document", *_quality_cells(fitted.quality))
    table.add_row("prior, on the same rows", *_quality_cells(report.prior))
    if report.held_back is not None:
        table.add_row("profile, on documents held back", *_quality_cells(report.held_back))
    out.print(table)
    out.print(_reliability_table(report.before, report.after))
    for threshold in _thresholds(fitted):
        at = "none" if threshold.value is None else f"{threshold.value:.3f}"
        out.print(f"[dim]alpha {threshold.alpha:g}:[/] threshold {at}; {threshold.reason}")
    out.print(f"{profile}: {report.n_labels} labels, worker {fitted.key.model}")


def _reliability_table(before: Reliability, after: Reliability) -> Table:
    """Both diagrams side by side, a bin per line, and their errors with intervals."""
    table = Table("stated before", "was right", "", "stated after", "was right", box=None)
    for one, other in zip_longest(before.bins, after.bins):
        table.add_row(*_bin_cells(one), "  ", *_bin_cells(other))
    errors = (f"[dim]error[/] {number_interval(each.ece)}" for each in (before, after))
    table.add_row(next(errors), "", "  ", next(errors), "")
    return table


def _bin_cells(one: ReliabilityBin | None) -> tuple[str, str]:
    if one is None:
        return "", ""
    return f"{one.mean_p:.3f} ({one.n})", number_interval(one.accuracy)


def _quality_cells(quality: FitQuality) -> tuple[str, str, str, str]:
    ranked = "unknown" if quality.auroc is None else f"{quality.auroc:.3f}"
    return str(quality.n), f"{quality.ece:.3f}", f"{quality.brier:.3f}", ranked


def _show_replay(result: Replay) -> None:
    table = Table(
        "threshold", "local", "right", "of cloud's", "loss", "USD", "of cloud's", box=None
    )
    for point in result.curve:
        table.add_row(
            f"{point.threshold:g}",
            f"{point.kept_local:.1%}",
            f"{point.accuracy:.3f}",
            percent_interval(point.of_cloud),
            f"{point.loss:.3f}",
            "unknown" if point.usd is None else f"{point.usd:.4f}",
            percent_interval(point.usd_of_cloud),
        )
    out.print(table)
    ranked = "unknown" if result.apgr is None else f"{result.apgr:.3f}"
    out.print(
        f"{result.n} questions ({result.n_without_cloud} without a cloud label), P(correct) "
        f"{result.source}: ECE {result.quality.ece:.3f}, APGR {ranked}; local "
        f"{result.local_accuracy:.3f}, cloud {result.cloud_accuracy:.3f}"
    )
    out.print(_risk_line(result))


def _risk_line(result: Replay) -> str:
    check = result.risk
    if check.threshold.value is None:
        return f"alpha {check.threshold.alpha:g}: {check.threshold.reason}"
    kept = f"keeps {check.threshold.kept_share:.1%} local above {check.threshold.value:.3f}"
    line = f"alpha {check.threshold.alpha:g}: {kept}; {check.threshold.reason}"
    if check.mean_loss is None:
        return f"{line}; too few documents to watch it on unseen ones"
    return (
        f"{line}; on unseen halves the mean loss was {check.mean_loss:.4f}, above alpha in "
        f"{check.violation_rate:.1%} of {check.n_splits}"
    )
