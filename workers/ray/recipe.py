"""How an engine is made on a node, by name: what travels is the recipe, never the engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from workers.models import ModelKind, build_engine, resolve_model
from workers.seams import Engine, Tokenizer


@runtime_checkable
class Recipe(Protocol):
    """Makes engines. It is pickled, so its class must be importable on every node."""

    def build(self) -> Engine:
        """An engine on this machine. Raises a WorkerError."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRecipe:
    """An engine for a model that each node has under its own folder of models."""

    model: str
    """As `workers.models` names models."""
    models_dir: Path
    """Of a node. A leading `~` is that of the user who runs the node."""
    n_threads: int | None = None
    n_slots: int | None = None

    def build(self) -> Engine:
        spec = resolve_model(self.model, self.models_dir.expanduser())
        return build_engine(spec, n_threads=self.n_threads, n_slots=self.n_slots)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedRecipe:
    """An engine without a model whose every job takes the same time: for measuring a pool."""

    service_s: float
    n_slots: int = 4

    def build(self) -> Engine:
        from workers.scripted import ScriptedEngine

        return ScriptedEngine(n_slots=self.n_slots, step_s=self.service_s)


def local_tokenizer(model: str, models_dir: Path) -> Tokenizer | None:
    """The tokenizer of a model that is on this machine too, without its weights.

    None for a model that is not here, or of which only its server knows the vocabulary: then the
    workers are asked. Raises ModelNotFound and ModelCorrupt as `resolve_model` does."""
    spec = resolve_model(model, models_dir)
    if spec.kind is ModelKind.SCRIPTED:
        from workers.scripted import WordTokenizer

        return WordTokenizer()
    if spec.kind is not ModelKind.GGUF or spec.path is None:
        return None
    from workers.llama.api import LlamaModel
    from workers.llama.tokenizer import LlamaTokenizer

    return LlamaTokenizer(LlamaModel(spec.path, vocab_only=True))
