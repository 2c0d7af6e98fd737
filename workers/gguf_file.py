"""Whether a file can be a GGUF at all, told before any C code sees it."""

from __future__ import annotations

from pathlib import Path

from workers.errors import ModelCorrupt, ModelNotFound

GGUF_MAGIC = b"GGUF"


def check_gguf(path: Path) -> None:
    """Raises ModelNotFound when there is no file, ModelCorrupt unless it starts as a GGUF does."""
    if not path.is_file():
        raise ModelNotFound(f"no model file at {path}: check the path, or pull the model first")
    with path.open("rb") as file:
        start = file.read(len(GGUF_MAGIC))
    if start != GGUF_MAGIC:
        raise ModelCorrupt(
            f"{path} is not a GGUF file: it starts with {start!r}, not {GGUF_MAGIC!r}. "
            "Was it cut, or is it a page that was saved instead of the file? Get it again."
        )
