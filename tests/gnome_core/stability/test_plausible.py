"""Nonsense is refused by name, real crystals of every kind are not."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import embedded_entries
from gnome_core.stability.plausible import implausible, implausible_energy, implausible_geometry
from tests.gnome_core.stability.samples import row, salt, slab, tetrafluoride

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def test_a_cell_that_blew_up_is_refused_though_its_forces_vanish():
    assert implausible_geometry(tetrafluoride(55.0)) == "implausible_volume"
    assert implausible_geometry(tetrafluoride(20.0)) is None


@pytest.mark.parametrize(
    ("crystal", "reason"),
    [
        (salt(2.8), None),
        (salt(4.3), "implausible_volume"),  # 3.6 times as large
        (salt(1.9), "implausible_volume"),
        (salt(7.0), "isolated_atom"),
        (slab(3.4), None),
        (slab(6.2), None),
        (slab(15.0), "implausible_volume"),
        (row(3.4), None),
        (row(6.2), "separate_fragments"),
        (tetrafluoride(200.0), "separate_fragments"),
        # Nitrogen molecules of 1.1 Å: 3.5 Å apart a molecular crystal, 8 Å apart a gas.
        (Crystal(np.eye(3) * 4.0, [[0, 0, 0], [0.275, 0, 0]], [7, 7]), None),
        (Crystal(np.eye(3) * 8.0, [[0, 0, 0], [0.1375, 0, 0]], [7, 7]), "separate_fragments"),
        # Caesium's neighbours in the metal are 5.3 Å away.
        (Crystal(6.11 * (np.ones((3, 3)) / 2 - np.eye(3)), [[0, 0, 0]], [55]), None),
        (Crystal(4.4 * (np.ones((3, 3)) - np.eye(3)) / 2, [[0, 0, 0], [0.2] * 3], [29, 29]), "implausible_distance"),
    ],
    ids=[
        "salt",
        "wide",
        "squeezed",
        "apart",
        "layers",
        "far layers",
        "slab",
        "rows",
        "far rows",
        "gas",
        "N2",
        "N2 gas",
        "Cs",
        "pair",
    ],
)
def test_geometries_are_judged_by_what_atoms_see_and_fill(crystal, reason):
    assert implausible_geometry(crystal) == reason


def test_the_verdict_does_not_depend_on_the_cell():
    for a, b, c in ((1, 1, 2), (2, 1, 1), (3, 1, 1)):
        for cell, reason in ((row(3.4), None), (row(6.2), "separate_fragments"), (slab(6.2), None)):
            images = np.indices((a, b, c)).reshape(3, -1).T
            frac = (cell.frac_coords[:, None] + images).reshape(-1, 3) / (a, b, c)
            big = Crystal(cell.lattice * np.array([[a], [b], [c]]), frac, np.repeat(cell.numbers, len(images)))
            assert implausible_geometry(big) == reason


@pytest.mark.parametrize(
    ("e_form", "refused"), [(-4.5, False), (2.3, False), (-5.8, True), (3.3, True), (np.nan, True)]
)
def test_formation_energies_outside_all_that_is_known_are_refused(e_form, refused):
    assert (implausible_energy(e_form) == "implausible_energy") is refused
    assert (implausible(salt(2.8), e_form) == "implausible_energy") is refused


def test_what_the_package_ships_is_plausible():
    entries = embedded_entries()
    entries = entries.take(np.arange(0, len(entries), 20))
    columns = (entries["id"].to_pylist(), crystals_from_batch(entries), entries["e_form_per_atom"].to_pylist())
    assert not {id_ for id_, crystal, e_form in zip(*columns, strict=True) if implausible(crystal, e_form)}


def test_one_in_a_thousand_published_crystals_is_refused_at_most():
    path = SHARED / "mp_structures.parquet"
    if not path.exists():
        pytest.skip("mp_structures.parquet is not beside the repository")
    table = pq.read_table(path, columns=["lattice", "frac_coords", "numbers", "e_form_per_atom"])
    rows = table.take(np.arange(0, len(table), 10))
    crystals = [
        Crystal(np.array(row["lattice"]), np.array(row["frac_coords"]), row["numbers"]) for row in rows.to_pylist()
    ]
    refused = [
        implausible(crystal, e) for crystal, e in zip(crystals, rows["e_form_per_atom"].to_pylist(), strict=True)
    ]
    assert sum(map(bool, refused)) <= 3, [reason for reason in refused if reason]
