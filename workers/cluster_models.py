"""A model's files, brought from the machine that has them to each node once, and checked there.

The hash travels with the file: what arrives is the model that the answers are calibrated for, or it
is not used. A transfer that was cut goes on where it stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from workers.errors import ModelCorrupt, ModelNotFound, PullFailed
from workers.models import (
    HUB_MODELS,
    FileRecord,
    ModelKind,
    read_record,
    record_path,
    resolve_model,
)

PIECE_BYTES = 8 * 1024**2
HASH_BYTES = 1024**2

Read = Callable[[str, int, int], bytes]
"""`(name, offset, n_bytes) -> bytes` of a file on the machine that has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFile:
    """One file of a model, where it is whole."""

    path: Path
    """On the machine that has it."""
    size_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """Files that nodes may need, and where they are to lie there."""

    files: tuple[ModelFile, ...]
    folder: Path
    """On a node; a leading `~` is that of the user who runs it."""

    def own_folder(self) -> Path:
        return self.folder.expanduser()


def model_files(model: str, models_dir: Path) -> tuple[ModelFile, ...]:
    """What a node needs to run `model`: empty for one that ships with the package, is a server's,
    or isn't on this machine (then each node must have it).

    Hashes a file that was placed by hand, which takes seconds per 10 GB. Raises ModelCorrupt."""
    try:
        spec = resolve_model(model, models_dir)
    except ModelNotFound:
        return ()
    if spec.kind is not ModelKind.GGUF or spec.path is None or model == "nano":
        return ()
    names = HUB_MODELS[model].files if model in HUB_MODELS else (spec.path.name,)
    return tuple(_described(spec.path.with_name(name)) for name in names)


def fetch_missing(shelf: Shelf, read: Read) -> list[Path]:
    """Make sure that a node has every file of the shelf; returns those that were fetched.

    One process of a node fetches, the others wait for it. Raises ModelCorrupt when a file arrived
    otherwise than it was sent, PullFailed when the disk is full."""
    folder = shelf.own_folder()
    folder.mkdir(parents=True, exist_ok=True)
    fetched = []
    for file in shelf.files:
        target = folder / file.name
        with _alone(target):
            if not _is_there(target, file):
                _fetch(file, target, read)
                fetched.append(target)
    return fetched


def read_piece(path: Path, offset: int, n_bytes: int) -> bytes:
    """A piece of a file; shorter at its end."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(n_bytes)


def _described(path: Path) -> ModelFile:
    record = read_record(path)
    sha256 = record.sha256 if record else _hash_of(path).hexdigest()
    return ModelFile(path=path, size_bytes=path.stat().st_size, sha256=sha256)


def _is_there(target: Path, file: ModelFile) -> bool:
    """Whether the file lies there already. Its hash was checked when it came, or is now."""
    if not target.is_file() or target.stat().st_size != file.size_bytes:
        return False
    record = read_record(target)
    if record is None:
        found = _hash_of(target).hexdigest()
        if found == file.sha256:
            _note(target, file)
        return found == file.sha256
    return record.sha256 == file.sha256


def _fetch(file: ModelFile, target: Path, read: Read) -> None:
    part = target.with_name(f"{file.name}.{file.sha256[:12]}.part")
    digest = _hash_of(part) if part.is_file() else hashlib.sha256()
    offset = part.stat().st_size if part.is_file() else 0
    try:
        with part.open("ab") as written:
            while offset < file.size_bytes:
                piece = read(file.name, offset, PIECE_BYTES)
                if not piece:
                    break
                written.write(piece)
                digest.update(piece)
                offset += len(piece)
    except OSError as error:
        raise PullFailed(
            f"{part} can't be written after {offset:,} of {file.size_bytes:,} bytes: {error}. What "
            "is there is kept"
        ) from error
    if digest.hexdigest() != file.sha256:
        part.unlink()
        raise ModelCorrupt(
            f"{file.name} arrived with another hash than it has on {file.path}: it was deleted and "
            "will be fetched anew; when that fails too, the file there has changed"
        )
    part.replace(target)
    _note(target, file)


def _note(target: Path, file: ModelFile) -> None:
    record = FileRecord(
        sha256=file.sha256, size_bytes=file.size_bytes, source=f"the cluster ({file.path})"
    )
    record_path(target).write_text(json.dumps(asdict(record)), "utf-8")


def _hash_of(path: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(HASH_BYTES):
            digest.update(piece)
    return digest


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """One process of this machine at a time; the kernel frees the lock when its holder dies."""
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
