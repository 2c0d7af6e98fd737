"""Where a model goes, and what it is run with: how much of it on the GPU, how large a context in
which numbers, how many answers at a time, how large a batch. Pure.

A mixture of experts is placed by what it needs often: attention, embeddings and the KV cache stay
on the GPU, and the experts of as few layers as possible go to main memory, since each token needs a
few of them only. A model without experts leaves whole layers there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from workers.errors import ModelTooLarge
from workers.llama.sizing import MOST_DEFAULT_SEQUENCES, SMALL_BATCH, KvType, LlamaSettings

ALL_LAYERS: Final = 10_000
"""As many as there are: llama.cpp takes any number that is not less."""

_MIB: Final = 1024**2
_CELL_STEP: Final = 256
"""llama.cpp rounds the number of cells up to a multiple of this."""
_DEFAULT_CELLS: Final = 16_384
_ENOUGH_CELLS: Final = 8_192
"""Four or five chunks with their jobs: with less, a cache in half the bytes is the better way."""
_FEWEST_CELLS: Final = 2_048
_CELLS_PER_ANSWER: Final = 320
"""What an answer takes beside its chunk: a task, and 256 tokens to write."""
_COMPUTE_BYTES: Final = 256 * _MIB
"""For compute buffers, logits and this process; the 20B shape takes some 200 MiB."""
_LARGE_BATCH: Final = 2048
"""A GPU computes a row of it for less than one of 512, and copies experts that are in main memory
a quarter as often."""
_LARGE_BATCH_BYTES: Final = 2048 * _MIB
"""What its buffers may take beside those of 512. Computed for the 20B shape it is 800 MiB; until it
is measured on a GPU, more than twice that is asked for."""
_SPARE_SHARE: Final = 0.05
"""Share of each memory that is left to others."""
_BYTES_PER_VALUE: Final[dict[KvType, float]] = {"f16": 2.0, "q8_0": 34 / 32}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSize:
    """What a model asks of the memory it runs in."""

    name: str
    n_layers: int
    dense_bytes: int
    """Weights that every token needs."""
    expert_bytes: int
    """Weights of the experts of all layers; 0 for a model without."""
    kv_values_per_cell: int
    """Numbers that the cache holds per token."""
    has_whole_blocks: bool = True
    """The heads' keys and values are whole blocks of q8_0; else the cache can only be f16."""

    @property
    def weights_bytes(self) -> int:
        return self.dense_bytes + self.expert_bytes

    @property
    def movable_bytes_per_layer(self) -> float:
        """What leaves the GPU with a layer: its experts; without any, the layer."""
        return (self.expert_bytes or self.dense_bytes) / max(self.n_layers, 1)

    def kv_bytes(self, cells: int, kv_type: KvType) -> float:
        return cells * self.kv_values_per_cell * _BYTES_PER_VALUE[kv_type]


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What is free."""

    ram_bytes: int
    vram_bytes: int = 0
    """Of all GPUs that llama.cpp can use; 0 for none."""

    @property
    def usable_ram(self) -> float:
        return self.ram_bytes * (1 - _SPARE_SHARE) - _COMPUTE_BYTES

    @property
    def usable_vram(self) -> float:
        return self.vram_bytes * (1 - _SPARE_SHARE) - _COMPUTE_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """A KV cache that may be tried."""

    n_cells: int
    kv_type: KvType


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """The plan for one model on one machine."""

    model: str
    n_cells: int
    """Tokens of context, all jobs together."""
    kv_type: KvType = "f16"
    """Number format of the cache."""
    n_sequences: int = MOST_DEFAULT_SEQUENCES
    """Of the context: one for the instructions, one per live chunk, and the slots."""
    n_slots: int = 1
    """Jobs that can decode at the same time."""
    n_batch: int = SMALL_BATCH
    """Rows of one batch."""
    n_gpu_layers: int = 0
    """0 for none, `ALL_LAYERS` for all."""
    n_cpu_expert_layers: int = 0
    """The experts of so many layers, the first ones, are in main memory though the rest of the
    model is on the GPU."""
    gpu_bytes: float = 0.0
    cpu_bytes: float = 0.0
    """Weights and cache, in each memory."""

    def __str__(self) -> str:
        where = "the CPU"
        if self.n_gpu_layers:
            layers = "all" if self.n_gpu_layers >= ALL_LAYERS else f"{self.n_gpu_layers}"
            where = f"{layers} layers on the GPU ({self.gpu_bytes / _MIB:.0f} MiB)"
            if self.n_cpu_expert_layers:
                where += f", the experts of {self.n_cpu_expert_layers} of them"
            where += " and the rest" if self.cpu_bytes and not self.n_cpu_expert_layers else ""
            where += " in main memory" if self.cpu_bytes else ""
        memory = f" ({self.cpu_bytes / _MIB:.0f} MiB)" if self.cpu_bytes else ""
        return (
            f"{self.model}: {where}{memory}, {self.n_cells} tokens of context in {self.kv_type}, "
            f"{self.n_slots} answers at a time, batches of {self.n_batch}"
        )


def place(size: ModelSize, memory: Memory, settings: LlamaSettings) -> Placement:
    """The best plan: on the GPU with the context that is wanted, or with a smaller one where none
    is; else on the CPU.

    Raises ModelTooLarge, with the numbers and with what would fit."""
    found = None
    if memory.vram_bytes and settings.n_gpu_layers is None:
        found = _most_on_gpu(size, memory, settings)
    elif memory.vram_bytes and settings.n_gpu_layers:
        told = functools.partial(_as_told, settings.n_gpu_layers)
        found = _first(told, size, memory, settings)
    found = found or _first(_on_cpu, size, memory, settings)
    if found is None:
        raise ModelTooLarge(_too_large(size, memory, settings))
    return _with_slots_and_batch(found, memory, settings)


def _with_slots_and_batch(found: Placement, memory: Memory, settings: LlamaSettings) -> Placement:
    """The plan with as many slots as its cells have use for, and the largest useful batch."""
    n_beside = 1 + settings.live_chunks
    n_useful = max(found.n_cells // _CELLS_PER_ANSWER, 1) + n_beside
    n_sequences = settings.n_seq_max or min(n_useful, MOST_DEFAULT_SEQUENCES)
    has_room = memory.usable_vram - found.gpu_bytes >= _LARGE_BATCH_BYTES
    best_batch = _LARGE_BATCH if found.n_gpu_layers and has_room else SMALL_BATCH
    return replace(
        found,
        n_sequences=n_sequences,
        n_slots=n_sequences - n_beside,
        n_batch=settings.n_batch or best_batch,
    )


def _kv_types(size: ModelSize, settings: LlamaSettings) -> list[KvType]:
    """The number formats that may be used, the best first."""
    if settings.kv_type:
        return [settings.kv_type]
    return ["f16", "q8_0"] if size.has_whole_blocks else ["f16"]


def _caches(size: ModelSize, settings: LlamaSettings) -> Iterator[Cache]:
    """Those that may be tried, the best first: the wanted one and no other; else from the default
    down, in f16 as long as that is enough, in half the bytes from there on."""
    types = _kv_types(size, settings)
    for kv_type in types:
        if settings.n_ctx is not None:
            yield Cache(n_cells=settings.n_ctx, kv_type=kv_type)
            continue
        fewest = _FEWEST_CELLS if kv_type == types[-1] else _ENOUGH_CELLS
        for n_cells in range(_DEFAULT_CELLS, fewest - 1, -_CELL_STEP):
            yield Cache(n_cells=n_cells, kv_type=kv_type)


def _first(
    plan: _Plan, size: ModelSize, memory: Memory, settings: LlamaSettings
) -> Placement | None:
    """By the first cache that `plan` finds room for."""
    plans = (plan(size, memory, cache) for cache in _caches(size, settings))
    return next((found for found in plans if found), None)


def _most_on_gpu(size: ModelSize, memory: Memory, settings: LlamaSettings) -> Placement | None:
    """With as much of the model on the GPU as any cache of the default size leaves room for; if
    there is none, with the first that fits."""
    wanted = settings.n_ctx or _DEFAULT_CELLS
    plans = [
        found
        for cache in _caches(size, settings)
        if cache.n_cells == wanted and (found := _on_gpu(size, memory, cache))
    ]
    if plans:
        return min(plans, key=lambda found: found.cpu_bytes)
    return _first(_on_gpu, size, memory, settings)


def _on_gpu(size: ModelSize, memory: Memory, cache: Cache) -> Placement | None:
    """All of it, or with as few layers' experts as need be in main memory."""
    kv_bytes = size.kv_bytes(cache.n_cells, cache.kv_type)
    movable = size.movable_bytes_per_layer * size.n_layers
    left = memory.usable_vram - kv_bytes - (size.weights_bytes - movable)
    if left < 0:
        return None
    n_here = min(size.n_layers, int(left // max(size.movable_bytes_per_layer, 1)))
    n_away = size.n_layers - n_here
    away_bytes = n_away * size.movable_bytes_per_layer
    if away_bytes > memory.usable_ram or (n_here == 0 and not size.expert_bytes):
        return None
    layers = n_here if n_away and not size.expert_bytes else ALL_LAYERS
    return Placement(
        model=size.name,
        n_cells=cache.n_cells,
        kv_type=cache.kv_type,
        n_gpu_layers=layers,
        n_cpu_expert_layers=n_away if size.expert_bytes else 0,
        gpu_bytes=size.weights_bytes - away_bytes + kv_bytes,
        cpu_bytes=away_bytes,
    )


def _as_told(wanted_layers: int, size: ModelSize, memory: Memory, cache: Cache) -> Placement | None:
    """As many layers as the user wants, with their share of the cache."""
    n_layers = min(wanted_layers, size.n_layers)
    share = n_layers / max(size.n_layers, 1)
    all_bytes = size.weights_bytes + size.kv_bytes(cache.n_cells, cache.kv_type)
    gpu_bytes, cpu_bytes = share * all_bytes, (1 - share) * all_bytes
    if gpu_bytes > memory.usable_vram or cpu_bytes > memory.usable_ram:
        return None
    return Placement(
        model=size.name,
        n_cells=cache.n_cells,
        kv_type=cache.kv_type,
        n_gpu_layers=wanted_layers,
        gpu_bytes=gpu_bytes,
        cpu_bytes=cpu_bytes,
    )


def _on_cpu(size: ModelSize, memory: Memory, cache: Cache) -> Placement | None:
    needed = size.weights_bytes + size.kv_bytes(cache.n_cells, cache.kv_type)
    if needed > memory.usable_ram:
        return None
    return Placement(
        model=size.name, n_cells=cache.n_cells, kv_type=cache.kv_type, cpu_bytes=needed
    )


_Plan = Callable[[ModelSize, Memory, Cache], Placement | None]


def _too_large(size: ModelSize, memory: Memory, settings: LlamaSettings) -> str:
    cells, kv_type = settings.n_ctx or _FEWEST_CELLS, _kv_types(size, settings)[-1]
    kv_mib = size.kv_bytes(cells, kv_type) / _MIB
    free = f"{memory.ram_bytes / _MIB:.0f} MiB are free"
    if memory.vram_bytes:
        free = (
            f"{memory.vram_bytes / _MIB:.0f} MiB of GPU memory and {memory.ram_bytes / _MIB:.0f} "
            "MiB of main memory are free"
        )
    return (
        f"{size.name} needs {size.weights_bytes / _MIB:.0f} MiB for its weights and {kv_mib:.0f} "
        f"MiB for {cells} tokens of context in {kv_type}, beside {_COMPUTE_BYTES / _MIB:.0f} MiB "
        f"of buffers; {free}. {_what_would_fit(size, memory, settings)}"
    )


def _what_would_fit(size: ModelSize, memory: Memory, settings: LlamaSettings) -> str:
    """The nearest thing that runs: this model with a smaller context, or a smaller model."""
    room = max(memory.usable_ram, memory.usable_vram) - size.weights_bytes
    kv_type = _kv_types(size, settings)[-1]
    per_cell = max(size.kv_bytes(1, kv_type), 1.0)
    most_cells = int(room / per_cell) // _CELL_STEP * _CELL_STEP
    if most_cells >= _FEWEST_CELLS:
        return f"A context of {most_cells} tokens would fit: ask for a smaller n_ctx."
    fewest = size.kv_bytes(_FEWEST_CELLS, kv_type)
    most_mib = (max(memory.usable_ram, memory.usable_vram) - fewest) / _MIB
    return (
        f"A model of up to {max(most_mib, 0):.0f} MiB would fit: take a smaller one, close other "
        "programs, or use a server of your network by its URL."
    )
