"""Rows of dataset files: JSON lines, plain or gzipped, and JSON."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from minions.errors import BadRequest, NotFound


def require_files(folder: Path, names: Sequence[str]) -> None:
    """Raises NotFound naming the first file that is not there."""
    for name in names:
        if not (folder / name).is_file():
            raise NotFound(f"There is no {folder / name}. Give the folder that holds {names}.")


def home_of(folder: Path, names: Sequence[str]) -> Path:
    """`folder`, or the one folder right below it that holds any of the files. Several datasets are
    often kept side by side, so both are what a person means. Without such a file: `folder`."""
    for candidate in (folder, *sorted(path for path in folder.glob("*") if path.is_dir())):
        if any((candidate / name).is_file() for name in names):
            return candidate
    return folder


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a `.jsonl` or `.jsonl.gz` file. Raises NotFound, and BadRequest naming the
    line that is no JSON object."""
    if not path.is_file():
        raise NotFound(f"There is no {path}. Give the file or folder of the dataset.")
    with _opened(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield json_object(line, f"{path}, line {number}")


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def json_object(text: str, where: str) -> dict[str, Any]:
    """Raises BadRequest, saying where, unless `text` is one JSON object."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRequest(f"{where} is no JSON ({error.msg}).") from None
    if not isinstance(data, dict):
        raise BadRequest(f"{where} is no JSON object.")
    return data


def field(row: dict[str, Any], name: str, where: str) -> Any:
    """A field that must be there. Raises BadRequest naming the field and the row."""
    if name not in row:
        raise BadRequest(f"{where} has no `{name}`: it is not in the dataset's format.")
    return row[name]
