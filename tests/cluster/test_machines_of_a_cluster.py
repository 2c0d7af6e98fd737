"""How a node is started, and every way in which it is refused before anything is started."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from minions.cli import cli
from minions.errors import MinionsError
from tests.command import environment
from workers.cluster import (
    NodePlan,
    check_token,
    explain_start_failure,
    make_token,
    start_command,
)
from workers.cluster_models import ModelFile, Shelf, fetch_missing, model_files, read_piece
from workers.cluster_node import own_address, running_here, stop_here
from workers.errors import EngineUnavailable, ModelCorrupt, PullFailed, WorkerError
from workers.ray.environment import ray_variables
from workers.ray.pool import FleetPool
from workers.ray.ray_fleet import RayCluster, RayFleet
from workers.ray.recipe import ModelRecipe, TimedRecipe, local_tokenizer, on_any_machine

ROOT = Path(__file__).parents[2]


@pytest.fixture
def plan(tmp_path: Path) -> NodePlan:
    make_token(tmp_path / "token")
    return NodePlan(
        head="192.168.1.10:6379",
        host="192.168.1.11",
        name="pc2",
        n_gpus=1,
        n_workers=1,
        token_file=tmp_path / "token",
    )


# ---- refusals ----


def test_a_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "token"
    assert make_token(path)
    token = path.read_text()
    assert len(token) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert not make_token(path)
    assert path.read_text() == token
    path.chmod(0o640)
    with pytest.raises(EngineUnavailable, match="chmod 600"):
        check_token(path)


@pytest.mark.parametrize("content", [None, "", "short"])
def test_nothing_starts_without_a_token(plan: NodePlan, content: str | None) -> None:
    plan.token_file.unlink()
    if content is not None:
        plan.token_file.write_text(content)
    with pytest.raises(EngineUnavailable, match="whoever reaches the port could run programs"):
        start_command(plan)


def test_loopback_and_network_do_not_mix(plan: NodePlan) -> None:
    with pytest.raises(EngineUnavailable, match="where no other machine reaches it"):
        start_command(replace(plan, host="127.0.0.3"))
    with pytest.raises(EngineUnavailable, match="for its own machine alone"):
        start_command(replace(plan, head="127.0.0.1:6379", host="127.0.0.1"))


def test_every_node_asks_for_the_token_and_says_what_it_offers(plan: NodePlan) -> None:
    for is_head in (True, False):
        words = start_command(replace(plan, is_head=is_head))
        assert words[0] == "env"
        assert "RAY_AUTH_MODE=token" in words
        assert f"RAY_AUTH_TOKEN_PATH={plan.token_file}" in words
        assert json.loads(words[words.index("--resources") + 1]) == {"minions_worker": 1}
        assert ("--head" in words) == is_head
        assert plan.token_file.read_text() not in " ".join(words), "a token in a command line"


def test_a_head_on_loopback_stays_there() -> None:
    variables = ray_variables("127.0.0.1:6379", Path("token"))
    assert variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    elsewhere = ray_variables("192.168.1.10:6379", Path("token"))
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in elsewhere


def test_failures_of_ray_are_told_in_words_of_ours() -> None:
    mismatch = "RuntimeError: Version mismatch: cluster:\n    Ray: 2.60.0\n    Python: 3.11.7"
    assert "Python: 3.11.7" in explain_start_failure(mismatch)
    assert "same Ray and the same Python" in explain_start_failure(mismatch)
    assert "another token" in explain_start_failure("RpcError: Unauthenticated: InvalidAuthToken")
    assert explain_start_failure("a\nlast line\n") == "last line"
    assert explain_start_failure("") == "it ended without a word"


def test_the_commands_say_what_is_missing(tmp_path: Path) -> None:
    for words, expected in (
        (("cluster", "status"), "No cluster runs here"),
        (("cluster", "up", "--host", "0.0.0.0"), "the internet perhaps included"),
        (("worker", "join", "10.255.255.1"), "there is no token"),
        (("worker", "join", "no-such-host.invalid"), "no way from here"),
    ):
        done = CliRunner().invoke(cli, [*words, "--state-dir", str(tmp_path)])
        assert isinstance(done.exception, MinionsError | WorkerError), words
        assert expected in str(done.exception)


def test_own_address_is_that_towards_the_head() -> None:
    assert own_address("127.0.0.1:6379") == "127.0.0.1"


def test_a_note_of_a_process_that_is_gone_is_not_believed(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    facts = {"pid": done.pid, "started_at": 1.0, "head": "h:1", "name": "n", "is_head": True}
    for text in (json.dumps(facts), json.dumps({**facts, "pid": 1}), "{", '{"pid": 1}'):
        (tmp_path / "node.json").write_text(text)
        assert running_here(tmp_path) is None
        assert stop_here(tmp_path) is None


async def test_a_pool_without_a_token_file_says_where_it_comes_from(tmp_path: Path) -> None:
    cluster = RayCluster(address="127.0.0.1:1", token_file=tmp_path / "none")
    pool = FleetPool(RayFleet(cluster, TimedRecipe(service_s=0.01)))
    with pytest.raises(EngineUnavailable, match="minions cluster up"):
        await pool.ready()
    await pool.close()


async def test_a_head_that_is_not_there_is_told_with_its_address(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'minions[cluster]'")
    make_token(tmp_path / "token")
    cluster = RayCluster(address="127.0.0.2:9", token_file=tmp_path / "token")
    pool = FleetPool(RayFleet(cluster, TimedRecipe(service_s=0.01)), start_s=2.0)
    try:
        with pytest.raises(EngineUnavailable, match="no worker for 2 s"):
            await asyncio.wait_for(pool.ready(), 30)
    finally:
        await pool.close()


# ---- one machine never pays ----

PROBE = """
import asyncio, sys
import minions.cli, minions.app, minions.rest
from workers.ray.local_fleet import LocalFleet
from workers.ray.pool import FleetPool
from workers.scripted import ScriptedEngine

async def main():
    pool = FleetPool(LocalFleet(ScriptedEngine))
    await pool.ready()
    await pool.close()

asyncio.run(main())
print(sorted(name for name in sys.modules if name.partition(".")[0] == "ray"))
"""


def test_nothing_imports_ray_unless_a_cluster_is_asked_for(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(tmp_path),
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_help_of_the_cluster_does_not_need_ray(tmp_path: Path) -> None:
    probe = "import sys; sys.modules['ray'] = None\n"  # as if it weren't installed
    run = (
        f"{probe}from minions.cli import main; sys.argv = ['minions', 'cluster', '--help']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", run],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(tmp_path),
        check=False,
    )
    assert "up" in done.stdout, done.stderr


# ---- the model's files ----


def shelf_of(folder: Path, content: bytes, target: Path) -> Shelf:
    path = folder / "model.gguf"
    path.write_bytes(content)
    file = ModelFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    return Shelf(files=(file,), folder=target)


@given(
    content=st.binary(max_size=300),
    piece=st.integers(1, 64),
    stop_after=st.integers(0, 6),
)
def test_a_file_arrives_whole_whatever_was_there_of_it(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, piece: int, stop_after: int
) -> None:
    """The first transfer is cut after some pieces; the second goes on from there."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    shelf = shelf_of(source, content, target)
    sent: list[int] = []

    def read(name: str, offset: int, _: int) -> bytes:
        sent.append(offset)
        return read_piece(source / name, offset, piece)

    def cut(name: str, offset: int, n_bytes: int) -> bytes:
        if len(sent) >= stop_after:
            raise PullFailed("the cable")
        return read(name, offset, n_bytes)

    try:
        fetch_missing(shelf, cut)
    except PullFailed:
        fetch_missing(shelf, read)
    assert (target / "model.gguf").read_bytes() == content
    assert sent == sorted(set(sent)), "a piece was sent twice"
    n_sent = len(sent)
    assert fetch_missing(shelf, read) == []
    assert len(sent) == n_sent, "a file that is there was fetched again"


def test_a_file_that_arrives_otherwise_is_not_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    shelf = shelf_of(source, b"x" * 100, target)
    with pytest.raises(ModelCorrupt, match="another hash"):
        fetch_missing(shelf, lambda name, offset, n: b"y" * (100 - offset))
    assert not (target / "model.gguf").exists()
    fetch_missing(shelf, lambda name, offset, n: read_piece(source / name, offset, n))
    assert (target / "model.gguf").read_bytes() == b"x" * 100


def test_another_file_of_the_same_length_is_replaced(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    target.mkdir()
    shelf = shelf_of(source, b"x" * 100, target)
    (target / "model.gguf").write_bytes(b"z" * 100)
    assert fetch_missing(shelf, lambda name, offset, n: read_piece(source / name, offset, n))
    assert (target / "model.gguf").read_bytes() == b"x" * 100


def test_what_ships_or_is_served_needs_no_files(tmp_path: Path) -> None:
    for model in ("nano", "scripted", "http://127.0.0.1:9/v1", "gpt-oss-20b"):
        assert model_files(model, tmp_path) == ()


def test_a_model_named_by_its_path_is_found_among_a_nodes_models(tmp_path: Path) -> None:
    nano = Path(__file__).parents[2] / "workers" / "nano" / "nano.gguf"
    (tmp_path / "mine.gguf").write_bytes(nano.read_bytes())
    recipe = ModelRecipe(model="/elsewhere/mine.gguf", models_dir=tmp_path)
    engine = recipe.build()
    try:
        tokenizer = local_tokenizer(str(tmp_path / "mine.gguf"), tmp_path)
        assert tokenizer is not None
        text = "What is the monthly fee? \u20ac400 <|end|>"
        assert tokenizer.encode(text) == engine.tokenizer.encode(text)
    finally:
        engine.close()
    assert local_tokenizer("gpt-oss-20b", tmp_path) is None


def test_a_home_folder_is_that_of_each_machine() -> None:
    assert on_any_machine(Path.home() / "models") == Path("~/models")
    assert on_any_machine(Path("/srv/models")) == Path("/srv/models")
