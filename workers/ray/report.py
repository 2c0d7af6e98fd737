"""The cluster's nodes as its head knows them: `python -m workers.ray.report ADDRESS`, as JSON.

A process of its own, as everything that imports Ray."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import ray

from workers.ray.orders import NAME_LABEL, WORKER_RESOURCE


def _facts(node: dict[str, Any]) -> dict[str, Any]:
    resources = node["Resources"]
    return {
        "name": node["Labels"].get(NAME_LABEL, node["NodeManagerHostname"]),
        "address": node["NodeManagerAddress"],
        "alive": node["Alive"],
        "is_head": "node:__internal_head__" in resources,
        "n_workers": int(resources.get(WORKER_RESOURCE, 0)),
        "n_gpus": int(resources.get("GPU", 0)),
        "why_gone": node["DeathReasonMessage"],
    }


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def main() -> None:
    ray.init(
        address=sys.argv[1],
        namespace="minions",
        log_to_driver=False,
        configure_logging=False,
        logging_level=logging.ERROR,
    )
    sys.stdout.write(json.dumps([_facts(node) for node in _nodes()]) + "\n")


if __name__ == "__main__":
    main()
