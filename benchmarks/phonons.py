"""Phonons beside published ones: python benchmarks/phonons.py [HEAT_CAPACITIES.parquet] [--evaluator NAME] [--quick]

Frequencies of four textbook solids beside measured ones; then heat capacities at 300 K of crystals of the file (columns
lattice, frac_coords, numbers, formula, heat_capacity in J/mol/K, a mole of the file's cells) beside its own, in a drawn
order until so many crystals or CPU minutes are spent. All steps as `gnome phonons` takes them: relaxation within the
symmetry, then force constants. Each crystal is printed. The last line is one JSON object.
"""

from __future__ import annotations

import os

from pipelines.beam.environment import prepare

if __name__ == "__main__":
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
    prepare(verbose=False)

import argparse
import json
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from dft.evaluators.make import make_evaluator
from dft.tables import DONE
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.force_constants import harmonic
from pipelines.cli.phonons import FMAX, MAX_STEPS, SUPERCELL, TOLERANCE
from pipelines.evaluation.phonons import phonons, primitive_cells, relaxed_cells
from pipelines.evaluation.relaxing import KeptBatches

FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
POINTS = {"Γ": (0, 0, 0), "X": (0.5, 0, 0.5), "L": (0.5, 0.5, 0.5)}


class Mode(NamedTuple):
    """measured: THz; index: among the point's modes in ascending order."""

    point: str
    name: str
    index: int
    measured: float


# Neutron scattering, rounded to 0.1 THz: Nilsson and Nelin, Phys. Rev. B 6, 3777 (1972); Sangster, Peckham and
# Saunderson, J. Phys. C 3, 1026 (1970); Raunio, Almqvist and Stedman, Phys. Rev. 178, 1496 (1969), its transverse mode
# at Gamma as infrared light has it at 300 K, 164 cm^-1; Stedman and Nilsson, Phys. Rev. 145, 492 (1966), 80 K.
TEXTBOOK = {
    "Si": (
        Crystal(5.43 * FCC, [[0, 0, 0], [0.25, 0.25, 0.25]], [14, 14]),
        [
            Mode("Γ", "optical", 5, 15.5),
            Mode("X", "TA", 0, 4.5),
            Mode("X", "LA", 2, 12.3),
            Mode("X", "TO", 5, 13.9),
            Mode("L", "TA", 0, 3.4),
            Mode("L", "TO", 5, 14.7),
        ],
    ),
    "MgO": (
        Crystal(4.21 * FCC, [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8]),
        [Mode("Γ", "TO", 5, 12.0), Mode("X", "TA", 0, 8.9)],
    ),
    "NaCl": (Crystal(5.64 * FCC, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17]), [Mode("Γ", "TO", 5, 4.9)]),
    "Al": (
        Crystal(4.05 * FCC, [[0, 0, 0]], [13]),
        [Mode("X", "TA", 0, 5.8), Mode("X", "LA", 2, 9.7), Mode("L", "TA", 0, 4.2), Mode("L", "LA", 2, 9.7)],
    ),
}


def textbook(evaluator, names: list[str], length: float) -> list[dict]:
    print(f"{'solid':6}{'a (Å)':>8}{'mode':>12}{'THz':>8}{'measured':>10}{'error':>8}")
    rows = []
    for name in names:
        crystal, modes = TEXTBOOK[name]
        (relaxed,) = crystals_from_batch(relaxed_cells(evaluator, primitive_cells([crystal]), KeptBatches(None)))
        found = harmonic(relaxed, evaluator.potential, length)
        for mode in modes:
            value = float(found.run_qpoints([POINTS[mode.point]]).frequencies[0, mode.index])
            row = {"solid": name, "a": float((4 * relaxed.volume) ** (1 / 3)), "mode": f"{mode.point} {mode.name}"}
            rows.append(row | {"thz": value, "measured": mode.measured, "error": value / mode.measured - 1})
            print(
                f"{name:6}{row['a']:8.3f}{row['mode']:>12}{value:8.2f}{mode.measured:10.1f}"
                f"{100 * rows[-1]['error']:+7.1f} %",
                flush=True,
            )
    return rows


def heat_capacities(evaluator, path: str, most: int, seconds: float, length: float) -> Iterator[dict]:
    table = pq.read_table(path)
    print(f"{'crystal':14}{'atoms':>6}{'lowest':>9}{'C_V':>9}{'published':>11}{'CPU s':>8}", flush=True)
    began = time.process_time()
    for i in np.random.default_rng(0).permutation(len(table))[:most].tolist():
        start = time.process_time()
        row = table.slice(i, 1).to_pylist()[0]
        crystal = Crystal(np.reshape(row["lattice"], (3, 3)), np.reshape(row["frac_coords"], (-1, 3)), row["numbers"])
        results = relaxed_cells(evaluator, primitive_cells([crystal]), KeptBatches(None))
        (own,) = phonons(evaluator, [row["formula"]], results, length, TOLERANCE, KeptBatches(None)).to_pylist()
        found = {
            "formula": row["formula"],
            "atoms": crystal.n_sites,
            "status": own["status"],
            "lowest": own["lowest_frequency"],
            "heat_capacity": own["heat_capacity"] and own["heat_capacity"] * crystal.n_sites,
            "published": row["heat_capacity"],
            "cpu": time.process_time() - start,
        }
        answer = f"{found['lowest']:9.2f}{found['heat_capacity']:9.1f}" if own["status"] == DONE else own["status"]
        print(
            f"{found['formula']:14}{found['atoms']:6}{answer:>18}{found['published']:11.1f}{found['cpu']:8.1f}",
            flush=True,
        )
        yield found
        if time.process_time() - began > seconds:
            return


def summary(rows: list[dict]) -> dict:
    done = [row for row in rows if row["status"] == DONE]
    counts = {"crystals": len(rows), "answered": len(done), "cpu_seconds": sum(row["cpu"] for row in rows)}
    if not done:
        return counts
    errors = np.array([row["heat_capacity"] - row["published"] for row in done])
    atoms = np.array([row["atoms"] for row in done])
    return counts | {
        "stable": sum(row["lowest"] >= -TOLERANCE for row in done),
        "mae": float(np.abs(errors).mean()),
        "median": float(np.median(np.abs(errors))),
        "mae_per_atom": float(np.abs(errors / atoms).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="crystals with heat capacities; without one, the textbook solids only")
    parser.add_argument("--evaluator", default="nequix-oam-1-pft")
    parser.add_argument("--crystals", type=int, default=100, help="of the file, at most")
    parser.add_argument("--cpu-minutes", type=float, default=20.0, help="for the file, at most")
    parser.add_argument("--supercell", type=float, default=SUPERCELL, metavar="Å", help="as of `gnome phonons`")
    parser.add_argument("--quick", action="store_true", help="two textbook solids, two crystals of the file")
    arguments = parser.parse_args()
    evaluator = make_evaluator(arguments.evaluator, RelaxConfig(fmax=FMAX, max_steps=MAX_STEPS))
    outcome = {"benchmark": "phonons", "quick": arguments.quick, "evaluator": arguments.evaluator}
    outcome["supercell"] = length = arguments.supercell
    outcome["textbook"] = textbook(evaluator, ["Si", "Al"] if arguments.quick else list(TEXTBOOK), length)
    if arguments.file:
        most = 2 if arguments.quick else arguments.crystals
        outcome["heat_capacities"] = summary(
            list(heat_capacities(evaluator, arguments.file, most, 60 * arguments.cpu_minutes, length))
        )
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
