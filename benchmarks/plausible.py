"""Where crystals of the Materials Project lie, and how many `gnome_core.stability.plausible` refuses.

python benchmarks/plausible.py STRUCTURES.parquet
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
from ase.data import covalent_radii

from gnome_core.crystals.crystal import Crystal, invalid_reason
from gnome_core.graphs.neighbors import pair_lists
from gnome_core.stability.plausible import SIGHT, extreme_volumes, implausible

QUANTILES = (0, 0.01, 0.1, 1, 50, 99, 99.9, 99.99, 100)  # %


def measures(crystal: Crystal) -> tuple[float, float, float, float]:
    """Volume over the largest and the smallest atomic volumes, shortest distance over covalent radii, distance (Å) of
    the loneliest atom from its neighbour."""
    ((first, second, distances),) = pair_lists([crystal], SIGHT)
    radii = covalent_radii[crystal.numbers]
    nearest = np.full(crystal.n_sites, np.inf)
    np.minimum.at(nearest, first, distances)
    np.minimum.at(nearest, second, distances)
    largest, smallest = extreme_volumes()
    shortest = (distances / (radii[first] + radii[second])).min(initial=np.inf)
    return (
        crystal.volume / largest[crystal.numbers].sum(),
        crystal.volume / smallest[crystal.numbers].sum(),
        float(shortest),
        float(nearest.max()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", help="Parquet with id, lattice, numbers, frac_coords, e_form_per_atom")
    table = pq.read_table(parser.parse_args().structures)
    found, refused = [], Counter()
    for row in range(len(table)):
        lattice, frac, numbers, id_, e_form = (
            table[name][row].as_py() for name in ("lattice", "frac_coords", "numbers", "id", "e_form_per_atom")
        )
        crystal = Crystal(np.array(lattice), np.array(frac), numbers)
        found.append((*measures(crystal), e_form))
        if reason := invalid_reason(crystal) or implausible(crystal, e_form):
            refused[reason] += 1
            print(f"{id_}: {reason}, " + ", ".join(f"{value:.3f}" for value in found[-1]))
    names = ("volume / largest", "volume / smallest", "distance / radii", "loneliest", "formation energy")
    for name, values in zip(names, np.array(found).T, strict=True):
        print(f"{name:18}", *(f"{q:g} %: {np.percentile(values, q):.3f}" for q in QUANTILES), sep="  ")
    print(f"refused {refused.total()} of {len(table)} ({refused.total() / len(table):.3%}): {dict(refused)}")


if __name__ == "__main__":
    main()
