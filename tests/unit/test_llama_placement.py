"""Where models go on invented machines."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import random_model_path
from workers.errors import ModelCorrupt, ModelTooLarge
from workers.llama.header import read_size
from workers.llama.placement import ALL_LAYERS, Memory, ModelSize, Placement, place
from workers.llama.sizing import LlamaSettings

GIB = 1024**3
MOE = ModelSize(
    name="gpt-oss-20b.gguf",
    n_layers=24,
    dense_bytes=1_950_000_000,
    expert_bytes=10_160_000_000,
    kv_values_per_cell=24 * 8 * 128,
)
DENSE = ModelSize(
    name="dense.gguf",
    n_layers=32,
    dense_bytes=8 * GIB,
    expert_bytes=0,
    kv_values_per_cell=32 * 8 * 256,
)


def placed(
    ram_gib: float, vram_gib: float = 0, size: ModelSize = MOE, **settings: object
) -> Placement:
    memory = Memory(ram_bytes=int(ram_gib * GIB), vram_bytes=int(vram_gib * GIB))
    return place(size, memory, LlamaSettings(**settings))  # type: ignore[arg-type]


def test_the_default_context_where_memory_is_plenty() -> None:
    assert placed(64) == placed(48)
    assert (placed(64).n_cells, placed(64).n_gpu_layers) == (16_384, 0)


def test_a_smaller_context_where_memory_is_short() -> None:
    short = placed(12.9)
    assert 8192 <= short.n_cells < 16_384
    assert short.n_cells % 256 == 0
    assert short.kv_type == "f16"


def test_a_cache_in_half_the_bytes_where_it_is_shorter_still() -> None:
    plan = placed(12.5)
    assert plan.kv_type == "q8_0" and plan.n_cells >= 8192
    shortest = placed(12.3)
    assert shortest.kv_type == "q8_0" and 2048 <= shortest.n_cells < 8192


def test_a_cache_that_q8_cannot_hold_stays_f16() -> None:
    size = replace(MOE, has_whole_blocks=False)
    assert (placed(12.5, size=size).kv_type, placed(12.5, size=size).n_cells) == ("f16", 7424)
    with pytest.raises(ModelTooLarge, match="in f16"):
        placed(8, size=size)


def test_a_wanted_kind_of_cache_is_given() -> None:
    assert placed(12.6, kv_type="f16").kv_type == "f16"
    assert placed(64, kv_type="q8_0").kv_type == "q8_0"
    assert placed(12.5, kv_type="q8_0").n_cells > 1.7 * placed(12.5, kv_type="f16").n_cells


def test_a_wanted_context_is_kept_in_half_the_bytes_where_need_be() -> None:
    assert placed(12.6, n_ctx=16_384).kv_type == "q8_0"


@given(cells=st.integers(256, 200_000), live_chunks=st.integers(1, 6))
def test_there_are_no_more_slots_than_cells_for_them(cells: int, live_chunks: int) -> None:
    plan = placed(64, n_ctx=cells, live_chunks=live_chunks)
    assert 1 <= plan.n_slots <= max(cells // 320, 1)
    assert plan.n_sequences == plan.n_slots + live_chunks + 1 <= 48


def test_slots_that_are_asked_for_are_given() -> None:
    assert placed(64, n_ctx=2048, n_seq_max=32, live_chunks=2).n_slots == 29


def test_batches_are_large_on_a_gpu_with_room_for_them() -> None:
    assert [placed(32, vram).n_batch for vram in (0, 13.5, 16, 24)] == [512, 512, 2048, 2048]
    assert placed(32, 24, n_batch=600).n_batch == 600


def test_a_gpu_keeps_experts_rather_than_numbers_of_twice_the_size() -> None:
    plans = [placed(32, vram / 10) for vram in range(60, 240, 2)]
    for plan in plans:
        wide = placed(32, kv_type="f16", vram_gib=0)
        assert plan.n_cells == wide.n_cells
    assert {plan.kv_type for plan in plans} == {"f16", "q8_0"}
    assert plans[-1].kv_type == "f16"


def test_the_plan_tells_all_that_was_chosen() -> None:
    told = str(placed(64))
    assert "16384 tokens of context in f16, 41 answers at a time, batches of 512" in told


def test_a_wanted_context_is_given_or_refused_never_shrunk() -> None:
    assert placed(64, n_ctx=100_000).n_cells == 100_000
    with pytest.raises(ModelTooLarge, match="100000 tokens of context") as refused:
        placed(14, n_ctx=100_000)
    fits = re.search(r"A context of (\d+) tokens would fit", str(refused.value))
    assert fits and placed(14, n_ctx=int(fits[1])).n_cells == int(fits[1])


def test_a_model_that_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(ModelTooLarge, match=r"needs 11549 MiB .* 8192 MiB are free") as refused:
        placed(8)
    fits = re.search(r"A model of up to (\d+) MiB would fit", str(refused.value))
    assert fits and 7000 < int(fits[1]) < 8192


def test_all_of_it_on_a_large_gpu() -> None:
    plan = placed(8, 24)
    assert (plan.n_gpu_layers, plan.n_cpu_expert_layers, plan.cpu_bytes) == (ALL_LAYERS, 0, 0)
    assert "all layers on the GPU" in str(plan)


def test_experts_of_as_many_layers_as_needed_go_to_main_memory() -> None:
    plans = [placed(16, vram) for vram in (14, 12, 10, 8, 6, 4, 3)]
    away = [plan.n_cpu_expert_layers for plan in plans]
    assert away[0] == 0 and away == sorted(away) and 20 <= away[-1] <= 24
    assert all(plan.n_gpu_layers == ALL_LAYERS for plan in plans)
    assert "the experts of 2 of them in main memory" in str(plans[1])


def test_a_model_without_experts_leaves_whole_layers() -> None:
    plan = placed(16, 6, size=DENSE)
    assert 0 < plan.n_gpu_layers < 32
    assert plan.n_cpu_expert_layers == 0


def test_a_gpu_that_is_too_small_for_anything_is_left_alone() -> None:
    assert placed(16, 1).n_gpu_layers == 0


def test_layers_that_are_asked_for_are_given() -> None:
    plan = placed(16, 8, n_gpu_layers=10)
    assert plan.n_gpu_layers == 10
    assert plan.gpu_bytes == pytest.approx(plan.cpu_bytes * 10 / 14)


@given(
    ram_gib=st.floats(1, 128),
    vram_gib=st.floats(0, 48),
    size=st.sampled_from([MOE, DENSE]),
    n_ctx=st.sampled_from([None, 2048, 8192, 65_536]),
)
def test_no_plan_is_over_any_memory(
    ram_gib: float, vram_gib: float, size: ModelSize, n_ctx: int | None
) -> None:
    try:
        plan = placed(ram_gib, vram_gib, size, n_ctx=n_ctx)
    except ModelTooLarge:
        return
    assert plan.gpu_bytes <= vram_gib * GIB
    assert plan.cpu_bytes <= ram_gib * GIB
    whole = size.weights_bytes + size.kv_bytes(plan.n_cells, plan.kv_type)
    assert plan.gpu_bytes + plan.cpu_bytes == pytest.approx(whole)


def test_sizes_are_read_from_a_files_header() -> None:
    path = random_model_path()
    size = read_size(path, "tiny")
    assert size.n_layers == 4
    assert size.kv_values_per_cell == 4 * 2 * (64 + 64)
    assert size.has_whole_blocks
    # Experts: layers x experts x 3 matrices of 128 x 128 at 17 bytes per 32, and their biases.
    matrices = 4 * 4 * 3 * (128 * 128 * 17 // 32)
    assert matrices <= size.expert_bytes <= matrices + 4 * 4 * 3 * 128 * 4
    assert 0.8 * path.stat().st_size < size.weights_bytes < path.stat().st_size


def test_a_damaged_header_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(random_model_path().read_bytes()[:5000])
    with pytest.raises(ModelCorrupt, match="cut or damaged"):
        read_size(path, "cut")
