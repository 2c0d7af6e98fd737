"""From a model's name to what can be run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from workers.errors import EngineUnavailable, ModelCorrupt, ModelNotFound
from workers.models import (
    HUB_MODELS,
    MODEL_NAMES,
    ModelKind,
    build_engine,
    describe_plan,
    is_own_network,
    record_path,
    resolve_model,
)

GGUF = b"GGUF" + bytes(60)
BIG = HUB_MODELS["gpt-oss-120b"]
SMALL = HUB_MODELS["gpt-oss-20b"]


def place(path: Path, content: bytes = GGUF, *, recorded_bytes: int | None = None) -> Path:
    """Write a file as a pull leaves it."""
    path.write_bytes(content)
    if recorded_bytes is not None:
        record = {"sha256": "a" * 64, "size_bytes": recorded_bytes, "source": "hub"}
        record_path(path).write_text(json.dumps(record))
    return path


def test_a_pulled_model_is_found_with_its_hash(tmp_path: Path) -> None:
    path = place(tmp_path / SMALL.files[0], recorded_bytes=len(GGUF))
    spec = resolve_model("gpt-oss-20b", tmp_path)
    assert (spec.kind, spec.path, spec.expected_sha256) == (ModelKind.GGUF, path, "a" * 64)


def test_a_model_placed_by_hand_is_found_without_a_hash(tmp_path: Path) -> None:
    place(tmp_path / SMALL.files[0])
    assert resolve_model("gpt-oss-20b", tmp_path).expected_sha256 is None


def test_a_model_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"minions pull gpt-oss-20b.*12\.1 GB"):
        resolve_model("gpt-oss-20b", tmp_path)


def test_every_part_of_a_split_model_is_needed(tmp_path: Path) -> None:
    for file in BIG.files[:2]:
        place(tmp_path / file)
    with pytest.raises(ModelNotFound, match="00003-of-00003"):
        resolve_model("gpt-oss-120b", tmp_path)
    place(tmp_path / BIG.files[2])
    assert resolve_model("gpt-oss-120b", tmp_path).path == tmp_path / BIG.files[0]


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    place(tmp_path / SMALL.files[0], recorded_bytes=len(GGUF) + 1)
    with pytest.raises(ModelCorrupt, match="pull gpt-oss-20b"):
        resolve_model("gpt-oss-20b", tmp_path)


@pytest.mark.parametrize("content", [b"", b"GG", b"<!DOCTYPE html>"])
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelCorrupt, match="not a GGUF"):
        resolve_model(str(place(tmp_path / "x.gguf", content)), tmp_path)


def test_an_unreadable_record_is_said(tmp_path: Path) -> None:
    path = place(tmp_path / SMALL.files[0])
    record_path(path).write_text('{"sha256":')
    with pytest.raises(ModelCorrupt, match="pull again"):
        resolve_model("gpt-oss-20b", tmp_path)


def test_a_path_is_a_model_named_by_its_stem(tmp_path: Path) -> None:
    path = place(tmp_path / "mine.Q4.gguf")
    spec = resolve_model(str(path), tmp_path)
    assert (spec.name, spec.path) == ("mine.Q4", path)


@pytest.mark.parametrize("name", ["gpt-oss-2b", "nothing/here.gguf", ""])
def test_an_unknown_name_lists_the_ways_to_name_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve_model(name, tmp_path)
    assert all(known in str(caught.value) for known in (*MODEL_NAMES, ".gguf", "http://"))


@pytest.mark.parametrize(
    ("name", "url", "served"),
    [
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1", None),
        ("http://localhost:11434/v1#gpt-oss:20b", "http://localhost:11434/v1", "gpt-oss:20b"),
        ("https://gpu.lan/v1#org/name", "https://gpu.lan/v1", "org/name"),
    ],
)
def test_a_servers_url(tmp_path: Path, name: str, url: str, served: str | None) -> None:
    spec = resolve_model(name, tmp_path)
    assert (spec.kind, spec.url, spec.served_model) == (ModelKind.SERVER, url, served)


@pytest.mark.parametrize(
    "name", ["https://api.openai.com/v1", "http://8.8.8.8/v1", "http://0.0.0.0/v1"]
)
def test_a_worker_never_reads_in_a_strangers_network(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFound, match="must be local"):
        resolve_model(name, tmp_path)


@pytest.mark.parametrize("name", ["ftp://localhost/x", "http://", "s3://bucket/x.gguf"])
def test_other_urls_are_not_models(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelNotFound, match="not a server's URL"):
        resolve_model(name, tmp_path)


@pytest.mark.parametrize(
    "host",
    ["localhost", "gpu", "gpu.local", "127.0.0.1", "::1", "192.168.1.7", "10.0.0.2", "fe80::1"],
)
def test_own_network(host: str) -> None:
    assert is_own_network(host)


@pytest.mark.parametrize("host", ["example.com", "1.1.1.1", "2001:4860::1", "local.evil.com", "::"])
def test_not_own_network(host: str) -> None:
    assert not is_own_network(host)


def test_scripted_builds_without_any_file(tmp_path: Path) -> None:
    engine = build_engine(resolve_model("scripted", tmp_path), n_slots=7)
    assert engine.info.engine == "scripted"
    assert engine.info.n_slots == 7


def test_threads_are_refused_where_nothing_would_use_them(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="leave the number of threads out"):
        build_engine(resolve_model("scripted", tmp_path), n_threads=2)


def test_the_plan_is_that_of_the_engine_that_is_built(tmp_path: Path) -> None:
    nano = resolve_model("nano", tmp_path)
    assert describe_plan(nano, n_threads=1).startswith("nano.gguf: the CPU")
    assert describe_plan(nano, n_threads=2).startswith("2 contexts side by side")
    engine = build_engine(nano, n_threads=1)
    assert f"{engine.info.n_slots} answers at a time" in describe_plan(nano, n_threads=1)
    engine.close()


def test_a_server_has_no_plan_here(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file"):
        describe_plan(resolve_model("http://127.0.0.1:1/v1", tmp_path))


def test_importing_the_package_loads_no_engine() -> None:
    heavy = "{'llama_cpp', 'openai', 'huggingface_hub', 'tiktoken', 'psutil', 'numpy'}"
    code = f"import sys, workers, workers.inline_pool; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert found.stdout.strip() == "[]"
