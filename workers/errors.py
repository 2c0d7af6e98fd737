"""What can go wrong inside a worker, as one small tree.

    WorkerError
    |-- ModelNotFound        no such model name, path or URL
    |-- ModelCorrupt         the file's SHA-256 or GGUF header is not what it must be
    |-- ModelTooLarge        the model does not fit the memory there is
    |-- PullFailed           the hub can't be reached, says no, or the disk is full
    |-- EngineUnavailable    the engine (library, server) can't be reached or loaded
    |-- EngineCrashed        the engine died under its jobs; they may be tried again
    `-- JobRejected          the job can never run here (prompt over the context, bad sampling)

`workers` knows nothing of HTTP or of the product's own error tree: `minions.errors` gives each of
these a status. Every message names what was wrong, where, and what to do about it.
"""


class WorkerError(Exception):
    """Root of every error that this package raises on purpose."""


class ModelNotFound(WorkerError):
    """No such model name, path or URL."""


class ModelCorrupt(WorkerError):
    """The model file is not the one it claims to be, or was cut."""


class ModelTooLarge(WorkerError):
    """The model does not fit into the memory of this machine."""


class PullFailed(WorkerError):
    """The hub can't be reached, says no, or the disk is full. What was fetched is kept."""


class EngineUnavailable(WorkerError):
    """The inference library or server can't be loaded or reached."""


class EngineCrashed(WorkerError):
    """The engine died while jobs were in flight; the jobs themselves may be fine."""


class JobRejected(WorkerError):
    """This job can never succeed on this engine, whoever retries it."""
