"""Log lines: one JSON object each, with the ids of request and question; never a secret in it."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

_SECRET = re.compile(r"\b(mk_|sk-)[A-Za-z0-9_-]{8,}|(?<=Bearer )\S+")
"""Keys of this service and of cloud providers. We log none; an error of a library might."""
MASK = "***"


def configure_logs(form: Literal["json", "text"]) -> None:
    """Send all log lines of this process to stderr, those of libraries too."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_secrets,
    ]
    last = structlog.processors.JSONRenderer() if form == "json" else _for_people()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("minions").setLevel(logging.INFO)


def mask_secrets(
    _logger: object, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace whatever looks like a key, in every text of the line."""
    return {
        name: masked(value) if isinstance(value, str) else value for name, value in event.items()
    }


def masked(text: str) -> str:
    """The text without anything that looks like a key."""
    return _SECRET.sub(MASK, text)


def _for_people() -> structlog.types.Processor:
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
