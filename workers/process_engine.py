"""`ProcessEngine`: any engine in a process of its own, behind the same seam.

llama.cpp answers a broken precondition by ending its process. Here that process is a child: its
death is an `EngineCrashed` for the pool, which starts another and tries the jobs again, while
documents, runs and the service live on. The child works on its own between two `step`s, and it can
leave a batch half way when a job is cancelled or late (see `engine_child`).

Two channels join them: one for jobs and what became of them, one for questions about texts
(`tokenizer`, `prompt_overhead_tokens`), which are answered while a batch is being computed.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from workers.chat import ChatDelta
from workers.errors import EngineCrashed, EngineUnavailable, WorkerError
from workers.seams import Engine, EngineInfo, Outcome, Tokenizer
from workers.seams import Work as AnyJob

_SOURCE_ROOT: Final = Path(__file__).resolve().parents[1]
_BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from workers.engine_child import main; "
    "main(int(sys.argv[2]), int(sys.argv[3]))"
)
_STEP_WAIT_S: Final = 0.02
"""How long a step waits for the child; the pool takes new commands between steps."""
_EXIT_WAIT_S: Final = 10.0


class ProcessEngine:
    """`workers.seams.Engine` whose work is done by a child process."""

    def __init__(self, build: Callable[[], Engine]) -> None:
        """Start a child in which `build()` gives the engine; `build` must be picklable, for example
        a `functools.partial` of a function or class method. Raises what building raises."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - the child writes until it ends
        work, child_work = _pipe()
        texts, child_texts = _pipe()
        self._work, self._texts = work, texts
        self._texts_lock = threading.Lock()
        self._process = _start(child_work, child_texts, self._log)
        self._n_pending = 0
        self._dead: str | None = None
        try:
            self._info: EngineInfo = self._first_word(build)
        except BaseException:
            self.close()
            raise
        self._tokenizer = _RemoteTokenizer(self._ask)

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def n_pending(self) -> int:
        return self._n_pending

    @property
    def process_id(self) -> int:
        """Of the child."""
        return self._process.pid

    def prompt_overhead_tokens(self, task: str) -> int:
        return int(self._ask("prompt_overhead_tokens", task))

    def submit(self, job: AnyJob) -> None:
        self._n_pending += 1
        self._send("submit", job)

    def cancel(self, job_id: str) -> None:
        self._send("cancel", job_id)

    def step(self) -> list[Outcome | ChatDelta]:
        """What the child has done since the last call; waits a moment when that is nothing.

        Raises EngineCrashed when the child died or says that its engine did."""
        if self._dead:
            raise EngineCrashed(self._dead)
        outputs: list[Outcome | ChatDelta] = []
        wait_s = _STEP_WAIT_S if self._n_pending else 0.0
        try:
            while self._work.poll(wait_s):
                outputs += self._outputs(self._work.recv())
                wait_s = 0.0
        except (EOFError, OSError):
            self._dead = self._cause_of_death()
        if self._dead and not outputs:
            raise EngineCrashed(self._dead)
        self._n_pending -= sum(not isinstance(output, ChatDelta) for output in outputs)
        return outputs

    def close(self) -> None:
        """End the child. Safe to call twice."""
        self._dead = self._dead or "the engine was closed: build a new one"
        self._send("close", None)
        for connection in (self._work, self._texts):
            connection.close()
        try:
            self._process.wait(_EXIT_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _first_word(self, build: Callable[[], Engine]) -> EngineInfo:
        self._work.send_bytes(pickle.dumps(build))
        try:
            kind, value = self._work.recv()
        except (EOFError, OSError):
            raise EngineUnavailable(self._cause_of_death()) from None
        if kind == "ready" and isinstance(value, EngineInfo):
            return value
        raise value if isinstance(value, WorkerError) else EngineUnavailable(str(value))

    def _outputs(self, message: tuple[str, Any]) -> list[Outcome | ChatDelta]:
        kind, value = message
        if kind == "outputs":
            return list(value)
        self._dead = str(value)
        return []

    def _send(self, command: str, value: object) -> None:
        """A child that is gone is noticed by the next step."""
        with contextlib.suppress(OSError):
            self._work.send((command, value))

    def _ask(self, question: str, text: str) -> Any:
        """Raises EngineCrashed when the child died, WorkerError where its answer is one."""
        with self._texts_lock:
            try:
                self._texts.send((question, text))
                answer = self._texts.recv()
            except (EOFError, OSError):
                raise EngineCrashed(self._dead or self._cause_of_death()) from None
        if isinstance(answer, WorkerError):
            raise answer
        return answer

    def _cause_of_death(self) -> str:
        """What the child's exit status and its last words say."""
        try:
            code = self._process.wait(_EXIT_WAIT_S)
        except subprocess.TimeoutExpired:
            return "the engine's process closed its channel and did not end"
        self._log.seek(0)
        words = self._log.read().decode("utf-8", "replace").strip().splitlines()
        how = _signal_name(-code) if code < 0 else f"status {code}"
        return f"the engine's process ended with {how}: {words[-1] if words else 'no last words'}"


class _RemoteTokenizer:
    """The child's tokenizer."""

    def __init__(self, ask: Callable[[str, str], Any]) -> None:
        self._ask = ask

    def encode(self, text: str) -> list[int]:
        return list(self._ask("encode", text))

    def count(self, text: str) -> int:
        return int(self._ask("count", text))


def _pipe() -> tuple[Connection, socket.socket]:
    """Our end as a connection, the child's as a socket."""
    ours, theirs = socket.socketpair()
    return Connection(ours.detach()), theirs


def _start(work: socket.socket, texts: socket.socket, log: Any) -> subprocess.Popen[bytes]:
    """The child with its ends of both pipes. It is of another session, so that a Ctrl-C in the
    terminal is ours alone; when we are gone its pipes end, and it with them."""
    with work, texts:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, str(_SOURCE_ROOT)]
            + [str(end.fileno()) for end in (work, texts)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(work.fileno(), texts.fileno()),
            start_new_session=True,
        )


def _signal_name(number: int) -> str:
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")
