"""An engine that needs no program: for tests of what happens around one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dft.jobs.engine import Correction, OutputError, StepResult
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.relax import Frame

START = Crystal(np.eye(3) * 4.0, [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8])


class Toy:
    """Each step lets the cell grow to 1.1 of its volume.

    energy: eV of a crystal. script: step -> an exception to raise, or what its output says instead of success; "lacks":
    an element without potential; "scales": step -> the scale of its frames, where it is not the engine's.
    """

    name, scale, steps, protocol = "espresso", "toy", ("relax1", "relax2", "static"), {"toy": 1}

    def __init__(self, energy: Callable[[Crystal], float] = lambda crystal: -crystal.volume, **script: object):
        self.energy, self.script, self.ran = energy, script, []

    def inputs(self, crystal):
        return {"relax1/IN": b"toy"}

    def flow(self, job):
        return b"{}"

    def check(self):
        pass

    def library_problem(self):
        return None

    def missing(self, symbol):
        return f"no {symbol}; get one" if self.script.get("lacks") == symbol else None

    def doubt(self, symbol):
        return None

    def energy_step(self):
        return "static"

    def correction(self, result):
        return Correction(0.25, "toy/1")

    def run(self, step, crystal, previous, folder: Path, left=()):
        self.ran.append((step, round(crystal.volume, 6), previous and previous.name))
        what = self.script.get(step)
        if isinstance(what, Exception):
            raise what
        folder.mkdir(parents=True)
        numbers = [12, 16] if what == "foreign" else crystal.numbers.tolist()
        cells = [crystal.lattice, crystal.scaled_to_volume(crystal.volume * 1.1).lattice]
        output = {
            "lattices": [cell.tolist() for cell in cells],
            "frac_coords": crystal.frac_coords[: len(numbers)].tolist(),
            "numbers": numbers,
            "scale": self.script.get("scales", {}).get(step, self.scale),
            "failure": what if what not in (None, "foreign") else "",
        }
        (folder / "OUT").write_text(json.dumps(output))

    def read(self, step, folder: Path):
        try:
            output = json.loads((folder / "OUT").read_text())
        except (OSError, ValueError) as error:
            raise OutputError("truncated_output", f"{folder}/OUT: {error}") from error
        crystals = [Crystal(cell, output["frac_coords"], output["numbers"]) for cell in output["lattices"]]
        frames = [
            Frame(i, c, self.energy(c), np.zeros((c.n_sites, 3)), np.zeros((3, 3))) for i, c in enumerate(crystals)
        ]
        fixes = ("mended",) if step == "relax2" else ()
        return StepResult(frames, output["failure"], "said so", magnetization=0.5, fixes=fixes, scale=output["scale"])
