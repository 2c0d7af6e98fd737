"""How an engine uses its machine: its settings, and what is free there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import psutil

KvType = Literal["f16", "q8_0"]

MOST_DEFAULT_SEQUENCES: Final = 48
SMALL_BATCH: Final = 512
_MIB: Final = 1024**2
_MOST_SEQUENCES: Final = 255
"""LLAMA_MAX_SEQ of llama.cpp, less the one that `LlamaContext` has for itself."""
_SMALL_MODEL_BYTES: Final = 64 * _MIB
_LANED_BYTES: Final = 128 * _MIB
"""Below this a model is read by several contexts at once, with a core for each."""
_MOST_LANES: Final = 8
_SPLIT: Final = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True, kw_only=True, slots=True)
class LlamaSettings:
    """How an engine uses its machine; None lets `placement` choose by the memory there is."""

    n_ctx: int | None = None
    """Cells (tokens) of the KV cache, shared by all jobs; None for what fits, at most 16384."""
    n_seq_max: int | None = None
    """Sequences: one for the instructions, one per live chunk, one per job being decoded; None for
    as many as the cells can be used by, at most 48."""
    n_batch: int | None = None
    """Rows of one batch, decode and prefill together (llama.cpp's n_batch and n_ubatch); None for
    512, or 2048 on a GPU with room for their buffers."""
    n_threads: int | None = None
    """Compute threads; None for what `compute_threads` makes of the model and the machine."""
    n_gpu_layers: int | None = None
    """Layers on a GPU; None for what fits, where llama.cpp was built with GPU support."""
    kv_type: KvType | None = None
    """Number format of the cache; q8_0 halves it and costs some prefill speed on a CPU. None for
    f16, or q8_0 where memory is too short for that."""
    live_chunks: int = 6
    """Most chunks in work at the same time."""
    live_work: int | None = None
    """See `Limits.live_work`; None for no bound on a GPU, and for what was measured on a CPU."""
    busy_jobs: int | None = None
    """See `Limits.busy_jobs`; None for 1 on a CPU, where every cell in use slows every row, and for
    half the slots on a GPU, which is idle unless many rows are computed together."""
    n_extra_rows: int = 32
    """Rows of a batch for tokens that jobs know or guess ahead, all jobs together."""
    kv_ram_bytes: int = 512 * _MIB
    """Memory for the caches of chunks that were read, so that further questions about them need not
    read them again; 0 for none."""
    kv_dir: Path | None = None
    """Folder for the same on disk, where it outlives the process; None for none."""
    kv_disk_bytes: int = 4096 * _MIB
    """Most bytes of that folder."""
    hash_below_bytes: int = 1024**3
    """Files up to this size are hashed at load even when no hash is expected."""

    def __post_init__(self) -> None:
        at_least_one = {"live_chunks": self.live_chunks, "n_ctx": self.n_ctx}
        at_least_one |= {"n_threads": self.n_threads, "busy_jobs": self.busy_jobs}
        at_least_one["live_work"] = self.live_work
        for name, value in at_least_one.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, must be at least 1")
        n_seq_max = MOST_DEFAULT_SEQUENCES if self.n_seq_max is None else self.n_seq_max
        if not 2 + self.live_chunks <= n_seq_max <= _MOST_SEQUENCES:
            raise ValueError(
                f"n_seq_max is {n_seq_max}, must be from {2 + self.live_chunks} "
                f"(with {self.live_chunks} live chunks) to {_MOST_SEQUENCES}"
            )
        n_batch = SMALL_BATCH if self.n_batch is None else self.n_batch
        if n_batch < n_seq_max + self.n_extra_rows:
            raise ValueError(
                f"n_batch is {n_batch}, below n_seq_max {n_seq_max} and n_extra_rows "
                f"{self.n_extra_rows} together"
            )
        for name in ("n_extra_rows", "kv_ram_bytes", "kv_disk_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be 0 or more")
        if self.n_gpu_layers is not None and self.n_gpu_layers < 0:
            raise ValueError(f"n_gpu_layers is {self.n_gpu_layers}: use None for all layers")
        if self.kv_type not in (None, *get_args(KvType)):
            raise ValueError(f"kv_type is {self.kv_type!r}: use one of {get_args(KvType)}")


def compute_threads(weights_bytes: int, n_cores: int, n_busy: float) -> int:
    """Threads for a model of this size, on a machine where `n_busy` of its cores are in use.

    llama.cpp's threads wait for each other by spinning, several times in every layer: a thread
    without a core of its own holds up all others. Measured on two busy cores with a 7 MB model, two
    threads took 7.5 times as long as one. A small model gains next to nothing from a second one."""
    if weights_bytes < _SMALL_MODEL_BYTES:
        return 1
    return max(1, n_cores - round(n_busy))


def free_threads(weights_bytes: int) -> int:
    """`compute_threads` of this machine now, by its load over the last minute."""
    return compute_threads(weights_bytes, _n_cores(), psutil.getloadavg()[0])


def lanes_for(weights_bytes: int, n_threads: int | None) -> int:
    """Contexts, with a thread each, that a model of this size is computed in with so many threads,
    or with the cores that are free; 1 for a larger model, whose one context has all threads.

    Measured with the 70 MB shape on two cores: two contexts take 0.85 times as long as one with two
    threads."""
    if weights_bytes >= _LANED_BYTES:
        return 1
    n_free = max(1, _n_cores() - round(psutil.getloadavg()[0]))
    return min(n_threads or n_free, _MOST_LANES)


def _n_cores() -> int:
    return psutil.cpu_count(logical=False) or 1


def file_parts(path: Path) -> list[Path]:
    """The files of a GGUF: itself, or all parts where it is `name-00001-of-00003.gguf`."""
    split = _SPLIT.search(path.name)
    if not split:
        return [path]
    return sorted(path.parent.glob(f"{path.name[: split.start()]}-*-of-{split[2]}.gguf"))


def file_bytes(path: Path) -> int:
    """Size of a GGUF, all its parts together."""
    return sum(part.stat().st_size for part in file_parts(path))


def free_ram_bytes() -> int:
    """Memory that programs can still take without swapping."""
    return int(psutil.virtual_memory().available)
