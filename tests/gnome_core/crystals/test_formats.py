"""Files of crystals as ASE, pymatgen, pandas and databases write them."""

import bz2
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import ase.db
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from monty.serialization import dumpfn
from pymatgen.core import Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.cif import format_cif
from gnome_core.crystals.convert import to_atoms, to_structure
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import Entry, Rejected, SourceError, read_snapshot
from gnome_core.crystals.sources import json_file
from gnome_core.crystals.sources.formats import FORMATS, read_structure
from tests.conftest import ROOT
from tests.gnome_core.crystals.samples import assert_same_crystal, sample_crystals

CRYSTALS = sample_crystals(4)
NAMES = ["a", "b", "c", "d"]


def read(path: Path) -> tuple[dict[str, Entry], list[Rejected]]:
    """Entries by id, and what was rejected; every row is one or the other."""
    items = list(read_snapshot(str(path)))
    entries = {item.id: item for item in items if isinstance(item, Entry)}
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert len(entries) + len(rejected) == len(items)
    return entries, rejected


def check(path: Path, names: list[str], source: str) -> dict[str, Entry]:
    """The entries of a file that holds CRYSTALS, or the first of them, under these names."""
    entries, rejected = read(path)
    assert not rejected
    assert list(entries) == names
    assert {entry.source for entry in entries.values()} == {source}
    for entry, crystal in zip(entries.values(), CRYSTALS, strict=False):
        assert_same_crystal(entry.crystal, crystal)
    return entries


def structures() -> list[Structure]:
    return [to_structure(crystal) for crystal in CRYSTALS]


def computed() -> list[ComputedStructureEntry]:
    """Two that state a formation energy beside their total one, two that do not."""
    data = [{"formation_energy_per_atom": -1.5}, {"e_form_per_atom": -0.5}, {}, {}]
    return [
        ComputedStructureEntry(structure, -10.0, entry_id=name, data=more)
        for structure, name, more in zip(structures(), NAMES, data, strict=True)
    ]


def labels(entries: dict[str, Entry]) -> list[tuple]:
    return [(entry.e_form_per_atom, entry.unused_energies) for entry in entries.values()]


# ---------------------------------------------------------------- one crystal a file


@pytest.mark.parametrize(
    ("name", "key", "format", "source"),
    [
        ("POSCAR", "POSCAR", "vasp", "vasp"),
        ("CONTCAR", "CONTCAR", "vasp", "vasp"),
        ("mp-149.vasp", "mp-149", "vasp", "vasp"),
        ("POSCAR.mp-149", "POSCAR.mp-149", "vasp", "vasp"),
        ("x.res", "x", "res", "res"),
        ("x.xsf", "x", "xsf", "xsf"),
        ("x.gen", "x", "gen", "gen"),
        ("x.extxyz", "x", "extxyz", "extxyz"),
        ("x.traj", "x", "traj", "traj"),
        ("x.json", "x-1", "json", "ase"),
    ],
)
def test_files_that_ase_writes(tmp_path, name, key, format, source):
    write(tmp_path / "made", to_atoms(CRYSTALS[0]), format=format)
    (tmp_path / "made").rename(tmp_path / name)
    check(tmp_path / name, [key], source)
    assert_same_crystal(read_structure(tmp_path / name), CRYSTALS[0])
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    check(packed, [key], source)


def test_folders_and_archives_hold_files_of_any_format(tmp_path):
    folder = tmp_path / "mine"
    (folder / "run").mkdir(parents=True)
    (folder / "a.cif").write_text(format_cif(CRYSTALS[0], "a"))
    write(folder / "b.vasp", to_atoms(CRYSTALS[1]), format="vasp")
    (folder / "c.json.bz2").write_bytes(bz2.compress(structures()[2].to_json().encode()))
    write(folder / "run" / "CONTCAR", to_atoms(CRYSTALS[3]), format="vasp")
    (folder / "broken.cif").write_text("data_x\nnothing\n")
    (folder / "README.txt").write_text("what this is")
    (folder / "._a.cif").write_bytes(b"\0\5\26\7")
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.writestr("__MACOSX/a.cif", "")
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder).as_posix())
    for name, mode in (("mine.tar", "w"), ("mine.tar.gz", "w:gz"), ("mine.tgz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            for path in sorted(folder.rglob("*")):
                archive.add(path, path.relative_to(folder).as_posix(), recursive=False)
    for name in ("mine", "mine.zip", "mine.tar", "mine.tar.gz", "mine.tgz"):
        entries, rejected = read(tmp_path / name)
        assert list(entries) == ["a", "b", "c", "run/CONTCAR"], name
        for entry, crystal in zip(entries.values(), CRYSTALS, strict=True):
            assert_same_crystal(entry.crystal, crystal)
        (broken,) = rejected
        assert (broken.key, broken.reason) == ("broken", "unreadable_file")
        assert name in broken.message
        assert "broken.cif: " in broken.message
    (folder / "rounds").mkdir()
    with pytest.raises(SourceError, match="is a store; `gnome export"):
        read(folder)


def test_damaged_archives_cost_what_is_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, crystal in zip("ab", CRYSTALS, strict=False):
            archive.writestr(f"{name}.cif", format_cif(crystal, name))
        offset = archive.getinfo("b.cif").header_offset
    content = bytearray((tmp_path / "x.zip").read_bytes())
    content[offset + 100] ^= 0xFF
    (tmp_path / "x.zip").write_bytes(content)
    entries, rejected = read(tmp_path / "x.zip")
    assert list(entries) == ["a"]
    assert [(item.key, item.reason) for item in rejected] == [("b.cif", "unreadable_file")]
    for name, whole in (("x.cif.gz", gzip.compress(b"data_x\n" * 999)), ("y.zip", bytes(content)[:200])):
        (tmp_path / name).write_bytes(whole[:-9])
        entries, (item,) = read(tmp_path / name)
        assert (list(entries), item.reason) == ([], "unreadable_file")
        assert f"{tmp_path / name}: damaged" in item.message


# ---------------------------------------------------------------- several crystals a file


def test_extxyz_names_labels_and_broken_configurations(tmp_path):
    images = [to_atoms(crystal) for crystal in CRYSTALS]
    images[0].info = {"material_id": "mp-1", "formation_energy_per_atom": -1.5}
    images[1].calc = SinglePointCalculator(images[1], energy=-10.0)
    write(tmp_path / "x.extxyz", images, format="extxyz")
    entries = check(tmp_path / "x.extxyz", ["mp-1", "x-1", "x-2", "x-3"], "extxyz")
    assert labels(entries) == [(-1.5, ()), (None, ("energy",)), (None, ()), (None, ())]
    assert_same_crystal(read_structure(tmp_path / "x.extxyz"), CRYSTALS[3])
    lines = (tmp_path / "x.extxyz").read_text().splitlines(keepends=True)
    lines[5] = "Qq" + lines[5][2:]  # the first of two atoms of the second
    (tmp_path / "x.extxyz").write_text("".join([*lines[:-2], "3.5\n"]))
    entries, rejected = read(tmp_path / "x.extxyz")
    assert list(entries) == ["mp-1", "x-2"]
    assert [(item.key, item.reason) for item in rejected] == [("x-1", "unreadable_file"), ("x-3", "unreadable_file")]
    assert f"{tmp_path / 'x.extxyz'}, configuration 1: ASE cannot read it" in rejected[0].message
    assert rejected[0].payload.decode() == "".join(lines[3:7])


def test_a_database_of_ase(tmp_path):
    with ase.db.connect(tmp_path / "x.db") as database:
        for crystal, more in zip(CRYSTALS[:3], [{"material_id": "mp-1"}, {"e_form_per_atom": -0.5}, {}], strict=True):
            atoms = to_atoms(crystal)
            if not more:
                atoms.calc = SinglePointCalculator(atoms, energy=-10.0)
            database.write(atoms, **more)
        slab = to_atoms(CRYSTALS[3])
        slab.pbc = [True, True, False]
        database.write(slab)
    entries, rejected = read(tmp_path / "x.db")
    assert list(entries) == ["mp-1", "x-2", "x-3"]
    for entry, crystal in zip(entries.values(), CRYSTALS[:3], strict=True):
        assert_same_crystal(entry.crystal, crystal)
    assert labels(entries) == [(None, ()), (-0.5, ()), (None, ("energy",))]
    assert [(item.key, item.reason) for item in rejected] == [("x-4", "not_periodic")]
    assert "x.db, row 4: " in rejected[0].message
    (tmp_path / "y.db").write_bytes((tmp_path / "x.db").read_bytes()[:5000])
    assert [item.reason for item in read(tmp_path / "y.db")[1]] == ["unreadable_file"]


# ---------------------------------------------------------------- JSON


def test_json_of_pymatgen(tmp_path, monkeypatch):
    monkeypatch.setattr(json_file, "_CHUNK", 200)  # characters: no document is read at once
    dumpfn(structures()[0], tmp_path / "one.json")
    check(tmp_path / "one.json", ["one"], "json")
    dumpfn(structures(), tmp_path / "x.json.gz")
    check(tmp_path / "x.json.gz", ["x-0", "x-1", "x-2", "x-3"], "json")
    dumpfn(dict(zip(NAMES, structures(), strict=True)), tmp_path / "x.json")
    check(tmp_path / "x.json", NAMES, "json")
    (tmp_path / "x.jsonl").write_text("".join(structure.to_json() + "\n" for structure in structures()))
    check(tmp_path / "x.jsonl", ["x-0", "x-1", "x-2", "x-3"], "json")


def test_entries_are_labelled_by_formation_energies_alone(tmp_path):
    expected = [(-1.5, ()), (-0.5, ()), (None, ("energy",)), (None, ("energy",))]
    dumpfn(computed(), tmp_path / "list.json")
    dumpfn({"entries": computed()}, tmp_path / "entries.json.gz")
    dumpfn(dict(zip(NAMES, computed(), strict=True)), tmp_path / "named.json")
    summary = [
        {"material_id": e.entry_id, "structure": e.structure.as_dict(), **e.data, "energy": 1} for e in computed()
    ]
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    for name in ("list.json", "entries.json.gz", "named.json", "summary.json"):
        assert labels(check(tmp_path / name, NAMES, "json")) == expected, name


def test_tables_that_pandas_writes_as_json(tmp_path):
    entries = computed()
    table = pd.DataFrame(
        {
            "material_id": NAMES,
            "computed_structure_entry": [entry.as_dict() for entry in entries],
            "e_form_per_atom": [-1.0, -2.0, -3.0, None],
        }
    )
    for orient in ("columns", "split", "records"):
        table.to_json(tmp_path / f"{orient}.json", orient=orient, default_handler=str)
        found = labels(check(tmp_path / f"{orient}.json", NAMES, "json"))
        assert [label for label, _ in found] == [-1.0, -2.0, -3.0, None], orient
        assert found[3] == (None, ("energy",))


def test_an_answer_of_optimade(tmp_path):
    document = {"data": [{"id": "1", "type": "structures", "attributes": optimade(CRYSTALS[0])}], "meta": {}}
    (tmp_path / "x.json").write_text(json.dumps(document))
    check(tmp_path / "x.json", ["1"], "json")


def test_broken_json_is_named_after_all_that_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(json_file, "_CHUNK", 200)
    good = [structure.as_dict() for structure in structures()]
    disordered = Structure(good[1]["lattice"]["matrix"], [{"Mg": 0.5, "Ca": 0.5}], [[0, 0, 0]]).as_dict()
    rows = [good[0], {**good[1], "sites": [{"species": 7}]}, disordered, {"formula": "NaCl"}, 7, good[3]]
    text = json.dumps(rows)
    (tmp_path / "x.json").write_text(text[:-50])
    entries, rejected = read(tmp_path / "x.json")
    assert list(entries) == ["x-0"]
    assert [(item.key, item.reason) for item in rejected] == [
        ("x-1", "malformed_row"),
        ("x-2", "partial_occupancy"),
        ("x-3", "missing_structure"),
        ("x-4", "malformed_row"),
        ("x-5", "unreadable_file"),
    ]
    assert all(f"{tmp_path / 'x.json'}, row {row}: " in item.message for row, item in enumerate(rejected, 1))
    (tmp_path / "x.json").write_text(text)
    assert list(read(tmp_path / "x.json")[0]) == ["x-0", "x-5"]


# ---------------------------------------------------------------- tables


def texts(crystal: Crystal) -> list[str]:
    """The crystal as text of three kinds."""
    poscar = io.StringIO()
    write(poscar, to_atoms(crystal), format="vasp")
    return [format_cif(crystal, "x"), poscar.getvalue(), to_structure(crystal).to_json()]


@pytest.mark.parametrize("column", ["cif", "POSCAR", "structure"])
def test_tables_with_a_column_of_structures(tmp_path, column):
    cells = [texts(crystal)[row % 3] for row, crystal in enumerate(CRYSTALS)]
    table = pd.DataFrame(
        {
            "material_id": [*NAMES, "e", "f"],
            "formation_energy_per_atom": ["-1.5", "None", "-0.5", "", "0", "0"],
            column: [*cells, "Full Formula (Na1 Cl1)", ""],
            "band_gap": 1.0,
            "energy": -10.0,
        }
    )
    table.to_csv(tmp_path / "x.csv", index=False)
    table.to_csv(tmp_path / "y.csv.gz", index=False)
    table.to_parquet(tmp_path / "x.parquet")
    for name in ("x.csv", "y.csv.gz", "x.parquet"):
        entries, rejected = read(tmp_path / name)
        assert list(entries) == NAMES
        for entry, crystal in zip(entries.values(), CRYSTALS, strict=True):
            assert_same_crystal(entry.crystal, crystal)
        assert labels(entries) == [(-1.5, ()), (None, ("energy",)), (-0.5, ()), (None, ("energy",))]
        assert [(r.key, r.reason) for r in rejected] == [("e", "unreadable_file"), ("f", "missing_structure")]
        assert f"{tmp_path / name}, row 4: 'Full Formula" in rejected[0].message


def test_csv_that_cannot_be_used(tmp_path):
    (tmp_path / "x.csv").write_text("formula,e\nNaCl,1\n")
    with pytest.raises(SourceError, match=r"x.csv: it has no column of structures \(structure, .*\['formula', 'e'\]"):
        read(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("id,cif\na,b,c\nd\n")
    assert [(r.key, r.reason) for r in read(tmp_path / "x.csv")[1]] == [
        ("x-0", "malformed_row"),
        ("x-1", "malformed_row"),
    ]


def test_parquet_of_structs_and_without_ids(tmp_path):
    documents = [structure.as_dict() for structure in structures()]
    for document in documents:
        document.pop("properties")
        for site in document["sites"]:
            site.pop("properties")
    pq.write_table(pa.table({"structure": documents}), tmp_path / "x.parquet")
    check(tmp_path / "x.parquet", ["x-0", "x-1", "x-2", "x-3"], "parquet")


def optimade(crystal: Crystal) -> dict:
    return {
        "lattice_vectors": crystal.lattice.tolist(),
        "cartesian_site_positions": crystal.positions.tolist(),
        "species_at_sites": [SYMBOLS[z] for z in crystal.numbers],
        "dimension_types": [1, 1, 1],
        "nsites": crystal.n_sites,
    }


def test_parquet_in_the_words_of_lematerial(tmp_path):
    rows = [{"immutable_id": name, **optimade(crystal)} for name, crystal in zip(NAMES, CRYSTALS, strict=True)]
    rows += [{**rows[0], "immutable_id": "e", "nsites": 7}]
    species = [{"name": symbol, "chemical_symbols": [symbol], "concentration": [1.0]} for symbol in SYMBOLS[1:95]]
    for more in ({}, {"species": species}):
        table = pa.Table.from_pylist([{**row, "energy": -10.0, **more} for row in rows])
        pq.write_table(table, tmp_path / "x.parquet")
        entries, rejected = read(tmp_path / "x.parquet")
        assert labels(entries) == [(None, ("energy",))] * 4
        for entry, crystal in zip(entries.values(), CRYSTALS, strict=True):
            assert_same_crystal(entry.crystal, crystal)
        assert [(item.key, item.reason) for item in rejected] == [("e", "malformed_row")]


def test_parquet_of_pandas_by_other_names(tmp_path):
    table = pd.DataFrame(
        {
            "material_id": NAMES,
            "lattice": [crystal.lattice.tolist() for crystal in CRYSTALS],
            "frac_coords": [crystal.frac_coords.tolist() for crystal in CRYSTALS],
            "numbers": [crystal.numbers.tolist() for crystal in CRYSTALS],
            "formation_energy_per_atom": [-1.0, None, -3.0, -4.0],
            "uncorrected_energy": -10.0,
        }
    )
    table.to_parquet(tmp_path / "x.parquet")
    entries = check(tmp_path / "x.parquet", NAMES, "parquet")
    assert labels(entries) == [(-1.0, ()), (None, ("uncorrected_energy",)), (-3.0, ()), (-4.0, ())]
    table.drop(columns="material_id").to_parquet(tmp_path / "x.parquet")
    check(tmp_path / "x.parquet", ["x-0", "x-1", "x-2", "x-3"], "parquet")


# ---------------------------------------------------------------- the table of formats


@pytest.mark.parametrize("name", ["x", "x.txt", "data"])
def test_content_tells_what_a_name_does_not(tmp_path, name):
    with ase.db.connect(tmp_path / "x.db") as database:
        database.write(to_atoms(CRYSTALS[0]))
    pq.write_table(pa.table({"cif": [format_cif(CRYSTALS[0], "x")]}), tmp_path / "x.parquet")
    (tmp_path / "x.json").write_text("\n" + structures()[0].to_json())
    (tmp_path / "x.cif").write_text(format_cif(CRYSTALS[0], "x"))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(tmp_path / "x.cif", "x.cif")
    for ending in ("db", "parquet", "json", "cif", "zip"):
        (tmp_path / name).write_bytes((tmp_path / f"x.{ending}").read_bytes())
        entries, rejected = read(tmp_path / name)
        assert not rejected
        assert len(entries) == 1
        assert_same_crystal(next(iter(entries.values())).crystal, CRYSTALS[0])


def test_an_unknown_format_is_one_error_that_lists_those_known(tmp_path):
    (tmp_path / "x.docx").write_bytes(b"\xd0\xcf\x11\xe0" * 99)
    with pytest.raises(SourceError) as error:
        read(tmp_path / "x.docx")
    assert all(one.name in str(error.value) for one in FORMATS)


def test_the_page_of_inputs_lists_every_format():
    page = (ROOT / "docs" / "inputs.md").read_text()
    for one in FORMATS:
        row = next(line for line in page.splitlines() if line.startswith(f"| {one.name} "))
        assert all(f"`{ending}`" in row for ending in one.endings), one.name


def test_what_is_read_does_not_depend_on_the_size_of_pieces(tmp_path, monkeypatch):
    dumpfn(computed(), tmp_path / "x.json")
    for size in (1, 7, 1 << 20):
        monkeypatch.setattr(json_file, "_CHUNK", size)
        entries = check(tmp_path / "x.json", NAMES, "json")
    np.testing.assert_allclose(entries["d"].crystal.lattice, CRYSTALS[3].lattice)
