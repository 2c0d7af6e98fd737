"""What OpenAI's APIs have no word for: ceiling, money and chances, in the extra field `minions`."""

from __future__ import annotations

from pathlib import PurePath

from pydantic import BaseModel, ConfigDict, Field

from minions.chat.turn import Route
from minions.errors import NotFound
from minions.question import Options
from minions.rest.bodies import MAX_DOCUMENTS, DocumentId, Dollars
from minions.settings import Settings
from router import Rung
from workers import Effort

SERVED = "served-model"
"""A worker behind a URL that names no model."""


class MinionsWishes(BaseModel):
    """The extra field `minions` of a request (`extra_body` in OpenAI's SDK)."""

    model_config = ConfigDict(extra="forbid")
    documents: list[DocumentId] = Field(
        default_factory=list, max_length=MAX_DOCUMENTS, description="Ids of documents to ask."
    )
    privacy: Rung = Field(
        default=Rung.DOCUMENT, description="The most that the cloud may ever see."
    )
    max_cost_usd: Dollars | None = Field(
        default=None, description="Hard cap on what the cloud may cost."
    )
    target: float | None = Field(
        default=None, ge=0, le=1, description="P(correct) that is good enough."
    )
    value_usd: Dollars | None = Field(
        default=None, description="What a right answer is worth; buys what pays off."
    )
    alpha: float | None = Field(
        default=None, gt=0, lt=1, description="Accepted loss against the cloud; with documents."
    )
    max_latency_s: float | None = Field(
        default=None, ge=0, le=86_400, description="Buy nothing that would answer later."
    )
    redact: bool | None = Field(default=None, description="Hide personal data from the cloud.")

    def options(self, route: Route, settings: Settings, effort: Effort | None) -> Options:
        """As the desks take them, with the house's defaults."""
        return Options(
            strategy=route.strategy,
            privacy=Rung.LOCAL if route is Route.LOCAL else self.privacy,
            max_cost_usd=self.max_cost_usd,
            target=settings.target if self.target is None else self.target,
            value_usd=self.value_usd,
            alpha=self.alpha,
            max_latency_s=self.max_latency_s,
            redact=settings.redact if self.redact is None else self.redact,
            effort=effort or Effort.NONE,
        )


def routes(settings: Settings) -> dict[str, Route]:
    """Every name that a client may use as a model, and who answers to it."""
    names = {route.value: route for route in Route}
    worker = worker_name(settings.model)
    return {settings.cloud_model: Route.CLOUD, worker: Route.LOCAL, **names}


def worker_name(model: str) -> str:
    """A worker as its users may call it: no path and no address of this machine is shown."""
    if model.endswith(".gguf"):
        return PurePath(model).stem
    return model.partition("#")[2] or SERVED if "://" in model else model


def route_of(model: str, settings: Settings) -> Route:
    """Who answers to a model's name. Raises NotFound with the names there are."""
    known = routes(settings)
    if model not in known:
        raise NotFound(f"There is no model {model!r} here. There are: {', '.join(sorted(known))}.")
    return known[model]
