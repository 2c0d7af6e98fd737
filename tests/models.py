"""Models that tests make for themselves."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from workers.random_gguf import write_random_gguf


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the test process ends."""
    return tempfile.TemporaryDirectory(prefix="minions-test-models-")


@functools.cache
def random_model_path() -> Path:
    """A tiny gpt-oss GGUF with random weights, made once per process in half a second."""
    path = Path(_folder().name) / "random-tiny.gguf"
    write_random_gguf(path)
    return path
