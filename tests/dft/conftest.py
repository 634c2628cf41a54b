"""The stand-in VASP as tests use it: an executable, a library of POTCAR headers, and a process that knows energies."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.dft.standin.potcars import write_library

ELEMENTS = {"Li", "O", "F", "Na", "Mg", "Al", "S", "Cl", "Ca", "Fe", "Cu", "Zn", "W", "Yb"}


@dataclass(frozen=True)
class Standin:
    """executable: the "vasp" to run. environment: what it, pymatgen and atomate2 need. potcars: PMG_VASP_PSP_DIR."""

    executable: str
    potcars: Path
    environment: dict[str, str]


@pytest.fixture(scope="session")
def standin(tmp_path_factory) -> Standin:
    folder = tmp_path_factory.mktemp("standin")
    executable = folder / "vasp_std"
    executable.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {sys.executable} -m tests.dft.standin.vasp "$@"\n')
    executable.chmod(0o755)
    potcars = write_library(folder / "potcars", ELEMENTS)
    # A socket's path has a hundred characters at most.
    with tempfile.TemporaryDirectory(prefix="gnome-") as short:
        path = f"{short}/energies"
        # Its energies are compared with themselves alone; most of its time was XLA's optimising.
        quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.dft.standin.energies", path], cwd=ROOT, env={**os.environ, **quick}
        )
        try:
            while not os.path.exists(f"{path}.ready"):
                assert server.poll() is None, "the energy server died"
                time.sleep(0.05)
            environment = {
                "STANDIN_SOCKET": path,
                "PMG_VASP_PSP_DIR": str(potcars),
                "ATOMATE2_VASP_CMD": str(executable),
                "ATOMATE2_VASP_GAMMA_CMD": str(executable),
                "OMP_NUM_THREADS": "1",
                **quick,
            }
            yield Standin(str(executable), potcars, environment)
        finally:
            server.terminate()
            server.wait()


@pytest.fixture
def vasp_environment(standin, monkeypatch) -> Standin:
    """The stand-in in this process's environment, and in pymatgen's settings, which are read once."""
    from pymatgen.core import SETTINGS

    for name, value in standin.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(standin.potcars))
    return standin
