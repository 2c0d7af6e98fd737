"""The figures of the engine's benchmarks are worked out right, and the commands run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from eval.bench.competitors import in_chunk_order, in_job_order, run_llama_class, run_minions
from eval.bench.engine import ONE_BY_ONE, OURS, Comparison, roofline
from eval.bench.followup import Asked, follow_up
from eval.bench.measure import Measured, in_own_process
from eval.bench.server import ServerWay
from eval.bench.workloads import WORKLOADS, Workload, prompts_for
from minions.cli import cli
from tests.models import random_model_path
from workers.errors import EngineCrashed

ROOT = Path(__file__).resolve().parents[2]
SMALL = Workload(name="small", n_chunks=2, chunk_tokens=60, n_tasks=2, n_samples=2)


def measured(wall_s: float, cpu_s: float) -> Measured:
    return Measured(
        wall_s=wall_s, cpu_s=cpu_s, prefill_tokens=10, output_tokens=10, peak_rss_bytes=1
    )


def test_ratios_are_of_the_competitors_to_us() -> None:
    slow, fast = ServerWay(n_slots=4, by_chunk=False), ServerWay(n_slots=8, by_chunk=True)
    comparison = Comparison(
        workload=WORKLOADS["W1"],
        engines={
            OURS: measured(2.0, 4.0),
            ONE_BY_ONE: measured(10.0, 12.0),
            slow.name: measured(9.0, 9.0),
            fast.name: measured(3.0, 5.0),
        },
        roofline=roofline(1000, (1000.0, 500.0)),
    )
    found = comparison.as_json()
    assert found["ratio_vs_llama_cpp_python"] == 3.0
    assert found["ratios"][ONE_BY_ONE] == {"wall": 5.0, "cpu": 3.0}
    assert found["best_server"] == "llama-server 8 slots, by chunk"
    assert found["ratio_vs_best_server"] == 1.25
    assert found["share_of_roofline"] == {"wall": 0.5, "cpu": 0.5}
    assert set(found["engines"][OURS]) == {
        "wall_s",
        "cpu_s",
        "prefill_tokens",
        "output_tokens",
        "peak_rss_bytes",
    }


def test_workloads_are_of_their_size_and_the_same_every_time() -> None:
    prompts = prompts_for(SMALL, random_model_path())
    assert prompts.chunks == prompts_for(SMALL, random_model_path()).chunks
    frame = prompts.frame
    lengths = [len(frame.chunk_tokens(text)) - len(frame.between) for text in prompts.chunks]
    assert all(55 <= length <= 60 for length in lengths)
    jobs = prompts.jobs()
    assert len({job.job_id for job in jobs}) == SMALL.n_jobs == 8
    assert [job.chunk_id for job in in_job_order(jobs)] == ["0", "1"] * 4
    assert [job.chunk_id for job in in_chunk_order(jobs)] == ["0"] * 4 + ["1"] * 4


def test_competitors_do_the_same_jobs() -> None:
    ours = run_minions(random_model_path(), SMALL, 1)
    theirs = run_llama_class(random_model_path(), SMALL, 1, in_job_order)
    prompts = prompts_for(SMALL, random_model_path())
    all_tokens = sum(len(prompts.ids(job)) for job in prompts.jobs())
    assert ours.prefill_tokens == prompts.unique_tokens
    assert prompts.unique_tokens < theirs.prefill_tokens <= all_tokens
    for each in (ours, theirs):
        assert 0 < each.output_tokens <= SMALL.n_jobs * 65
        assert each.wall_s > 0 and each.cpu_s > 0 and each.peak_rss_bytes > 10**7


def test_a_follow_up_reads_less_wherever_it_finds_the_document(tmp_path: Path) -> None:
    asked = Asked(gguf=random_model_path(), n_threads=1, n_tasks=1)
    found = follow_up(asked, tmp_path).as_json()
    assert list(found["rounds"]) == ["first", "from memory", "from disk", "after a restart"]
    assert all(ratio["prefill_tokens"] > 5 for ratio in found["ratio"].values())
    assert found["stored_bytes"] > 100_000


def test_a_follow_up_can_be_about_a_real_document(tmp_path: Path) -> None:
    document = tmp_path / "lease.txt"
    document.write_text("The rent is 900 euro a month. The tenant pays it by the third day. " * 40)
    command = ["bench", "followup", "--gguf", str(random_model_path()), "--threads", "1"]
    command += ["--document", str(document), "--chunk-tokens", "256"]
    done = CliRunner().invoke(cli, [*command, "--json"])
    assert done.exit_code == 0, done.output
    three, one = json.loads(done.stdout)
    assert (three["n_tasks"], one["n_tasks"]) == (3, 1)
    assert one["rounds"]["first"]["prefill_tokens"] > 600
    both = CliRunner().invoke(cli, [*command, "--chunks", "2"])
    assert both.exit_code != 0 and "leave --chunks out" in str(both.exception)
    missing = CliRunner().invoke(cli, [*command, "--document", str(tmp_path / "none.pdf")])
    assert missing.exit_code != 0 and "There is no file" in str(missing.exception)


def test_decode_prints_a_table_and_json() -> None:
    runner = CliRunner()
    command = ["bench", "decode", "--gguf", str(random_model_path()), "--threads", "1"]
    done = runner.invoke(cli, [*command, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert list(found["batch"]) == ["1", "4", "8", "16"]
    assert found["grammar"]["checked_first_us"] > 0


def test_a_competitor_raises_and_dies_here() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        in_own_process(int, "none")
    with pytest.raises(EngineCrashed, match="died with status 3"):
        in_own_process(os._exit, 3)


_SLEEPS = """
import time
from eval.bench.measure import ending_on_sigterm, in_own_process
if __name__ == "__main__":
    with ending_on_sigterm():
        in_own_process(time.sleep, 60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_ended_benchmark_leaves_nothing_running(number: int, tmp_path: Path) -> None:
    script = tmp_path / "sleeps.py"
    script.write_text(_SLEEPS)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = psutil.Popen([sys.executable, script], env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 20
    while len(children := parent.children()) < 2:  # the resource tracker is one
        assert time.monotonic() < until
        time.sleep(0.02)
    parent.send_signal(number)
    parent.wait(20)
    _gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "engine", "--gguf", "no.gguf"], "There is no file no.gguf"),
        (["bench", "engine", "--against", "vllm"], "There is no competitor 'vllm'"),
        (["bench", "decode", "--shape", "huge"], "There is no shape 'huge'"),
        (["bench", "engine", "--server-bin", "no-server"], "--server-bin no-server is no program"),
        (["bench", "gpt-oss-20b", "--llama-bench-bin", "."], "--llama-bench-bin . is no program"),
        (["bench", "engine", "--workload", "W9"], "There is no workload 'W9'"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code != 0
    assert message in f"{done.output} {done.exception}"
