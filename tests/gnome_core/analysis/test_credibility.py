"""The traps into which published discoveries fell, each caught by its check."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.core import Lattice, Structure

from gnome_core.analysis.credibility import FOUND, STEPS, analyse, certificate
from gnome_core.analysis.likeness import can_mix, families
from gnome_core.compositions.formula_parser import BadFormula, composition_of
from gnome_core.compositions.formulas import NUMBERS
from gnome_core.compositions.known import KnownCompositions, shipped_compositions
from gnome_core.crystals.cif import parse_cif
from gnome_core.crystals.convert import from_structure
from gnome_core.crystals.crystal import Crystal, InvalidCrystal
from gnome_core.matching.novelty import KnownCrystals
from tests.gnome_core.analysis.samples import any_cell, entries_of, rock_salt


def of_space_group(group: str, lattice: Lattice, sites: dict[str, list[list[float]]]) -> Crystal:
    species = [symbol for symbol, places in sites.items() for _ in places]
    places = [place for places in sites.values() for place in places]
    return from_structure(Structure.from_spacegroup(group, lattice, species, places).get_primitive_structure())


def rutile(metal: str, a: float, c: float) -> Crystal:
    sites = {metal: [[0, 0, 0]], "O": [[0.305, 0.305, 0]]}
    return of_space_group("P4_2/mnm", Lattice.tetragonal(a, c), sites)


def trirutile(third: str, two_thirds: str) -> Crystal:
    """Rutile in which metals are ordered along c, and oxygen has moved to the smaller by some 0.05 Å."""
    oxygen = [[0.306, 0.306, 0], [0.297, 0.297, 0.327]]
    sites = {third: [[0, 0, 0]], two_thirds: [[0, 0, 0.334]], "O": oxygen}
    return of_space_group("P4_2/mnm", Lattice.tetragonal(4.74, 9.30), sites)


def garnet(rare_earth: str, a: float) -> Crystal:
    sites = {rare_earth: [[0.125, 0, 0.25]], "Al": [[0, 0, 0], [0.375, 0, 0.25]], "O": [[-0.0306, 0.0512, 0.15]]}
    return of_space_group("Ia-3d", Lattice.cubic(a), sites)


def blown_up_chromium_fluoride() -> Crystal:
    """55 Å^3 an atom, as a relaxation left it in a demonstration of this package."""
    a = (5 * 55) ** (1 / 3)
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    return Crystal(np.eye(3) * a, [[0.5] * 3, *(0.5 + 1.8 * corners / a)], [NUMBERS["Cr"], *[NUMBERS["F"]] * 4])


FOUND_CRYSTALS = {
    "CrF4": blown_up_chromium_fluoride(),
    "CoF2": any_cell("CoF2"),
    "TaCr2O6": trirutile("Ta", "Cr"),
    "Lu3Al5O12": garnet("Lu", 11.91),
    "PmN": rock_salt(NUMBERS["Pm"], NUMBERS["N"], 5.2),
    "XeLi": rock_salt(NUMBERS["Xe"], NUMBERS["Li"], 6.0),
    "LaSO4": any_cell("LaSO4"),
    "TbAs": rock_salt(NUMBERS["Tb"], NUMBERS["As"], 5.83),
    "DyAs": rock_salt(NUMBERS["Dy"], NUMBERS["As"], 5.78),
    "MgO": rock_salt(NUMBERS["Mg"], NUMBERS["O"]),
    "NaI": rock_salt(NUMBERS["Na"], NUMBERS["I"], 6.5),
}
SNAPSHOT = {"mp-tio2": rutile("Ti", 4.594, 2.958), "mp-yag": garnet("Y", 12.0), "mp-nacl": rock_salt(11, 17, 5.64)}


@pytest.fixture(scope="module")
def entries() -> pa.Table:
    """The snapshot, and the crystals above as found by round 1; what the lists know of them is the shipped list's word
    for CoF2, and for the others that they are new."""
    crystals = {**SNAPSHOT, **FOUND_CRYSTALS}
    rounds = [0] * len(SNAPSHOT) + [1] * len(FOUND_CRYSTALS)
    table = entries_of(list(crystals.values()), [-1.0] * len(crystals), rounds, list(crystals))
    known = table.filter(pa.array([r == 0 for r in rounds]))
    lists = {"CoF2": KnownCrystals(known, shipped_compositions())}
    plain = KnownCrystals(known, KnownCompositions.union([]))
    novelty = [lists.get(id_, plain).novelty(crystal) for id_, crystal in crystals.items()]
    above_mp_hull = {"NaI": 0.03, "TbAs": -0.01, "DyAs": -0.01, "MgO": 0.0}
    columns = {
        "on_hull": [True] * len(crystals),
        "e_above_hull_others": [-0.01 * len(id_) for id_ in crystals],
        "novelty": [one.level for one in novelty],
        "novelty_source": pa.array([one.source for one in novelty], pa.string()),
        "e_above_mp_hull": pa.array([above_mp_hull.get(id_) for id_ in crystals], pa.float64()),
        "e_above_mp_hull_uncertainty": [0.059] * len(crystals),
        "confirmed": [None if id_ == "XeLi" else id_ != "CoF2" for id_ in crystals],
        "confirmed_why": [None if id_ == "XeLi" else f"judge of {id_}" for id_ in crystals],
    }
    for name, values in columns.items():
        table = table.drop_columns([name] if name in table.column_names else []).append_column(name, pa.array(values))
    return table


@pytest.fixture(scope="module")
def judged(entries) -> dict[str, dict]:
    return {row["id"]: row for row in analyse(entries).tables["crystals"].to_pylist()}


@pytest.mark.parametrize(
    ("id_", "step", "why"),
    [
        ("CrF4", "sane", "implausible_volume"),
        ("CoF2", "composition", "known composition: mp, experiment"),
        ("TaCr2O6", "disorder", "Cr, Ta on one site, as in mp-tio2"),
        ("Lu3Al5O12", "family", "mp-yag"),
        ("PmN", "elements", "Pm"),
        ("XeLi", "elements", "Xe"),
        ("LaSO4", "charges", "no common charges sum to zero"),
        ("TbAs", "family", "DyAs"),  # of new lanthanides too one is counted
        ("NaI", "mp_hull", "+0.030 ± 0.059 eV/atom"),
        ("CoF2", "confirmed", "judge of CoF2"),
    ],
)
def test_a_trap_is_caught_and_named(judged, id_, step, why):
    assert judged[id_][step] is False
    assert judged[id_][f"{step}_why"] == why
    assert not judged[id_]["credible"]


def test_what_passes_everything_is_credible(judged):
    assert [id_ for id_, row in judged.items() if row["credible"]] == ["DyAs", "MgO"]
    for id_ in ("DyAs", "MgO"):
        assert all(judged[id_][step.key] for step in STEPS)
        assert judged[id_]["stopped_by"] is None
    # No check calls for more than its own trap: these pass all the others that have something to say of them.
    for id_, own in (("PmN", "elements"), ("Lu3Al5O12", "family"), ("NaI", "mp_hull")):
        assert {step.key for step in STEPS if judged[id_][step.key] is False} == {own}


def test_the_counts_add_up(entries, judged):
    analysis = analyse(entries)
    rows = analysis.tables["waterfall"].to_pylist()
    assert rows[0] == {"filter": FOUND, "left": 11, "removed": 0, "unknown": 0, "judge": "the store's newest hull"}
    assert [row["filter"] for row in rows[1:]] == [step.title for step in STEPS]
    for before, row in pairwise(rows):
        assert before["left"] == row["left"] + row["removed"]
    assert rows[-1]["left"] == sum(row["credible"] for row in judged.values()) == 2
    for step, row in zip(STEPS, rows[1:], strict=True):
        assert row["removed"] == sum(one["stopped_by"] == step.key for one in judged.values())
    assert analysis.summary == {row["filter"]: row["left"] for row in rows}


def test_a_step_is_optional(entries):
    analysis = analyse(entries, without=["elements", "mp_hull"])
    assert "elements" not in analysis.tables["crystals"].column_names
    credible = {row["id"] for row in analysis.tables["crystals"].to_pylist() if row["credible"]}
    assert credible == {"DyAs", "MgO", "NaI", "PmN"}
    assert "Left out: without radioactive elements and noble gases." in analysis.notes
    with pytest.raises(ValueError, match="no step is called phonons; there are composition, sane"):
        analyse(entries, without=["phonons"])


def test_a_step_without_anything_to_judge_by_is_left_out_and_said(entries):
    nothing = pa.nulls(len(entries), pa.float64())
    analysis = analyse(entries.set_column(entries.column_names.index("e_above_mp_hull"), "e_above_mp_hull", nothing))
    assert len(analysis.tables["waterfall"]) == len(STEPS)
    assert "Left out, with nothing to judge by: at or below the Materials Project's hull." in analysis.notes


def test_a_verdict_is_had_again_for_one_crystal(entries, judged):
    for id_, row in judged.items():
        for step, verdict in certificate(entries, id_):
            assert verdict == (row[step.key], row[f"{step.key}_why"])
    with pytest.raises(KeyError):
        certificate(entries, "mp-yag")


def test_nothing_found_is_a_waterfall_of_zeros(entries):
    analysis = analyse(entries.slice(0, len(SNAPSHOT)))
    assert set(analysis.summary.values()) == {0}
    assert len(analysis.tables["crystals"]) == 0


def test_tritium_never_enters():
    """Readers name it, so that no store can hold it as hydrogen."""
    cif = "data_x\n_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
    cif += "_cell_angle_gamma 90\nloop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n"
    cif += "_atom_site_fract_y\n_atom_site_fract_z\nLi1 Li 0 0 0\nT1 T 0.5 0.5 0.5\n"
    with pytest.raises(InvalidCrystal, match="'T', no known element"):
        parse_cif(cif)
    with pytest.raises(BadFormula, match="'T', none of the elements"):
        composition_of("LiT")


def test_which_elements_are_alike():
    family = families()
    assert family[NUMBERS["Lu"]] == family[NUMBERS["Y"]] == family[NUMBERS["Sc"]]
    for pair, same in (("Zr Hf", True), ("Ca Ba", True), ("S Se", True), ("Na K", False), ("F Cl", False)):
        first, second = (family[NUMBERS[symbol]] for symbol in pair.split())
        assert bool(first == second) is same, pair
    assert can_mix(NUMBERS["Fe"], NUMBERS["Mo"], None)
    assert not can_mix(NUMBERS["Fe"], NUMBERS["Mo"], {NUMBERS["Fe"]: 2, NUMBERS["Mo"]: 6})  # double perovskites order
    assert not can_mix(NUMBERS["Li"], NUMBERS["Nb"], None)
