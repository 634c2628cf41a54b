"""Duplicate clusters of one composition: our clustering beside pymatgen's StructureMatcher, one thread, CPU seconds.

The peer fits all pairs with StructureMatcher() and takes connected components; a ratio is printed only when both give
the same partition. Real sets: Materials Project crystals of one anonymous formula (../shared/data), all turned into
one composition as ionic substitution would, shuffled. Random sets: 20 random structures in five slightly strained
and displaced copies each. Ends with one line of JSON.

    python benchmarks/clustering.py [--quick]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from pymatgen.core.structure_matcher import StructureMatcher

from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.clusters import cluster_structures

MP_STRUCTURES = Path(__file__).parents[1].parent / "shared" / "data" / "mp_structures.parquet"
ELEMENTS = (22, 12, 8, 17, 38)  # Ti, Mg, O, Cl, Sr: what the elements of an anonymous formula become, in its order
MAX_SITES = 24


def real_sets(n: int, n_sets: int) -> Iterator[tuple[str, list[Crystal]]]:
    """(anonymous formula, n crystals) of the formulas that most crystals have."""
    rows = pq.read_table(MP_STRUCTURES, columns=["lattice", "frac_coords", "numbers", "n_atoms"]).to_pylist()
    by_formula = defaultdict(list)
    for row in rows:
        if row["n_atoms"] <= MAX_SITES:
            counts = Counter(row["numbers"])
            divisor = np.gcd.reduce(list(counts.values()))
            by_formula[tuple(sorted(count // divisor for count in counts.values()))].append(row)
    largest = sorted(by_formula, key=lambda key: -len(by_formula[key]))
    for key in [key for key in largest if 2 <= len(key) <= len(ELEMENTS)][:n_sets]:
        rng = np.random.default_rng(sum(key))
        chosen = rng.permutation(len(by_formula[key]))[:n]
        crystals = []
        for row in (by_formula[key][i] for i in chosen):
            counts = Counter(row["numbers"])
            new = dict(zip(sorted(counts, key=lambda z: (counts[z], z)), ELEMENTS, strict=False))
            crystals.append(Crystal(row["lattice"], row["frac_coords"], [new[z] for z in row["numbers"]]))
        yield "".join(f"{letter}{count}" for letter, count in zip("ABCDE", key, strict=False)), crystals


def random_sets(n: int, n_sets: int) -> Iterator[tuple[str, list[Crystal]]]:
    """(name, n crystals) of 2 to 20 sites."""
    contents = ([22, 8], [22, 8, 8], [22] * 2 + [8] * 4, [38, 22] * 2 + [8] * 6, [22] * 6 + [8] * 14)
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        numbers = np.array(contents[seed % len(contents)])
        crystals = []
        for _ in range(n // 5):
            lattice = np.eye(3) * np.cbrt(len(numbers)) * 2.4 + rng.normal(0, 0.5, (3, 3))
            frac = rng.random((len(numbers), 3))
            for _ in range(5):
                strained = lattice @ (np.eye(3) + rng.normal(0, 0.015, (3, 3)))
                moved = frac + rng.normal(0, rng.uniform(0.02, 0.3), frac.shape) @ np.linalg.inv(strained)
                order = rng.permutation(len(numbers))
                crystals.append(Crystal(strained, moved[order] + rng.random(3), numbers[order]))
        order = rng.permutation(len(crystals))
        yield f"random-{seed} ({len(numbers)} sites)", [crystals[i] for i in order]


def all_pairs(crystals: list[Crystal]) -> list[int]:
    """Cluster of each crystal: connected components of every pairwise fit."""
    matcher = StructureMatcher()
    structures = [to_structure(crystal) for crystal in crystals]
    cluster = list(range(len(crystals)))
    for i, j in combinations(range(len(crystals)), 2):
        if matcher.fit(structures[i], structures[j]):
            cluster = [cluster[i] if c == cluster[j] else c for c in cluster]
    return cluster


def partition(labels) -> set[frozenset[int]]:
    members = defaultdict(set)
    for position, label in enumerate(labels):
        members[label].add(position)
    return set(map(frozenset, members.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="six sets of 40 crystals instead of thirty-two of 100")
    quick = parser.parse_args().quick
    warnings.filterwarnings("ignore")
    n, n_sets = (40, 3) if quick else (100, 16)
    sets = [*(real_sets(n, n_sets) if MP_STRUCTURES.exists() else ()), *random_sets(n, n_sets)]
    cluster_structures(sets[0][1][:2], np.zeros(2))  # imports
    print(f"{'set':>24}{'crystals':>10}{'clusters':>10}{'pymatgen s':>12}{'ours s':>9}{'ratio':>8}")
    times = []
    for name, crystals in sets:
        start = time.process_time()
        ours = cluster_structures(crystals, np.zeros(len(crystals)))
        middle = time.process_time()
        theirs = all_pairs(crystals)
        end = time.process_time()
        if partition(ours.tolist()) != partition(theirs):
            raise SystemExit(f"{name}: the partitions differ")
        times.append((end - middle, middle - start))
        ratio = times[-1][0] / times[-1][1]
        clusters = len(set(ours.tolist()))
        print(
            f"{name:>24}{len(crystals):10}{clusters:10}{times[-1][0]:12.2f}{times[-1][1]:9.3f}{ratio:8.1f}", flush=True
        )
    theirs, ours = np.array(times).T
    ratios = {
        "total": round(float(theirs.sum() / ours.sum()), 1),
        "median": round(float(np.median(theirs / ours)), 1),
        "lowest": round(float((theirs / ours).min()), 1),
    }
    print(f"{len(sets)} sets, equal partitions; all together x{ratios['total']}, lowest x{ratios['lowest']}")
    print(json.dumps({"benchmark": "clustering", "against": "pymatgen", "sets": len(sets), "ratios": ratios}))


if __name__ == "__main__":
    main()
