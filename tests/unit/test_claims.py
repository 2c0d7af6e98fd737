"""Claims of recorded runs: which are gold, and the relevance profile that they teach."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from eval.claims import MIN_GOLD, fit_on_runs, gold_claims, labelled_claims
from eval.items import GoldEvidence
from eval.rows import read_run, write_trace
from minions.cli.evaluation import evaluation
from minions.documents.model import Document, Page
from minions.errors import BadRequest
from minions.evidence.features import NAMES, Features
from minions.evidence.relevance import load_profile
from tests.cloud import sim_running
from tests.runs import a_row, write_run

TEXT = "The fee is $500. It is due in May. Oregon's law governs this. The rest is filler."
GOLD = GoldEvidence(text="It is due in May.", start=17, end=34)
DOCUMENT = Document(
    document_id="doc_1",
    sha256="",
    name="lease.txt",
    media_type="text/plain",
    n_bytes=len(TEXT),
    text=TEXT,
    pages=(Page(number=1, start=0, end=len(TEXT)),),
)


def told(job: str, chunk: tuple[int, int], quote: tuple[int, int] | None, **known: float) -> Any:
    """A claim as the trace has it."""
    features = dict.fromkeys(NAMES, 0.0) | known
    return {
        "job_id": job,
        "document_id": "doc_1",
        "chunk": list(chunk),
        "quote": list(quote) if quote else None,
        "features": features,
    }


def trace(*claims: Any) -> dict[str, Any]:
    return {
        "steps": [{"name": "plan", "facts": {}}, {"name": "offers", "facts": {"claims": claims}}]
    }


def test_a_claim_is_gold_by_its_quote_or_else_by_its_chunk() -> None:
    found = trace(
        told("quote in", (0, 80), (20, 30)),
        told("quote beside", (0, 80), (40, 50)),
        told("chunk in", (10, 40), None),
        told("chunk beside", (40, 80), None),
    )
    assert gold_claims(found, [GOLD], {"lease.txt": DOCUMENT}) == ("quote in", "chunk in")
    assert gold_claims(found, [], {"lease.txt": DOCUMENT}) == ()


def a_run(folder: Path, *, n: int, labelled: bool = True) -> Path:
    """`n` questions with a gold claim whose words meet the task and two that don't."""
    draw = random.Random(0)
    rows = []
    for number in range(n):
        item = f"q{number}"
        gold = (f"{item}-0",) if labelled else None
        rows.append(a_row(item, "local", gold_claims=gold, document=f"document {number % 7}"))
        claims = [
            told(f"{item}-{k}", (0, 9), None, task_words=draw.gauss(0.8 if k == 0 else 0.2, 0.1))
            for k in range(3)
        ]
        write_trace(folder, f"run_local_{item}", trace(*claims))
    return write_run(folder, rows)


def test_a_profile_learns_what_tells_gold_claims_apart(tmp_path: Path) -> None:
    run = a_run(tmp_path, n=40)
    claims = labelled_claims(run)
    assert len(claims) == 120 and sum(claim.gold for claim in claims) == 40
    profile = fit_on_runs([run])
    assert profile.calibrated and "120 claims in recorded runs, 40 of them" in profile.source
    blank = dict.fromkeys(NAMES, 0.0)
    likely, not_likely = (
        profile.probability(Features(**{**blank, "task_words": share})) for share in (0.8, 0.2)
    )
    assert likely > 0.8 and not_likely < 0.2


def test_too_few_gold_claims_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=rf"5 of 15 claims .* at least {MIN_GOLD} are needed"):
        fit_on_runs([a_run(tmp_path / "few", n=5)])
    with pytest.raises(BadRequest, match="0 of 0 claims"):
        fit_on_runs([a_run(tmp_path / "unlabelled", n=30, labelled=False)])


def test_a_real_run_is_labelled_and_a_profile_is_fitted_on_it(tmp_path: Path) -> None:
    """From `eval run` to a profile on disk that settings can name."""
    folder = str(tmp_path / "run")
    where = ["--state-dir", str(tmp_path / "state"), "--model", "scripted", "--out", folder]
    with sim_running() as sim:
        asked = ["run", "generated", "--documents", "12", "--limit", "80", "--strategy", "local"]
        asked += ["--strategy", "cloud", "--cloud-url", sim.base_url]
        done = CliRunner().invoke(evaluation, [*asked, *where])
    assert done.exit_code == 0, done.output
    rows = read_run(tmp_path / "run").rows
    assert all(row.gold_claims is None for row in rows if row.strategy == "cloud")
    assert all(row.gold_claims is not None for row in rows if row.strategy == "local")
    assert any(row.gold_claims for row in rows)
    assert not any(row.gold_claims for row in rows if not row.answerable)
    profile = tmp_path / "relevance.json"
    fitted = CliRunner().invoke(
        evaluation,
        ["calibrate", folder, "--out", str(tmp_path / "p.json"), "--relevance", str(profile)],
    )
    assert fitted.exit_code == 0, fitted.output
    assert load_profile(profile).calibrated
