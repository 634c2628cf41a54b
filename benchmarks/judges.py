"""Nequix here beside its original implementation: python benchmarks/judges.py FILE.nqx [--quick]

Energies, forces and stresses of WBM crystals by size, on one thread: ours with its neighbour lists and packing, the
original's network alone on graphs that are made beforehand, both in batches and one by one. Answers are compared before
CPU seconds are. CHGNet's evaluations stand beside them. The original is installed without what it asks for
(pip install --no-deps nequix==0.4.5 equinox==0.13.8 jaxtyping==0.3.11 wadler-lindig==0.1.8). The last line is one JSON
object.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import sys
import time
from collections.abc import Sequence

import jax
import jraph
import numpy as np

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.neighbors import neighbor_list
from gnome_core.potentials.chgnet_potential import CHGNetPotential
from gnome_core.potentials.nequix_potential import NequixPotential
from gnome_core.potentials.potential import Evaluation, Potential
from pipelines.beam.environment import take_allocator
from pipelines.evaluation.judging import labelled

SIZES = {"2-4": (2, 4), "5-8": (5, 8), "9-12": (9, 12), "13-24": (13, 24)}


def graph_of(crystal: Crystal, index: dict[int, int], cutoff: float) -> jraph.GraphsTuple:
    senders, receivers, images = neighbor_list(crystal, cutoff)
    return jraph.GraphsTuple(
        nodes={
            "species": np.array([index[int(z)] for z in crystal.numbers], np.int32),
            "positions": crystal.positions.astype(np.float32),
        },
        # Theirs is positions[senders] - positions[receivers] + shifts @ cell, ours points the other way.
        edges={"shifts": -images.astype(np.float32)},
        senders=senders,
        receivers=receivers,
        globals={"cell": crystal.lattice[None].astype(np.float32)},
        n_node=np.array([crystal.n_sites], np.int32),
        n_edge=np.array([len(senders)], np.int32),
    )


class Original:
    """The published network, on padded batches of at most `size` graphs."""

    def __init__(self, path: str, size: int):
        import equinox as eqx
        from nequix.model import load_model

        model, settings = load_model(path, False)
        self.call, self.size = eqx.filter_jit(lambda graph: model(graph)), size
        self.index = {z: i for i, z in enumerate(settings["atomic_numbers"])}
        self.cutoff = settings["cutoff"]

    def batches(self, crystals: Sequence[Crystal]) -> list[jraph.GraphsTuple]:
        graphs = [graph_of(crystal, self.index, self.cutoff) for crystal in crystals]
        parts = [jraph.batch_np(graphs[i : i + self.size]) for i in range(0, len(graphs), self.size)]
        # One program for all batches, as large as the largest.
        n_node, n_edge = (max(int(p.n_node.sum()) for p in parts), max(int(p.n_edge.sum()) for p in parts))
        return [jraph.pad_with_graphs(p, n_node + 1, n_edge + 1, self.size + 1) for p in parts]

    def evaluate(self, batches: Sequence[jraph.GraphsTuple]) -> list[tuple[np.ndarray, ...]]:
        return [jax.block_until_ready(self.call(batch)) for batch in batches]


def cpu_ms(call, n: int, repeats: int) -> float:
    """Of each of n crystals, the smallest of the repeats."""
    call()
    best = np.inf
    for _ in range(repeats):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    return 1e3 * best / n


def one_by_one(potential: Potential, crystals: Sequence[Crystal]) -> None:
    for crystal in crystals:
        potential.evaluate([crystal])


def energy_error(
    ours: Sequence[Evaluation], theirs: Sequence[tuple[np.ndarray, ...]], crystals: Sequence[Crystal]
) -> float:
    """The largest, eV/atom. Ends the run where answers differ."""
    energies = np.concatenate([np.asarray(energy)[:-1] for energy, _, _ in theirs])
    error = float(max(abs(a.energy - e) / c.n_sites for a, e, c in zip(ours, energies, crystals, strict=False)))
    forces = np.abs(ours[0].forces - np.asarray(theirs[0][1])[: crystals[0].n_sites]).max()
    if error > 1e-4 or forces > 1e-3:
        sys.exit(f"answers differ: energies by {error:.2g} eV/atom, forces by {forces:.2g} eV/Å")
    return error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="nequix-oam-1.nqx, as `gnome potential get` fetches it")
    parser.add_argument("--quick", action="store_true", help="8 crystals of 5 to 8 atoms, in batches alone")
    arguments = parser.parse_args()
    ours = NequixPotential.load(arguments.file, "nequix")
    try:
        original = Original(arguments.file, 16)
    except ImportError as error:
        sys.exit(f"the peer is not installed ({error}); see the top of this file")
    single = None if arguments.quick else Original(arguments.file, 1)
    chgnet = CHGNetPotential.published()
    everything = labelled(None, None).crystals
    rows = []
    print("CPU ms a crystal")
    for name, (low, high) in {"5-8": SIZES["5-8"]}.items() if arguments.quick else SIZES.items():
        crystals = [c for c in everything if low <= c.n_sites <= high][: 8 if arguments.quick else 32]
        if not crystals:
            continue  # the package's sample has none of the largest
        batches = original.batches(crystals)
        row: dict[str, object] = {
            "atoms": name,
            "crystals": len(crystals),
            "mean_atoms": float(np.mean([c.n_sites for c in crystals])),
            "energy_error": energy_error(ours.evaluate(crystals), original.evaluate(batches), crystals),
        }
        calls = {"ours": lambda c=crystals: ours.evaluate(c), "original": lambda b=batches: original.evaluate(b)}
        times = {key: cpu_ms(call, len(crystals), 1 if arguments.quick else 3) for key, call in calls.items()}
        if single is not None:
            few = crystals[:4]
            alone = single.batches(few)
            times["ours_alone"] = cpu_ms(lambda c=few: one_by_one(ours, c), len(few), 3)
            times["original_alone"] = cpu_ms(lambda b=alone: single.evaluate(b), len(few), 3)
            times["chgnet"] = cpu_ms(lambda c=crystals: chgnet.evaluate(c), len(crystals), 3)
        rows.append(row | times)
        print(f"{name} atoms, {len(crystals)}:", *(f"{key} {value:.1f}" for key, value in times.items()), flush=True)
    print(json.dumps({"benchmark": "judges", "quick": arguments.quick, "sizes": rows}))


if __name__ == "__main__":
    take_allocator()  # for both, what `gnome` begins with
    main()
