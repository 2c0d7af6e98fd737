"""Settings of an engine, and the threads and files that they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.llama.sizing import LlamaSettings, compute_threads, file_bytes


@pytest.mark.parametrize(
    "bad",
    [
        {"n_seq_max": 3},
        {"n_seq_max": 256},
        {"n_batch": 31},
        {"live_chunks": 0},
        {"n_ctx": 0},
        {"n_threads": 0},
        {"n_gpu_layers": -1},
        {"busy_jobs": 0},
        {"kv_ram_bytes": -1},
        {"n_extra_rows": 500},
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
