"""Commands that are imported when they are used, so that none waits for the others' libraries.

A group knows its commands by a table: name, place and one line for `--help`. The table repeats what
the command says of itself; a test compares the two.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A command that isn't imported yet."""

    place: str
    """`module:name` of the function, or of the Typer with its subcommands."""
    summary: str
    """Its line in the group's help: the first paragraph of its own."""


class LazyGroup(TyperGroup):
    """A group of commands by table; a subclass states the table."""

    table: ClassVar[dict[str, Entry]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in self.table.items():
            self.add_command(TyperCommand(name=name, help=entry.summary))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that is to run; here it is imported. Raises a usage error for an unknown."""
        name, command, rest = super().resolve_command(ctx, args)
        entry = self.table.get(name or "")
        return name, load(name or "", entry) if entry else command, rest


def load(name: str, entry: Entry) -> Any:
    """The command of a table's entry, as Click runs it."""
    module, _, attribute = entry.place.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, typer.Typer):
        return get_group(found)  # also where it has one command only
    return get_command(_alone(name, found))


def _alone(name: str, function: Callable[..., None]) -> typer.Typer:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name)(function)
    return app


def lazy_app(group: type[LazyGroup], summary: str) -> typer.Typer:
    """The Typer of a group by table."""
    return typer.Typer(
        cls=group,
        callback=_nothing,  # without one, Typer takes an app without commands for a mistake
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help=summary,
    )


def _nothing() -> None:
    """What a group does before its command."""
