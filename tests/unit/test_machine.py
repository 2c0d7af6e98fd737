"""Verdicts over invented machines, and the parsers of what a real one says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from workers.machine import (
    GB,
    MIB,
    Fit,
    Gpu,
    Machine,
    Verdict,
    parse_cpu_flags,
    parse_nvidia_smi,
    probe_machine,
    what_can_run,
)

ALL = frozenset({"nano", "gpt-oss-20b", "gpt-oss-120b"})
LAPTOP = Machine(
    n_physical_cores=8,
    n_logical_cores=16,
    ram_total_bytes=16 * GB,
    ram_available_bytes=15 * GB,
    cpu_flags=frozenset({"avx2"}),
    gpus=(),
    llama_version="0.3.36",
    gpu_offload=False,
    models_dir=Path("/models"),
    disk_free_bytes=100 * GB,
    models_present=ALL,
)


def with_gpu(machine: Machine, *free_gb: int) -> Machine:
    gpus = tuple(Gpu(name="RTX", total_bytes=gb * GB, free_bytes=gb * GB) for gb in free_gb)
    return replace(machine, gpus=gpus, gpu_offload=True)


def with_ram(machine: Machine, available_gb: int) -> Machine:
    free = available_gb * GB
    return replace(machine, ram_total_bytes=free, ram_available_bytes=free)


def verdict(machine: Machine, model: str) -> Verdict:
    return next(v for v in what_can_run(machine) if v.model == model)


def fits(machine: Machine) -> list[Fit]:
    return [v.fit for v in what_can_run(machine)]


def test_a_laptop_runs_20b_on_its_cpu() -> None:
    assert fits(LAPTOP) == [Fit.CPU, Fit.CPU, Fit.NONE]
    small = verdict(LAPTOP, "gpt-oss-20b")
    assert small.fix is None
    # 15 GB - 1 GB for the process - 12.1 GB of weights, at 48 KiB a token.
    assert small.context_tokens == (15 * GB - GB - 12_100_000_000) // (48 * 1024)


@pytest.mark.parametrize(
    ("ram_gb", "gpu_gb", "expected"),
    [
        (4, (), [Fit.CPU, Fit.NONE, Fit.NONE]),
        (8, (16,), [Fit.GPU, Fit.GPU, Fit.NONE]),
        (16, (4,), [Fit.GPU, Fit.GPU_AND_CPU, Fit.NONE]),
        (64, (8,), [Fit.GPU, Fit.GPU_AND_CPU, Fit.GPU_AND_CPU]),
        (64, (80,), [Fit.GPU, Fit.GPU, Fit.GPU]),
        (32, (24, 24, 24), [Fit.GPU, Fit.GPU, Fit.GPU]),
        (128, (), [Fit.CPU, Fit.CPU, Fit.CPU]),
    ],
)
def test_where_each_model_goes(ram_gb: int, gpu_gb: tuple[int, ...], expected: list[Fit]) -> None:
    assert fits(with_gpu(with_ram(LAPTOP, ram_gb), *gpu_gb)) == expected


def test_a_large_gpu_holds_the_longest_context() -> None:
    machine = with_gpu(LAPTOP, 24)
    assert verdict(machine, "gpt-oss-20b").context_tokens == 131_072
    assert verdict(machine, "nano").context_tokens == 4096


def test_memory_in_use_is_the_first_fix() -> None:
    busy = replace(LAPTOP, ram_available_bytes=6 * GB)
    fix = verdict(busy, "gpt-oss-20b").fix
    assert fix is not None
    assert fix.startswith("close other programs: 7.5 GB more")


def test_too_little_memory_is_said_with_numbers() -> None:
    big = verdict(LAPTOP, "gpt-oss-120b")
    assert (big.fit, big.context_tokens) == (Fit.NONE, 0)
    assert "63.4 GB for its weights" in big.reason
    assert "14.0 GB of main memory" in big.reason
    assert "50.0 GB of main memory are lacking" in (big.fix or "")


def test_a_gpu_without_a_build_for_it_counts_nothing_and_says_so() -> None:
    machine = replace(with_gpu(LAPTOP, 24), gpu_offload=False)
    small = verdict(machine, "gpt-oss-20b")
    assert small.fit is Fit.CPU
    assert "DGGML_CUDA=on" in (small.fix or "")
    assert "llama-cpp-python==0.3.36" in (small.fix or "")


def test_a_model_that_is_not_there_is_to_be_pulled() -> None:
    machine = replace(LAPTOP, models_present=frozenset())
    assert verdict(machine, "gpt-oss-20b").fix == "minions pull gpt-oss-20b"
    assert "reinstall" in (verdict(machine, "nano").fix or "")


def test_a_full_disk_is_to_be_emptied_first() -> None:
    machine = replace(LAPTOP, models_present=frozenset(), disk_free_bytes=5 * GB)
    fix = verdict(machine, "gpt-oss-20b").fix or ""
    assert "12.1 GB are needed in /models, 5.0 GB are free" in fix


def test_without_the_library_nothing_else_matters() -> None:
    machine = replace(LAPTOP, llama_version=None)
    assert all("pip install llama-cpp-python" in (v.fix or "") for v in what_can_run(machine))


def test_nvidia_smi_is_read() -> None:
    csv = "NVIDIA GeForce RTX 4090, 24564, 23028\nNVIDIA GB10, [N/A], [N/A]\nA, B, 100, 50\n\n"
    assert parse_nvidia_smi(csv) == (
        Gpu(name="NVIDIA GeForce RTX 4090", total_bytes=24564 * MIB, free_bytes=23028 * MIB),
        Gpu(name="A, B", total_bytes=100 * MIB, free_bytes=50 * MIB),
    )


def test_cpuinfo_is_read() -> None:
    cpuinfo = "processor\t: 0\nflags\t\t: fpu sse avx2 avx512f avx512_vnni\n\nprocessor\t: 1\n"
    assert parse_cpu_flags(cpuinfo) == {"avx2", "avx512f", "avx512_vnni"}
    assert parse_cpu_flags("Hardware : ARM") == frozenset()


def test_this_machine_is_probed_without_leaving_a_trace(tmp_path: Path) -> None:
    machine = probe_machine(tmp_path / "not" / "there")
    assert 1 <= machine.n_physical_cores <= machine.n_logical_cores
    assert 0 < machine.ram_available_bytes <= machine.ram_total_bytes
    assert machine.disk_free_bytes > 0
    assert machine.models_present <= {"nano"}
    assert list(tmp_path.iterdir()) == []
    assert [v.model for v in what_can_run(machine)] == ["nano", "gpt-oss-20b", "gpt-oss-120b"]
