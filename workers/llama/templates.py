"""The chat template of a GGUF: Jinja from a file that is not trusted, run in a sandbox."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workers.errors import EngineUnavailable
from workers.llama.api import LlamaModel

_TEMPLATE_DATE: Final = "2025-01-01"
"""What templates print as today: with the real date, results would change overnight."""


def render_template(
    model: LlamaModel, messages: Sequence[Mapping[str, Any]], **variables: object
) -> str:
    """The prompt for the assistant's next turn. Where a template refuses a leading system message,
    that is put before the first user message.

    Thinking is switched off in templates that have a switch for it: its end is not in our hands.
    Raises EngineUnavailable when there is no template or it fails."""
    source = model.chat_template
    if not source:
        raise EngineUnavailable(
            f"this {model.architecture} model has no chat template: use an instruction-tuned GGUF"
        )
    try:
        render = functools.partial(
            _environment().from_string(source).render,
            add_generation_prompt=True,
            enable_thinking=False,
            bos_token=model.special_text("bos"),
            eos_token=model.special_text("eos"),
            **variables,
        )
        try:
            return render(messages=list(messages))
        except _RoleRefused:
            return render(messages=_merged(messages))
    except (jinja2.TemplateError, TypeError) as error:
        raise EngineUnavailable(f"the model's chat template fails: {error}") from error


def _merged(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages with a leading system message put into the user's first."""
    first, *rest = messages
    if first["role"] != "system" or not rest or rest[0]["role"] != "user":
        return list(messages)
    merged = f"{first['content']}\n\n{rest[0]['content']}"
    return [{**rest[0], "content": merged}, *rest[1:]]


class _RoleRefused(jinja2.TemplateError):
    """The template called `raise_exception`, as some do for a system message."""


@functools.cache
def _environment() -> jinja2.Environment:
    """What chat templates expect of their surroundings."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda _format: _TEMPLATE_DATE
    environment.filters["tojson"] = _to_json
    return environment


def _to_json(value: object, **_options: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _raise_exception(message: str) -> None:
    raise _RoleRefused(message)
