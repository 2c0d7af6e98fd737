"""The commands as a newcomer uses them, right and wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from minions.cli.demo import contract_path
from minions.cloud.sim import SimPlan, running
from tests.cloud import Sim
from tests.command import answer, minions
from tests.files import pdf, scanned_pdf
from tests.house import CONTRACT

LAW = "Which state's laws govern this agreement?"
KEYS = {
    "answer",
    "abstained",
    "citations",
    "rung",
    "p_correct",
    "coverage",
    "jobs",
    "cost",
    "trace_id",
}
COST_KEYS = {"cloud_usd", "cloud_only_usd", "savings_ratio", "local_tokens", "cloud_tokens"}


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "contract.txt"
    path.write_text(CONTRACT)
    return path


def test_ask_prints_one_object_with_everything_in_it(tmp_path: Path, contract: Path) -> None:
    reply = answer("ask", str(contract), LAW, "--model", "scripted", state_dir=tmp_path)
    assert reply.keys() >= KEYS
    assert reply["cost"].keys() >= COST_KEYS
    assert reply["coverage"] == 1.0
    for citation in reply["citations"]:
        assert CONTRACT[citation["start"] : citation["end"]] == citation["quote"]
        assert citation["verified"] is True
        assert citation["document"] == "contract.txt" and citation["page"] == 1


def test_the_trace_can_be_read_afterwards(tmp_path: Path, contract: Path) -> None:
    reply = answer("ask", str(contract), LAW, "--model", "scripted", state_dir=tmp_path)
    shown = minions("trace", reply["trace_id"], state_dir=tmp_path)
    assert shown.returncode == 0
    for hop in ("question", "plan", "read", "evidence", "offers", "decide"):
        assert f'"name": "{hop}"' in shown.stdout


def test_the_rungs_can_be_forbidden_and_capped(tmp_path: Path) -> None:
    with running(SimPlan()) as url:
        ask = ("ask", str(contract_path()), "What is the renewal term?", "--model", "scripted")
        ask += ("--cloud-url", url, "--target", "0.99")
        free = answer(*ask, "--privacy", "local", state_dir=tmp_path)
        capped = answer(*ask, "--max-cost-usd", "0.000001", state_dir=tmp_path)
        bought = answer(*ask, state_dir=tmp_path)
    assert free["rung"] == capped["rung"] == "local"
    assert free["cost"]["cloud_usd"] == capped["cost"]["cloud_usd"] == 0
    assert bought["rung"] != "local" and bought["cost"]["cloud_usd"] > 0


def test_estimate_quotes_every_rung_without_a_model(tmp_path: Path) -> None:
    quote = answer("estimate", str(contract_path()), LAW, state_dir=tmp_path)
    assert [rung["rung"] for rung in quote["rungs"]] == [
        "local",
        "evidence",
        "passages",
        "document",
    ]
    assert quote["rungs"][-1]["expected_usd"] > quote["rungs"][1]["expected_usd"] > 0
    assert quote["n_pages"] == 22


def test_doctor_tells_what_can_run(tmp_path: Path) -> None:
    shown = minions("doctor", state_dir=tmp_path)
    assert shown.returncode == 0
    for name in ("nano", "gpt-oss-20b", "gpt-oss-120b", "llama.cpp", "cloud"):
        assert name in shown.stdout
    plan = " ".join(shown.stdout.partition("plan: ")[2].split())
    assert "nano.gguf: the CPU" in plan and "tokens of context in f16" in plan
    assert "answers at a time, batches of 512" in plan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ask", "what?"), "Give at least one file and a question"),
        (("ask", "no-such.pdf", "what?"), "There is no file no-such.pdf"),
        (("ask", "{contract}", "{contract}"), "the question must come last"),
        (("ask", "{contract}", " "), "The question is empty"),
        (("ask", "{contract}", "what?", "--model", "no-such"), "gpt-oss-20b"),
        (("ask", "{contract}", "what?", "--max-cost-usd", "cheap"), "--max-cost-usd must be"),
        (("ask", "{contract}", "what?", "--max-cost-usd=-1"), "--max-cost-usd must be"),
        (("ask", "{contract}", "what?", "--strategy", "cloud"), "no cloud is set up"),
        (("ask", "{encrypted}", "what?"), "password"),
        (("ask", "{scanned}", "what?"), "text"),
        (("ask", "{empty}", "what?"), "empty"),
        (("trace", "run_unknown"), "run_unknown"),
        (("serve", "--host", "0.0.0.0"), "Refusing to listen"),
        (("pull", "gpt-5"), "gpt-oss-20b"),
        (("eval", "run", "cuad", "--data", "nowhere"), "There is no nowhere"),
    ],
)
def test_a_mistake_is_answered_with_its_fix(
    tmp_path: Path, contract: Path, arguments: tuple[str, ...], message: str
) -> None:
    files = {"contract": contract}
    for name, data in (
        ("encrypted", pdf(["secret"], user_password="hidden")),
        ("scanned", scanned_pdf(1)),
        ("empty", b""),
    ):
        files[name] = tmp_path / f"{name}.pdf"
        files[name].write_bytes(data)
    done = minions(*(a.format(**files) for a in arguments), state_dir=tmp_path)
    assert done.returncode != 0
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_names_itself(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("target = 7\n")
    done = minions("doctor", state_dir=tmp_path)
    assert done.returncode == 1
    assert "target" in done.stderr and "config.toml" in done.stderr


def test_a_price_of_ones_own_is_used(tmp_path: Path, contract: Path) -> None:
    """A model that no list knows has an unknown price, until the user states one."""
    ask = ("estimate", str(contract), LAW, "--cloud", "house-model")
    assert answer(*ask, state_dir=tmp_path)["rungs"][-1]["expected_usd"] is None
    (tmp_path / "config.toml").write_text(
        '[prices."house-model"]\ninput_usd_per_mtok = "10"\noutput_usd_per_mtok = "0"\n'
    )
    document = answer(*ask, state_dir=tmp_path)["rungs"][-1]
    assert document["expected_usd"] == pytest.approx(document["prompt_tokens"] * 1e-5)


def test_both_apis_of_the_cloud_are_spoken(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('cloud_api = "responses"\n')
    with running(SimPlan()) as url:
        ask = ("ask", str(contract_path()), LAW, "--strategy", "cloud", "--cloud-url", url)
        reply = answer(*ask, state_dir=tmp_path)
        calls = Sim(base_url=url).ledger()
    assert reply["rung"] == "document" and reply["citations"]
    assert [call["api"] for call in calls] == ["responses"]


def test_the_limits_on_files_can_be_set(tmp_path: Path, contract: Path) -> None:
    (tmp_path / "config.toml").write_text("[limits]\nmax_chars = 10\n")
    done = minions("ask", str(contract), LAW, "--model", "scripted", state_dir=tmp_path)
    assert done.returncode == 1
    assert "the limit is 10" in " ".join(done.stderr.split())
    assert "max_chars" in done.stderr
