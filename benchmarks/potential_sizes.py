"""What networks of several sizes cost beside CHGNet: python benchmarks/potential_sizes.py [POTENTIAL ...]

CPU ms a crystal for energy, forces and stress of 120 crystals of the embedded snapshot with 5 to 12 atoms, best of two.
The networks are untrained NequIPs of all elements; POTENTIAL are further ones by name (nequix-oam-1, FILE.npz).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import jax
import numpy as np

from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import embedded_entries
from gnome_core.graphs.edges import EdgeShape, edge_graph, fitting_shape, pack
from gnome_core.models.config import NequIPConfig
from gnome_core.models.nequip import NequIP, n_parameters
from gnome_core.potentials.by_name import make_potential
from gnome_core.potentials.edge_potential import EdgePotential
from gnome_core.potentials.potential import Potential

SHAPES = ("32x0e+32x1o+32x2e", "64x0e+32x1o+16x2e", "64x0e+32x1o+32x2e", "96x0e+48x1o+32x2e")


def crystals() -> list[Crystal]:
    found = [c for c in crystals_from_batch(embedded_entries()) if 5 <= c.n_sites <= 12]
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))[:120]]


def untrained(hidden: str, sample: Sequence[Crystal]) -> tuple[Potential, int]:
    """A potential with random weights, and how many it has."""
    config = NequIPConfig(hidden_irreps=hidden, neighbors=40.0)
    network, graphs = NequIP(config), [edge_graph(c, config.cutoff) for c in sample[:4]]
    variables = jax.jit(network.init)(jax.random.key(0), pack(graphs, fitting_shape(graphs, [EdgeShape(5, 64, 512)])))
    shifts = dict.fromkeys(config.elements, 0.0)
    return EdgePotential(network, variables, shifts, config.cutoff, hidden), n_parameters(variables["params"])


def cost(potential: Potential, sample: Sequence[Crystal]) -> float:
    """CPU ms a crystal, compilation left out."""
    potential.evaluate(sample)
    best = np.inf
    for _ in range(2):
        start = time.process_time()
        potential.evaluate(sample)
        best = min(best, time.process_time() - start)
    return 1e3 * best / len(sample)


def main(names: list[str]) -> None:
    sample = crystals()
    print(f"{len(sample)} crystals of {np.mean([c.n_sites for c in sample]):.1f} atoms; CPU ms a crystal")
    for name in ("chgnet", *names):
        print(f"{name}: {cost(make_potential(name), sample):.1f}", flush=True)
    for hidden in SHAPES:
        potential, weights = untrained(hidden, sample)
        print(f"NequIP of 3 layers of {hidden}, {weights:,} parameters: {cost(potential, sample):.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
