"""The models a worker can run: names, files, servers; and the engine for each.

A model is named in one of five ways:

    nano                              ships with the package
    gpt-oss-20b, gpt-oss-120b         fetched once by `minions pull NAME`
    PATH                              any .gguf file (of a split one, the first part)
    http://HOST:PORT/v1[#MODEL]       an OpenAI-compatible server of your own, and one of its models
    scripted                          no model at all: for trying things out and for tests
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import json
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

from workers.errors import EngineUnavailable, ModelCorrupt, ModelNotFound
from workers.gguf_file import check_gguf
from workers.llama.sizing import LlamaSettings, file_bytes, lanes_for
from workers.seams import Engine

LOCAL_SUFFIXES = (".localhost", ".local", ".lan", ".internal", ".home.arpa")


class ModelKind(enum.StrEnum):
    """Which engine runs it."""

    GGUF = "gguf"
    SERVER = "server"
    SCRIPTED = "scripted"


@dataclass(frozen=True, kw_only=True, slots=True)
class HubModel:
    """A model that `minions pull` knows. Its hashes are the hub's, asked for when it is pulled."""

    name: str
    repo: str
    """On huggingface.co."""
    files: tuple[str, ...]
    """Parts in order; the first is the one that is opened."""
    weights_bytes: int
    """About the size of all files."""


HUB_MODELS = {
    model.name: model
    for model in (
        HubModel(
            name="gpt-oss-20b",
            repo="ggml-org/gpt-oss-20b-GGUF",
            files=("gpt-oss-20b-mxfp4.gguf",),
            weights_bytes=12_110_000_000,
        ),
        HubModel(
            name="gpt-oss-120b",
            repo="ggml-org/gpt-oss-120b-GGUF",
            files=tuple(f"gpt-oss-120b-mxfp4-0000{part}-of-00003.gguf" for part in (1, 2, 3)),
            weights_bytes=63_390_000_000,
        ),
    )
}

MODEL_NAMES = ("nano", *HUB_MODELS, "scripted")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRecord:
    """What is known of a pulled file, kept beside it as `<file>.json`."""

    sha256: str
    """64 hex digits; the file had this hash when it was put in its place."""
    size_bytes: int
    source: str
    """URL it came from, with the repository's commit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A model that was found, ready for `build_engine`."""

    name: str
    """As a person would name it: `nano`, `gpt-oss-20b`, a file's stem, a served model or host."""
    kind: ModelKind
    path: Path | None = None
    """The GGUF (its first part); set exactly for GGUF."""
    url: str | None = None
    """The server's base URL, without a fragment; set exactly for SERVER."""
    served_model: str | None = None
    """The server's name for the model; None for its first."""
    expected_sha256: str | None = None
    """Of `path`, where the source of the file stated one."""


def resolve_model(name: str, models_dir: Path) -> ModelSpec:
    """Find the model that `name` means; files are looked up, servers are not contacted.

    Raises ModelNotFound, with the valid names and what to do, and ModelCorrupt when the file is not
    a GGUF or not as long as when it was pulled.
    """
    if name == "scripted":
        return ModelSpec(name=name, kind=ModelKind.SCRIPTED)
    if name == "nano":
        return _resolve_nano(Path(str(resources.files("workers"))) / "nano" / "nano.gguf")
    if name in HUB_MODELS:
        return _resolve_pulled(HUB_MODELS[name], models_dir)
    if "://" in name:
        return _resolve_server(name)
    return _resolve_path(name)


@dataclass(frozen=True, kw_only=True, slots=True)
class KvBudget:
    """What a model of ours may take to keep what it read, for further questions about it."""

    ram_bytes: int
    folder: Path | None
    """None keeps nothing on disk."""
    disk_bytes: int


def build_engine(
    spec: ModelSpec,
    *,
    n_threads: int | None = None,
    n_slots: int | None = None,
    kv: KvBudget | None = None,
    own_process: bool = False,
) -> Engine:
    """Load the model, or connect to its server. None leaves a number to the engine.

    `own_process` puts llama.cpp into a child process, whose death is not ours; other engines run
    no C code over documents, so they stay here. `kv` is for models of ours: servers have their own
    cache. Only the engine that is built is imported. Raises what that engine raises: ModelCorrupt,
    ModelTooLarge, EngineUnavailable (also for `n_threads` where no threads are ours).
    """
    if spec.kind is ModelKind.GGUF:
        build = functools.partial(_build_llama, spec, n_threads, n_slots, kv)
        if not own_process:
            return build()
        from workers.process_engine import ProcessEngine

        return ProcessEngine(build)
    if n_threads is not None:
        raise EngineUnavailable(
            f"{spec.name} does not run in this process, so it can't have {n_threads} threads here: "
            "leave the number of threads out"
        )
    if spec.kind is ModelKind.SERVER:
        return _build_server_engine(spec, n_slots)
    from workers.scripted import ScriptedEngine

    return ScriptedEngine(n_slots=n_slots or 4)


def record_path(file: Path) -> Path:
    """Where the `FileRecord` of `file` is."""
    return file.with_name(file.name + ".json")


def read_record(file: Path) -> FileRecord | None:
    """The record beside `file`; None when there is none (a file placed by hand)."""
    path = record_path(file)
    if not path.is_file():
        return None
    try:
        return FileRecord(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelCorrupt(f"{path} is not readable ({error}): delete it and pull again") from error


def _resolve_nano(path: Path) -> ModelSpec:
    """nano.json beside the file states at least its `sha256`."""
    about = path.with_suffix(".json")
    if not (path.is_file() and about.is_file()):
        raise ModelNotFound(
            f"the embedded model nano is not in this installation ({path} is missing): reinstall "
            f"the package, or use another model: {_ways_to_name()}"
        )
    check_gguf(path)
    sha256 = json.loads(about.read_text("utf-8"))["sha256"]
    return ModelSpec(name="nano", kind=ModelKind.GGUF, path=path, expected_sha256=sha256)


def _resolve_pulled(model: HubModel, models_dir: Path) -> ModelSpec:
    paths = [models_dir / file for file in model.files]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ModelNotFound(
            f"{model.name} is not in {models_dir} (missing: {', '.join(missing)}): "
            f"run `minions pull {model.name}` ({model.weights_bytes / 1e9:.1f} GB)"
        )
    for path in paths:
        _check_pulled(path, model.name)
    record = read_record(paths[0])
    return ModelSpec(
        name=model.name,
        kind=ModelKind.GGUF,
        path=paths[0],
        expected_sha256=record.sha256 if record else None,
    )


def _check_pulled(path: Path, name: str) -> None:
    """Cheap checks at each start; the hash of gigabytes was checked when they were pulled."""
    check_gguf(path)
    record, size_bytes = read_record(path), path.stat().st_size
    if record and record.size_bytes != size_bytes:
        raise ModelCorrupt(
            f"{path} has {size_bytes} bytes, it had {record.size_bytes} when it was pulled: "
            f"delete it and run `minions pull {name}` again"
        )


def _resolve_server(name: str) -> ModelSpec:
    url, fragment = urldefrag(name)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ModelNotFound(f"{name} is not a server's URL; a model is {_ways_to_name()}")
    if not is_own_network(parts.hostname):
        raise ModelNotFound(
            f"{parts.hostname} is not a machine of your own network. A worker reads every page, so "
            "its server must be local: a loopback or private address, or a name such as gpu.local"
        )
    return ModelSpec(
        name=fragment or parts.netloc.rpartition("@")[2],
        kind=ModelKind.SERVER,
        url=url,
        served_model=fragment or None,
    )


def is_own_network(host: str) -> bool:
    """Whether text sent to `host` stays at home: loopback and private addresses, names without a
    dot, and the endings that are reserved or used for local names. Nothing is looked up."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.rstrip(".").lower()
        return "." not in name or name.endswith(LOCAL_SUFFIXES)
    return (address.is_private or address.is_link_local) and not address.is_unspecified


def _resolve_path(name: str) -> ModelSpec:
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModelNotFound(
            f"no model {name!r}: neither a known name nor a file. A model is {_ways_to_name()}"
        )
    check_gguf(path)
    return ModelSpec(name=path.stem, kind=ModelKind.GGUF, path=path.resolve())


def _ways_to_name() -> str:
    names = ", ".join(MODEL_NAMES)
    return f"one of {names}, the path of a .gguf file, or the URL http://HOST:PORT/v1[#MODEL]"


def _build_server_engine(spec: ModelSpec, n_slots: int | None) -> Engine:
    from workers.openai_engine import OpenAIEngine

    if spec.url is None:
        raise ValueError(f"the spec of server {spec.name} has no url")
    return OpenAIEngine.connect(spec.url, spec.served_model, n_slots=n_slots)


def _build_llama(
    spec: ModelSpec, n_threads: int | None, n_slots: int | None, kv: KvBudget | None
) -> Engine:
    from workers.lanes import LanedEngine
    from workers.llama.engine import LlamaCppEngine

    if spec.path is None:
        raise ValueError(f"the spec of {spec.name} has no path")
    n_lanes, settings = _llama_settings(spec.path, n_threads, n_slots)
    if kv is not None:
        settings = replace(settings, kv_dir=kv.folder, kv_disk_bytes=kv.disk_bytes)
        settings = replace(settings, kv_ram_bytes=kv.ram_bytes // n_lanes)
    build = functools.partial(
        LlamaCppEngine.load,
        spec.path,
        name=spec.name,
        settings=settings,
        expected_sha256=spec.expected_sha256,
    )
    return build() if n_lanes == 1 else LanedEngine(build, n_lanes)


def _llama_settings(
    path: Path, n_threads: int | None, n_slots: int | None
) -> tuple[int, LlamaSettings]:
    """Contexts side by side, and what each of them is run with."""
    n_lanes = lanes_for(file_bytes(path), n_threads) if path.is_file() else 1
    settings = LlamaSettings(n_threads=n_threads if n_lanes == 1 else 1)
    if n_slots is not None:
        n_lanes = min(n_lanes, n_slots)
        # Beside the jobs' own, sequences hold the instructions and the live chunks.
        n_own = -(-n_slots // n_lanes)
        settings = replace(settings, n_seq_max=n_own + 1 + settings.live_chunks)
    return n_lanes, settings


def describe_plan(spec: ModelSpec, *, n_threads: int | None = None) -> str:
    """How `build_engine` would run a GGUF file on this machine now, in words; without loading it.

    Raises ValueError for a model that is no file, else as `plan_placement` of `llama.loading`."""
    from workers.llama.loading import plan_placement

    if spec.path is None:
        raise ValueError(f"{spec.name} is no file")
    n_lanes, settings = _llama_settings(spec.path, n_threads, None)
    plan = str(plan_placement(spec.path, settings))
    return plan if n_lanes == 1 else f"{n_lanes} contexts side by side, with a core each: {plan}"
