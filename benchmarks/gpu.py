"""What an accelerator does in a second: training, filter, potential, relaxations; under eight minutes.

    python benchmarks/gpu.py            # on whatever JAX finds; `pip install -e '.[cuda]'` for NVIDIA
    python benchmarks/gpu.py --quick    # small networks, a minute on a CPU

Wall times after compiling, at the sizes of GNoME's networks (Nature 624, 80, 2023, Methods):

1. crystals and compositions trained on a second, one member of 256 features, from one epoch's end to the next;
2. one step of dynamics and one of training by the NequIP network of 16.24 million parameters on 50 atoms (the paper:
   14 ms of dynamics on an A100);
3. evaluations of the shipped ensemble on candidates at 20 volumes;
4. relaxations by the embedded evaluator of the shipped evaluated candidates, as they were proposed.

Ends with a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from potential import ours, rattled_cell

from gnome_core.compositions.dense import atom_counts
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import evaluated_entries
from gnome_core.ensembles.ensemble import VOLUME_FACTORS, EnsembleModel
from gnome_core.graphs.featurize import compositional_graphs, structural_graphs
from gnome_core.models.config import PAPER_NEQUIP, NequIPConfig
from gnome_core.models.shipped import Framework, pretrained_members
from gnome_core.potentials.by_name import make_potential
from gnome_core.potentials.config import RelaxConfig
from gnome_core.potentials.memory import keep_freed_memory
from gnome_core.potentials.relax import Relaxation, relax
from gnome_core.training.members.loop import train_members
from pipelines.rounds.config import RoundConfig, load_config

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = NequIPConfig(layers=2, hidden_irreps="8x0e+8x1e")


def training_rate(framework: Framework, config: RoundConfig, crystals: list[Crystal], e_form: np.ndarray) -> float:
    """Rows a second of one member, from the end of the first epoch to that of the third."""
    _, model, training = config.ensemble_of(framework)
    counts = atom_counts([crystal.numbers for crystal in crystals])
    graphs = structural_graphs(crystals, model.cutoff) if framework == "structural" else compositional_graphs(counts)
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train_members(
            graphs,
            e_form,
            np.ones(len(crystals), bool),
            members=[0],
            seed=0,
            out_dir=folder,
            model=model,
            training=training.model_copy(update={"epochs": 3}),
            progress=lambda member, row: ends.append(time.perf_counter()),
        )
    return 2 * len(crystals) / (ends[2] - ends[0])


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """The median wall time of a call, compiled before."""
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return 1e3 * float(np.median(times))


def filter_rate(crystals: list[Crystal]) -> float:
    """Evaluations of members a second, graphs and packing included."""
    model = EnsembleModel.load(pretrained_members("structural"))
    model.warm_up()
    model.predict(crystals[:2])
    began = time.perf_counter()
    model.predict(crystals)
    return len(crystals) * len(VOLUME_FACTORS) * model.n_members / (time.perf_counter() - began)


def relaxation_rate(crystals: list[Crystal], max_steps: int) -> dict[str, float]:
    potential, config = make_potential("chgnet"), RelaxConfig(max_steps=max_steps)
    relax(crystals, potential, config)  # compiles the shapes of a relaxation's end as well
    began = time.perf_counter()
    found = relax(crystals, potential, config)
    seconds = time.perf_counter() - began
    return {
        "relaxations_per_s": len(found) / seconds,
        "evaluations_per_s": sum(len(one.frames) for one in found) / seconds,
        "converged": sum(isinstance(one, Relaxation) for one in found) / len(found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small networks and few crystals, under a minute")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    keep_freed_memory()
    device = jax.devices()[0]
    table = evaluated_entries()
    chosen = table.take(np.random.default_rng(0).permutation(len(table)))
    crystals, e_form = list(crystals_from_batch(chosen)), chosen["e_form_per_atom"].to_numpy()
    n_train, n_filter, n_relaxed = (48, 24, 4) if quick else (len(crystals), 2_000, 256)
    found: dict = {"benchmark": "gpu", "device": device.device_kind, "platform": device.platform, "quick": quick}
    for framework in ("structural", "compositional"):
        config = load_config(str(CONFIGS / f"{framework}-paper.toml"))
        if quick:
            config = RoundConfig.model_validate(
                {**config.document(), "model": {"width": 16}, "compositional": {"model": {"width": 16}}}
            )
        rate = training_rate(framework, config, crystals[:n_train], e_form[:n_train])
        found[f"{framework}_rows_per_s"] = round(rate, 1)
        print(f"{framework} member: {rate:,.0f} rows trained on a second", flush=True)
    contender = ours(SMALL if quick else PAPER_NEQUIP, rattled_cell(50))
    found["potential_parameters"] = contender.parameters
    for name, call in (("dynamics", contender.energy_and_forces), ("training", contender.train)):
        found[f"{name}_ms"] = round(milliseconds(call, 3 if quick else 50), 3)
        print(f"{contender.parameters:,} parameters, 50 atoms: {found[f'{name}_ms']} ms a step of {name}", flush=True)
    found["filter_evaluations_per_s"] = round(filter_rate(crystals[:n_filter]), 1)
    print(f"filter: {found['filter_evaluations_per_s']:,.0f} evaluations a second", flush=True)
    rates = relaxation_rate(crystals[:n_relaxed], 5 if quick else 150)
    found |= {name: round(rate, 3) for name, rate in rates.items()}
    print(f"relaxations: {rates['relaxations_per_s']:.2f} a second, {rates['evaluations_per_s']:.1f} evaluations")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
