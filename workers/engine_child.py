"""The child process of `ProcessEngine`: an engine, the thread that steps it, and two that listen.

The main thread owns the engine. A second one hears jobs and cancellations; it interrupts a running
batch when a job in it is cancelled or late, in engines that can be interrupted. A third answers
questions about texts. When the parent is gone, so is this process.
"""

from __future__ import annotations

import os
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from typing import Any

from workers.chat import ChatDelta
from workers.errors import WorkerError
from workers.seams import Engine, Interruptible, Outcome
from workers.seams import Work as AnyJob

_SLACK_S = 0.01
"""After a deadline, so that the engine, which heard of the job a little later, sees it passed."""


def main(work_fd: int, texts_fd: int) -> None:
    """Build the engine that the parent describes and serve it until the parent is gone."""
    work, texts = Connection(work_fd), Connection(texts_fd)
    try:
        engine: Engine = pickle.loads(work.recv_bytes())()
    except WorkerError as error:
        work.send(("failed", error))
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the parent's to tell
        work.send(("failed", f"{type(error).__name__}: {error}"))
        return
    work.send(("ready", engine.info))
    server = _Server(engine, work)
    threading.Thread(target=server.listen, daemon=True).start()
    threading.Thread(target=answer_texts, args=(engine, texts), daemon=True).start()
    server.serve()


def answer_texts(engine: Engine, texts: Connection) -> None:
    """Answer questions about texts until the parent is gone."""
    questions: dict[str, Callable[[str], Any]] = {
        "encode": engine.tokenizer.encode,
        "count": engine.tokenizer.count,
        "prompt_overhead_tokens": engine.prompt_overhead_tokens,
    }
    while True:
        try:
            question, text = texts.recv()
        except (EOFError, OSError):
            return  # the other listener ends the process
        try:
            texts.send(questions[question](text))
        except WorkerError as error:
            texts.send(error)


class _Server:
    """The engine's thread and its inbox."""

    def __init__(self, engine: Engine, work: Connection) -> None:
        self._engine = engine
        self._work = work
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._deadlines: dict[str, float] = {}
        """Of jobs that have not ended, on the monotonic clock."""

    def listen(self) -> None:
        """Hear the parent; ends the process when there is nobody to hear."""
        while True:
            try:
                if self._work.poll(self._until_next_deadline_s()):
                    self._hear(self._work.recv())
                else:
                    self._interrupt()
            except (EOFError, OSError):
                os._exit(0)  # the engine may be hours inside a batch

    def serve(self) -> None:
        """Step the engine for as long as it has work; else wait for some."""
        while self._take_commands():
            try:
                outputs = self._engine.step()
            except Exception as error:  # noqa: BLE001 - a crash of whatever kind is a crash
                self._work.send(("crashed", str(error)))
                return
            if outputs:
                self._forget_deadlines(outputs)
                self._work.send(("outputs", outputs))

    def _hear(self, message: tuple[str, Any]) -> None:
        command, value = message
        if command == "submit" and value.deadline_s is not None:
            self._deadlines[value.job_id] = time.monotonic() + value.deadline_s + _SLACK_S
        self._inbox.put(message)
        if command in ("cancel", "close"):
            self._interrupt()

    def _until_next_deadline_s(self) -> float | None:
        """Also drops the deadlines that have passed: each interrupts once."""
        now = time.monotonic()
        for job_id, at in list(self._deadlines.items()):
            if at <= now:
                self._deadlines.pop(job_id, None)
                return 0.0
        return min((at - now for at in list(self._deadlines.values())), default=None)

    def _interrupt(self) -> None:
        if isinstance(self._engine, Interruptible):
            self._engine.interrupt()

    def _take_commands(self) -> bool:
        """Pass on what was heard; waits for it when the engine is idle. False at the end."""
        while not self._inbox.empty() or not self._engine.n_pending:
            command, value = self._inbox.get()
            if command == "close":
                self._engine.close()
                return False
            self._obey(command, value)
        return True

    def _obey(self, command: str, value: AnyJob | str) -> None:
        if command == "cancel" and isinstance(value, str):
            self._engine.cancel(value)
        elif not isinstance(value, str):
            self._engine.submit(value)

    def _forget_deadlines(self, outputs: Iterable[Outcome | ChatDelta]) -> None:
        for output in outputs:
            if not isinstance(output, ChatDelta):
                self._deadlines.pop(output.job_id, None)
