"""What a prediction costs, and what the cascade saves: python benchmarks/filter.py [--quick] [--members OUT]

Three parts, on one thread, on candidates that substitution and SAPS make from the embedded snapshot:

1. CPU time of a forward evaluation of the structural network at width 256, beside what one would write first: a loop
   over single padded graphs, and a batch under vmap over the members. Both baselines evaluate the same network with
   the same parameters on plain graphs (every atom a node, every neighbour an edge, first layers not split); the
   energies must agree to 1e-5 eV/atom before a ratio is printed.
2. Graphs built a CPU second, of cells of about ten atoms.
3. The cascade with the members that come with the package, or those that `gnome train` left in OUT: member evaluations
   a candidate, against all members at 20 volumes, and the share kept of the candidates that the full filter finds
   within the threshold.

The last line is one JSON object.
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
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from gnome_core.compositions.dense import N_COLUMNS
from gnome_core.compositions.formulas import reduced_formula
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal, InvalidCrystal, check_crystal
from gnome_core.crystals.readers import embedded_entries
from gnome_core.ensembles.config import CascadeConfig
from gnome_core.ensembles.ensemble import VOLUME_FACTORS, EnsembleModel
from gnome_core.ensembles.screening import screen
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import all_shards, expand, shard_recipes
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import recipe_formulas
from gnome_core.graphs.batching import Bucket, GraphBatch, batches
from gnome_core.graphs.featurize import structural_graphs
from gnome_core.models.config import StructuralConfig
from gnome_core.models.elements import element_properties
from gnome_core.models.members import MemberRecord
from gnome_core.models.radial import gaussian_basis
from gnome_core.models.shipped import members_in, pretrained_members
from gnome_core.models.structural import StructuralGNN
from gnome_core.stability.hull import Hull
from pipelines.rounds.config import load_config

DEMO = Path(__file__).parents[1] / "examples" / "demo.toml"
THRESHOLD = 0.05  # eV/atom
WIDE = StructuralConfig(width=256)


def cpu_seconds(call, repeats: int = 1):
    """(result, least CPU seconds of one call)."""
    least = np.inf
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        least = min(least, time.process_time() - start)
    return result, least


def candidates(n: int) -> tuple[list[Crystal], np.ndarray]:
    """n crystals of new compositions over the embedded snapshot, and the hull's energy at each, on the MP's labels."""
    entries = embedded_entries(load_config(str(DEMO)).snapshot_elements)
    entries = entries.filter(entries["reference_e_form_per_atom"].is_valid())
    crystals = crystals_from_batch(entries)
    compositions = counts(crystals)
    e_form = entries["reference_e_form_per_atom"].to_numpy()
    hull = Hull.from_entries(entries["id"], compositions, e_form, "mp")
    near = hull.e_above_hull(compositions, e_form) <= 0.1
    parents = ParentTable.from_crystals(
        [id_ for id_, kept in zip(entries["id"].to_pylist(), near, strict=True) if kept],
        [crystal for crystal, kept in zip(crystals, near, strict=True) if kept],
    )
    known = {reduced_formula(crystal.numbers) for crystal in crystals}
    settings = GenerationConfig(max_recipes_per_parent=20)
    kept = []
    for shard in all_shards(parents, settings):
        for recipes in shard_recipes(shard, parents, settings):
            new = [formula not in known for formula in recipe_formulas(recipes, parents)]
            kept.append(recipes.filter(pa.array(new)))
    table = pa.Table.from_batches(kept)
    order = np.random.default_rng(0).permutation(len(table))
    made = [crystal for crystal in expand(table.take(order[: n + n // 4]), parents) if exists(crystal)][:n]
    return made, hull.e_hull(counts(made))


def exists(crystal: Crystal) -> bool:
    try:
        check_crystal(crystal)
    except InvalidCrystal:
        return False
    return True


def counts(crystals: list[Crystal]) -> np.ndarray:
    return np.array([np.bincount(crystal.numbers, minlength=N_COLUMNS) for crystal in crystals])


# The baselines: the same network as one would write it first


def plain_energies(variables: dict, graph: GraphBatch) -> jax.Array:
    """(n_graphs,) energies: every update sees [edge, sender, receiver, global] at once, as in the released code."""
    params, statistics = variables["params"], variables["statistics"]
    table = params["embedding"]["elements"] + element_properties() @ params["embedding"]["properties"]["kernel"]
    nodes = table[graph.nodes.numbers]
    edges = gaussian_basis(graph.edges.lengths, WIDE.n_basis, WIDE.cutoff, WIDE.basis_width)
    weights = (graph.edges.weights / statistics["mean_adjacency"])[:, None]
    n_nodes, n_graphs = graph.nodes.numbers.shape[0], graph.globals.shape[0]
    state = jnp.zeros((n_graphs, WIDE.width))
    edge_graphs = graph.nodes.graphs[graph.receivers]
    share = (graph.nodes.multiplicities / graph.globals[graph.nodes.graphs])[:, None]

    def mean(x: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(x * share, graph.nodes.graphs, n_graphs)

    def dense(step: dict, names: list[str], inputs: list[jax.Array]) -> jax.Array:
        kernel = jnp.concatenate([step[name]["kernel"] for name in names])
        bias = sum(step[name]["bias"] for name in names if "bias" in step[name])
        return jax.nn.silu(jnp.concatenate(inputs, axis=-1) @ kernel + bias)

    for index in range(WIDE.steps):
        step, later = params[f"step_{index}"], index > 0
        names = ["edge_edge", "edge_sender", "edge_receiver", *["edge_state"] * later]
        message = dense(
            step, names, [edges, nodes[graph.senders], nodes[graph.receivers], *[state[edge_graphs]] * later]
        )
        gathered = jax.ops.segment_sum(message * weights, graph.receivers, n_nodes)
        names = ["node_node", "node_edges", *["node_state"] * later]
        update = dense(step, names, [nodes, gathered, *[state[graph.nodes.graphs]] * later])
        names = ["state_nodes", "state_edges", *["state_state"] * later]
        summary = dense(step, names, [mean(update), mean(gathered), *[state] * later])
        edges = edges + message if later else message
        nodes, state = nodes + update, state + summary
    out = state @ params["readout"]["kernel"] + params["readout"]["bias"]
    return out[:, 0] * statistics["scale"] + statistics["shift"]


def wide_members(n: int) -> tuple[list[dict], list[MemberRecord]]:
    """n members of width 256 with random parameters: their cost is that of trained ones."""
    hydrogen = Crystal(np.eye(3) * 3.0, np.zeros((1, 3)), np.ones(1, np.uint8))
    _, one = next(batches(structural_graphs([hydrogen]), np.zeros(1, int), np.ones(1)))
    network = StructuralGNN(WIDE)
    # Random parameters give energies ten times those of crystals; what single precision rounds grows with them.
    statistics = {"mean_adjacency": np.float32(15), "shift": np.float32(-1), "scale": np.float32(0.1)}
    members = [
        {"params": jax.jit(network.init)(jax.random.key(k), one)["params"], "statistics": statistics} for k in range(n)
    ]
    record = {"model": "structural", "config": WIDE.model_dump(), "seed": 0, "elements": [1], "training": {}}
    record |= {name: float(value) for name, value in statistics.items()}
    record |= {"n_train": 0, "n_val": 0, "train_mae": 0.0, "val_mae": None, "epochs": 0}
    return members, [MemberRecord(member=k, **record) for k in range(n)]


def forward_cost(crystals: list[Crystal], n_members: int) -> tuple[dict, np.ndarray]:
    """(CPU ms of one evaluation (a member, a volume, a crystal), ours and the baselines'; differences, eV/atom).

    Our graphs take edges whose lengths differ by less than their tolerance as equal; the baselines' do not.
    """
    variables, records = wide_members(n_members)
    model = EnsembleModel(variables, records)
    factors = np.array(VOLUME_FACTORS)
    n = len(crystals) * len(factors) * n_members
    items = np.repeat(np.arange(len(crystals)), len(factors))
    volumes = np.tile(factors, len(crystals))

    def ours() -> np.ndarray:
        return model.energies(structural_graphs(crystals), items, volumes)

    plain = structural_graphs(crystals, tolerance=-1.0)
    largest = [int(plain.n_nodes.max()) + 1, int(np.diff(plain.edge_offsets).max())]
    single = Bucket(largest[0], 128 * -(-largest[1] // 128), 2)
    loop_energies = jax.jit(plain_energies)

    def loop() -> np.ndarray:
        found = np.empty((len(items), n_members))
        for part, batch in batches(plain, items, volumes, ladder=(single,), packing=single):
            for column, member in enumerate(variables):
                found[part, column] = np.asarray(loop_energies(member, batch))[:1]
        return found

    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *variables)
    vmapped = jax.jit(jax.vmap(plain_energies, in_axes=(0, None)))
    packed = Bucket(2_048, 32_768, 256)

    def vmap_batches() -> np.ndarray:
        found = np.empty((len(items), n_members))
        for part, batch in batches(plain, items, volumes, ladder=(packed,), packing=packed):
            found[part] = np.asarray(vmapped(stacked, batch)).T[: part.stop - part.start]
        return found

    cost, answers = {}, {}
    for name, call in (("ours", ours), ("padded loop", loop), ("vmapped batch", vmap_batches)):
        call()  # compiles
        answers[name], seconds = cpu_seconds(call, repeats=2)
        cost[name] = 1000 * seconds / n
    off = np.abs(answers["padded loop"] - answers["ours"]).ravel()
    if max(off.max(), np.abs(answers["vmapped batch"] - answers["ours"]).max()) > 1e-4:
        sys.exit(f"energies of the baselines differ from ours by up to {off.max():.2g} eV/atom")
    return cost, off


def graph_rate(crystals: list[Crystal]) -> tuple[float, float]:
    """(graphs a CPU second, mean atoms) of cells of 8 to 12 atoms."""
    some = [crystal for crystal in crystals if 8 <= crystal.n_sites <= 12]
    some = (some * (1_000 // max(len(some), 1) + 1))[:1_000]
    _, seconds = cpu_seconds(partial(structural_graphs, some), repeats=3)
    return len(some) / seconds, float(np.mean([crystal.n_sites for crystal in some]))


def cascade(crystals: list[Crystal], e_hull: np.ndarray, refine: int, members: list[Path]) -> dict:
    """The cascade against the full filter."""
    model = EnsembleModel.load(members)
    whole, full_seconds = cpu_seconds(lambda: model.predict(crystals, over_volumes="median"))
    within = whole.median - e_hull <= THRESHOLD
    config = CascadeConfig(refine=refine)
    found, seconds = cpu_seconds(lambda: screen(model, crystals, e_hull, THRESHOLD, config))
    # What is refined: the lowest that passed; the others keep the screen's energy.
    lowest = np.argsort(np.where(found.passed, found.median - e_hull, np.inf), kind="stable")[:refine]
    lowest = lowest[found.passed[lowest]]
    refined, more = cpu_seconds(lambda: model.predict([crystals[row] for row in lowest], over_volumes="median"))
    full = model.n_members * len(VOLUME_FACTORS)
    evaluations = found.evaluations.sum() + len(lowest) * full
    best = np.argsort(whole.median - e_hull, kind="stable")[: refine // 5]
    assert np.abs(refined.median - whole.median[lowest]).max() < 1e-5
    return {
        "candidates": len(crystals),
        "members": model.n_members,
        "survivors": float(within.mean()),
        "recall": float((within & found.passed).sum() / within.sum()),
        "recall_of_chosen": float(np.isin(best, lowest).mean()),
        "evaluations": float(evaluations / len(crystals)),
        "full_evaluations": full,
        "fewer": float(full * len(crystals) / evaluations),
        "faster": float(full_seconds / (seconds + more)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2,000 candidates instead of 20,000, fewer evaluations")
    parser.add_argument("--members", type=Path, metavar="OUT", help="folder that `gnome train` made")
    options = parser.parse_args()
    quick = options.quick
    members = members_in(options.members) if options.members else pretrained_members("structural")
    warnings.simplefilter("ignore")
    crystals, e_hull = candidates(2_000 if quick else 20_000)
    rate, atoms = graph_rate(crystals)
    sample = crystals[:: len(crystals) // (6 if quick else 24)][: 6 if quick else 24]
    cost, off = forward_cost(sample, 2 if quick else 10)
    found = cascade(crystals, e_hull, 50 if quick else 500, members)
    print(f"forward evaluation at width {WIDE.width}, {np.mean([c.n_sites for c in sample]):.1f} atoms a cell")
    for name, milliseconds in cost.items():
        print(f"  {name:14}{milliseconds:8.3f} CPU ms{milliseconds / cost['ours']:8.2f} times ours")
    print(f"  energies: {(off <= 1e-5).mean():.2%} equal to 1e-5 eV/atom, at most {off.max():.1e} apart")
    print(f"graphs of {atoms:.1f} atoms: {rate:,.0f} a CPU second")
    print(
        f"cascade on {found['candidates']:,} candidates, {found['survivors']:.0%} of them within the threshold:\n"
        f"  {found['evaluations']:.1f} of {found['full_evaluations']} evaluations a candidate, "
        f"{found['fewer']:.1f} times fewer, {found['faster']:.1f} times faster;\n"
        f"  recall {found['recall']:.2%}; of the lowest fifth of what is refined {found['recall_of_chosen']:.0%}"
    )
    print(
        json.dumps(
            {
                "benchmark": "filter",
                "loop_ratio": round(cost["padded loop"] / cost["ours"], 2),
                "vmap_ratio": round(cost["vmapped batch"] / cost["ours"], 2),
                "ours_cpu_ms": round(cost["ours"], 4),
                "equal_to_1e-5": round(float((off <= 1e-5).mean()), 5),
                "largest_difference": float(off.max()),
                "graphs_per_cpu_s": round(rate),
                "cascade": {key: round(value, 4) for key, value in found.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
