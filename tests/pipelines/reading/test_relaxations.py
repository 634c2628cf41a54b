"""The steps of relaxations, as a store's rounds kept them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dft.tables import FRAME_SCHEMA
from pipelines.reading.entries import measured_entries
from pipelines.reading.relaxations import path_of, relaxation_paths
from pipelines.store.store import Store


def test_a_path_ends_at_the_energy_and_the_volume_of_its_entry(two_rounds):
    store = Store(str(two_rounds))
    entries = measured_entries(store)
    found = entries.filter(pc.greater(entries["round"], 0)).to_pylist()
    assert {row["round"] for row in found} == {1, 2}
    paths = relaxation_paths(store, [row["job"] for row in found])
    assert set(paths) == {row["job"] for row in found}
    for row in found:
        path, n_atoms = paths[row["job"]], len(row["numbers"])
        volume = abs(np.linalg.det(np.reshape(row["lattice"], (3, 3)))) / n_atoms
        assert len(path.energies) == len(path.volumes) >= 1
        assert np.isclose(path.volumes[-1], volume, rtol=1e-6)
        assert path.calculation is None
    assert any(path.energies[0] > path.energies[-1] + 1e-3 for path in paths.values())
    assert relaxation_paths(store, []) == {}


def test_of_several_calculations_the_longest_is_told():
    def frame(step: int, energy: float, calculation: str) -> dict:
        return {
            "job": "a",
            "step": step,
            "lattice": [2.0, 0, 0, 0, 2.0, 0, 0, 0, 2.0],
            "frac_coords": [0.0] * 6,
            "numbers": [11, 17],
            "energy": energy,
            "forces": [0.0] * 6,
            "stress": [0.0] * 9,
            "scale": "s",
            "calculation": calculation,
        }

    rows = [frame(0, -6.0, "relax1"), frame(1, -6.4, "relax1"), frame(0, -9.0, "static")]
    path = path_of(pa.Table.from_pylist(rows, FRAME_SCHEMA))
    assert path.calculation == "relax1"
    assert path.energies.tolist() == [-3.0, -3.2]
    assert path.volumes.round(6).tolist() == [4.0, 4.0]
