"""How an engine is made on a node, by name: what travels is the recipe, never the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from workers.errors import ModelNotFound
from workers.models import KvBudget, ModelKind, ModelSpec, build_engine, resolve_model
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
    kv: KvBudget | None = None
    """Folders as in `models_dir`."""

    def build(self) -> Engine:
        spec = self._resolve(self.models_dir.expanduser())
        return build_engine(spec, n_threads=self.n_threads, n_slots=self.n_slots, kv=self._own_kv())

    def _resolve(self, folder: Path) -> ModelSpec:
        """A file that was named by its path elsewhere lies among the models here."""
        brought = folder / Path(self.model).name
        if self.model.endswith(".gguf") and "://" not in self.model and brought.is_file():
            return resolve_model(str(brought), folder)
        return resolve_model(self.model, folder)

    def _own_kv(self) -> KvBudget | None:
        if self.kv is None or self.kv.folder is None:
            return self.kv
        return replace(self.kv, folder=self.kv.folder.expanduser())


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedRecipe:
    """An engine without a model whose every job takes the same time: for measuring a pool."""

    service_s: float
    n_slots: int = 4

    def build(self) -> Engine:
        from workers.scripted import ScriptedEngine

        return ScriptedEngine(n_slots=self.n_slots, step_s=self.service_s)


def on_any_machine(folder: Path) -> Path:
    """A folder below the home folder as every machine's user knows it; others as they are."""
    home = Path.home()
    return Path("~") / folder.relative_to(home) if folder.is_relative_to(home) else folder


def local_tokenizer(model: str, models_dir: Path) -> Tokenizer | None:
    """The tokenizer of a model that is on this machine too, without its weights.

    None for a model that is not here, or of which only its server knows the vocabulary: then the
    workers are asked. Raises ModelCorrupt as `resolve_model` does."""
    try:
        spec = resolve_model(model, models_dir)
    except ModelNotFound:
        return None
    if spec.kind is ModelKind.SCRIPTED:
        from workers.scripted import WordTokenizer

        return WordTokenizer()
    if spec.kind is not ModelKind.GGUF or spec.path is None:
        return None
    from workers.llama.api import LlamaModel
    from workers.llama.tokenizer import LlamaTokenizer

    return LlamaTokenizer(LlamaModel(spec.path, vocab_only=True))
