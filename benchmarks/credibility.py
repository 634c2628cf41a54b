"""How often two checks of `gnome analyse STORE credibility` doubt what experiment knows.

python benchmarks/credibility.py known_formulas.parquet STRUCTURES.parquet

known_formulas: formula and in_experiment. STRUCTURES: id, lattice, frac_coords, numbers.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.analysis.relatives import KnownSolutions
from gnome_core.compositions.formula_parser import composition_of
from gnome_core.compositions.formulas import composition, reduced_formula
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_from_batch
from gnome_core.errors import GnomeError
from gnome_core.stability.charges import likely_charges, without_nonmetals

FORMULAS, STRUCTURES = 3000, 400  # of each file, drawn with seed 0


def charges_of(formula: str) -> str:
    """What the check of charges says of a formula."""
    try:
        counts = dict(composition_of(formula))
    except GnomeError:
        return "not read"
    if without_nonmetals(counts):
        return "no nonmetal"
    return "passes" if likely_charges(counts) else "refused"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formulas")
    parser.add_argument("structures")
    arguments = parser.parse_args()
    draw = np.random.default_rng(0)

    table = pq.read_table(arguments.formulas)
    made = [
        name for name, there in zip(*(table[c].to_pylist() for c in ("formula", "in_experiment")), strict=True) if there
    ]
    said = Counter(charges_of(made[i]) for i in draw.choice(len(made), FORMULAS, replace=False))
    judged = said["passes"] + said["refused"]
    print(f"{FORMULAS} formulas known to experiment: {dict(said)}; {said['passes'] / judged:.1%} of those judged pass")

    entries = pq.read_table(arguments.structures, columns=["id", "lattice", "frac_coords", "numbers"])
    entries = entries.cast(pa.schema(CRYSTAL_FIELDS))
    known, experiment, flagged, looked = KnownSolutions(entries), set(made), [], 0
    for row in draw.permutation(len(entries)):
        (crystal,) = crystals_from_batch(entries.slice(row, 1))
        counts = dict(composition(crystal.numbers))
        formula = reduced_formula(crystal.numbers)
        if len(counts) < 3 or formula not in experiment:
            continue
        looked += 1
        if parent := known.find(crystal, None if without_nonmetals(counts) else likely_charges(counts)):
            flagged.append(f"{formula} ({parent[0]})")
        if looked == STRUCTURES:
            break
    print(f"{looked} crystals of three elements and more, of formulas known to experiment: {len(flagged)} taken for "
          f"orderings, {len(flagged) / looked:.1%}: {', '.join(flagged)}")  # fmt: skip


if __name__ == "__main__":
    main()
