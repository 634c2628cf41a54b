"""NequIP beside the `mlip` package's: python benchmarks/potential.py [--quick]

Energy with forces, and a training step (gradient of an energy and force loss, Adam), on one rattled 64-atom cell of
MgO, at equal irreps, layers, cutoff and radial networks, on one thread, in turn. The two networks differ in their
cutoff function and read-out, so that their answers cannot be compared; each one's forces are checked against its own
energies instead. Needs the extra `bench`. The last line is one JSON object.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":  # not where another benchmark borrows from here
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["JAX_PLATFORMS"] = "cpu"

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.edges import EdgeShape, edge_graph, pack
from gnome_core.models.config import PAPER_NEQUIP, NequIPConfig
from gnome_core.models.nequip import NequIP, n_parameters
from gnome_core.potentials.gradients import predict
from gnome_core.potentials.memory import keep_freed_memory

CUTOFF = 5.0
ELEMENTS = (8, 12)
MODELS = {
    "3 x 32x0e+32x1o+32x2e": NequIPConfig(elements=ELEMENTS),
    "4 x 32x0e+32x1o": NequIPConfig(layers=4, hidden_irreps="32x0e+32x1o", elements=ELEMENTS),
    "5 x 128x0e+64x1o+32x2e": NequIPConfig(layers=5, hidden_irreps="128x0e+64x1o+32x2e", elements=ELEMENTS),
}


class Contender(NamedTuple):
    """A network ready to run. energy: of (parameters, positions), to check its forces."""

    parameters: int
    energy_and_forces: Callable[[], tuple]
    train: Callable[[], tuple]
    energy: Callable[[np.ndarray], float]


def rattled_cell(n_atoms: int = 64) -> Crystal:
    """Rocksalt MgO at 4.65 Å, atoms moved by 0.05 Å; the first n_atoms of 2 x 2 x 2 cells."""
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cells = np.indices((2, 2, 2)).reshape(3, -1).T
    sites = np.concatenate([corners, corners + [0.5, 0, 0]])
    frac = (sites[None] + cells[:, None]).reshape(-1, 3) / 2
    numbers = np.tile([12] * 4 + [8] * 4, 8)
    lattice = 9.3 * np.eye(3)
    return Crystal(lattice, (frac + rng.normal(scale=0.05, size=frac.shape) / 9.3)[:n_atoms], numbers[:n_atoms])


def ours(config: NequIPConfig, crystal: Crystal) -> Contender:
    network, n = NequIP(config), crystal.n_sites

    def batch_of(crystal: Crystal):
        graph = edge_graph(crystal, config.cutoff)
        return jax.tree.map(jnp.asarray, pack([graph], EdgeShape(2, n + 1, graph.size[1])))

    batch = batch_of(crystal)
    variables = dict(jax.jit(network.init)(jax.random.key(0), batch))
    variables["statistics"] = {"scale": jnp.float32(1.0), "neighbors": jnp.float32(32.0)}
    step = jax.jit(partial(predict, network))

    def loss(params):
        prediction = predict(network, {**variables, "params": params}, batch)
        return jnp.square(prediction.atoms.sum() / n) + 0.05 * jnp.square(prediction.forces).sum()

    def energy(positions: np.ndarray) -> float:
        moved = Crystal(crystal.lattice, positions @ np.linalg.inv(crystal.lattice), crystal.numbers)
        return float(np.asarray(step(variables, batch_of(moved)).atoms, np.float64)[:n].sum())

    def forces() -> tuple:
        return None, step(variables, batch).forces[:n]

    return Contender(n_parameters(variables["params"]), forces, trainer(loss, variables["params"]), energy)


def mlips(config: NequIPConfig, crystal: Crystal) -> Contender:
    from mlip.data import ChemicalSystem, DatasetInfo
    from mlip.data.helpers.dynamically_batch import dynamically_batch
    from mlip.graph import Graph
    from mlip.models import ForceField, Nequip

    n = crystal.n_sites

    def batch_of(positions: np.ndarray):
        system = ChemicalSystem(
            atomic_numbers=crystal.numbers.astype(int),
            positions=positions,
            cell=crystal.lattice,
            pbc=(True,) * 3,
            energy=-1.0,
            forces=np.zeros((n, 3)),
        )
        graph = Graph.from_chemical_system(system, config.cutoff)
        n_edges = len(graph.senders)
        (batch,) = dynamically_batch([graph], n_node=n + 1, n_edge=n_edges + 1, n_graph=2)
        return jax.tree.map(jnp.asarray, batch), n_edges

    batch, n_edges = batch_of(crystal.positions)
    info = DatasetInfo(
        atomic_energies_map=dict.fromkeys(config.elements, 0.0),
        graph_cutoff_angstrom=config.cutoff,
        avg_num_neighbors=n_edges / n,
    )
    settings = Nequip.Config(num_layers=config.layers, target_irreps=config.hidden_irreps, l_max=2)
    field = ForceField.from_mlip_network(Nequip(settings, info))
    step = jax.jit(field.predictor.apply)

    def loss(params):
        out = field.predictor.apply(params, batch)
        return jnp.square(out.globals.energy[0] / n) + 0.05 * jnp.square(out.nodes.forces[:n]).sum()

    def energy(positions: np.ndarray) -> float:
        return float(step(field.params, batch_of(positions)[0]).globals.energy[0])

    def forces() -> tuple:
        out = step(field.params, batch)
        return out.globals.energy, out.nodes.forces[:n]

    return Contender(n_parameters(field.params), forces, trainer(loss, field.params), energy)


def trainer(loss: Callable, params: dict) -> Callable[[], tuple]:
    """A training step that starts from the same parameters each time it is called."""
    optimizer = optax.adam(2e-3)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        gradient = jax.grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return lambda: step(params, state)


def check_forces(name: str, contender: Contender, crystal: Crystal) -> None:
    """Exit unless a directional derivative of the energy is the force along it."""
    direction = np.random.default_rng(1).normal(size=crystal.positions.shape)
    direction /= np.linalg.norm(direction)
    h = 0.02
    moved = [contender.energy(crystal.positions + s * h * direction) for s in (1, -1)]
    slope = (moved[0] - moved[1]) / (2 * h)
    force = float((np.asarray(contender.energy_and_forces()[1]) * direction).sum())
    if abs(slope + force) > 0.05 * abs(force) + 1e-3:
        sys.exit(f"{name}: force {force:.5f} along a direction whose energy slope is {slope:.5f}")


def clocks(contenders: dict[str, Contender], repeats: int) -> dict[str, tuple[float, float]]:
    """Best CPU ms of (energy and forces, training step); the contenders take turns."""
    calls = {(name, i): c[1 + i] for name, c in contenders.items() for i in (0, 1)}
    best = dict.fromkeys(calls, np.inf)
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(repeats):
        for key, call in calls.items():
            start = time.process_time()
            jax.block_until_ready(call())
            best[key] = min(best[key], time.process_time() - start)
    return {name: (1e3 * best[name, 0], 1e3 * best[name, 1]) for name in contenders}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest network only, fewer repeats")
    arguments = parser.parse_args()
    try:
        import mlip  # noqa: F401
    except ImportError:
        sys.exit("the peer is not installed; pip install -e '.[bench]'")
    warnings.simplefilter("ignore")
    keep_freed_memory()
    crystal = rattled_cell()
    models = dict(list(MODELS.items())[1:2] if arguments.quick else MODELS.items())
    print(f"{'':26}{'':7}{'parameters':>12}{'E+F, ms':>10}{'train, ms':>11}{'ns/parameter':>14}")
    rows = {}
    for name, config in models.items():
        contenders = {"ours": ours(config, crystal), "mlip": mlips(config, crystal)}
        if "128x" in name:  # the paper's own: even features, 94 elements
            contenders["paper"] = ours(PAPER_NEQUIP, crystal)
        for who, contender in contenders.items():
            check_forces(f"{name} {who}", contender, crystal)
        measured = clocks(contenders, 5 if "128x" in name or arguments.quick else 15)
        for who, (step, train) in measured.items():
            size = contenders[who].parameters
            print(f"{name:26}{who:7}{size:12,}{step:10.1f}{train:11.1f}{1e6 * step / size:14.1f}", flush=True)
            rows[f"{name} {who}"] = [size, round(step, 2), round(train, 2)]
        ratio = [measured["mlip"][i] / measured["ours"][i] for i in (0, 1)]
        print(f"{'':26}{'ratio':7}{'':12}{ratio[0]:10.2f}{ratio[1]:11.2f}")
    ratios = {name: [round(rows[f"{name} mlip"][i] / rows[f"{name} ours"][i], 2) for i in (1, 2)] for name in models}
    print(json.dumps({"benchmark": "potential", "quick": arguments.quick, "ratios": ratios, "rows": rows}))


if __name__ == "__main__":
    main()
