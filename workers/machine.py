"""The machine doctor: what is in this machine, and which models it can run.

`probe_machine` looks; `what_can_run` is pure, so that its verdicts are tested on invented machines.
"""

from __future__ import annotations

import enum
import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from workers.errors import WorkerError
from workers.models import HUB_MODELS, describe_plan, resolve_model

GB = 1_000_000_000
MIB = 1 << 20
KIB = 1 << 10

MIN_CONTEXT_TOKENS = 8192
"""A few chunks with their tasks; below it an engine is not worth starting."""
GPU_OVERHEAD_BYTES = GB
"""Per GPU, for llama.cpp's compute buffers at usual batch sizes; an estimate."""
RAM_OVERHEAD_BYTES = GB
"""For this process and llama.cpp's compute buffers; an estimate."""

_CPU_FLAGS_OF_INTEREST = frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"})
_GPU_BUILD = (
    "make setup CUDA=1, or CMAKE_ARGS=-DGGML_CUDA=on pip install --no-cache-dir --force-reinstall "
    "--no-binary llama-cpp-python llama-cpp-python=={version}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One NVIDIA GPU, as nvidia-smi reports it."""

    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What a model can use here, at the moment of the probe."""

    n_physical_cores: int
    n_logical_cores: int
    ram_total_bytes: int
    ram_available_bytes: int
    cpu_flags: frozenset[str]
    """Of avx2, avx512f, avx512_vnni, avx512_bf16; empty also where /proc/cpuinfo isn't there."""
    gpus: tuple[Gpu, ...]
    llama_version: str | None
    """Of llama-cpp-python; None when it isn't installed."""
    gpu_offload: bool
    """Whether that build of llama.cpp can use a GPU at all."""
    models_dir: Path
    disk_free_bytes: int
    """Where `models_dir` is or would be."""
    models_present: frozenset[str]
    """Names whose files are there and whole."""

    @property
    def vram_free_bytes(self) -> int:
        """Free memory of all GPUs that llama.cpp can use, less its own needs on each."""
        if not self.gpu_offload:
            return 0
        return sum(max(gpu.free_bytes - GPU_OVERHEAD_BYTES, 0) for gpu in self.gpus)


class Fit(enum.StrEnum):
    """How a model runs on a machine, best first."""

    GPU = "gpu"
    """All of it in GPU memory."""
    GPU_AND_CPU = "gpu+cpu"
    """Attention and KV cache in GPU memory, experts of some or all layers in main memory."""
    CPU = "cpu"
    NONE = "none"
    """Too little memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelNeeds:
    """Memory of a model. Weights are what the published files take."""

    name: str
    dense_bytes: int
    """Weights that each token needs: attention, embeddings, output head."""
    expert_bytes: int
    """Weights of the experts, of which a token needs a few."""
    kv_bytes_per_token: int
    """f16 keys and values: 2 x layers x KV heads x head size x 2 bytes."""
    max_context_tokens: int
    """The length that the model was trained for."""
    n_layers: int

    @property
    def expert_bytes_per_layer(self) -> int:
        return self.expert_bytes // self.n_layers

    @property
    def weights_bytes(self) -> int:
        return self.dense_bytes + self.expert_bytes

    @property
    def min_kv_bytes(self) -> int:
        """KV cache of the smallest context that is worth starting with."""
        return min(MIN_CONTEXT_TOKENS, self.max_context_tokens) * self.kv_bytes_per_token


MODEL_NEEDS = (
    ModelNeeds(
        name="nano",
        dense_bytes=10_000_000,
        expert_bytes=20_000_000,
        kv_bytes_per_token=4 * KIB,
        max_context_tokens=4096,
        n_layers=4,
    ),
    # Experts: layers x experts x 3 matrices of 2880 x 2880 at 4.25 bits (MXFP4); the rest of the
    # files' 12.1 and 63.4 GB is dense.
    ModelNeeds(
        name="gpt-oss-20b",
        dense_bytes=1_950_000_000,
        expert_bytes=10_150_000_000,
        kv_bytes_per_token=48 * KIB,
        max_context_tokens=131_072,
        n_layers=24,
    ),
    ModelNeeds(
        name="gpt-oss-120b",
        dense_bytes=2_500_000_000,
        expert_bytes=60_900_000_000,
        kv_bytes_per_token=72 * KIB,
        max_context_tokens=131_072,
        n_layers=36,
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether and how one model runs on one machine."""

    model: str
    fit: Fit
    context_tokens: int
    """Tokens of KV cache that fit beside the weights, no more than the model was trained for; 0
    when the model doesn't fit."""
    present: bool
    """Whether its files are here."""
    reason: str
    """The numbers behind the verdict."""
    fix: str | None
    """What to do so that it runs, or runs better; None when nothing is to be done."""


def what_can_run(machine: Machine) -> list[Verdict]:
    """One verdict per known model, smallest first. Pure."""
    return [_judge(needs, machine) for needs in MODEL_NEEDS]


def _judge(needs: ModelNeeds, machine: Machine) -> Verdict:
    fit, kv_room_bytes = _place(needs, machine)
    context_tokens = min(kv_room_bytes // needs.kv_bytes_per_token, needs.max_context_tokens)
    return Verdict(
        model=needs.name,
        fit=fit,
        context_tokens=context_tokens,
        present=needs.name in machine.models_present,
        reason=_reason(needs, machine, fit),
        fix=_fix(needs, machine, fit),
    )


def _place(needs: ModelNeeds, machine: Machine) -> tuple[Fit, int]:
    """The best fit, and the bytes that it leaves for the KV cache."""
    ram = machine.ram_available_bytes - RAM_OVERHEAD_BYTES
    vram = machine.vram_free_bytes
    least_kv = needs.min_kv_bytes
    if vram >= needs.weights_bytes + least_kv:
        return Fit.GPU, vram - needs.weights_bytes
    n_away = _layers_away(needs, machine)
    if n_away is not None and ram >= n_away * needs.expert_bytes_per_layer:
        n_here = needs.n_layers - n_away
        return Fit.GPU_AND_CPU, vram - needs.dense_bytes - n_here * needs.expert_bytes_per_layer
    if ram >= needs.weights_bytes + least_kv:
        return Fit.CPU, ram - needs.weights_bytes
    return Fit.NONE, 0


def _layers_away(needs: ModelNeeds, machine: Machine) -> int | None:
    """Layers whose experts do not fit into GPU memory beside the rest; None when that itself does
    not fit."""
    spare = machine.vram_free_bytes - needs.dense_bytes - needs.min_kv_bytes
    if spare < 0:
        return None
    return max(needs.n_layers - spare // needs.expert_bytes_per_layer, 0)


def _reason(needs: ModelNeeds, machine: Machine, fit: Fit) -> str:
    tokens = needs.min_kv_bytes // needs.kv_bytes_per_token
    need = (
        f"needs {_size(needs.weights_bytes)} for its weights and {_size(needs.min_kv_bytes)} for "
        f"{tokens} tokens"
    )
    there = (
        f"usable are {_size(machine.vram_free_bytes)} of GPU memory and "
        f"{_size(machine.ram_available_bytes - RAM_OVERHEAD_BYTES)} of main memory"
    )
    how = {
        Fit.GPU: "fits into GPU memory",
        Fit.GPU_AND_CPU: _split_reason(needs, machine),
        Fit.CPU: "fits into main memory, without a GPU",
        Fit.NONE: "does not fit",
    }[fit]
    return f"{how}: {need}; {there}"


def _split_reason(needs: ModelNeeds, machine: Machine) -> str:
    n_away = _layers_away(needs, machine) or 0
    size = _size(n_away * needs.expert_bytes_per_layer)
    return f"fits with the experts of {n_away} of {needs.n_layers} layers ({size}) in main memory"


def _fix(needs: ModelNeeds, machine: Machine, fit: Fit) -> str | None:
    if machine.llama_version is None:
        return "install the inference library: pip install llama-cpp-python"
    if fit is Fit.NONE:
        return _memory_fix(needs, machine)
    if needs.name not in machine.models_present:
        return _get_fix(needs, machine)
    return _gpu_fix(machine)


def _memory_fix(needs: ModelNeeds, machine: Machine) -> str:
    """The nearest way to enough memory: that which is only occupied, an idle GPU, or more of it."""
    enough = needs.weights_bytes + needs.min_kv_bytes + RAM_OVERHEAD_BYTES
    short = enough - machine.ram_available_bytes
    if machine.ram_total_bytes >= enough:
        return f"close other programs: {_size(short)} more of main memory must be free"
    rest = f"{_size(short)} of main memory are lacking: use a smaller model, or a server by its URL"
    build = _gpu_fix(machine)
    return f"{build}; else {rest}" if build else rest


def _get_fix(needs: ModelNeeds, machine: Machine) -> str:
    if needs.name not in HUB_MODELS:
        return f"reinstall the package: {needs.name} ships with it and is not there"
    if machine.disk_free_bytes < needs.weights_bytes:
        return (
            f"make room: {_size(needs.weights_bytes)} are needed in {machine.models_dir}, "
            f"{_size(machine.disk_free_bytes)} are free; then minions pull {needs.name}"
        )
    return f"minions pull {needs.name}"


def _gpu_fix(machine: Machine) -> str | None:
    """How to make use of a GPU that llama.cpp can't see."""
    if not machine.gpus or machine.gpu_offload:
        return None
    build = _GPU_BUILD.format(version=machine.llama_version)
    return f"build llama.cpp for the {machine.gpus[0].name}: {build}"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / GB:.1f} GB" if n_bytes >= GB else f"{max(n_bytes, 0) / 1e6:.0f} MB"


def probe_machine(models_dir: Path) -> Machine:
    """Look at this machine. Takes a second when there is a GPU; changes nothing."""
    memory = psutil.virtual_memory()
    n_logical = psutil.cpu_count() or os.cpu_count() or 1
    version, offload = _probe_llama()
    return Machine(
        n_physical_cores=psutil.cpu_count(logical=False) or n_logical,
        n_logical_cores=n_logical,
        ram_total_bytes=memory.total,
        ram_available_bytes=memory.available,
        cpu_flags=_probe_cpu_flags(Path("/proc/cpuinfo")),
        gpus=_probe_gpus(),
        llama_version=version,
        gpu_offload=offload,
        models_dir=models_dir,
        disk_free_bytes=shutil.disk_usage(_existing(models_dir)).free,
        models_present=_present(models_dir),
    )


def parse_cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The flags of interest in the text of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return _CPU_FLAGS_OF_INTEREST & frozenset(value.split())
    return frozenset()


def parse_nvidia_smi(csv: str) -> tuple[Gpu, ...]:
    """GPUs in lines of `name, total MiB, free MiB`; one whose memory isn't a number ("[N/A]", as
    with memory shared with the CPU) is left out."""
    gpus = []
    for line in csv.splitlines():
        name, *sizes = (part.strip() for part in line.rsplit(",", 2))
        if len(sizes) == 2 and all(size.isdecimal() for size in sizes):
            total, free = (int(size) * MIB for size in sizes)
            gpus.append(Gpu(name=name, total_bytes=total, free_bytes=free))
    return tuple(gpus)


def _probe_cpu_flags(cpuinfo: Path) -> frozenset[str]:
    return parse_cpu_flags(cpuinfo.read_text("utf-8")) if cpuinfo.is_file() else frozenset()


def _probe_gpus() -> tuple[Gpu, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()  # installed without a working driver: then llama.cpp can't use the GPU either
    return parse_nvidia_smi(found.stdout)


def _probe_llama() -> tuple[str | None, bool]:
    """Version of llama-cpp-python, and whether its llama.cpp was built for a GPU."""
    try:
        version = metadata.version("llama-cpp-python")
        import llama_cpp
    except (metadata.PackageNotFoundError, ImportError, OSError, RuntimeError):
        return None, False  # OSError, RuntimeError: its shared library is missing or broken
    return version, bool(llama_cpp.llama_supports_gpu_offload())


def prove_offload(models_dir: Path) -> str:
    """Put the model that ships on the GPU and say what llama.cpp reports of it, such as "offloaded
    5/5 layers to GPU"; or why it could not."""
    from workers.llama.api import LlamaModel  # loads llama.cpp: only for whoever asks
    from workers.llama.placement import ALL_LAYERS

    try:
        path = resolve_model("nano", models_dir).path
        if path is None:
            return "not tried: nano is no file here"
        model = LlamaModel(path, n_gpu_layers=ALL_LAYERS)
    except WorkerError as error:
        return f"failed: {error}"
    report = model.offload_report
    model.close()
    return report or "failed: llama.cpp loaded the model and put nothing on a GPU"


def plans_here(machine: Machine) -> dict[str, str]:
    """How each model whose files are here would be run, by its name; or why it can't be."""
    plans = {}
    for name in sorted(machine.models_present):
        try:
            plans[name] = describe_plan(resolve_model(name, machine.models_dir))
        except WorkerError as error:
            plans[name] = str(error)
    return plans


def _existing(path: Path) -> Path:
    """The path, or its nearest ancestor that exists."""
    return next(p for p in (path, *path.absolute().parents) if p.exists())


def _present(models_dir: Path) -> frozenset[str]:
    return frozenset(n.name for n in MODEL_NEEDS if _is_present(n.name, models_dir))


def _is_present(name: str, models_dir: Path) -> bool:
    try:
        resolve_model(name, models_dir)
    except (WorkerError, OSError):
        return False
    return True
