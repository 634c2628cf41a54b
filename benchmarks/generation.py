"""Every generator beside the library one would otherwise call: equal answers first, then rates on one thread.

    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/generation.py [--quick] [--structures STRUCTURES.parquet] [--parents N]

Substitution beside pymatgen: compositions found above probability 1e-3 per CPU-second. Substitution and SAPS recipes:
from N parents of the given structures (random ones of at most 16 atoms), or from LiFePO4 and a supercell of BaTiO3.
Oxidation rule beside SMACT: formulas tested per CPU-second, every verdict of the strict rule compared. Random
structures beside PyXtal: cells of 10 atoms in random space groups that they fit, per CPU-second after compilation; each
of ours is checked against its minimum separations by pymatgen's neighbour list. Ends with a line of JSON.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: CPU seconds of one thread
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import argparse
import itertools
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pymatgen.core import Composition, Lattice, Species, Structure
from pymatgen.core.structure_prediction.substitution_probability import SubstitutionPredictor

from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.compositions.packed import parse_formulas
from gnome_core.crystals.crystal import Crystal
from gnome_core.generation.config import GenerationConfig, RandomSearchConfig
from gnome_core.generation.generators import all_shards, expand, get_generator
from gnome_core.generation.oxidation import systems_pass
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.random_search import make_crystals, random_recipes
from gnome_core.generation.recipe import Recipe, recipe_digests, recipe_formulas, recipe_rows
from gnome_core.generation.saps import site_permutations, subset_classes
from gnome_core.generation.separations import spheres
from gnome_core.generation.species import species_model
from gnome_core.generation.substitution import species_substitutions

CASES = ["Na+ Cl-", "Li+ Fe3+ O2-", "Ba2+ La3+ Ti4+ O2-", "K+ Ba2+ Y3+ Si4+ O2-", "K+ Ba2+ Y3+ Si4+ O2- F-"]
GNOME_COUNTS = [215, 374, 677, 862, 884]
BURNSIDE = {
    "BaTiO3 2x2x2, Ti": [1, 3, 3, 6, 3, 3, 1, 1],
    "LiFePO4, Fe": [1, 3, 1, 1],
    "LiFePO4, O": [3, 25, 81, 272, 587, 1103, 1505, 1742, 1505, 1103, 587, 272, 81, 25, 3, 1],
}
THRESHOLD = 1e-3
ALL = tuple(range(1, 99))


def seconds_per_call(call: Callable[[], object], at_least: float) -> float:
    call()
    n, started = 0, time.process_time()
    while (spent := time.process_time() - started) < at_least or n == 0:
        call()
        n += 1
    return spent / n


def substitution(quick: bool) -> list[dict]:
    predictor, model = SubstitutionPredictor(threshold=THRESHOLD), species_model("table", "original")
    rows = []
    for text, gnome_count in zip(CASES, GNOME_COUNTS, strict=True):
        species = [Species.from_str(s) for s in text.split()]
        ions = tuple((s.Z, int(s.oxi_state)) for s in species)
        started = time.process_time()
        predicted = predictor.list_prediction(species, to_this_composition=True)
        peer = time.process_time() - started
        inverted = [{old: new for new, old in found["substitutions"].items()} for found in predicted]
        expected = {tuple((new_of[s].Z, int(new_of[s].oxi_state)) for s in species) for new_of in inverted}
        found, _ = species_substitutions(ions, THRESHOLD, "table", "original", ALL)
        ours = {tuple((int(model.numbers[i]), int(model.charges[i])) for i in row) for row in found}
        assert ours == expected, f"{text}: not pymatgen's set"
        gnome, _ = species_substitutions(ions, THRESHOLD, "table", "gnome", ALL)
        assert len(gnome) == gnome_count, f"{text}: {len(gnome)} with GNoME's scoring, expected {gnome_count}"
        for_s = 0.2 if quick else 1.0
        original = seconds_per_call(lambda: species_substitutions(ions, THRESHOLD, "table", "original", ALL), for_s)  # noqa: B023
        modified = seconds_per_call(lambda: species_substitutions(ions, THRESHOLD, "table", "gnome", ALL), for_s)  # noqa: B023
        rows.append(
            {
                "ions": text,
                "found": len(ours),
                "pymatgen_per_s": round(len(ours) / peer, 1),
                "original_per_s": round(len(ours) / original),
                "ratio": round(peer / original),
                "gnome_found": gnome_count,
                "gnome_per_s": round(gnome_count / modified),
            }
        )
        print(rows[-1], flush=True)
    return rows


def textbook_parents() -> ParentTable:
    perovskite = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(4.0), ["Ba", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    )
    perovskite.make_supercell(2)
    sites = [[0, 0, 0], [0.282, 0.25, 0.975], [0.095, 0.25, 0.418]]
    oxygens = [[0.097, 0.25, 0.743], [0.457, 0.25, 0.206], [0.166, 0.046, 0.285]]
    olivine = Structure.from_spacegroup(
        "Pnma", Lattice.orthorhombic(10.33, 6.01, 4.69), ["Li", "Fe", "P", "O", "O", "O"], sites + oxygens
    )
    crystals = [Crystal(s.lattice.matrix, s.frac_coords, s.atomic_numbers) for s in (perovskite, olivine)]
    return ParentTable.from_crystals(["BaTiO3", "LiFePO4"], crystals)


def check_burnside(parents: ParentTable) -> None:
    for name, expected in BURNSIDE.items():
        formula, ion = name.split(",")
        crystal = parents.crystals[0 if formula.startswith("Ba") else 1]
        sites = np.flatnonzero(crystal.numbers == {"Ti": 22, "Fe": 26, "O": 8}[ion.strip()])
        local = np.searchsorted(sites, site_permutations(crystal)[:, sites])
        counts = [len(level.subsets) for level in subset_classes(local)]
        assert counts == expected, f"{name}: {counts}, Burnside gives {expected}"


def load_parents(path: str, n: int) -> ParentTable:
    table = pq.read_table(path, columns=["id", "lattice", "frac_coords", "numbers", "n_atoms"])
    table = table.filter(pc.less_equal(table.column("n_atoms"), 16))
    return ParentTable.from_entries(table.take(np.random.default_rng(0).permutation(table.num_rows)[:n]))


def parquet_bytes(table: pa.Table) -> int:
    """Bytes of a Parquet file of the table before compression."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    metadata = pq.read_metadata(pa.BufferReader(sink.getvalue()))
    return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))


def recipes(name: str, parents: ParentTable) -> dict:
    config, counts, generator = GenerationConfig(generators=(name,)), Counter(), get_generator(name)
    started = time.process_time()
    batches = [b for s in all_shards(parents, config) for b in generator.recipes(s, parents, config, counts)]
    spent = time.process_time() - started
    table = pa.Table.from_batches(batches)
    started = time.process_time()
    digests = {digest for batch in batches for digest in recipe_digests(batch, parents)}
    digest_s = time.process_time() - started
    assert len(digests) == table.num_rows, "two recipes are equal"
    sample = table.take(np.random.default_rng(0).permutation(table.num_rows)[:20_000])
    started = time.process_time()
    recipe_formulas(sample, parents)
    formula_s = time.process_time() - started
    few = sample.slice(0, 5000)
    started = time.process_time()
    expand(few, parents)
    expand_s = time.process_time() - started
    row = {
        "parents": len(parents),
        "counts": dict(counts),
        "recipes_per_s": round(table.num_rows / spent),
        "parquet_bytes_per_recipe": round(parquet_bytes(table) / table.num_rows, 1),
        "digests_per_s": round(table.num_rows / digest_s),
        "formulas_per_s": round(sample.num_rows / formula_s),
        "crystals_per_s": round(few.num_rows / expand_s),
    }
    print(name, row, flush=True)
    return row


def oxidation(quick: bool) -> dict:
    """Random ternaries, ratios to 8, against smact_filter on the states of 2014."""
    import smact
    from smact.screening import smact_filter

    rng = np.random.default_rng(0)
    with_states = [z for z in range(1, 95) if smact.Element(SYMBOLS[z]).oxidation_states_smact14]
    systems = np.array([np.sort(rng.choice(with_states, 3, replace=False)) for _ in range(40 if quick else 300)])
    ratios = np.array([c for c in itertools.product(range(1, 9), repeat=3) if np.gcd.reduce(c) == 1])
    elements = [[smact.Element(SYMBOLS[z]) for z in system] for system in systems]
    started = time.process_time()
    allowed = [
        {ratio for _, ratio in smact_filter(e, threshold=8, species_unique=False, oxidation_states_set="smact14")}
        for e in elements
    ]
    peer = time.process_time() - started
    passed = systems_pass(systems, ratios, "strict")
    for system, row, expected in zip(systems, passed, allowed, strict=True):
        found = {tuple(ratio) for ratio in ratios[row].tolist()}
        assert found == expected, f"{[SYMBOLS[z] for z in system]}: not SMACT's formulas"
    rates = {}
    for rule in ("strict", "ordered", "relaxed"):
        seconds = seconds_per_call(lambda: systems_pass(systems, ratios, rule), 0.2 if quick else 1.0)  # noqa: B023
        rates[rule] = round(passed.size / seconds)
    row = {
        "tests_compared": passed.size,
        "smact_tests_per_s": round(passed.size / peer),
        **{f"{rule}_tests_per_s": rate for rule, rate in rates.items()},
        **{f"{rule}_ratio": round(rate * peer / passed.size) for rule, rate in rates.items()},
        "shares": {rule: round(float(systems_pass(systems, ratios, rule).mean()), 3) for rule in rates},
    }
    print("oxidation", row, flush=True)
    return row


TEN_ATOMS = ["Li3V2O5", "K3AlF6", "Li2MnSi2O5", "Al7Cu3"]


def random_structures(quick: bool) -> dict:
    from pyxtal import pyxtal
    from pyxtal.symmetry import Group

    made = failed = 0
    rng = np.random.default_rng(0)
    started = time.process_time()
    while (peer := time.process_time() - started) < (8 if quick else 60):
        atoms = Composition(TEN_ATOMS[made % len(TEN_ATOMS)]).get_el_amt_dict()
        number = int(rng.integers(1, 231))
        if not Group(number).check_compatible([int(n) for n in atoms.values()])[0]:
            continue
        crystal = pyxtal()
        try:
            counts = [int(n) for n in atoms.values()]
            crystal.from_random(3, number, list(atoms), counts, random_state=int(rng.integers(1 << 30)))
        except Exception:
            crystal.valid = False
        made, failed = made + bool(crystal.valid), failed + (not crystal.valid)

    packed = parse_formulas(TEN_ATOMS)
    settings = {"max_formula_units": 1, "max_operations": 48, "structures": 100 if quick else 1000}
    warm = random_recipes(packed, RandomSearchConfig(**{**settings, "structures": 60}), 1)
    make_crystals(recipe_rows(warm))
    started = time.process_time()
    recipes = recipe_rows(random_recipes(packed, RandomSearchConfig(**settings), 0))
    crystals = make_crystals(recipes)
    ours = time.process_time() - started
    done = [(recipe, crystal) for recipe, crystal in zip(recipes, crystals, strict=True) if crystal is not None]
    assert all(crystal.n_sites == 10 for _, crystal in done)
    closest = min(margin(recipe, crystal) for recipe, crystal in (done[::10] if quick else done))
    assert closest >= 1, f"two atoms at {closest:.4f} of their minimum separation"
    row = {
        "pyxtal_per_s": round(made / peer, 2),
        "pyxtal_failed": failed,
        "per_s": round(len(done) / ours),
        "failed_share": round(1 - len(done) / len(recipes), 4),
        "ratio": round(len(done) / ours * peer / made, 1),
        "closest_over_minimum": round(closest, 4),
    }
    print("random structures", row, flush=True)
    return row


def margin(recipe: Recipe, crystal: Crystal) -> float:
    """The smallest ratio of a distance to the minimum separation of its two elements."""
    model = spheres(tuple(recipe.atoms.items()))
    allowed = recipe.volume_factor ** (1 / 3) * model.separations
    structure = Structure(Lattice(crystal.lattice), crystal.numbers.tolist(), crystal.frac_coords)
    first, second, _, distance = structure.get_neighbor_list(2 * float(allowed.max()))
    rank = np.searchsorted(model.numbers, crystal.numbers)
    return float((distance / allowed[rank[first], rank[second]]).min())


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--structures", help="Parquet with columns id, lattice, frac_coords, numbers, n_atoms")
    parser.add_argument("--parents", type=int, default=300)
    arguments = parser.parse_args()

    result: dict = {"benchmark": "generation", "substitution": substitution(arguments.quick)}
    textbook = textbook_parents()
    check_burnside(textbook)
    result["burnside"] = "equal"
    parents = load_parents(arguments.structures, arguments.parents) if arguments.structures else textbook
    for name in ("substitution", "saps"):
        result[name + "_recipes"] = recipes(name, parents)
    result["oxidation"] = oxidation(arguments.quick)
    result["random_structures"] = random_structures(arguments.quick)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
