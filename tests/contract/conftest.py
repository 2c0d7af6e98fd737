"""The engines that the contract tests run on: each test runs once on every one of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from eval.bench.server import serving as serving_llama_cpp
from tests.contract.chat_server import ChatServer, serving
from tests.models import random_model_path
from workers.lanes import LanedEngine
from workers.llama.api import LlamaModel
from workers.llama.engine import LlamaCppEngine
from workers.llama.sizing import LlamaSettings
from workers.llama.tokenizer import LlamaTokenizer
from workers.openai_engine import OpenAIEngine
from workers.process_engine import ProcessEngine
from workers.scripted import ScriptedEngine
from workers.seams import Engine

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineKit:
    """How to build one kind of engine: small, with two slots."""

    build: Callable[[], Engine]
    context_tokens: int
    """A prompt of more tokens than this must be refused."""


@pytest.fixture(scope="session")
def chat_server() -> Iterator[ChatServer]:
    with serving(ChatServer()) as server:
        yield server


@pytest.fixture(scope="session")
def scripted_kit() -> EngineKit:
    return EngineKit(
        build=lambda: ScriptedEngine(n_slots=2, context_tokens=2048), context_tokens=2048
    )


@pytest.fixture(scope="session")
def openai_kit(chat_server: ChatServer) -> EngineKit:
    def build() -> Engine:
        return OpenAIEngine(chat_server.base_url, chat_server.model, n_slots=2, context_tokens=2048)

    return EngineKit(build=build, context_tokens=2048)


@pytest.fixture(scope="session")
def llama_kit() -> EngineKit:
    """The real engine on random weights: what it answers is noise, how it behaves is not."""
    settings = LlamaSettings(n_ctx=2048, n_seq_max=5, live_chunks=2, n_threads=1)
    path = random_model_path()
    return EngineKit(
        build=lambda: LlamaCppEngine.load(path, settings=settings), context_tokens=2048
    )


@pytest.fixture(scope="session")
def process_kit() -> EngineKit:
    """The same in a process of its own."""
    settings = LlamaSettings(n_ctx=2048, n_seq_max=5, live_chunks=2, n_threads=1)
    build = functools.partial(LlamaCppEngine.load, random_model_path(), settings=settings)
    return EngineKit(build=lambda: ProcessEngine(build), context_tokens=2048)


@pytest.fixture(scope="session")
def laned_kit() -> EngineKit:
    """Two contexts of the same model."""
    settings = LlamaSettings(n_ctx=2048, n_seq_max=5, live_chunks=2, n_threads=1)
    build = functools.partial(LlamaCppEngine.load, random_model_path(), settings=settings)
    return EngineKit(build=lambda: LanedEngine(build, 2), context_tokens=2048)


def llama_server_path() -> Path:
    """llama.cpp's own server: where MINIONS_LLAMA_SERVER says, or where LLAMA_SERVER.md builds it;
    skips the test where there is none."""
    built = ROOT / "build" / "llama" / "programs" / "bin" / "llama-server"
    path = Path(os.environ.get("MINIONS_LLAMA_SERVER", built))
    if not path.is_file():
        pytest.skip(f"no llama-server at {path}: workers/deploy/LLAMA_SERVER.md says how to build")
    return path


@pytest.fixture(scope="session")
def llama_server_kit() -> Iterator[EngineKit]:
    """Our client of the OpenAI API against llama.cpp's own server, on random weights."""
    path = random_model_path()
    model = LlamaModel(path, vocab_only=True)
    with serving_llama_cpp(llama_server_path(), path, 1, 2, 2048) as (_, url):
        yield EngineKit(
            build=lambda: OpenAIEngine(
                f"{url}/v1", "tiny", n_slots=2, context_tokens=2048, tokenizer=LlamaTokenizer(model)
            ),
            context_tokens=2048,
        )
    model.close()


@pytest.fixture(
    scope="session", params=["scripted", "openai", "llama_server", "llama", "process", "laned"]
)
def engine_kit(request: pytest.FixtureRequest) -> EngineKit:
    kit = request.getfixturevalue(f"{request.param}_kit")
    assert isinstance(kit, EngineKit)
    return kit


@pytest.fixture
def engine(engine_kit: EngineKit) -> Iterator[Engine]:
    engine = engine_kit.build()
    yield engine
    engine.close()
