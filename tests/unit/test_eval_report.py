"""Reports: every figure by hand on a small run, hostile text, missing rows, files that open."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from eval.report.charts import CostAxis, frontier, frontier_chart
from eval.report.figures import RunFigures, run_figures
from eval.report.page import report_page
from eval.report.terminal import report_table
from eval.report.wording import number_interval, percent, times_cheaper, usd, usd_interval
from eval.rows import Row, read_run, write_trace
from eval.statistics import Estimate
from minions.cli.eval_report import report
from minions.errors import BadRequest, NotFound
from tests.runs import a_row, write_run

QUICK = settings(max_examples=50, deadline=None)

COMMAND = typer.Typer()
COMMAND.command()(report)
HOSTILE = "</details><script>alert(1)</script><img src=x onerror=alert(2)> \u202e& \"'"


def small_rows() -> list[Row]:
    """Four questions of two documents: local is right on one, the cloud on three."""
    rows = []
    for n, (local, cloud) in enumerate(
        [(True, True), (False, True), (False, True), (False, False)]
    ):
        item, document = f"q{n}", f"document {n % 2}"
        rows += [
            a_row(item, "local", correct=local, p_correct=0.9 - 0.2 * n, document=document),
            a_row(item, "cloud", correct=cloud, cloud_usd=0.1, document=document),
            a_row(item, "ladder@0.75", correct=cloud, cloud_usd=0.02, document=document),
        ]
    return rows


@pytest.fixture
def figures(tmp_path: Path) -> RunFigures:
    return run_figures(read_run(write_run(tmp_path / "run", small_rows())))


def test_figures_by_hand(figures: RunFigures) -> None:
    local, cloud, ladder = figures.strategies
    assert (local.accuracy.value, cloud.accuracy.value) == (0.25, 0.75)
    assert cloud.usd_per_question.value == pytest.approx(0.1)
    assert cloud.usd_per_correct.value == pytest.approx(0.4 / 3)
    assert cloud.against_cloud is None
    assert ladder.against_cloud is not None and local.against_cloud is not None
    assert ladder.against_cloud.accuracy.value == 1.0
    assert ladder.against_cloud.usd.value == pytest.approx(0.2)
    assert ladder.against_cloud.times_cheaper == pytest.approx(5)
    assert local.against_cloud.times_cheaper is None
    assert figures.n_clusters == 2 and figures.n_missing == 0


def test_the_deferral_curve_by_hand(figures: RunFigures) -> None:
    """The least certain first: q3 (nothing gained), q2, q1 (one each), q0 (nothing)."""
    found = figures.deferral
    assert found is not None and found.n == 4
    assert found.curve.gain.tolist() == [0, 0, 1, 2, 2]
    assert found.curve.usd is not None
    assert found.curve.usd.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert found.apgr.value == pytest.approx((0 + 0.25 + 0.75 + 1) / 4)
    assert found.apgr_usd.value == found.apgr.value
    assert found.cpt[0.5].value == 0.5 and found.cpt_usd[0.5].value == pytest.approx(0.5)
    assert found.curve.hull() == [(0.0, 0.0), (pytest.approx(0.3), 2.0)]


def test_missing_rows_and_errors_are_shown_and_never_dropped(tmp_path: Path) -> None:
    rows = [row for row in small_rows() if (row.item_id, row.strategy) != ("q3", "ladder@0.75")]
    rows[0] = a_row("q0", "local", correct=False, outcome="error", error="cloud_timeout: late")
    found = run_figures(read_run(write_run(tmp_path, rows)))
    local, _, ladder = found.strategies
    assert (ladder.n_done, ladder.n_missing) == (3, 1)
    assert (ladder.at_worst, ladder.at_best) == (0.75, 1.0)
    assert ladder.against_cloud is not None and ladder.against_cloud.n == 3
    assert (local.n_errors, local.n_answered, local.accuracy.value) == (1, 3, 0.0)
    shown = text_of(found)
    page = report_page(found)
    for said in ("ladder@0.75: 1 of 4 questions were not reached", "1 of 4 questions ended in an"):
        assert said in page and said in " ".join(shown.split())
    assert "between 75.0% and 100.0%" in page


def test_an_unknown_price_makes_unknown_dollars(tmp_path: Path) -> None:
    rows = small_rows()
    rows[1] = a_row("q0", "cloud", cloud_usd=None, document="document 0")
    found = run_figures(read_run(write_run(tmp_path, rows)))
    cloud, ladder = found.strategies[1:]
    assert cloud.usd.value is None and cloud.usd_per_correct.value is None
    assert ladder.against_cloud is not None and ladder.against_cloud.usd.value is None
    assert found.deferral is not None and found.deferral.curve.usd is None
    assert found.deferral.apgr_usd.value is None
    page = report_page(found)
    assert "price of 1 of 4 is unknown" in page and "at an unknown price" in page


def test_a_run_without_local_or_cloud_says_why_it_has_no_curve(tmp_path: Path) -> None:
    ladder = [row for row in small_rows() if row.strategy == "ladder@0.75"]
    found = run_figures(read_run(write_run(tmp_path / "a", ladder)))
    assert found.deferral is None and "both `local` and `cloud`" in found.no_deferral
    assert found.strategies[0].against_cloud is None
    assert "No deferral curve" in report_page(found) and "No deferral curve" in text_of(found)
    same = [a_row("q0", "local", p_correct=0.5), a_row("q0", "cloud")]
    assert "no gap" in run_figures(read_run(write_run(tmp_path / "b", same))).no_deferral
    with pytest.raises(BadRequest, match="no row yet"):
        run_figures(read_run(write_run(tmp_path / "c", [], n_items=3)))


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    wrong = a_row(
        f"q0{HOSTILE}",
        "local",
        correct=False,
        question=HOSTILE,
        answer=HOSTILE,
        gold_answers=(HOSTILE,),
        document=HOSTILE,
        kind=HOSTILE,
        trace_id="t1",
        error=HOSTILE,
    )
    run = write_run(tmp_path, [wrong])
    steps = [{"name": HOSTILE, "elapsed_s": 1.0, "facts": {"x": HOSTILE}, "error": HOSTILE}]
    write_trace(run, "t1", {"steps": steps})
    page = report_page(run_figures(read_run(run)))
    assert "<script" not in page and "<img" not in page
    assert page.count("&lt;script&gt;") >= 6
    assert page.count("<details") == page.count("</details>")


@QUICK
@given(st.text(max_size=40))
def test_no_label_breaks_a_chart(text: str) -> None:
    """Of what XML can hold; the rest can't be in a strategy's label."""
    from eval.report.svg import across, plot, upward

    kept = "".join(c for c in text if c.isprintable())
    chart = plot(title=kept, x=across(0, 1), y=upward(0, 1), x_ticks=[], y_ticks=[], x_name=kept)
    chart.labels([((0.5, 0.5), kept, "c0")])
    assert "<script" not in chart.to_text()


def test_the_page_needs_nothing_else(figures: RunFigures) -> None:
    page = report_page(figures)
    assert "default-src 'none'" in page and "<svg" in page
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:|//|file:)""", page)
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_long_traces_are_cut_and_say_so(tmp_path: Path) -> None:
    run = write_run(tmp_path, [a_row("q0", "local", correct=False, trace_id="t1")])
    write_trace(run, "t1", {"steps": [{"name": "read", "facts": {"x": "y" * 9_000}}]})
    page = report_page(run_figures(read_run(run)))
    assert "more characters in the run&#39;s folder" in page and "y" * 5_000 not in page


def test_the_frontier_is_what_nothing_beats() -> None:
    points = [(0.0, 0.2), (1.0, 0.5), (1.0, 0.6), (2.0, 0.4), (3.0, 0.9)]
    assert frontier(points) == [(0.0, 0.2), (1.0, 0.6), (3.0, 0.9)]


@QUICK
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=9))
def test_a_cost_axis_holds_and_orders_all_amounts(amounts: list[float]) -> None:
    axis = CostAxis.over(amounts)
    places = [axis.place(amount) for amount in sorted(amounts)]
    assert places == sorted(places)
    assert all(40 <= place <= 460 for place in places)


def test_a_chart_without_prices_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path, [a_row("q0", "local", cloud_usd=None)])
    assert frontier_chart(run_figures(read_run(run))) is None


def test_words_for_figures() -> None:
    assert (percent(None), percent(0.5)) == ("unknown", "50.0%")
    assert [usd(a) for a in (None, 0, 12.3, 0.0421, 0.00012)] == [
        "unknown",
        "$0",
        "$12.30",
        "$0.0421",
        "$0.00012",
    ]
    known = Estimate(value=0.2, low=0.1, high=0.25)
    assert times_cheaper(known) == "at 1/5.0 of its cost (1/10.0 to 1/4.0)"
    assert times_cheaper(Estimate(value=None)) == "at an unknown price"
    assert times_cheaper(Estimate(value=0.0)) == "for nothing"
    assert times_cheaper(Estimate(value=1.5)) == "for 1.50 times its cost"
    assert usd_interval(known) == "$0.2000 ($0.1000–$0.2500)"
    assert number_interval(known, 1) == "0.2 (0.1–0.2)"


def text_of(figures: RunFigures) -> str:
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(report_table(figures))
    return captured.get()


def test_the_command_writes_page_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the extra `plots`")
    run = write_run(tmp_path / "run", small_rows())
    made = CliRunner().invoke(COMMAND, [str(run), "--png", "--out", str(tmp_path / "r" / "p.html")])
    assert made.exit_code == 0, made.output
    assert "ladder@0.75" in made.output
    written = {path.name for path in (tmp_path / "r").iterdir()}
    assert written == {"p.html", "frontier.png", "deferral.png", "reliability-local.png"}
    assert (tmp_path / "r" / "frontier.png").read_bytes().startswith(b"\x89PNG")
    figures = CliRunner().invoke(COMMAND, [str(run), "--json"])
    assert json.loads(figures.stdout)["deferral"]["apgr"]["value"] == pytest.approx(0.5)
    assert (run / "report.html").is_file()
    missing = CliRunner().invoke(COMMAND, [str(tmp_path / "none")])
    assert isinstance(missing.exception, NotFound)
