import csv
import http.server
import json
import sys
import threading
import types
import zipfile
from collections import Counter
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnome_core.compositions.formulas import SYMBOLS
from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch
from gnome_core.crystals.cif import format_cif
from gnome_core.crystals.convert import to_structure
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import Entry, Rejected, SourceError, embedded_entries, read_snapshot
from gnome_core.crystals.sources.optimade import read_optimade
from gnome_core.crystals.writers import write_cif, write_parquet, write_snapshot
from tests.gnome_core.crystals.samples import assert_same_crystal, entries_table, sample_crystals

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def split(items) -> tuple[list[Entry], list[Rejected]]:
    items = list(items)
    return [i for i in items if isinstance(i, Entry)], [i for i in items if isinstance(i, Rejected)]


# ---------------------------------------------------------------- CIF folder


def broken_cifs() -> dict[str, tuple[str, str]]:
    """name -> (content, reason): ten distinct ways in which a CIF can be broken."""
    good = format_cif(Crystal(np.eye(3) * 4.1, [[0, 0, 0], [0.5, 0.5, 0.5]], [55, 17]), "CsCl")
    chlorine = "  Cl  Cl1  1  0.5000000000  0.5000000000  0.5000000000  1\n"
    assert chlorine in good
    return {
        "empty": ("", "unreadable_file"),
        "cut_within_a_site": (good[: good.index(chlorine) + 20], "unreadable_file"),
        "cut_between_sites": (good[: good.index(chlorine)], "formula_mismatch"),
        "flat": (good.replace("_cell_length_c   4.1", "_cell_length_c   0.0"), "bad_lattice"),
        "nan": (good.replace(chlorine, chlorine.replace("0.5000000000  1", "NaN  1")), "not_finite"),
        "no_sites": (good[: good.index("loop_\n _atom_site")], "no_sites"),
        "overlap": (good + chlorine.replace("0.5000000000  1", "0.52  1"), "overlapping_atoms"),
        "element": (good.replace("  Cl  Cl1", "  Qq  Qq1"), "unknown_element"),
        "half": (good.replace(chlorine, chlorine.replace("  1\n", "  0.5\n")), "partial_occupancy"),
        "two": (good + good.replace("data_CsCl", "data_again"), "multiple_structures"),
    }


def test_folder_of_50_good_and_10_broken_cifs(tmp_path):
    good = sample_crystals(50)
    write_cif(entries_table(good), tmp_path)
    broken = broken_cifs()
    for name, (content, _) in broken.items():
        (tmp_path / f"broken_{name}.CIF").write_text(content)
    entries, rejected = split(read_snapshot(str(tmp_path)))
    by_id = {entry.id: entry for entry in entries}
    assert len(by_id) == len(entries) == 50
    for index, crystal in enumerate(good):
        assert_same_crystal(by_id[f"entry-{index}"].crystal, crystal)
    assert {entry.source for entry in entries} == {"cif"}
    assert {r.key: r.reason for r in rejected} == {f"broken_{name}": reason for name, (_, reason) in broken.items()}
    for item in rejected:
        name = item.key.removeprefix("broken_")
        assert str(tmp_path / f"{item.key}.CIF") in item.message
        assert item.payload.decode() == broken[name][0]


def test_folder_without_cifs_and_unknown_sources_say_what_to_give(tmp_path):
    (tmp_path / "notes.txt").write_text("none here")
    for source, message in [
        (str(tmp_path), "holds no files of crystals"),
        (str(tmp_path / "absent.parquet"), "there is no"),
        (str(tmp_path / "notes.txt"), r"notes.txt: of no format that is read; there is CIF \(.cif, .mcif\), POSCAR"),
        ("optimade:ftp://x", "no web address"),
        (f"gnome-csv:{tmp_path / 'absent.csv'}", "by_id.zip or by_reduced_formula.zip"),
    ]:
        with pytest.raises(SourceError, match=message):
            list(read_snapshot(source))


# ---------------------------------------------------------------- Parquet


def test_own_parquet_yields_its_labels_and_those_of_the_source_database(tmp_path):
    crystals = sample_crystals(20)
    write_parquet(entries_table(crystals), tmp_path / "x.parquet")
    entries, rejected = split(read_snapshot(str(tmp_path / "x.parquet")))
    assert not rejected
    assert [entry.id for entry in entries] == [f"entry-{i}" for i in range(20)]
    assert entries[3].e_form_per_atom == pytest.approx(-0.7)
    assert entries[3].reference_e_form_per_atom == pytest.approx(-1.7)
    assert entries[3].source == "mp"
    np.testing.assert_array_equal(entries[7].crystal.frac_coords, crystals[7].frac_coords)


def test_broken_rows_of_a_parquet_are_named_and_the_rest_goes_on(tmp_path):
    rows = entries_table(sample_crystals(12)).to_pylist()
    rows[1]["lattice"] = [0.0] * 9
    rows[2]["frac_coords"][0] = float("nan")
    rows[3]["frac_coords"], rows[3]["numbers"] = [], []
    rows[4]["frac_coords"] = rows[4]["frac_coords"][:-1]
    rows[5]["numbers"] = [350] * len(rows[5]["numbers"])
    rows[6]["lattice"] = None
    rows[7]["frac_coords"] = [0.1] * len(rows[7]["frac_coords"])
    rows[8]["reference_e_form_per_atom"] = float("inf")
    rows[9]["id"] = "entry-0"
    rows[10]["id"] = None
    fields = [field.with_nullable(True) for field in ENTRY_SCHEMA]
    fields[3] = pa.field("numbers", pa.list_(pa.int64()))
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(fields)), tmp_path / "x.parquet", row_group_size=5)
    entries, rejected = split(read_snapshot(str(tmp_path / "x.parquet")))
    assert [entry.id for entry in entries] == ["entry-0", "entry-11"]
    assert [item.reason for item in rejected] == [
        "bad_lattice",
        "not_finite",
        "no_sites",
        "malformed_row",
        "malformed_row",
        "malformed_row",
        "overlapping_atoms",
        "not_finite",
        "duplicate_id",
        "missing_id",
    ]
    for row, item in zip([1, 2, 3, 4, 5, 6, 7, 8], rejected, strict=False):
        assert item.key == f"entry-{row}"
        assert f"x.parquet, row {row}: " in item.message
        assert pa.ipc.open_stream(item.payload).read_all()["id"].to_pylist() == [f"entry-{row}"]


def test_truncated_parquet_is_one_rejection(tmp_path):
    path = tmp_path / "x.parquet"
    write_parquet(entries_table(sample_crystals(20)), path)
    path.write_bytes(path.read_bytes()[:-100])
    (item,) = read_snapshot(str(path))
    assert (item.key, item.reason) == ("x.parquet", "unreadable_file")
    assert str(path) in item.message
    assert "again" in item.message


def test_damaged_row_group_costs_only_its_rows(tmp_path):
    path = tmp_path / "x.parquet"
    table = entries_table(sample_crystals(30))
    pq.write_table(table, path, row_group_size=10, compression="zstd", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(2)
    content = bytearray(path.read_bytes())
    start = column.data_page_offset
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    entries, rejected = split(read_snapshot(str(path)))
    assert [entry.id for entry in entries] == [f"entry-{i}" for i in [*range(10), *range(20, 30)]]
    assert [(item.key, item.reason) for item in rejected] == [("x.parquet:10", "unreadable_file")]
    assert "rows 10..19" in rejected[0].message


def test_parquet_without_the_columns_is_refused(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "numbers": [[1]]}), tmp_path / "x.parquet")
    with pytest.raises(SourceError, match=r"lacks the columns \['frac_coords', 'lattice'\], and has none of structure"):
        list(read_snapshot(str(tmp_path / "x.parquet")))


def nested(values: list[float], size: int) -> list[list[float]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


def test_parquet_of_matrices_numbered_ids_and_labels_of_text(tmp_path):
    crystals = sample_crystals(5)
    lattices = [nested(c.lattice.ravel().tolist(), 3) for c in crystals]
    table = {
        "id": pa.array([1000041, 12, 7, 8, 9]),
        "lattice": lattices,
        "frac_coords": [nested(c.frac_coords.ravel().tolist(), 3) for c in crystals],
        "numbers": [c.numbers.tolist() for c in crystals],
        "e_form_per_atom": ["-1.5", "None", "-1,5", "8.3(1)", "nan"],
        "source": [1, 2, 3, 4, 5],
    }
    fixed = pa.array(lattices, pa.list_(pa.list_(pa.float64(), 3), 3))
    for lattice in (lattices, fixed, pa.array(lattices, pa.large_list(pa.list_(pa.float32())))):
        pq.write_table(pa.table({**table, "lattice": lattice}), tmp_path / "x.parquet")
        entries, rejected = split(read_snapshot(str(tmp_path / "x.parquet")))
        assert [(e.id, e.e_form_per_atom) for e in entries] == [("1000041", -1.5), ("12", None), ("9", None)]
        assert [(r.key, r.reason) for r in rejected] == [("7", "not_a_number"), ("8", "not_a_number")]
        np.testing.assert_allclose(entries[1].crystal.lattice, crystals[1].lattice, rtol=1e-6)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_null_or_a_short_row_costs_itself_alone(tmp_path, position):
    crystals = sample_crystals(3)
    flat = [c.lattice.ravel().tolist() for c in crystals]
    columns = {
        "id": ["a", "b", "c"],
        "frac_coords": [c.frac_coords.ravel().tolist() for c in crystals],
        "numbers": [c.numbers.tolist() for c in crystals],
    }
    kept = [name for i, name in enumerate("abc") if i != position]
    null = [None if i == position else row for i, row in enumerate(flat)]
    short = [row[:6] if i == position else row for i, row in enumerate(flat)]
    vector = [nested(row, 3) if i != position else [*nested(row, 3)[:2], None] for i, row in enumerate(flat)]
    for lattice in (pa.array(null, pa.list_(pa.float64(), 9)), null, short, vector):
        pq.write_table(pa.table({**columns, "lattice": lattice}), tmp_path / "x.parquet")
        entries, rejected = split(read_snapshot(str(tmp_path / "x.parquet")))
        assert [entry.id for entry in entries] == kept
        assert [(item.key, item.reason) for item in rejected] == [("abc"[position], "malformed_row")]
        assert f"x.parquet, row {position}: " in rejected[0].message


def test_parquet_columns_of_no_lists_are_refused(tmp_path):
    columns = {"id": ["a"], "lattice": ["[[1, 0, 0]]"], "frac_coords": [[0.0, 0.0, 0.0]], "numbers": [[3]]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(SourceError, match="column lattice is of type string; it must hold lists of numbers"):
        list(read_snapshot(str(tmp_path / "x.parquet")))


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
@pytest.mark.parametrize(("name", "label"), [("mp_structures", 0.0387), ("mp20_binary_ternary", -0.4364)])
def test_published_data_sets_read_without_rejections(tmp_path, name, label):
    table = pq.read_table(SHARED / f"{name}.parquet").slice(0, 3000)
    pq.write_table(table, tmp_path / "x.parquet")
    entries, rejected = split(read_snapshot(str(tmp_path / "x.parquet")))
    assert not rejected
    assert len(entries) == 3000
    assert entries[0].e_form_per_atom == pytest.approx(label, abs=1e-4)
    assert entries[0].source == table["source"][0].as_py()
    np.testing.assert_array_equal(entries[9].crystal.lattice, crystals_from_batch(table)[9].lattice)


def test_embedded_snapshot_is_a_parquet_beside_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    with pytest.raises(SourceError, match="install the package again"):
        list(read_snapshot("embedded"))
    write_parquet(entries_table(sample_crystals(3)), tmp_path / "snapshot.parquet")
    assert [entry.id for entry in read_snapshot("embedded")] == ["entry-0", "entry-1", "entry-2"]


def test_of_a_few_elements_only_their_row_groups_are_read(tmp_path, monkeypatch):
    """All other row groups are damaged; only the columns of systems, which say which groups to read, are left whole."""
    entries = embedded_entries().slice(0, 4000)
    write_snapshot(entries, tmp_path / "snapshot.parquet")
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    system = Counter(name for name in entries["chemsys"].to_pylist() if name.count("-") == 2).most_common(1)[0][0]
    elements = set(system.split("-"))
    expected = entries.filter(pa.array([set(name.split("-")) <= elements for name in entries["chemsys"].to_pylist()]))
    read, total = damage_others(tmp_path / "snapshot.parquet", elements)
    assert 0 < read < total / 2
    found = embedded_entries(elements)
    assert len(found) >= 4
    assert found.schema == ENTRY_SCHEMA
    assert found.sort_by("id").equals(expected.sort_by("id"))
    with pytest.raises((pa.ArrowException, OSError)):
        embedded_entries()


def damage_others(path: Path, elements: set[str]) -> tuple[int, int]:
    """Overwrite all column chunks but `chemsys` of row groups without a crystal of these elements; (how many groups
    are left, of how many)."""
    content, whole = bytearray(path.read_bytes()), 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            systems = file.read_row_group(group, ["chemsys"])["chemsys"].to_pylist()
            metadata = file.metadata.row_group(group)
            if any(set(system.split("-")) <= elements for system in systems):
                whole += 1
                continue
            for column in map(metadata.column, range(metadata.num_columns)):
                if column.path_in_schema != "chemsys":
                    start = column.dictionary_page_offset or column.data_page_offset
                    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
        total = file.num_row_groups
    path.write_bytes(content)
    return whole, total


def test_of_a_few_elements_all_crystals_are_read_in_their_order():
    elements = {"Li", "P", "S", "Cl"}
    everything, part = embedded_entries(), embedded_entries(elements)
    inside = everything.filter(
        pa.array([set(system.split("-")) <= elements for system in everything["chemsys"].to_pylist()])
    )
    assert part.equals(inside)


# ---------------------------------------------------------------- GNoME's release


def write_gnome_release(folder: Path, crystals: list[Crystal], naming: str) -> list[str]:
    """`stable_materials_summary.csv` with its zip as GNoME publishes them; names in the zip by row."""
    columns = ["", "Composition", "MaterialId", "Reduced Formula", "Elements", "NSites", "Formation Energy Per Atom"]
    names = []
    with (
        (folder / "stable_materials_summary.csv").open("w", newline="") as table,
        zipfile.ZipFile(folder / f"{naming}.zip", "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        writer = csv.writer(table)
        writer.writerow(columns)
        for row, crystal in enumerate(crystals):
            key, formula = f"id{row:07d}", f"F{row}"
            elements = str(sorted({SYMBOLS[z] for z in crystal.numbers}))
            writer.writerow([row, formula, key, formula, elements, crystal.n_sites, -row / 10])
            names.append(f"{naming}/{key if naming == 'by_id' else formula}.CIF")
            archive.writestr(names[-1], format_cif(crystal, formula))
    return names


@pytest.mark.parametrize("naming", ["by_id", "by_reduced_formula"])
def test_gnome_release_is_read_from_its_zip(tmp_path, naming):
    crystals = sample_crystals(6)
    write_gnome_release(tmp_path, crystals, naming)
    entries, rejected = split(read_snapshot(f"gnome-csv:{tmp_path / 'stable_materials_summary.csv'}"))
    assert not rejected
    assert [entry.id for entry in entries] == [f"id{row:07d}" for row in range(6)]
    assert entries[4].e_form_per_atom == -0.4
    assert entries[4].source == "gnome"
    for entry, crystal in zip(entries, crystals, strict=True):
        assert_same_crystal(entry.crystal, crystal)


def test_gnome_rows_without_sound_structures_are_rejected(tmp_path):
    names = write_gnome_release(tmp_path, sample_crystals(6), "by_id")
    table, archive = tmp_path / "stable_materials_summary.csv", tmp_path / "by_id.zip"
    with zipfile.ZipFile(archive) as old:
        offset = old.getinfo(names[1]).header_offset + 30 + len(names[1])
        size = old.getinfo(names[1]).compress_size
    content = bytearray(archive.read_bytes())
    content[offset : offset + size] = b"\x07" * size
    archive.write_bytes(content)
    text = table.read_text().replace("id0000002", "id9999999").replace(",-0.3", ",minus")
    table.write_text(text[: text.index("F5")])
    entries, rejected = split(read_snapshot(f"gnome-csv:{table}"))
    assert [entry.id for entry in entries] == ["id0000000", "id0000004"]
    assert [item.reason for item in rejected] == ["unreadable_file", "missing_structure", "not_a_number", "missing_id"]
    assert [f", line {line}" in item.message for line, item in zip([3, 4, 5, 7], rejected, strict=True)] == [True] * 4
    assert json.loads(rejected[1].payload)["MaterialId"] == "id9999999"


# ---------------------------------------------------------------- Materials Project


def fake_mp_api(monkeypatch, documents, systems=None):
    class MPRester:
        def __init__(self, key):
            assert key == "secret"
            summary = types.SimpleNamespace(search=self.search)
            self.materials = types.SimpleNamespace(summary=summary)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def search(self, deprecated, fields, chemsys=None):
            assert deprecated is False
            assert chemsys == systems
            assert set(fields) == {"material_id", "structure", "formation_energy_per_atom"}
            return documents

    client = types.ModuleType("mp_api.client")
    client.MPRester = MPRester
    monkeypatch.setitem(sys.modules, "mp_api", types.ModuleType("mp_api"))
    monkeypatch.setitem(sys.modules, "mp_api.client", client)


def test_materials_project_documents_become_entries(monkeypatch):
    from pymatgen.core import Structure

    crystal = sample_crystals(4)[3]
    disordered = Structure(np.eye(3) * 4, [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    structures = [to_structure(crystal), disordered, None]
    fake_mp_api(
        monkeypatch,
        [
            types.SimpleNamespace(material_id=f"mp-{i}", structure=structure, formation_energy_per_atom=-1.5)
            for i, structure in enumerate(structures)
        ],
    )
    monkeypatch.setenv("MP_API_KEY", "secret")
    (entry,), rejected = split(read_snapshot("mp-api"))
    assert (entry.id, entry.source, entry.e_form_per_atom) == ("mp-0", "mp", -1.5)
    assert_same_crystal(entry.crystal, crystal)
    assert [(r.key, r.reason) for r in rejected] == [("mp-1", "partial_occupancy"), ("mp-2", "missing_structure")]


def test_a_system_of_the_materials_project_is_asked_for_with_all_within_it(monkeypatch):
    fake_mp_api(monkeypatch, [], ["Cl", "Li", "S", "Cl-Li", "Cl-S", "Li-S", "Cl-Li-S"])
    monkeypatch.setenv("MP_API_KEY", "secret")
    assert list(read_snapshot("mp-api:Li-S-Cl")) == []
    with pytest.raises(SourceError, match="mp-api:Li-Sj: no such element 'Sj'; write mp-api:Li-P-S-Cl"):
        list(read_snapshot("mp-api:Li-Sj"))


def test_materials_project_without_package_or_key_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "mp_api", None)
    monkeypatch.setitem(sys.modules, "mp_api.client", None)
    with pytest.raises(SourceError, match="pip install"):
        list(read_snapshot("mp-api"))
    fake_mp_api(monkeypatch, [])
    monkeypatch.delenv("MP_API_KEY", raising=False)
    with pytest.raises(SourceError, match="MP_API_KEY is not set"):
        list(read_snapshot("mp-api"))


# ---------------------------------------------------------------- OPTIMADE


def optimade_structure(key: str, crystal: Crystal, **changes) -> dict:
    symbols = [SYMBOLS[z] for z in crystal.numbers]
    attributes = {
        "lattice_vectors": crystal.lattice.tolist(),
        "cartesian_site_positions": crystal.positions.tolist(),
        "species": [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in sorted(set(symbols))],
        "species_at_sites": symbols,
        "dimension_types": [1, 1, 1],
        "nsites": crystal.n_sites,
    }
    return {"id": key, "type": "structures", "attributes": attributes | changes}


@pytest.fixture
def optimade_server():
    """(base address, pages: path with query -> JSON or HTTP status, or a list of them for consecutive calls)."""
    pages: dict = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = pages.get(self.path.replace("%2C", ","), 404)
            if isinstance(answer, list):
                answer = answer.pop(0)
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            if not isinstance(answer, int):
                self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", pages
    server.shutdown()
    server.server_close()
    thread.join()


FIELDS = "lattice_vectors,cartesian_site_positions,species,species_at_sites,dimension_types,nsites,structure_features"


def test_optimade_pages_are_followed_and_broken_structures_rejected(optimade_server):
    base, pages = optimade_server
    crystals = sample_crystals(8)
    disordered = [{"name": s, "chemical_symbols": [s, "vacancy"], "concentration": [0.9, 0.1]} for s in SYMBOLS]
    unknown = [{"name": s, "chemical_symbols": ["X"]} for s in SYMBOLS]
    first = [optimade_structure(str(i), crystal) for i, crystal in enumerate(crystals[:4])]
    second = [
        optimade_structure("disorder", crystals[4], species=disordered),
        optimade_structure("dummy", crystals[4], species=unknown),
        optimade_structure("slab", crystals[4], dimension_types=[1, 1, 0]),
        optimade_structure("flat", crystals[4], lattice_vectors=[[1, 0, 0], [0, 1, 0], [0, 0, 0]]),
        optimade_structure("null", crystals[4], lattice_vectors=None),
        {"id": "bare", "type": "structures"},
        optimade_structure("good", crystals[5]),
    ]
    pages[f"/db/v1/structures?response_fields={FIELDS}"] = {"data": first, "links": {"next": f"{base}/page2"}}
    pages[f"/page2?response_fields={FIELDS}"] = {"data": second, "links": {"next": {"href": "/page3?page_offset=9"}}}
    pages[f"/page3?page_offset=9&response_fields={FIELDS}"] = {"data": [], "links": {"next": None}}
    entries, rejected = split(read_snapshot(f"optimade:{base}/db"))
    assert [entry.id for entry in entries] == ["0", "1", "2", "3", "good"]
    for entry, crystal in zip(entries, [*crystals[:4], crystals[5]], strict=True):
        assert_same_crystal(entry.crystal, crystal, 1e-8)
    assert {item.key: item.reason for item in rejected} == {
        "disorder": "partial_occupancy",
        "dummy": "unknown_element",
        "slab": "not_periodic",
        "flat": "bad_lattice",
        "null": "malformed_row",
        "bare": "malformed_row",
    }


def test_optimade_fields_are_asked_for_again_and_nulls_are_no_statements(optimade_server):
    base, pages = optimade_server
    crystals = sample_crystals(4)
    null = {"dimension_types": None, "nsites": None, "structure_features": None}
    plain = [{"name": s, "chemical_symbols": [s], "concentration": None, "attached": None} for s in SYMBOLS]
    attached = [{**one, "attached": ["H"], "nattached": [2]} for one in plain]
    first = [
        optimade_structure("null", crystals[0], species=plain, **null),
        optimade_structure("unasked", crystals[1], species=None, cartesian_site_positions=None),
        optimade_structure("short", crystals[1], nsites=7),
        optimade_structure("implicit", crystals[1], structure_features=["implicit_atoms"]),
        optimade_structure("assembly", crystals[1], structure_features=["assemblies"]),
        optimade_structure("attached", crystals[1], species=attached),
    ]
    asked = f"response_fields={FIELDS}"
    pages[f"/v1/structures?{asked}"] = {"data": first, "links": {"next": "/v1/structures?page_offset=6"}}
    pages[f"/v1/structures?page_offset=6&{asked}"] = {
        "data": [optimade_structure("second", crystals[2])],
        "links": {"next": f"{base}/v1/structures?page_offset=7&response_fields=all"},
    }
    pages["/v1/structures?page_offset=7&response_fields=all"] = {"data": [optimade_structure("third", crystals[3])]}
    entries, rejected = split(read_snapshot(f"optimade:{base}"))
    assert [entry.id for entry in entries] == ["null", "second", "third"]
    assert {item.key: item.reason for item in rejected} == {
        "unasked": "malformed_row",
        "short": "malformed_row",
        "implicit": "missing_atoms",
        "assembly": "partial_occupancy",
        "attached": "missing_atoms",
    }
    assert "sends no cartesian_site_positions, species" in rejected[0].message


def test_optimade_filters_are_kept_and_busy_servers_asked_again(optimade_server):
    base, pages = optimade_server
    page = {"data": [optimade_structure("a", sample_crystals(1)[0])]}
    pages[f"/v1/structures?filter=nelements%3D2&response_fields={FIELDS}"] = [503, 429, page]
    items = list(read_optimade(f"{base}/v1/structures?filter=nelements=2", first_pause=0.01))
    assert Counter(type(item) for item in items) == {Entry: 1}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (404, "HTTP 404"),
        (500, "HTTP 500"),
        ({"meta": {}}, "does not answer with a list"),
        ([["x"]], "check the address"),
    ],
)
def test_optimade_servers_that_fail_are_one_error(optimade_server, answer, message):
    base, pages = optimade_server
    pages[f"/v1/structures?response_fields={FIELDS}"] = answer
    with pytest.raises(SourceError, match=message):
        list(read_optimade(base, first_pause=0.01))


def test_optimade_page_that_links_to_itself_ends(optimade_server):
    base, pages = optimade_server
    address = f"/v1/structures?response_fields={FIELDS}"
    pages[address] = {"data": [], "links": {"next": base + address.replace(",", "%2C")}}
    with pytest.raises(SourceError, match="links to itself"):
        list(read_optimade(base))
