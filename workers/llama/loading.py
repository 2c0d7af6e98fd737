"""From a GGUF file to a loaded model with its context, or to the reason why it can't run here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from workers.errors import EngineUnavailable, ModelCorrupt, WorkerError
from workers.jobs import Effort
from workers.llama.api import LlamaModel, can_offload, free_gpu_bytes, llama_version
from workers.llama.context import LlamaContext
from workers.llama.kv_store import KvStore
from workers.llama.schedule import Limits
from workers.llama.sizing import (
    LlamaSettings,
    MemoryNeed,
    file_bytes,
    free_ram_bytes,
    free_threads,
)
from workers.prompt import WorkerPrompt
from workers.seams import EngineInfo

_ALL_LAYERS = 10_000
_EDGE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class _Room:
    """Where the model goes and what is free there, measured before anything is loaded."""

    n_gpu_layers: int
    available_bytes: int

    @classmethod
    def of(cls, settings: LlamaSettings) -> _Room:
        """Raises EngineUnavailable when GPU layers are asked for in vain."""
        n_gpu_layers = _gpu_layers(settings)
        on_gpu = n_gpu_layers >= _ALL_LAYERS
        return cls(
            n_gpu_layers=n_gpu_layers,
            available_bytes=free_gpu_bytes() if on_gpu else free_ram_bytes(),
        )

    def check_weights(self, path: Path) -> None:
        """Raise ModelTooLarge before a minute is spent on loading what can't fit."""
        need = MemoryNeed(model=path.name, file_bytes=file_bytes(path), kv_values_per_cell=0)
        need.cells(settings=LlamaSettings(), available_bytes=self.available_bytes)


def _gpu_layers(settings: LlamaSettings) -> int:
    """Layers to offload. Raises EngineUnavailable when layers are asked for in vain."""
    if settings.n_gpu_layers is None:
        return _ALL_LAYERS if can_offload() else 0
    if settings.n_gpu_layers > 0 and not can_offload():
        raise EngineUnavailable(
            f"{settings.n_gpu_layers} GPU layers are asked for, but llama-cpp-python was built "
            "without GPU support: rebuild it with CMAKE_ARGS=-DGGML_CUDA=on, or ask for 0"
        )
    return settings.n_gpu_layers


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A model with its context, and what is known of both."""

    model: LlamaModel
    context: LlamaContext
    limits: Limits
    name: str
    sha256: str | None = None
    n_slots: int = 1

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
    room = _Room.of(settings)
    room.check_weights(path)
    model = LlamaModel(path, n_gpu_layers=room.n_gpu_layers)
    try:
        context = _new_context(model, path, settings, room)
    except WorkerError:
        model.close()
        raise
    return Loaded(
        model=model,
        context=context,
        limits=limits_of(settings, context),
        name=name or path.stem,
        sha256=sha256,
        n_slots=settings.n_slots,
    )


def limits_of(settings: LlamaSettings, context: LlamaContext) -> Limits:
    """What the schedule may plan for a context."""
    return Limits(
        n_sequences=context.n_sequences,
        n_cells=context.n_ctx,
        n_batch=context.n_batch,
        live_chunks=settings.live_chunks,
        busy_jobs=settings.busy_jobs,
        n_extra_rows=settings.n_extra_rows,
    )


def open_kv_store(
    path: Path, settings: LlamaSettings, sha256: str | None, prompt: WorkerPrompt
) -> KvStore | None:
    """The store of what this very model read under this prompt; None when nothing is kept."""
    if not settings.kv_ram_bytes and not settings.kv_dir:
        return None
    about = [sha256 or _fingerprint(path), prompt.version, settings.kv_type, llama_version()]
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
    model: LlamaModel, path: Path, settings: LlamaSettings, room: _Room
) -> LlamaContext:
    """A context as large as the settings ask and the memory allows."""
    need = MemoryNeed(
        model=path.name, file_bytes=file_bytes(path), kv_values_per_cell=model.kv_values_per_cell
    )
    return LlamaContext(
        model,
        n_ctx=need.cells(settings=settings, available_bytes=room.available_bytes),
        n_sequences=settings.n_seq_max,
        n_batch=settings.n_batch,
        n_threads=settings.n_threads or free_threads(need.file_bytes),
        kv_type=settings.kv_type,
        n_outputs=settings.n_seq_max + settings.n_extra_rows,
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
