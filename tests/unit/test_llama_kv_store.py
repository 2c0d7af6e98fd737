"""What was read is kept, dropped when it is old, and never trusted when it is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.llama.context import State
from workers.llama.kv_store import KvStore, RamStates
from workers.llama.schedule import Tokens


def tokens(*ids: int) -> Tokens:
    return np.array(ids, np.int32)


def state(seed: int, n: int = 1000) -> State:
    return np.random.default_rng(seed).integers(0, 256, n, np.uint8)


def store(
    folder: Path | None, about: str = "model", ram: int = 0, disk: int = 1_000_000
) -> KvStore:
    return KvStore(about=about, ram_bytes=ram, folder=folder, disk_bytes=disk)


def same(found: State | None, wanted: State) -> bool:
    return found is not None and np.array_equal(found, wanted)


@pytest.mark.parametrize(("ram", "on_disk"), [(10_000, False), (0, True), (10_000, True)])
def test_a_state_comes_back_for_its_tokens_and_no_others(
    tmp_path: Path, ram: int, on_disk: bool
) -> None:
    kept = store(tmp_path if on_disk else None, ram=ram)
    kept.put(tokens(1, 2, 3), state(1))
    kept.close()
    again = store(tmp_path) if on_disk else kept
    assert same(again.get(tokens(1, 2, 3)), state(1))
    for other in (tokens(1, 2), tokens(1, 2, 4), tokens(), tokens(12, 3)):
        assert again.get(other) is None
    again.close()


def test_another_model_or_prompt_finds_nothing(tmp_path: Path) -> None:
    kept = store(tmp_path, about="model f16")
    kept.put(tokens(1), state(1))
    kept.close()
    assert store(tmp_path, about="model q8_0").get(tokens(1)) is None


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize("keep", [0, 10, 77, 500, 1076])
def test_a_cut_file_is_no_entry_and_is_deleted(tmp_path: Path, keep: int) -> None:
    kept = store(tmp_path)
    kept.put(tokens(1), state(1))
    kept.close()
    path = only_file(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    assert store(tmp_path).get(tokens(1)) is None
    assert not path.exists()


@settings(max_examples=30, deadline=None)
@given(where=st.integers(0, 1076), flip=st.integers(1, 255))
def test_a_changed_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, where: int, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("kv")
    kept = store(folder)
    kept.put(tokens(1), state(1))
    kept.close()
    path = only_file(folder)
    raw = bytearray(path.read_bytes())
    raw[where] ^= flip
    path.write_bytes(raw)
    assert store(folder).get(tokens(1)) is None


def test_a_file_under_another_name_is_no_entry(tmp_path: Path) -> None:
    kept = store(tmp_path)
    kept.put(tokens(1), state(1))
    kept.close()
    first = only_file(tmp_path)
    kept = store(tmp_path)
    kept.put(tokens(2), state(2))
    kept.close()
    second = next(path for path in tmp_path.iterdir() if path != first)
    second.write_bytes(first.read_bytes())
    assert store(tmp_path).get(tokens(2)) is None


def test_memory_keeps_what_was_used_last() -> None:
    ram = RamStates(2500)
    ram.put("a", state(1))
    ram.put("b", state(2))
    ram.get("a")
    ram.put("c", state(3))
    assert ram.get("b") is None
    assert same(ram.get("a"), state(1)) and same(ram.get("c"), state(3))
    ram.put("huge", state(4, 3000))
    assert ram.get("huge") is None and ram.n_bytes == 2000


def test_the_disk_keeps_its_budget_and_what_was_used_last(tmp_path: Path) -> None:
    kept = store(tmp_path, disk=5000)
    for number in range(3):
        kept.put(tokens(number), state(number))
    kept.close()
    for age, path in enumerate(sorted(tmp_path.iterdir(), key=lambda p: p.stat().st_mtime)):
        os.utime(path, (1000 + age, 1000 + age))
    kept = store(tmp_path, disk=5000)
    assert same(kept.get(tokens(0)), state(0))
    for number in range(3, 7):
        kept.put(tokens(number), state(number))
    kept.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 5000
    again = store(tmp_path, disk=5000)
    assert again.get(tokens(1)) is None
    assert same(again.get(tokens(6)), state(6))
    again.close()


def test_leftovers_of_a_crash_are_removed_when_they_are_old(tmp_path: Path) -> None:
    old, new = tmp_path / "old.part", tmp_path / "new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    store(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == ["new.part"]


def test_a_folder_that_cant_be_written_costs_no_more_than_the_store(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    kept = store(blocked / "kv", ram=10_000)
    kept.put(tokens(1), state(1))
    assert same(kept.get(tokens(1)), state(1))
    kept.close()
    kept.close()


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    kept = store(tmp_path / "kv")
    kept.put(tokens(1), state(1))
    kept.close()
    assert (tmp_path / "kv").stat().st_mode & 0o077 == 0
    assert only_file(tmp_path / "kv").stat().st_mode & 0o077 == 0
