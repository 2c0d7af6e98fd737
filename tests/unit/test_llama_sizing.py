"""Contexts sized from the memory that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.errors import ModelTooLarge
from workers.llama.sizing import LlamaSettings, MemoryNeed, compute_threads, file_bytes

GIB = 1024**3
GPT_OSS_20B = MemoryNeed(
    model="gpt-oss-20b.gguf", file_bytes=12_110_000_000, kv_values_per_cell=24 * 8 * 128
)


def cells(gib: float, **settings: object) -> int:
    chosen = LlamaSettings(**settings)  # type: ignore[arg-type]
    return GPT_OSS_20B.cells(settings=chosen, available_bytes=int(gib * GIB))


def test_the_default_context_where_memory_is_plenty() -> None:
    assert cells(64) == 16_384


def test_a_smaller_context_where_memory_is_short() -> None:
    short = cells(12.5)
    assert 2048 <= short < 16_384
    assert short % 256 == 0


def test_a_q8_cache_holds_nearly_twice_as_much() -> None:
    assert cells(12.4, kv_type="q8_0") > 1.7 * cells(12.4)


def test_a_wanted_context_is_given_or_refused_never_shrunk() -> None:
    assert cells(64, n_ctx=100_000) == 100_000
    with pytest.raises(ModelTooLarge, match="100000 tokens of context"):
        cells(14, n_ctx=100_000)


def test_a_model_that_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(ModelTooLarge, match=r"needs 11549 MiB .* 8192 MiB are free"):
        cells(8)


def test_slots_leave_room_for_instructions_and_chunks() -> None:
    assert LlamaSettings(n_seq_max=32, live_chunks=2).n_slots == 29


@pytest.mark.parametrize(
    "bad",
    [
        {"n_seq_max": 3},
        {"n_seq_max": 257},
        {"n_batch": 31},
        {"live_chunks": 0},
        {"n_ctx": 0},
        {"n_threads": 0},
        {"n_gpu_layers": -1},
        {"kv_type": "q4_0"},
    ],
    ids=str,
)
def test_settings_that_could_not_work_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        LlamaSettings(**bad)  # type: ignore[arg-type]


def test_all_parts_of_a_split_file_count(tmp_path: Path) -> None:
    for part in (1, 2, 3):
        (tmp_path / f"big-0000{part}-of-00003.gguf").write_bytes(b"x" * part)
    (tmp_path / "other.gguf").write_bytes(b"x" * 10)
    assert file_bytes(tmp_path / "big-00001-of-00003.gguf") == 6
    assert file_bytes(tmp_path / "other.gguf") == 10


@pytest.mark.parametrize(
    ("weights_bytes", "n_cores", "n_busy", "threads"),
    [
        (7_000_000, 16, 0.0, 1),
        (12_000_000_000, 8, 0.2, 8),
        (12_000_000_000, 8, 2.6, 5),
        (12_000_000_000, 2, 7.5, 1),
    ],
)
def test_threads_are_cores_that_are_free(
    weights_bytes: int, n_cores: int, n_busy: float, threads: int
) -> None:
    assert compute_threads(weights_bytes, n_cores, n_busy) == threads
