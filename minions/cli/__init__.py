"""The command line: thin over the composition root."""

from __future__ import annotations

from typing import ClassVar

from minions.cli.common import errors_for_people
from minions.cli.lazy import Entry, LazyGroup, lazy_app


class _Commands(LazyGroup):
    table: ClassVar = {
        "ask": Entry(
            place="minions.cli.ask:ask",
            summary="Answer a question of one or more documents, with checked citations and a "
            "receipt.",
        ),
        "estimate": Entry(
            place="minions.cli.ask:estimate",
            summary="Quote every rung of the ladder. No model is loaded and nothing is sent.",
        ),
        "trace": Entry(
            place="minions.cli.ask:trace",
            summary="Print the trace of one question as JSON: every hop, job, decision and cloud "
            "call.",
        ),
        "savings": Entry(
            place="minions.cli.money:savings",
            summary="What was paid, what the cloud alone would have cost, and what this machine "
            "cost.",
        ),
        "egress": Entry(
            place="minions.cli.money:egress",
            summary="What left this machine: when, where to, why, how many bytes, and of which "
            "documents.",
        ),
        "audit": Entry(
            place="minions.cli.audit:audit",
            summary="How often the cloud agrees with answers that were kept local, and whether "
            "that has changed.",
        ),
        "plan-capacity": Entry(
            place="minions.cli.capacity:plan_capacity",
            summary="Documents and questions per day to cards, waiting times and dollars, by "
            "simulation.",
        ),
        "doctor": Entry(
            place="minions.cli.machine:doctor",
            summary="Say what this machine can run, what is missing, and how to mend it.",
        ),
        "pull": Entry(
            place="minions.cli.machine:pull",
            summary="Fetch a model. A cut download goes on where it stopped; the SHA-256 is "
            "checked.",
        ),
        "serve": Entry(
            place="minions.cli.servers:serve",
            summary="Serve the page and the REST API; docs at /docs. Questions that an earlier "
            "process left unfinished are taken up at once.",
        ),
        "cloud-sim": Entry(
            place="minions.cli.servers:cloud_sim",
            summary="Serve a simulated cloud that speaks the OpenAI API, for trying things out "
            "and for tests.",
        ),
        "demo": Entry(
            place="minions.cli.demo:demo",
            summary="Answer questions of a bundled 22-page contract. Needs no key, no network, no "
            "download.",
        ),
        "eval": Entry(
            place="minions.cli.evaluation:evaluation", summary="Measure accuracy and dollars."
        ),
        "keys": Entry(
            place="minions.cli.keys:keys", summary="Who may use the service, and for how much."
        ),
        "cluster": Entry(
            place="minions.cli.cluster:cluster",
            summary="Several machines as one pool of workers.",
        ),
        "worker": Entry(
            place="minions.cli.cluster:worker",
            summary="This machine as a worker of a cluster.",
        ),
        "bench": Entry(place="minions.cli.bench:bench", summary="Measure speed on this machine."),
    }


cli = lazy_app(
    _Commands,
    "Ask questions of long documents: your machine reads, the cloud is asked only when it "
    "earns its price.",
)


def main() -> None:
    """Entry point of the `minions` command."""
    with errors_for_people():
        cli()
