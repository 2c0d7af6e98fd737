"""Settings: the one module that reads the environment and the configuration file.

Order, first wins: command-line options (given by the caller), environment (`MINIONS_*`), the TOML
file (`$MINIONS_CONFIG` or `~/.config/minions/config.toml`), defaults.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from minions.errors import BadRequest
from minions.redaction import DEFAULT_REGION

CLOUD_KEY_VARIABLES = ("MINIONS_CLOUD_API_KEY", "OPENAI_API_KEY")
OPENAI_URL = "https://api.openai.com/v1"


def config_path() -> Path:
    """Where the configuration file is looked for."""
    given = os.environ.get("MINIONS_CONFIG")
    return Path(given) if given else Path.home() / ".config" / "minions" / "config.toml"


class ModelPriceSetting(BaseModel):
    """`[prices."my-model"]`: dollars per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_usd_per_mtok: Decimal = Field(ge=0)
    output_usd_per_mtok: Decimal = Field(ge=0)
    cached_input_usd_per_mtok: Decimal | None = Field(default=None, ge=0)
    context_tokens: int | None = Field(default=None, ge=1)


class LimitsSetting(BaseModel):
    """`[limits]`: bounds on one file, in place of the defaults of `ReadLimits`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_bytes: int | None = Field(default=None, ge=1)
    max_unpacked_bytes: int | None = Field(default=None, ge=1)
    max_pages: int | None = Field(default=None, ge=1)
    max_chars: int | None = Field(default=None, ge=1)
    timeout_s: float | None = Field(default=None, gt=0)
    memory_bytes: int | None = Field(default=None, ge=1)


class Settings(BaseSettings):
    """Everything a person may set once for all questions."""

    model_config = SettingsConfigDict(env_prefix="MINIONS_", extra="forbid", frozen=True)

    state_dir: Path = Field(
        default=Path.home() / ".local" / "share" / "minions",
        description="Documents, runs, ledger and pulled models live here.",
    )
    model: str = Field(
        default="nano", description="Worker: nano, gpt-oss-20b, a .gguf path, or a server's URL."
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="postgresql://USER:PASSWORD@HOST/NAME, for several services on one store.",
    )
    pool: Literal["inline", "ray"] = Field(
        default="inline", description="Where the worker runs: here, or on all nodes of a cluster."
    )
    cluster: str = Field(
        default="127.0.0.1:6379",
        pattern=r"^[^:\s]+:\d{1,5}$",
        description="HOST:PORT of the cluster's head.",
    )
    cluster_token_file: Path | None = Field(
        default=None, description="The cluster's token; default: `cluster/token` in state_dir."
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads; default: cores.")
    slots: int | None = Field(default=None, ge=1, le=256, description="Jobs decoded at once.")
    kv_ram_bytes: int = Field(
        default=512 * 1024**2,
        ge=0,
        description="Memory in which the worker keeps what it read, for further questions.",
    )
    kv_disk_bytes: int = Field(
        default=4 * 1024**3, ge=0, description="The same on disk, also across restarts; 0: none."
    )
    kv_dir: Path | None = Field(
        default=None, description="Folder for that; default: `kv` in state_dir."
    )
    worker_process: bool | None = Field(
        default=None,
        description="Run llama.cpp in a process of its own; default: only under minions serve.",
    )
    chunk_tokens: int | None = Field(
        default=None, ge=64, description="Tokens per chunk; default: what suits the worker."
    )
    cloud_model: str = Field(default="gpt-4.1", description="Cloud model, and the receipt's price.")
    cloud_url: str | None = Field(default=None, description="Base URL of an OpenAI-style API.")
    cloud_api_key: SecretStr | None = Field(default=None, description="Key of the cloud.")
    cloud_api: Literal["chat", "responses"] = Field(
        default="chat", description="Which of OpenAI's two APIs the cloud is asked through."
    )
    prices: dict[str, ModelPriceSetting] = Field(
        default_factory=dict,
        description="Prices of cloud models that the bundled list lacks, by model name.",
    )
    cloud_output_tokens: int = Field(default=1024, ge=64, description="Cap on a cloud answer.")
    limits: LimitsSetting = Field(
        default_factory=LimitsSetting, description="How large a file may be to be read."
    )
    relevance_profile: Path | None = Field(
        default=None, description="Fitted ranking of evidence (minions eval evidence --save)."
    )
    calibration: Path | None = Field(
        default=None, description="Fitted chances (minions eval calibrate RUN --out FILE)."
    )
    chat_profile: Path | None = Field(
        default=None, description="Fitted chat router (minions eval routing --save FILE)."
    )
    chat_cloud_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of plain questions for the cloud, in the chat profile's order.",
    )
    chat_document_tokens: int = Field(
        default=4000, ge=100, description="Longer texts in chat messages are read as documents."
    )
    target: float = Field(default=0.75, ge=0, le=1, description="P(correct) that is good enough.")
    audit_rate: float = Field(
        default=0.0, ge=0, le=1, description="Share of local answers that a service has audited."
    )
    max_usd_per_day: Decimal | None = Field(
        default=None, ge=0, description="Hard cap on what all questions of a UTC day may cost."
    )
    redact: bool = Field(default=False, description="Hide personal data from the cloud.")
    redact_terms: tuple[str, ...] = Field(
        default=(), description="Words and names to hide as well; no model finds them."
    )
    redact_region: str = Field(
        default=DEFAULT_REGION,
        pattern="^[A-Z]{2}$",
        description="Country whose phone numbers are known without a country code.",
    )
    local_watts: Decimal | None = Field(
        default=None, ge=0, description="Power that the machine draws while it reads."
    )
    usd_per_kwh: Decimal | None = Field(default=None, ge=0, description="Price of that power.")
    card_usd_per_hour: Decimal | None = Field(
        default=None, ge=0, description="Amortisation of the card per hour of reading."
    )

    max_questions: int = Field(
        default=512, ge=1, description="Questions that the service holds at once; more get a 429."
    )
    max_running: int = Field(
        default=16, ge=1, description="Of these, questions that are worked on at the same time."
    )
    drain_s: float = Field(
        default=20.0, ge=0, description="Seconds that running questions get when serve is stopped."
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="Log lines of serve: JSON objects, or text for people."
    )
    otel_endpoint: str | None = Field(
        default=None, description="OTLP/HTTP collector that serve sends traces to (extra `otel`)."
    )

    @model_validator(mode="after")
    def _power_has_a_price(self) -> Self:
        if (self.local_watts is None) != (self.usd_per_kwh is None):
            raise ValueError("local_watts and usd_per_kwh belong together: give both or neither")
        return self

    @model_validator(mode="after")
    def _share_has_an_order(self) -> Self:
        if self.chat_cloud_share is not None and self.chat_profile is None:
            raise ValueError("chat_cloud_share needs a chat_profile, which orders the questions")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # no .env files are read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # nor secret folders
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = TomlConfigSettingsSource(settings_cls, toml_file=config_path())
        return init_settings, env_settings, file

    @property
    def models_dir(self) -> Path:
        return self.state_dir / "models"

    @property
    def kv_folder(self) -> Path:
        """Where the worker keeps what it read."""
        return self.kv_dir or self.state_dir / "kv"

    @property
    def cluster_token(self) -> Path:
        return self.cluster_token_file or self.state_dir / "cluster" / "token"

    @property
    def database(self) -> Path | str:
        """The embedded database's file, or the URL of the one that was set."""
        url = self.database_url
        return url.get_secret_value() if url else self.state_dir / "minions.db"

    @property
    def evals_dir(self) -> Path:
        """Runs of `minions eval run --out` that the service shows."""
        return self.state_dir / "evals"

    @property
    def has_cloud(self) -> bool:
        """Whether there is anything to ask: a key, or a URL that may need none."""
        return self.cloud_api_key is not None or self.cloud_url is not None

    @property
    def cloud_base_url(self) -> str:
        return self.cloud_url or OPENAI_URL


def load_settings(**overrides: object) -> Settings:
    """Settings with `overrides` (None values are left out). Raises BadRequest naming the field."""
    given = {name: value for name, value in overrides.items() if value is not None}
    if "cloud_api_key" not in given and (key := _key_from_environment()):
        given["cloud_api_key"] = SecretStr(key)
    try:
        return Settings(**given)  # type: ignore[arg-type]  # validated by pydantic
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise BadRequest(f"Bad setting ({config_path()} or MINIONS_* variables): {wrong}") from None


def _key_from_environment() -> str | None:
    found = (os.environ.get(name) for name in CLOUD_KEY_VARIABLES)
    return next((value for value in found if value), None)
