"""From a GGUF file to a loaded model with its context, or to the reason why it can't run here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from workers.errors import EngineUnavailable, ModelCorrupt, WorkerError
from workers.jobs import Effort
from workers.llama.api import LlamaModel, can_offload, free_gpu_bytes, llama_version
from workers.llama.context import LlamaContext
from workers.llama.header import read_size
from workers.llama.kv_store import KvStore
from workers.llama.placement import Memory, Placement, place
from workers.llama.schedule import Limits
from workers.llama.sizing import LlamaSettings, file_bytes, free_ram_bytes, free_threads
from workers.prompt import WorkerPrompt
from workers.seams import EngineInfo

_EDGE_BYTES = 1 << 20
_CPU_LIVE_WORK = 48_000
"""`Limits.live_work` on a CPU. Measured with the 70 MB shape: a batch costs 10 ms for the weights,
and a row 0.18 us for every cell that is not its own: 55,000."""
_CPU_LIVE_WORK_LARGE = 8_000
"""The same where the arithmetic hides the reading of the weights (the 20B shape: 5,400)."""
_LARGE_BYTES = 1 << 30


def plan_placement(path: Path, settings: LlamaSettings) -> Placement:
    """Where the model would go on this machine now, without loading it.

    Raises ModelTooLarge, with the numbers, ModelCorrupt, or EngineUnavailable when GPU layers are
    asked for in vain."""
    if settings.n_gpu_layers and not can_offload():
        raise EngineUnavailable(
            f"{settings.n_gpu_layers} GPU layers are asked for, but llama-cpp-python was built "
            "without GPU support: rebuild it with CMAKE_ARGS=-DGGML_CUDA=on (make setup CUDA=1), "
            "or ask for 0"
        )
    vram_bytes = free_gpu_bytes() if can_offload() else 0
    memory = Memory(ram_bytes=free_ram_bytes(), vram_bytes=vram_bytes)
    return place(read_size(path, path.name), memory, settings)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A model with its context, and what is known of both."""

    model: LlamaModel
    context: LlamaContext
    limits: Limits
    name: str
    sha256: str | None = None
    n_slots: int = 1
    placement: Placement | None = None

    def describe(
        self, *, prompt_version: str, chats: bool, efforts: tuple[Effort, ...]
    ) -> EngineInfo:
        """The engine's description of itself."""
        n_ctx = self.context.n_ctx
        return EngineInfo(
            engine="llama.cpp",
            model=self.name,
            model_sha256=self.sha256,
            quantisation=self.model.quantisation,
            prompt_version=prompt_version,
            context_tokens=min(n_ctx, self.model.n_ctx_train or n_ctx),
            n_slots=self.n_slots,
            has_logits=True,
            shares_prefixes=True,
            chats=chats,
            efforts=efforts,
        )

    def close(self) -> None:
        """Free both. Safe to call twice."""
        self.context.close()
        self.model.close()


def load_parts(
    path: Path, settings: LlamaSettings, *, name: str | None, expected_sha256: str | None
) -> Loaded:
    """Load a file into memory. Raises as `LlamaCppEngine.load` does."""
    sha256 = _checked_sha256(path, expected_sha256, settings.hash_below_bytes)
    placement = plan_placement(path, settings)
    model = LlamaModel(
        path,
        n_gpu_layers=placement.n_gpu_layers,
        n_cpu_expert_layers=placement.n_cpu_expert_layers,
    )
    try:
        context = _new_context(model, path, settings, placement)
    except WorkerError:
        model.close()
        raise
    return Loaded(
        model=model,
        context=context,
        limits=limits_of(settings, context, file_bytes(path), placement),
        name=name or path.stem,
        sha256=sha256,
        n_slots=placement.n_slots,
        placement=placement,
    )


def limits_of(
    settings: LlamaSettings, context: LlamaContext, weights_bytes: int, placement: Placement
) -> Limits:
    """What the schedule may plan for a context."""
    on_gpu = placement.n_gpu_layers > 0
    live_work = _CPU_LIVE_WORK if weights_bytes < _LARGE_BYTES else _CPU_LIVE_WORK_LARGE
    return Limits(
        n_sequences=context.n_sequences,
        n_cells=context.n_ctx,
        n_batch=context.n_batch,
        live_chunks=settings.live_chunks,
        live_work=settings.live_work or (None if on_gpu else live_work),
        reads_apart=not on_gpu,
        busy_jobs=settings.busy_jobs or (max(placement.n_slots // 2, 1) if on_gpu else 1),
        n_extra_rows=settings.n_extra_rows,
    )


def open_kv_store(
    path: Path, settings: LlamaSettings, loaded: Loaded, prompt: WorkerPrompt
) -> KvStore | None:
    """The store of what this very model read under this prompt; None when nothing is kept."""
    if not settings.kv_ram_bytes and not settings.kv_dir:
        return None
    model = loaded.sha256 or _fingerprint(path)
    about = [model, prompt.version, loaded.context.kv_type, llama_version()]
    return KvStore(
        about=" ".join(about),
        ram_bytes=settings.kv_ram_bytes,
        folder=settings.kv_dir,
        disk_bytes=settings.kv_disk_bytes,
    )


def _fingerprint(path: Path) -> str:
    """What tells a file from its next version where hashing all of it takes too long: its size, its
    time, and its first and last megabyte."""
    about = path.stat()
    digest = hashlib.sha256(f"{about.st_size} {about.st_mtime_ns}".encode())
    with path.open("rb") as file:
        digest.update(file.read(_EDGE_BYTES))
        file.seek(-min(_EDGE_BYTES, about.st_size), 2)
        digest.update(file.read(_EDGE_BYTES))
    return digest.hexdigest()


def _new_context(
    model: LlamaModel, path: Path, settings: LlamaSettings, placement: Placement
) -> LlamaContext:
    return LlamaContext(
        model,
        n_ctx=placement.n_cells,
        n_sequences=placement.n_sequences,
        n_batch=placement.n_batch,
        n_threads=settings.n_threads or free_threads(file_bytes(path)),
        kv_type=placement.kv_type,
        n_outputs=placement.n_sequences + settings.n_extra_rows,
    )


def _checked_sha256(path: Path, expected: str | None, hash_below_bytes: int) -> str | None:
    """The file's hash, if it is cheap or asked for. Raises ModelCorrupt on a mismatch."""
    if expected is None and path.stat().st_size >= hash_below_bytes:
        return None
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if expected is not None and found != expected.lower():
        raise ModelCorrupt(
            f"{path} has SHA-256 {found}, expected {expected}: download the model again"
        )
    return found
