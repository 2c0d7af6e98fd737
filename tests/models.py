"""Models that tests make for themselves."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from workers.random_gguf import TEMPLATE, Shape, VocabularyKind, write_random_gguf


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the test process ends."""
    return tempfile.TemporaryDirectory(prefix="minions-test-models-")


@functools.cache
def random_model_path() -> Path:
    """A tiny gpt-oss GGUF with random weights, made once per process in half a second.

    With this seed it mostly answers, abstains now and then, and at times reaches the cap."""
    path = Path(_folder().name) / "random-tiny.gguf"
    write_random_gguf(path, seed=1)
    return path


@functools.cache
def vocabulary_path(kind: VocabularyKind = "small", template: str = TEMPLATE) -> Path:
    """A GGUF whose weights are as few as can be, for tests of tokenizers and templates."""
    path = Path(_folder().name) / f"vocabulary-{len(list(Path(_folder().name).iterdir()))}.gguf"
    shape = Shape(
        n_layers=1,
        width=32,
        n_heads=1,
        n_kv_heads=1,
        head_width=32,
        n_experts=2,
        expert_width=32,
        vocabulary=kind,
    )
    write_random_gguf(path, shape=shape, template=template)
    return path
