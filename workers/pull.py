"""`minions pull`: fetch a model's files from the Hugging Face hub, resumed and checked.

The hub states each file's SHA-256 (the oid of its LFS object). A file is downloaded beside its
place, hashed here from its first to its last byte, because the hub's client can report success on a
corrupt blob, and moved into its place only when the hash agrees.
"""

from __future__ import annotations

import enum
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfFileMetadata, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils.tqdm import disable_progress_bars

from workers.errors import ModelCorrupt, ModelNotFound, PullFailed
from workers.models import HUB_MODELS, FileRecord, HubModel, read_record, record_path

HASH_BLOCK_BYTES = 1 << 22
SPARE_BYTES = 256 << 20
"""Left free on the disk by a pull: a full disk breaks more than a model."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class PullPhase(enum.StrEnum):
    """What a pull is doing with a file."""

    DOWNLOAD = "download"
    CHECK = "check"


@dataclass(frozen=True, kw_only=True, slots=True)
class PullProgress:
    """Reported after every few megabytes."""

    file: str
    phase: PullPhase
    done_bytes: int
    """Of this file in this phase; a resumed download does not start at 0."""
    total_bytes: int
    """Size of the whole file."""


OnProgress = Callable[[PullProgress], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """One file, and what the hub says of it."""

    path: Path
    """Its place once it is complete."""
    url: str
    """Pinned to a commit."""
    sha256: str
    size_bytes: int

    @property
    def partial(self) -> Path:
        """Named by the hash, so that a newer version never goes on from an older one's bytes."""
        return self.path.with_name(f"{self.path.name}.{self.sha256[:12]}.partial")

    @property
    def missing_bytes(self) -> int:
        """Still to download."""
        if self.path.is_file():
            return 0
        had = self.partial.stat().st_size if self.partial.is_file() else 0
        return max(self.size_bytes - had, 0)


def pull(
    name: str,
    models_dir: Path,
    on_progress: OnProgress | None = None,
    *,
    endpoint: str | None = None,
) -> Path:
    """Put all files of `name` into `models_dir`; returns the one that an engine opens.

    Files that an earlier pull completed are not asked for again, so a finished pull needs no
    network. A cut download goes on where it stopped. `endpoint` is another hub's URL.

    Raises ModelNotFound (a name that can't be pulled), PullFailed (network, disk), ModelCorrupt.
    """
    if name not in HUB_MODELS:
        raise ModelNotFound(
            f"{name!r} can't be pulled; what can: {', '.join(HUB_MODELS)}. Any other .gguf file "
            "works by its path: download it yourself and pass that"
        )
    return pull_model(HUB_MODELS[name], models_dir, on_progress, endpoint=endpoint)


def pull_model(
    model: HubModel,
    models_dir: Path,
    on_progress: OnProgress | None = None,
    *,
    endpoint: str | None = None,
) -> Path:
    """As `pull`, for any model of the hub."""
    models_dir.mkdir(parents=True, exist_ok=True)
    places = [models_dir / file for file in model.files]
    wanted = [_look_up(model, place, endpoint) for place in places if not _is_complete(place)]
    _check_disk(wanted, models_dir)
    for file in wanted:
        _fetch(file, model, on_progress or _ignore)
    return places[0]


def _is_complete(place: Path) -> bool:
    record = read_record(place)
    return place.is_file() and record is not None and record.size_bytes == place.stat().st_size


def _look_up(model: HubModel, place: Path, endpoint: str | None) -> _Wanted:
    """Ask the hub for the file's size, hash and commit."""
    url = hf_hub_url(model.repo, place.name, endpoint=endpoint)
    try:
        # No token: these repositories are public, and a token has no business in another hub.
        about = get_hf_file_metadata(url, token=False, endpoint=endpoint)
    except (httpx2.TransportError, OSError) as error:
        raise _hub_failed(error, model, place) from error
    sha256, size_bytes = _stated_hash_and_size(about, url)
    pinned = hf_hub_url(model.repo, place.name, revision=about.commit_hash, endpoint=endpoint)
    return _Wanted(path=place, url=pinned, sha256=sha256, size_bytes=size_bytes)


def _stated_hash_and_size(about: HfFileMetadata, url: str) -> tuple[str, int]:
    if about.size is None or not _SHA256.fullmatch(about.etag or ""):
        raise PullFailed(
            f"{url}: the hub states no size and SHA-256 (it says {about.size} and {about.etag}), "
            "so the file could not be checked. Is a proxy between here and the hub?"
        )
    return str(about.etag), about.size


def _check_disk(wanted: list[_Wanted], models_dir: Path) -> None:
    needed = sum(file.missing_bytes for file in wanted)
    free = shutil.disk_usage(models_dir).free
    if needed and needed + SPARE_BYTES > free:
        raise PullFailed(
            f"{needed / 1e9:.1f} GB are still to download into {models_dir}, where "
            f"{free / 1e9:.1f} GB are free: make room there, or choose another models directory"
        )


def _fetch(file: _Wanted, model: HubModel, on_progress: OnProgress) -> None:
    """Download unless a file was placed by hand, check, and put it in its place."""
    if file.path.is_file():
        _check_hash(file, file.path, on_progress, "Move it away")
        _write_record(file)
        return
    _download(file, model, on_progress)
    try:
        _check_hash(file, file.partial, on_progress, "It was deleted")
    except ModelCorrupt:
        file.partial.unlink()
        raise
    _write_record(file)
    file.partial.replace(file.path)


def _check_hash(file: _Wanted, source: Path, on_progress: OnProgress, remedy: str) -> None:
    found = sha256_of(source, file.path.name, on_progress)
    if found != file.sha256:
        raise ModelCorrupt(
            f"{source} has SHA-256 {found}, the hub states {file.sha256}. {remedy}, then pull again"
        )


def _download(file: _Wanted, model: HubModel, on_progress: OnProgress) -> None:
    if file.partial.is_file() and file.partial.stat().st_size > file.size_bytes:
        file.partial.unlink()  # longer than the whole: it can't be a beginning of it
    with _ReportingFile(file, on_progress) as partial:
        try:
            # The caller shows the progress; a second bar on stderr would garble it.
            with disable_progress_bars("huggingface_hub.http_get"):
                http_get(
                    file.url,
                    partial,
                    resume_size=partial.seek(0, io.SEEK_END),
                    expected_size=file.size_bytes,
                )
        except (httpx2.TransportError, OSError) as error:
            raise _hub_failed(error, model, file.path) from error


class _ReportingFile(io.BufferedRandom):
    """The partial file, opened to go on; reports how far it is after each block."""

    def __init__(self, file: _Wanted, on_progress: OnProgress) -> None:
        super().__init__(io.FileIO(file.partial, "a+"))
        self._file = file
        self._on_progress = on_progress

    def write(self, data: Any, /) -> int:
        written = super().write(data)
        self._on_progress(
            PullProgress(
                file=self._file.path.name,
                phase=PullPhase.DOWNLOAD,
                done_bytes=self.tell(),
                total_bytes=self._file.size_bytes,
            )
        )
        return written


def sha256_of(path: Path, name: str, on_progress: OnProgress) -> str:
    """Hash of the whole file, in hex; reports as `name`."""
    digest, done_bytes, total_bytes = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
            done_bytes += len(block)
            on_progress(
                PullProgress(
                    file=name,
                    phase=PullPhase.CHECK,
                    done_bytes=done_bytes,
                    total_bytes=total_bytes,
                )
            )
    return digest.hexdigest()


def _write_record(file: _Wanted) -> None:
    """Written before the file is in its place: a record alone does no harm."""
    record = FileRecord(sha256=file.sha256, size_bytes=file.size_bytes, source=file.url)
    record_path(file.path).write_text(json.dumps(asdict(record), indent=1), "utf-8")


def _hub_failed(error: Exception, model: HubModel, place: Path) -> PullFailed:
    if isinstance(error, HfHubHTTPError):
        return PullFailed(
            f"the hub refused {place.name} of {model.repo}: {error}. Try again later; what was "
            "fetched so far is kept"
        )
    if isinstance(error, (httpx2.TransportError, ConnectionError)):
        return PullFailed(
            f"the hub can't be reached ({error}): is this machine offline? What was fetched so "
            f"far is kept; run `minions pull {model.name}` again when there is a network, or "
            f"download {place.name} from huggingface.co/{model.repo} on another machine and put "
            f"it into {place.parent}"
        )
    return PullFailed(f"{place} could not be written or came incomplete: {error}. Pull again")


def _ignore(progress: PullProgress) -> None:
    """For callers who don't watch."""
    del progress
