"""Embedded evaluator against the torch package it re-implements: python benchmarks/evaluator.py [--quick]

Evaluates and relaxes crystals of the embedded snapshot, strained by 6 % and rattled by 0.05 Å, with both, on one
thread, to the same largest force; checks that the answers agree before it prints CPU seconds and their ratio. Needs
the extra `bench-torch` (pip install -e '.[bench-torch]'). The last line is one JSON object.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import sys
import time
import warnings

import numpy as np

from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import embedded_entries
from gnome_core.potentials.chgnet_potential import CHGNetPotential
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.relax import Relaxation, relax
from pipelines.beam.environment import take_allocator

FMAX = 0.05  # eV/Å


def strained_crystals(n: int) -> list[Crystal]:
    """n compounds spread evenly over the snapshot, stretched and rattled by a fixed seed."""
    rng = np.random.default_rng(0)
    compounds = [c for c in crystals_from_batch(embedded_entries()) if len(set(c.numbers)) > 1]
    chosen = []
    for crystal in compounds[:: len(compounds) // n][:n]:
        rattle = rng.normal(scale=0.05, size=(crystal.n_sites, 3)) @ np.linalg.inv(crystal.lattice)
        chosen.append(Crystal(crystal.lattice * 1.06, crystal.frac_coords + rattle, crystal.numbers))
    return chosen


def cpu_seconds(call):
    """(result, CPU seconds of this process)."""
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="4 crystals instead of 40")
    n = 4 if parser.parse_args().quick else 40
    try:
        import torch
        from chgnet.model import CHGNet, StructOptimizer
    except ImportError:
        sys.exit("the peer is not installed; pip install -e '.[bench-torch]'")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    crystals = strained_crystals(n)
    structures = [to_structure(c) for c in crystals]
    sites = sum(c.n_sites for c in crystals)

    ours = CHGNetPotential.published()
    _, compile_s = cpu_seconds(lambda: [ours.evaluate(crystals[:k]) for k in (1, 6, n)])  # every shape of the ladder
    evaluations, ours_evaluate = cpu_seconds(lambda: ours.evaluate(crystals))
    relaxed, ours_relax = cpu_seconds(lambda: relax(crystals, ours, RelaxConfig(fmax=FMAX)))

    theirs = CHGNet.load(use_device="cpu", verbose=False)
    theirs.predict_structure(structures[0])
    answers, theirs_evaluate = cpu_seconds(lambda: theirs.predict_structure(structures, task="efsm", batch_size=16))
    optimizer = StructOptimizer(theirs, optimizer_class="FIRE", use_device="cpu")
    peers, theirs_relax = cpu_seconds(
        lambda: [optimizer.relax(s, fmax=FMAX, steps=300, verbose=False) for s in structures]
    )

    energy_error = max(
        abs(e.energy / c.n_sites - float(a["e"])) for e, c, a in zip(evaluations, crystals, answers, strict=True)
    )
    force_error = max(np.abs(e.forces - a["f"]).max() for e, a in zip(evaluations, answers, strict=True))
    if energy_error > 1e-4 or force_error > 2e-3:
        sys.exit(f"answers differ: energy by {energy_error:.2g} eV/atom, forces by {force_error:.2g} eV/Å")
    above = np.array(
        [
            r.energy_per_atom - p["trajectory"].energies[-1] / r.crystal.n_sites
            if isinstance(r, Relaxation)
            else np.inf
            for r, p in zip(relaxed, peers, strict=True)
        ]
    )
    within = float((above <= 0.003).mean())
    if within < 0.95:
        sys.exit(f"only {within:.0%} of our relaxations end within 3 meV/atom of the peer's energy")

    steps = np.mean([len(r.frames) for r in relaxed])
    peer_steps = np.mean([len(p["trajectory"].energies) for p in peers])
    print(f"{n} crystals, {sites / n:.1f} atoms each; one thread; compiling {compile_s:.1f} CPU s, once per machine")
    print(f"{'':24}{'ours':>10}{'chgnet':>10}{'ratio':>8}")
    for name, mine, peer in (
        ("evaluations / CPU s", n / ours_evaluate, n / theirs_evaluate),
        ("relaxations / CPU s", n / ours_relax, n / theirs_relax),
        ("steps a relaxation", steps, peer_steps),
    ):
        print(f"{name:24}{mine:10.2f}{peer:10.2f}{mine / peer:8.2f}")
    print(f"relaxed energies within 3 meV/atom of the peer's or below: {within:.0%}")
    print(
        json.dumps(
            {
                "benchmark": "evaluator",
                "crystals": n,
                "evaluation_ratio": round(theirs_evaluate / ours_evaluate, 2),
                "relaxation_ratio": round(theirs_relax / ours_relax, 2),
                "ours_relaxations_per_cpu_s": round(n / ours_relax, 3),
                "peer_relaxations_per_cpu_s": round(n / theirs_relax, 3),
                "steps": [round(float(steps), 1), round(float(peer_steps), 1)],
                "energy_error_ev_per_atom": float(f"{energy_error:.2g}"),
                "force_error_ev_per_angstrom": float(f"{force_error:.2g}"),
                "within_3_mev": within,
            }
        )
    )


if __name__ == "__main__":
    take_allocator()  # for both, what `gnome` begins with
    main()
