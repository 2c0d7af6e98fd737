"""Clients that people use, unchanged against the service: `llm`, LangChain, LlamaIndex.

They are the extra `clients`; what is not installed is skipped. LlamaIndex pins an older `openai`
than this project needs, so it lives in an environment of its own, whose interpreter is named in
MINIONS_LLAMA_INDEX_PYTHON.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from minions.cli.demo import contract_path
from tests.acceptance.test_openai_chat import FACT, LAW, WEATHER
from tests.cloud import sim_running
from tests.served import served

FEE = "What is the monthly fee?"
LLAMA_INDEX_PYTHON = os.environ.get("MINIONS_LLAMA_INDEX_PYTHON")
LLAMA_INDEX = """
import json, pathlib, sys
from llama_index.core.llms import ChatMessage, DocumentBlock, TextBlock
from llama_index.llms.openai_like import OpenAILike
url, contract, fact, fee, law = sys.argv[1:]
llm = OpenAILike(model="minions-ladder", api_base=url, api_key="none", is_chat_model=True,
                 context_window=100_000, max_retries=0)
talk = [ChatMessage(role="system", content=fact), ChatMessage(role="user", content=fee)]
pdf = pathlib.Path(contract).read_bytes()
file = DocumentBlock(data=pdf, title="contract.pdf", document_mimetype="application/pdf")
asks = ChatMessage(role="user", blocks=[file, TextBlock(text=law)])
print(json.dumps({
    "whole": llm.chat(talk).message.content,
    "streamed": "".join(part.delta for part in llm.stream_chat(talk)),
    "completed": llm.complete("Hello").text,
    "document": llm.chat([asks]).message.content,
}))
"""


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed (the extra `clients`)")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        sim_running() as sim,
        served(tmp_path_factory.mktemp("state"), cloud_url=sim.base_url) as running,
    ):
        yield f"{running.url}/v1"


# ---- llm ----


def llm(*arguments: str, home: Path) -> str:
    """Run the command with its own home."""
    done = subprocess.run(
        [sys.executable, "-m", "llm", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "LLM_USER_PATH": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs("llm")
def test_llm_talks_and_goes_on(url: str, tmp_path: Path) -> None:
    model = f"- model_id: house\n  model_name: minions-ladder\n  api_base: {url}\n"
    (tmp_path / "extra-openai-models.yaml").write_text(model)
    assert llm("-m", "house", "-s", FACT, FEE, home=tmp_path) == FACT
    assert llm("-m", "house", "--no-stream", "-s", FACT, FEE, home=tmp_path) == FACT
    assert llm("-c", FEE, home=tmp_path) == FACT, "the earlier turns go along"


# ---- LangChain ----


def langchain(url: str, **options: Any) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model="minions-ladder", base_url=url, api_key="none", max_retries=0, **options
    )


@needs("langchain_openai")
@pytest.mark.parametrize("responses_api", [False, True], ids=["chat", "responses"])
def test_langchain_talks_whole_and_streamed(url: str, responses_api: bool) -> None:
    chat = langchain(url, use_responses_api=responses_api)
    talk = [("system", FACT), ("user", FEE)]
    whole = chat.invoke(talk)
    pieces = list(chat.stream(talk))
    assert whole.text == FACT == "".join(piece.text for piece in pieces)
    assert whole.usage_metadata["output_tokens"] > 3
    assert len([piece for piece in pieces if piece.text]) >= 1


@needs("langchain_openai")
@pytest.mark.parametrize("responses_api", [False, True], ids=["chat", "responses"])
def test_langchain_runs_the_tools(url: str, responses_api: bool) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage

    chat = langchain(url, use_responses_api=responses_api)
    asked: list[Any] = [HumanMessage("Does it rain in Oslo?")]
    called = chat.bind_tools([WEATHER], tool_choice="weather").invoke(asked)
    (call,) = called.tool_calls
    assert call["name"] == "weather"
    asked += [called, ToolMessage("It rains in Oslo.", tool_call_id=call["id"])]
    assert chat.bind_tools([WEATHER]).invoke(asked).text == "It rains in Oslo."


@needs("langchain_openai")
def test_langchain_asks_a_document(url: str) -> None:
    data = base64.b64encode(contract_path().read_bytes()).decode()
    file = {
        "type": "file",
        "base64": data,
        "mime_type": "application/pdf",
        "filename": "contract.pdf",
    }
    told = langchain(url).invoke([("user", [file, {"type": "text", "text": LAW}])])
    assert told.text == "New York"


# ---- LlamaIndex ----


@pytest.mark.skipif(
    LLAMA_INDEX_PYTHON is None,
    reason="MINIONS_LLAMA_INDEX_PYTHON names no interpreter with llama-index-llms-openai-like",
)
def test_llama_index_talks_streams_and_asks_a_document(url: str) -> None:
    done = subprocess.run(
        [str(LLAMA_INDEX_PYTHON), "-c", LLAMA_INDEX, url, str(contract_path()), FACT, FEE, LAW],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: Mapping[str, str] = json.loads(done.stdout.splitlines()[-1])
    assert told["whole"] == told["streamed"] == FACT and told["document"] == "New York"
    assert told["completed"]
