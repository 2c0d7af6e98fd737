"""What was read stays read: the KV cache of chunks, in memory and on disk, for follow-up questions.

An entry is keyed by all that its numbers depend on: the model's file, the prompt's version, the
cache's number format, llama.cpp's version, and every token from the start of the prompt. Entries
are written to disk as they come, whole or not at all, and checked by their hash when they are
loaded; whatever is cut, damaged or of another kind is no entry. Both places drop what was not used
for longest when they are over their budget.

Nothing is compressed: the noise-like 16-bit numbers shrink by less than a tenth, at fifty times the
time that reading them takes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np

from workers.llama.context import State
from workers.llama.schedule import Tokens

_MAGIC: Final = b"minions-kv-1\n"
_HASH_BYTES: Final = 32
_SUFFIX: Final = ".kv"
_PART: Final = ".part"
_STALE_PART_S: Final = 3600.0
"""After so long a half-written file is what a crash left."""
_WRITES_AHEAD: Final = 8
"""Writes that may wait for the disk before a new one waits too."""


class KvStore:
    """States of sequences by their tokens. Belongs to one thread; others may share the folder."""

    def __init__(
        self, *, about: str, ram_bytes: int, folder: Path | None = None, disk_bytes: int = 0
    ) -> None:
        """`about` names all that a state depends on beside the tokens. Without a folder, or with no
        bytes for it, nothing is written to disk."""
        self._about = about.encode()
        self._ram = RamStates(ram_bytes)
        self._disk = DiskStates(folder, disk_bytes) if folder and disk_bytes > 0 else None

    def may_have(self, tokens: Tokens) -> bool:
        """Whether there is an entry for just these tokens; whether it is whole shows when it is
        loaded."""
        key = self._key(tokens)
        return self._ram.has(key) or (self._disk is not None and self._disk.has(key))

    def get(self, tokens: Tokens) -> State | None:
        """The state for just these tokens; None when there is none that can be trusted."""
        key = self._key(tokens)
        state = self._ram.get(key)
        if state is None and self._disk:
            state = self._disk.get(key)
            if state is not None:
                self._ram.put(key, state)
        return state

    def put(self, tokens: Tokens, state: State) -> None:
        """Keep a state, in place of what is least useful."""
        key = self._key(tokens)
        self._ram.put(key, state)
        if self._disk:
            self._disk.put(key, state)

    def close(self) -> None:
        """Wait for the disk. Safe to call twice."""
        if self._disk:
            self._disk.close()

    def _key(self, tokens: Tokens) -> str:
        digest = hashlib.sha256(self._about)
        digest.update(b"\0")
        digest.update(tokens.astype("<i4").tobytes())
        return digest.hexdigest()


class RamStates:
    """The states used last, within a budget."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._states: OrderedDict[str, State] = OrderedDict()
        self.n_bytes = 0

    def has(self, key: str) -> bool:
        return key in self._states

    def get(self, key: str) -> State | None:
        if key not in self._states:
            return None
        self._states.move_to_end(key)
        return self._states[key]

    def put(self, key: str, state: State) -> None:
        if key in self._states or len(state) > self._budget_bytes:
            return
        self._states[key] = state
        self.n_bytes += len(state)
        while self.n_bytes > self._budget_bytes:
            _, dropped = self._states.popitem(last=False)
            self.n_bytes -= len(dropped)


class DiskStates:
    """States as files that outlive the process; the time of a file is that of its last use.

    A full or broken disk costs the speed of follow-ups, never an answer: errors of the file system
    make an entry that is not there."""

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        self._folder = folder
        self._budget_bytes = budget_bytes
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kv-store")
        self._writes: deque[Future[None]] = deque()
        self._n_bytes = 0
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._shrink()

    def has(self, key: str) -> bool:
        return self._path(key).is_file()

    def get(self, key: str) -> State | None:
        """The state of a key, checked by its hash; what fails the check is deleted."""
        path = self._path(key)
        try:
            raw = np.fromfile(path, np.uint8)
        except OSError:
            return None
        state = _checked(raw, key)
        with contextlib.suppress(OSError):
            if state is None:
                path.unlink()
            else:
                os.utime(path)
        return state

    def put(self, key: str, state: State) -> None:
        """Have a state written, soon; a file that is there already is left as it is."""
        if len(state) > self._budget_bytes:
            return
        while len(self._writes) >= _WRITES_AHEAD:
            self._writes.popleft().result()
        self._writes.append(self._writer.submit(self._write, key, state))

    def close(self) -> None:
        self._writer.shutdown()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"

    def _write(self, key: str, state: State) -> None:
        path = self._path(key)
        with contextlib.suppress(OSError):
            if path.exists():
                return
            _write_whole(path, [_head(key, state), state.data])
            self._n_bytes += len(state)
            if self._n_bytes > self._budget_bytes:
                self._shrink()

    def _shrink(self) -> None:
        """Delete what was not used for longest, down to nine tenths of the budget; and what a
        crash left half written."""
        newest_first = sorted(self._files(), reverse=True)
        kept = 0
        for used_at, size, path in newest_first:
            if path.suffix == _PART:
                is_useless = time.time() - used_at > _STALE_PART_S
            else:
                is_useless = kept + size > self._budget_bytes * 0.9
                kept += 0 if is_useless else size
            if is_useless:
                path.unlink(missing_ok=True)
        self._n_bytes = kept

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Time of the last use, size and path of each file of ours."""
        for path in self._folder.iterdir():
            if path.suffix in (_SUFFIX, _PART):
                with contextlib.suppress(FileNotFoundError):
                    about = path.stat()
                    yield about.st_mtime, about.st_size, path


def _head(key: str, state: State) -> bytes:
    """What stands before a state in its file: the format, the key, the hash of the state."""
    return _MAGIC + bytes.fromhex(key) + hashlib.sha256(state.data).digest()


def _checked(raw: State, key: str) -> State | None:
    """The state in a file's bytes; None unless they are whole and belong to the key."""
    n_head = len(_MAGIC) + 2 * _HASH_BYTES
    state = raw[n_head:]
    return state if raw[:n_head].tobytes() == _head(key, state) else None


def _write_whole(path: Path, parts: list[bytes | memoryview]) -> None:
    """Write a file that is whole wherever it is seen. Raises OSError."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=_PART)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
