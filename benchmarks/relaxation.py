"""Relaxations beside ASE's optimisers, positions and cell: python benchmarks/relaxation.py [--quick] [--potential NAME]

WBM crystals from cells 5 % too large with atoms moved by 0.1 Å a coordinate; the potential is ours in all of them, on
one thread. ASE relaxes one crystal after the other (FrechetCellFilter; fmax is of the same generalised forces as ours),
ours all at once. Compared are evaluations, CPU seconds and final energies. The last line is one JSON object.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS

from gnome_core.analysis.judge import disturbed
from gnome_core.crystals.convert import to_atoms
from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.ase_calculator import PotentialCalculator
from gnome_core.potentials.by_name import make_potential
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.potential import Potential
from gnome_core.potentials.relax import Relaxation, relax
from pipelines.beam.environment import set_up
from pipelines.evaluation.judging import labelled

CONFIG = RelaxConfig()


@dataclass(frozen=True)
class Outcome:
    """Per crystal: evaluations, final energy (eV/atom), whether it converged; CPU seconds of all."""

    evaluations: np.ndarray
    energies: np.ndarray
    converged: np.ndarray
    cpu_seconds: float


def ours(crystals: Sequence[Crystal], potential: Potential) -> Outcome:
    start = time.process_time()
    found = relax(crystals, potential, CONFIG)
    seconds = time.process_time() - start
    return Outcome(
        np.array([len(one.frames) for one in found]),
        np.array([one.frames[-1].energy / crystal.n_sites for one, crystal in zip(found, crystals, strict=True)]),
        np.array([isinstance(one, Relaxation) for one in found]),
        seconds,
    )


def with_ase(optimizer: Callable, crystals: Sequence[Crystal], potential: Potential) -> Outcome:
    rows, start = [], time.process_time()
    for crystal in crystals:
        atoms = to_atoms(crystal)
        atoms.calc = PotentialCalculator(potential)
        run = optimizer(FrechetCellFilter(atoms), logfile=None)
        converged = run.run(fmax=CONFIG.fmax, steps=CONFIG.max_steps - 1)
        rows.append((run.nsteps + 1, atoms.get_potential_energy() / crystal.n_sites, converged))
    return Outcome(*(np.array(column) for column in zip(*rows, strict=True)), time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10 crystals in place of 60")
    parser.add_argument("--potential", default="chgnet")
    arguments = parser.parse_args()
    set_up(verbose=False)
    potential = make_potential(arguments.potential)
    rows = labelled(None, None).crystals
    small = [crystal for crystal in rows if crystal.n_sites <= (8 if arguments.quick else 20)]
    number = 10 if arguments.quick else 60
    crystals = disturbed(small[:: max(len(small) // number, 1)][:number])
    runs: dict[str, Callable[[], Outcome]] = {
        "ours": lambda: ours(crystals, potential),
        **{
            f"ase_{optimizer.__name__.lower()}": lambda optimizer=optimizer: with_ase(optimizer, crystals, potential)
            for optimizer in (FIRE, BFGS, LBFGS)
        },
    }
    outcomes, summary = {}, {}
    for name, run in runs.items():
        run()  # programs are compiled
        outcomes[name] = run()
    reference = outcomes["ours"]
    for name, outcome in outcomes.items():
        both = outcome.converged & reference.converged
        gaps = 1000 * (outcome.energies - reference.energies)[both]
        summary[name] = {
            "converged": int(outcome.converged.sum()),
            "evaluations": int(outcome.evaluations.sum()),
            "cpu_s": round(outcome.cpu_seconds, 1),
            "mev_per_atom_above_ours": {
                "median": round(float(np.median(gaps)), 2),
                "mean": round(float(gaps.mean()), 2),
            },
            "lower_by_1_mev": int((gaps < -1).sum()),
            "higher_by_1_mev": int((gaps > 1).sum()),
        }
        print(name, summary[name], flush=True)
    result = {
        "benchmark": "relaxation", "against": "ase", "potential": arguments.potential, "crystals": len(crystals),
        "ratios": {
            name: {
                "evaluations": round(summary[name]["evaluations"] / summary["ours"]["evaluations"], 2),
                "cpu": round(outcomes[name].cpu_seconds / reference.cpu_seconds, 2),
            }
            for name in outcomes if name != "ours"
        },
        "outcomes": summary,
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
