"""A local server that speaks the OpenAI API and answers only from the text it is sent.

It stands in for a cloud model in tests, demonstrations and rehearsals of failure: its usage numbers
are counted, its prefix cache behaves like OpenAI's, and it can be told to fail in every way that a
provider fails. Its reader is a lexical extractor, not a language model, and says so in its name.
"""

from minions.cloud.sim.app import create_app
from minions.cloud.sim.plan import Fault, FaultKind, SimPlan
from minions.cloud.sim.server import running, serve

__all__ = ["Fault", "FaultKind", "SimPlan", "create_app", "running", "serve"]
