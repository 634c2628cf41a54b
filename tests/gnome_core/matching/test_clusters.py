from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.core.structure_matcher import StructureMatcher

from gnome_core.crystals.crystal import Crystal
from gnome_core.matching.clusters import cluster_structures, distinct_structures, representatives
from gnome_core.matching.novelty import KnownStructures

MP_STRUCTURES = Path(__file__).parents[4] / "shared" / "data" / "mp_structures.parquet"

ROCKSALT = Crystal(np.eye(3) * 4.2, [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]] * 2, [12] * 4 + [8] * 4)
ROCKSALT = Crystal(
    ROCKSALT.lattice, ROCKSALT.frac_coords + np.repeat([[0.0] * 3, [0.5] * 3], 4, axis=0), ROCKSALT.numbers
)
CESIUM_CHLORIDE = Crystal(np.eye(3) * 2.7, [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8])
PRIMITIVE_ROCKSALT = Crystal((np.ones((3, 3)) - np.eye(3)) * 2.3, [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8])


def all_pairs(crystals: list[Crystal]) -> set[frozenset[int]]:
    """Connected components of every pairwise fit, the slow way."""
    matcher = StructureMatcher()
    structures = [Structure(Lattice(c.lattice), c.numbers.tolist(), c.frac_coords) for c in crystals]
    cluster = list(range(len(crystals)))
    for i, j in combinations(range(len(crystals)), 2):
        if matcher.fit(structures[i], structures[j]):
            cluster = [cluster[i] if c == cluster[j] else c for c in cluster]
    return partition(cluster)


def partition(labels) -> set[frozenset[int]]:
    return {frozenset(i for i, other in enumerate(labels) if other == label) for label in labels}


def rattled(crystal: Crystal, rng: np.random.Generator, size: float) -> Crystal:
    """Another cell of about the same structure: sites permuted, atoms and cell disturbed, rotated axes."""
    order = rng.permutation(crystal.n_sites)
    lattice = crystal.lattice @ (np.eye(3) + rng.normal(0, 0.01, (3, 3)))
    frac = crystal.frac_coords[order] + rng.normal(0, size, (crystal.n_sites, 3)) @ np.linalg.inv(lattice)
    return Crystal(lattice[[1, 2, 0]], frac[:, [1, 2, 0]], crystal.numbers[order])


@pytest.mark.skipif(not MP_STRUCTURES.exists(), reason="../shared/data is not here")
@pytest.mark.parametrize("formula", ["O2Si1", "O2Zr1", "Bi1F1O1", "S1Zn1", "C1Si1"])
def test_partition_equals_all_pairs_on_polymorphs(formula):
    table = pq.read_table(MP_STRUCTURES, columns=["formula", "n_atoms", "lattice", "frac_coords", "numbers"])
    wanted = pc.and_(pc.equal(table["formula"], formula), pc.less(table["n_atoms"], 13))
    rng = np.random.default_rng(0)
    crystals = [Crystal(r["lattice"], r["frac_coords"], r["numbers"]) for r in table.filter(wanted).to_pylist()[:8]]
    crystals += [rattled(crystal, rng, 0.15) for crystal in crystals[:4]]
    labels = cluster_structures(crystals, rng.normal(size=len(crystals)))
    assert partition(labels) == all_pairs(crystals)


def test_partition_equals_all_pairs_on_random_structures():
    """Strongly rattled copies: some still match, some only through others, some not."""
    rng = np.random.default_rng(3)
    base = Crystal(np.diag([5.0, 6.0, 7.0]), rng.random((6, 3)), [22, 22, 8, 8, 8, 8])
    other = Crystal(np.diag([5.5, 5.5, 7.0]), rng.random((6, 3)), base.numbers)
    crystals = [rattled(c, rng, size) for c in (base, other) for size in (0.0, 0.1, 0.3, 0.5, 0.6, 0.7)]
    labels = cluster_structures(crystals, np.zeros(len(crystals)))
    assert 1 < len(set(labels.tolist())) < len(crystals)
    assert partition(labels) == all_pairs(crystals)


def test_labels_follow_energy_and_representatives_are_lowest():
    crystals = [CESIUM_CHLORIDE, ROCKSALT, PRIMITIVE_ROCKSALT, CESIUM_CHLORIDE.scaled_to_volume(22.0)]
    energies = np.array([-1.0, -2.0, -2.5, -1.5])
    labels = cluster_structures(crystals, energies)
    assert labels.tolist() == [1, 0, 0, 1]
    assert representatives(labels, energies).tolist() == [2, 3]
    assert representatives(labels, np.zeros(4)).tolist() == [1, 0]


def test_other_compositions_are_other_clusters():
    calcium = Crystal(ROCKSALT.lattice, ROCKSALT.frac_coords, [20] * 4 + [8] * 4)
    assert cluster_structures([ROCKSALT, calcium, ROCKSALT], np.zeros(3)).tolist() == [0, 1, 0]
    assert cluster_structures([], np.zeros(0)).tolist() == []


def test_energies_must_be_finite_and_complete():
    with pytest.raises(ValueError, match="crystal 1"):
        cluster_structures([ROCKSALT, ROCKSALT], np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="2 crystals but 1"):
        cluster_structures([ROCKSALT, ROCKSALT], np.zeros(1))


def test_known_structures_finds_the_first_match():
    known = KnownStructures([CESIUM_CHLORIDE, PRIMITIVE_ROCKSALT])
    assert known.find(ROCKSALT) == 1
    assert known.find(CESIUM_CHLORIDE.scaled_to_volume(25.0)) == 0
    assert known.find(Crystal(np.diag([3.0, 3.0, 5.5]), CESIUM_CHLORIDE.frac_coords, [12, 8])) is None
    assert KnownStructures([]).find(ROCKSALT) is None


def test_distinct_structures_are_numbered_by_their_first_and_held_ones_left_out():
    rng = np.random.default_rng(3)
    crystals = [CESIUM_CHLORIDE, ROCKSALT, rattled(CESIUM_CHLORIDE, rng, 0.02), PRIMITIVE_ROCKSALT]
    assert distinct_structures(crystals).tolist() == [0, 1, 0, 1]
    assert distinct_structures(crystals, [rattled(ROCKSALT, rng, 0.02)]).tolist() == [0, -1, 0, -1]
    assert distinct_structures(crystals, [CESIUM_CHLORIDE, ROCKSALT]).tolist() == [-1] * 4
    assert distinct_structures([], [CESIUM_CHLORIDE]).tolist() == []
