"""The service against its own description: schemathesis generates requests, valid and not.

The quick share runs in the suite; all of it, stateful sequences included, with MINIONS_SCHEMA=full.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minions.cloud.sim import SimPlan, running
from minions.keys import Scope, new_key
from minions.store import open_store
from tests.house import CONTRACT
from tests.served import Served, served

IS_FULL = os.environ.get("MINIONS_SCHEMA") == "full"
QUICK = ("--phases", "examples,fuzzing", "--max-examples", "4", "--max-time", "40")
FULL = ("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "40")
SEED = "20261121"

CONFIG = """\
# A schema can't say which files are readable, or which wishes go together: those are a 422, and a
# cap on money is a 402.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 401, 402, 403, 404, 409, 422, 429]

# OpenAI's bodies are theirs; what this service does not take of them is a 400 that says so.
[[operations]]
include-path-regex = "^/v1/(chat|responses)"
checks.positive_data_acceptance.enabled = false

# The same bytes are one document, so one of two uploads may delete what the other one made.
[[operations]]
include-path-regex = "^/v1/(documents|files)/"
checks.ensure_resource_availability.enabled = false
checks.use_after_free.enabled = false

# In a multipart form everything is bytes: a number sent as the file is a file of digits.
[[operations]]
include-path-regex = "^/v1/(documents|files)$"
include-method = "POST"
checks.negative_data_rejection.enabled = false

[parameters]
"path.document_id" = "{document_id}"
"path.question_id" = "{question_id}"
"path.collection_id" = "{collection_id}"
"path.number" = 1
"""


async def make_key(state: Path) -> str:
    store = await open_store(state / "minions.db")
    key, token = new_key("schemathesis", list(Scope))
    await store.put_key(key)
    await store.close()
    return token


def write_config(service: Served, token: str, path: Path) -> None:
    """The configuration, with things that are there, so that requests get beyond a 404."""
    with service.client(headers={"Authorization": f"Bearer {token}"}) as client:
        file = {"file": ("contract.txt", CONTRACT.encode())}
        document_id = client.post("/v1/documents", files=file).json()["id"]
        documents = {"documents": [document_id]}
        asked = {"question": "Which law governs?", "wait": True, **documents}
        question_id = client.post("/v1/questions", json=asked).json()["id"]
        made = client.post("/v1/collections", json={"name": "all", **documents})
    path.write_text(
        CONFIG.format(
            document_id=document_id, question_id=question_id, collection_id=made.json()["id"]
        )
    )


@pytest.mark.timeout(1800)
def test_the_service_is_as_it_describes_itself(tmp_path: Path) -> None:
    token = asyncio.run(make_key(tmp_path))
    with running(SimPlan()) as url, served(tmp_path, cloud_url=url) as service:
        write_config(service, token, tmp_path / "schemathesis.toml")
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "st"),
                "--config-file",
                str(tmp_path / "schemathesis.toml"),
                "run",
                f"{service.url}/openapi.json",
                "--header",
                f"Authorization: Bearer {token}",
                "--seed",
                SEED,
                *(FULL if IS_FULL else QUICK),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "COLUMNS": "150"},
            cwd=tmp_path,
        )
        assert service.process.is_alive()
    (Path(os.environ.get("MINIONS_SCHEMA_REPORT", tmp_path)) / "schema.txt").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
