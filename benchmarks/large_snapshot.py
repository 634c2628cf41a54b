"""Snapshots of a million labelled entries, by the commands that a user types: CPU and wall seconds and peak memory.

    python benchmarks/large_snapshot.py [--entries 300000 1000000] [--quick] [--store DIR]

Entries are crystals of the embedded snapshot under other elements: each element of a crystal becomes one of its kin (a
group of the periodic table, the lanthanides, the late transition metals ...) at the volume of its atoms, with the
formation energy of the crystal it was made of and noise of 50 meV/atom, never below it. Then `gnome init` on the file,
whose energies are on the evaluator's scale: hull, references and two members; and a round up to its choice: some
million recipes, of which 20,000 are scored. Each stage is told as the store's commits have it; counts in are counts
out. Ends with a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from growth import GNOME

from gnome_core.compositions.formulas import NUMBERS, chemsys, reduced_formula
from gnome_core.crystals.arrow import ENTRY_SCHEMA, as_entries, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import elemental_entries, embedded_entries
from gnome_core.generation.volume import atomic_volumes
from pipelines.evaluation.relaxing import shipped_references
from pipelines.store.store import Store

KIN = (
    "Li Na K Rb Cs",
    "Be Mg Ca Sr Ba",
    "Sc Y La Ce Pr Nd Sm Gd Tb Dy Ho Er Tm Lu",
    "Ti Zr Hf V Nb Ta Cr Mo W",
    "Mn Fe Co Ni Cu Zn",
    "Ru Rh Pd Os Ir Pt Ag Au",
    "B Al Ga In Tl",
    "C Si Ge Sn Pb",
    "N P As Sb Bi",
    "O S Se Te",
    "F Cl Br I",
)
NOISE = 0.05  # eV/atom
MAX_SITES = 12
SETTINGS = """
[generation]
max_sites = 24
max_recipes_per_parent = {recipes}
[scoring]
members = 2
max_candidates = {candidates}
[training]
fine_tune_epochs = 1
replay = {replay}
"""


def entries(n: int, seed: int = 0) -> pa.Table:
    """n entries (ENTRY_SCHEMA), the elements among them, of distinct formulas and cells by chance."""
    rng = np.random.default_rng(seed)
    elements = elemental_entries()
    known = embedded_entries()
    crystals, e_form = crystals_from_batch(known), known["e_form_per_atom"].to_numpy()
    compounds = [
        i for i, crystal in enumerate(crystals) if len(np.unique(crystal.numbers)) > 1 and crystal.n_sites <= 12
    ]
    references = shipped_references(elements["scale"][0].as_py())
    assert references is not None
    kin = np.tile(np.arange(256), (256, 1)).tolist()
    for family in KIN:
        for symbol in family.split():
            kin[NUMBERS[symbol]] = [NUMBERS[other] for other in family.split() if NUMBERS[other] in references.energies]
    volumes = atomic_volumes()[0]
    made: list[Crystal] = []
    origins = np.empty(n - len(elements), int)
    while len(made) < len(origins):
        index = compounds[rng.integers(len(compounds))]
        crystal = crystals[index]
        found, inverse = np.unique(crystal.numbers, return_inverse=True)
        others = [int(rng.choice(kin[z])) if len(kin[z]) < 256 else int(z) for z in found]
        if len(set(others)) < len(others):
            continue
        numbers = np.array(others, np.uint8)[inverse]
        ratio = sum(volumes[z] for z in numbers) / sum(volumes[z] for z in crystal.numbers)
        origins[len(made)] = index
        made.append(Crystal(crystal.lattice * ratio ** (1 / 3), crystal.frac_coords, numbers))
    e_form = e_form[origins] + np.abs(rng.normal(scale=NOISE, size=len(origins)))
    numbers = [crystal.numbers for crystal in made]
    base = np.array([np.mean([references.energies[int(z)] for z in own]) for own in numbers])
    names = {"formula": list(map(reduced_formula, numbers)), "chemsys": list(map(chemsys, numbers))}
    fixed = {
        "correction_per_atom": 0.0,
        "energy_kind": "total",
        "scale": references.scale,
        "source": "made",
        "round": 0,
    }
    ids = [f"made-{i}" for i in range(len(made))]
    batch = record_batch(
        ENTRY_SCHEMA, ids, made, energy_per_atom=base + e_form, e_form_per_atom=e_form, **names, **fixed
    )
    return pa.concat_tables([as_entries(elements), pa.Table.from_batches([batch])])


def run(*arguments: str) -> dict[str, float]:
    """What one command took. Peak memory is the largest of any process so far."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([*GNOME, *arguments], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "cpu_s": round(cpu, 1),
        "wall_s": round(time.monotonic() - began, 1),
        "peak_mib": round(after.ru_maxrss / 1024),
    }


def stages(store: Store, round_: int) -> dict[str, dict]:
    """Counts of the stages that a round has committed; none of their rows is lost."""
    found = {}
    for stage in ("snapshot", "hull", "train", "generate", "score", "select"):
        if (commit := store.commit(round_, stage)) is not None:
            commit.counts.check(stage)
            found[stage] = {"in": commit.counts.n_in, "out": commit.counts.n_out}
    return found


def measure(n: int, folder: Path, quick: bool) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    snapshot, settings, root = folder / f"{n}.parquet", folder / f"{n}.toml", folder / f"store-{n}"
    if not snapshot.exists():
        pq.write_table(entries(n), snapshot)
    settings.write_text(
        SETTINGS.format(
            recipes=4 if n > 300_000 else 20, candidates=500 if quick else 20_000, replay=500 if quick else 5_000
        )
    )
    took = {"entries": n, "init": run("init", str(root), "--snapshot", str(snapshot), "--config", str(settings))}
    took["propose"] = run("round", "propose", str(root))
    store = Store(str(root))
    took["stages"] = {**stages(store, 0), **stages(store, 1)}
    assert took["stages"]["snapshot"]["out"] == n, "the snapshot lost entries"
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, nargs="+", default=[300_000, 1_000_000])
    parser.add_argument("--quick", action="store_true", help="3,000 entries, under a minute")
    parser.add_argument("--store", type=Path, help="folder that is kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.store or Path(temporary)
        sizes = [3_000] if arguments.quick else arguments.entries
        rows = [measure(n, folder, arguments.quick) for n in sizes]
    print(json.dumps({"benchmark": "large_snapshot", "sizes": rows}))


if __name__ == "__main__":
    main()
