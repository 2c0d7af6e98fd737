"""The house's walls: who may import whom, and what must never be in the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("minions", "workers", "router", "eval")
ALLOWED = {
    "workers": {"workers"},
    "router": {"router"},
    "minions": {"minions", "workers", "router"},
    "eval": {"eval", "minions", "workers", "router"},
}
FACES_THAT_SHOW_EVAL = ("minions/cli/", "minions/rest/")
COMPOSITION_ROOT = ("minions/app.py", "minions/cli/")
CONCRETE_WORKERS = (
    "workers.inline_pool",
    "workers.models",
    "workers.llama",
    "workers.openai_engine",
    "workers.scripted",
    "workers.pull",
    "workers.machine",
    "workers.ray",
    "workers.cluster",
)
PURE = {"router": {"os", "time", "random", "pathlib", "socket", "asyncio", "datetime", "io"}}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, lazy imports included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_they_may(room: str) -> None:
    wrong = []
    for path in sources(room):
        allowed = set(ALLOWED[room])
        if relative(path).startswith(FACES_THAT_SHOW_EVAL):
            allowed.add("eval")
        for name in imports(path):
            top = name.partition(".")[0]
            if top in ROOMS and top not in allowed:
                wrong.append(f"{relative(path)} imports {name}")
    assert not wrong


def test_concrete_workers_are_made_only_in_the_composition_root() -> None:
    wrong = [
        f"{relative(path)} imports {name}"
        for path in sources("minions")
        for name in imports(path)
        if name.startswith(CONCRETE_WORKERS) and not relative(path).startswith(COMPOSITION_ROOT)
    ]
    assert not wrong


def test_the_router_is_pure() -> None:
    wrong = [
        f"{relative(path)} imports {name}"
        for path in sources("router")
        for name in imports(path)
        if name.partition(".")[0] in PURE["router"]
    ]
    assert not wrong


def test_only_the_cluster_room_imports_ray() -> None:
    wrong = [
        relative(path)
        for room in ROOMS
        for path in sources(room)
        if not relative(path).startswith("workers/ray/")
        if any(name.partition(".")[0] == "ray" for name in imports(path))
    ]
    assert not wrong


def test_one_machine_never_loads_ray() -> None:
    """A fresh interpreter with every face and the pool of one machine."""
    commands = ", ".join(f"minions.cli.{path.stem}" for path in sources("minions/cli"))
    faces = f"{commands}, minions.app, minions.rest.app, minions.strategies.ladder"
    code = f"import sys, {faces}, workers.inline_pool; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_model_text_can_be_executed() -> None:
    """Law 4: no exec, eval, compile, os.system or shell anywhere in the four rooms."""
    wrong = []
    for room in ROOMS:
        for path in sources(room):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, "id", "")
                shell = any(k.arg == "shell" for k in node.keywords)
                system = getattr(node.func, "attr", "") in ("system", "popen")
                if name in ("exec", "eval", "compile") or shell or system:
                    wrong.append(f"{relative(path)}:{node.lineno}")
    assert not wrong


def test_the_environment_is_read_in_one_module() -> None:
    wrong = []
    for room in ROOMS:
        for path in sources(room):
            if relative(path) == "minions/settings.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                read = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
                if read:
                    wrong.append(f"{relative(path)}:{node.lineno}")
    assert not wrong


def test_architecture_names_every_file_and_no_other() -> None:
    """ARCHITECTURE.md lists each file of ours once; every file that it lists exists."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    listed = {
        line.split("`")[1]
        for line in text.splitlines()
        if line.startswith("- `") and line.split("`")[1].endswith(".py")
    }
    ours = {
        relative(path)
        for room in ROOMS
        for path in sources(room)
        if path.name != "__init__.py" or path.stat().st_size > 0
    }
    assert listed == ours
