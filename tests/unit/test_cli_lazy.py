"""The command line loads a command when it is used, and tells of all of them without that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from minions.cli import cli
from minions.cli.evaluation import evaluation
from minions.cli.lazy import Entry, LazyGroup, load

ROOT = Path(__file__).parents[2]
HEAVY = {"sklearn", "scipy", "matplotlib", "ray", "llama_cpp", "numpy", "sqlalchemy", "minions.app"}


def group(app: typer.Typer) -> LazyGroup:
    found = get_command(app)
    assert isinstance(found, LazyGroup)
    return found


ENTRIES = [
    pytest.param(name, entry, id=name)
    for app in (cli, evaluation)
    for name, entry in group(app).table.items()
]


def loaded_by(code: str) -> set[str]:
    """Which of HEAVY a fresh interpreter holds after `code`."""
    told = f"{code}\nimport sys\nprint('LOADED', *({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["eval", "--help"], ["eval", "no-such-command"]]
)
def test_help_and_mistakes_need_no_library(arguments: list[str]) -> None:
    code = (
        "from typer.testing import CliRunner\nfrom minions.cli import cli\n"
        f"CliRunner().invoke(cli, {arguments!r})"
    )
    assert loaded_by(code) == set()


def test_a_command_loads_its_own_libraries() -> None:
    """So that the test above can fail."""
    code = (
        "from typer.testing import CliRunner\nfrom minions.cli import cli\n"
        "CliRunner().invoke(cli, ['estimate', '--help'])"
    )
    assert loaded_by(code) & {"minions.app", "sqlalchemy"}


def test_asking_and_evaluating_load_nothing_that_only_fitting_needs() -> None:
    code = "import minions.cli.ask, minions.cli.eval_run, eval.run, eval.report.figures"
    assert not loaded_by(code) & {"sklearn", "scipy", "matplotlib", "ray"}


@pytest.mark.parametrize(("name", "entry"), ENTRIES)
def test_the_table_says_what_the_command_says(name: str, entry: Entry) -> None:
    command = load(name, entry)
    paragraph = " ".join(str(command.help).partition("\n\n")[0].split())
    assert command.name in (name, "")  # a group has its name from the table alone
    assert paragraph == entry.summary


def test_a_misspelt_command_is_answered_with_a_guess() -> None:
    done = CliRunner().invoke(cli, ["eval", "reprot"])
    assert done.exit_code == 2 and "report" in done.output


def test_a_group_without_a_command_shows_its_help() -> None:
    done = CliRunner().invoke(cli, ["eval"])
    assert "calibrate" in done.output and "plan-capacity" not in done.output
