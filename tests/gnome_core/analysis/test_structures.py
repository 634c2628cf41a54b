"""Analyses of what the crystals are: prototypes, layers, novelty, experimental matches, oxides, r2SCAN."""

import numpy as np
import pyarrow as pa
import pytest

from gnome_core.analysis import additions, experimental, layered, li_mn_oxides, novelty, prototypes, r2scan
from gnome_core.crystals.cif import format_cif
from gnome_core.crystals.crystal import Crystal
from tests.gnome_core.analysis.samples import MOS2, any_cell, entries_of, rock_salt

CESIUM_CHLORIDE = Crystal(np.eye(3) * 2.7, [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8])


def single(z: int) -> Crystal:
    return Crystal(np.eye(3) * 3.0, [[0, 0, 0]], [z])


def test_a_prototype_is_novel_when_no_snapshot_entry_has_it():
    crystals = [single(12), single(8), single(20), rock_salt(12, 8), rock_salt(20, 8), CESIUM_CHLORIDE]
    crystals.append(Crystal(CESIUM_CHLORIDE.lattice, CESIUM_CHLORIDE.frac_coords, [12, 20]))
    entries = entries_of(crystals, [0, 0, 0, -1.0, -1.2, -0.9, -0.5], [0, 0, 0, 0, 1, 1, 2])
    analysis = prototypes.analyse(entries)
    rows = {row["formula"]: row for row in analysis.tables["prototypes"].to_pylist()}
    assert set(rows) == {"CaO", "CaMg"}  # MgO as caesium chloride is not on the hull
    assert rows["CaO"]["novel"] is False
    assert rows["CaMg"]["novel"] is True
    assert rows["CaMg"]["first_round"] == 2
    assert analysis.summary["novel (lower bound)"] == 1


def test_only_two_dimensional_crystals_are_layered():
    crystals = [single(42), single(16), single(11), single(17), MOS2, rock_salt(11, 17, 5.64)]
    entries = entries_of(crystals, [0, 0, 0, 0, -1.0, -2.0], [0, 0, 0, 0, 1, 0])
    analysis = layered.analyse(entries)
    rows = {row["formula"]: row for row in analysis.tables["crystals"].to_pylist()}
    assert rows["MoS2"]["cheon"] == "2D"
    assert rows["NaCl"]["cheon"] == "intercalated ion"
    assert rows["NaCl"]["layered"] is False
    assert (analysis.summary["layered"], analysis.summary["layered and new"]) == (1, 1)
    assert analysis.summary["stable crystals"] == 6


def test_novelty_by_composition_then_structure():
    entries = entries_of([rock_salt(12, 8), CESIUM_CHLORIDE, rock_salt(20, 8)], [-1.0, -0.9, -1.0], [1, 1, 1])
    conventional = Crystal(
        np.eye(3) * 4.3,
        [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5] * 3, [0, 0, 0.5], [0, 0.5, 0], [0.5, 0, 0]],
        [12] * 4 + [8] * 4,
    )
    known = entries_of([conventional, rock_salt(11, 17)], [-1.0, -1.0], [0, 0], ["mp-1", "mp-2"])
    analysis = novelty.analyse(entries, known)
    rows = {row["id"]: (row["novelty"], row["novelty_source"]) for row in analysis.tables["crystals"].to_pylist()}
    assert rows == {"e0": ("known structure", "mp-1"), "e1": ("known composition", "mp-1"), "e2": ("new", None)}


@pytest.fixture
def cif_folder(tmp_path):
    (tmp_path / "mgo.cif").write_text(format_cif(rock_salt(12, 8, 4.25), "MgO"))
    (tmp_path / "mgo-cscl.cif").write_text(format_cif(CESIUM_CHLORIDE, "MgO"))
    (tmp_path / "cao.cif").write_text(format_cif(rock_salt(20, 8), "CaO"))
    # Magnesium oxide with a tenth of its magnesium replaced: MgO by the nearest whole numbers.
    text = format_cif(rock_salt(12, 8, 4.22), "MgO")
    lines, site = [], None
    for line in text.splitlines():
        lines.append(line)
        if line.split()[:2] in (["Mg", "Mg0"], ["Mg1", "Mg"], ["Mg", "Mg1"], ["Mg0", "Mg"]):
            site = line
    assert site is not None, text
    columns = site.split()
    at = columns.index("1") if "1" in columns else columns.index("1.0")
    columns[at] = "0.9"
    doped = [c.replace("Mg", "Ca") for c in columns]
    doped[at] = "0.1"
    lines[lines.index(site)] = " ".join(columns) + "\n" + " ".join(doped)
    (tmp_path / "mgcao.cif").write_text("\n".join(lines) + "\n")
    (tmp_path / "broken.cif").write_text("data_x\nloop_\n_atom")
    return tmp_path


def test_experimental_files_against_stable_crystals(cif_folder):
    crystals = [single(12), single(8), rock_salt(12, 8)]
    analysis = experimental.analyse(entries_of(crystals, [0, 0, -1.0], [0, 0, 1]), cif_folder)
    rows = {row["file"]: row for row in analysis.tables["files"].to_pylist()}
    assert rows["mgo.cif"]["status"] == "match"
    assert rows["mgo.cif"]["id"] == "e2"
    assert rows["mgo.cif"]["rms"] == pytest.approx(0.0, abs=1e-6)
    assert rows["mgo-cscl.cif"]["status"] == "other structure"
    assert rows["cao.cif"]["status"] == "no such composition"
    assert rows["mgcao.cif"]["status"] == "match"
    assert rows["mgcao.cif"]["ordered"] is False
    assert rows["broken.cif"]["status"] == "unreadable_file"
    assert list(analysis.summary.values()) == [5, 4, 3, 2, 2, 3]


def test_matches_are_dated_by_their_first_publication(cif_folder):
    text = (cif_folder / "mgo.cif").read_text()
    (cif_folder / "mgo.cif").write_text(
        text + "_audit_creation_date 1999-01-01\nloop_\n_citation_id\n_citation_year\n1 2022\n2 2021\n"
    )
    (cif_folder / "mgcao.cif").write_text((cif_folder / "mgcao.cif").read_text() + "_audit_creation_date 2015-05-03\n")
    crystals = [single(12), single(8), rock_salt(12, 8)]
    analysis = experimental.analyse(entries_of(crystals, [0, 0, -1.0], [0, 0, 1]), cif_folder, since=2021)
    years = {row["file"]: row["year"] for row in analysis.tables["files"].to_pylist()}
    assert (years["mgo.cif"], years["mgcao.cif"], years["cao.cif"]) == (2021, 2015, None)
    assert analysis.summary["structure found, default"] == 2
    assert (analysis.summary["of these since 2021"], analysis.summary["of these without a year"]) == (1, 0)


def test_additions_of_another_collection_that_the_rounds_found_too():
    crystals = [single(12), single(8), single(20), rock_salt(12, 8), rock_salt(20, 8), CESIUM_CHLORIDE]
    entries = entries_of(crystals, [0, 0, 0, -1.0, -1.2, -0.9], [0, 0, 0, 0, 1, 1])
    first = entries.filter(pa.array([round_ == 0 for round_ in entries["round"].to_pylist()]))
    theirs = entries_of(
        [rock_salt(20, 8, 4.8), CESIUM_CHLORIDE, rock_salt(11, 17)], [0.0] * 3, [0] * 3, ["icsd-1", "icsd-2", "icsd-3"]
    )
    analysis = additions.analyse(entries, first, theirs)
    rows = {row["formula"]: row for row in analysis.tables["compositions"].to_pylist()}
    assert set(rows) == {"CaO", "NaCl"}, "MgO is a composition of the snapshot, in whatever structure"
    assert (rows["CaO"]["id"], rows["CaO"]["same_structure"], rows["CaO"]["on_hull"]) == ("e4", True, True)
    assert (rows["NaCl"]["found"], rows["NaCl"]["id"]) == (False, None)
    assert analysis.summary["share with the same structure"] == 1.0
    (two,) = (row for row in analysis.tables["counts"].to_pylist() if row["elements"] == 2)
    assert (two["snapshot"], two["new_stable"], two["added"], two["found"]) == (1, 1, 2, 1)


def test_a_folder_without_cif_files_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no \.cif files"):
        experimental.analyse(entries_of([single(12)], [0.0], [0]), tmp_path)


def test_lithium_manganese_oxides_now_and_before():
    formulas = ["Li", "Mn", "Ni", "O2", "LiMnNiO4", "Li2MnNiO6", "LiMnFeO4", "LiMnO2", "Fe"]
    energies = [0, 0, 0, 0, -1.5, -1.2, -1.6, -1.4, 0]
    entries = entries_of([any_cell(f) for f in formulas], energies, [0, 0, 0, 0, 1, 1, 0, 0, 0], formulas)
    before = pa.table({"id": ["LiMnFeO4", "LiMnO2"], "on_hull": [True, True]})
    analysis = li_mn_oxides.analyse(entries, before)
    rows = {row["id"]: row for row in analysis.tables["crystals"].to_pylist()}
    assert set(rows) == {"LiMnNiO4", "Li2MnNiO6", "LiMnFeO4"}
    assert rows["LiMnNiO4"]["metal"] == "Ni"
    stable = sum(row["on_hull"] for row in rows.values())
    assert analysis.summary["stable now"] == stable
    assert analysis.summary["stable in the snapshot"] == 1
    assert analysis.summary["new and stable"] == stable - 1


def test_r2scan_counts_negative_phase_separation_only():
    formulas = ["Mg", "O2", "Ca", "MgO", "CaO", "MgCaO2"]
    entries = entries_of([any_cell(f) for f in formulas], [0, 0, 0, -1.0, -1.2, -1.3], [0, 0, 0, 0, 1, 1], formulas)
    assert all(entries["on_hull"].to_pylist())
    results = pa.table(
        {
            "id": formulas,
            "numbers": entries["numbers"],
            "e_form_per_atom": [0, 0, 0, -1.1, -1.3, -1.15],
            "scale": ["r2scan/vasp"] * 6,
        }
    )
    analysis = r2scan.analyse(entries, results)
    rows = {row["id"]: row["stable"] for row in analysis.tables["crystals"].to_pylist()}
    assert rows == {"MgO": True, "CaO": True, "MgCaO2": False}
    assert analysis.summary["share"] == pytest.approx(2 / 3, abs=1e-4)
    with pytest.raises(ValueError, match="pbe; this needs one r2SCAN scale"):
        r2scan.analyse(entries, results.set_column(3, "scale", pa.array(["pbe"] * 6)))
    with pytest.raises(ValueError, match="no elemental reference for Ca"):
        r2scan.analyse(entries, results.filter(np.array(formulas) != "Ca"))
