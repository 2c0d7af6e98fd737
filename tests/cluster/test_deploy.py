"""What is shipped for deployment: units, images and manifests say what our commands understand."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from minions.cli import cli
from minions.settings import Settings
from workers.ray.orders import WORKER_RESOURCE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "workers" / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
ADDRESSES = {"MINIONS_HEAD": "192.168.1.10:6379", "MINIONS_HEAD_HOST": "192.168.1.10"}
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install 'minions[cluster]'")


def understood(words: list[str]) -> bool:
    """Whether our command line has such a command with such options; nothing is run."""
    return CliRunner().invoke(cli, [*words, "--help"]).exit_code == 0


def filled(text: str) -> str:
    """Shell-like variables replaced by their defaults, or by addresses."""
    return VARIABLE.sub(lambda found: found[2] or ADDRESSES[found[1]], text)


def test_a_wrong_option_would_be_noticed() -> None:
    assert understood(["worker", "join", "head:1"])
    assert not understood(["worker", "join", "head:1", "--no-such-option"])
    assert not understood(["cluster", "sideways"])


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_units_start_commands_that_exist(unit: Path) -> None:
    (start,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    program, *words = shlex.split(filled(start))
    assert program == "/opt/minions/bin/minions"
    assert understood(words)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_accepts_the_units(unit: Path, tmp_path: Path) -> None:
    for other in UNITS:  # they name each other
        text = other.read_text().replace("/opt/minions/bin/minions", "/bin/true")
        (tmp_path / other.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def variables_of(text: str) -> set[str]:
    """The settings of ours that a file sets."""
    known = {f"MINIONS_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"^\s*(?:- name: )?(MINIONS_\w+)[:=\n]", text, re.MULTILINE))
    return named - known


def test_the_manifests_set_settings_that_exist() -> None:
    for name in ("compose.yaml", "kuberay.yaml"):
        assert variables_of((DEPLOY / name).read_text()) == set(), name
    assert variables_of("  MINIONS_NONSENSE: 1\n") == {"MINIONS_NONSENSE"}


def test_compose_runs_commands_that_exist() -> None:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert set(services) == {"head", "api", "worker"}
    for service in services.values():
        assert understood(shlex.split(filled(service["command"])))
        assert service["network_mode"] == "host"
        assert "secrets" in "".join(service["volumes"])


def documents() -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text())


def test_kuberay_nodes_offer_workers_and_ask_for_the_token() -> None:
    cluster = next(d for d in documents() if d["kind"] == "RayCluster")["spec"]
    (group,) = cluster["workerGroupSpecs"]
    assert WORKER_RESOURCE in group["rayStartParams"]["resources"]
    pods = [cluster["headGroupSpec"]["template"], group["template"]]
    for pod in pods:
        ray_container = pod["spec"]["containers"][0]
        names = {variable["name"]: variable for variable in ray_container["env"]}
        assert names["RAY_AUTH_MODE"]["value"] == "token"
        assert "valueFrom" in names["RAY_AUTH_TOKEN"]
    api = pods[0]["spec"]["containers"][1]
    assert understood(api["args"])
    mounted = {mount["name"] for mount in api["volumeMounts"]}
    assert mounted <= {volume["name"] for volume in pods[0]["spec"]["volumes"]}


def test_ray_is_the_same_version_everywhere() -> None:
    (wanted,) = re.findall(r'"ray\[default\]==(\d+\.\d+)', (ROOT / "pyproject.toml").read_text())
    cluster = next(d for d in documents() if d["kind"] == "RayCluster")
    assert cluster["spec"]["rayVersion"].startswith(wanted)


def test_the_install_script_is_sound_and_refuses_nonsense(tmp_path: Path) -> None:
    script = str(DEPLOY / "install.sh")
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    for words, expected in (
        ([], "usage: install.sh"),
        ([str(tmp_path), "tpu"], "the variant is cpu or cuda, not tpu"),
    ):
        done = subprocess.run(["sh", script, *words], capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert expected in done.stderr


def test_the_dockerfile_copies_from_stages_that_exist() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", text, re.MULTILINE))
    assert set(re.findall(r"--from=(\w+)", text)) <= stages
    assert "/src/workers/deploy/install.sh /opt/minions ${VARIANT}" in text
    assert re.search(r"^USER minions$", text, re.MULTILINE), "it must not run as root"


def test_the_guide_shows_what_the_sizing_code_prints() -> None:
    printed = CliRunner().invoke(cli, ["cluster", "cards"]).stdout
    guide = (DEPLOY / "CLUSTER.md").read_text()
    assert printed.strip()
    assert "".join(f"    {line}\n" for line in printed.splitlines()) in guide


def test_the_guides_commands_exist() -> None:
    guide = (DEPLOY / "CLUSTER.md").read_text()
    commands = re.findall(r"^    (minions .*)$", guide, re.MULTILINE)
    assert len(commands) >= 5
    for line in commands:
        assert understood(shlex.split(line, comments=True)[1:]), line
