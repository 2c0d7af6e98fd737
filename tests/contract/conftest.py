"""The engines that the contract tests run on: each test runs once on every one of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.contract.chat_server import ChatServer, serving
from tests.models import random_model_path
from workers.llama.engine import LlamaCppEngine
from workers.llama.sizing import LlamaSettings
from workers.openai_engine import OpenAIEngine
from workers.process_engine import ProcessEngine
from workers.scripted import ScriptedEngine
from workers.seams import Engine


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


@pytest.fixture(scope="session", params=["scripted", "openai", "llama", "process"])
def engine_kit(request: pytest.FixtureRequest) -> EngineKit:
    kit = request.getfixturevalue(f"{request.param}_kit")
    assert isinstance(kit, EngineKit)
    return kit


@pytest.fixture
def engine(engine_kit: EngineKit) -> Iterator[Engine]:
    engine = engine_kit.build()
    yield engine
    engine.close()
