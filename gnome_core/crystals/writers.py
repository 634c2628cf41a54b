"""Tables of entries as files for other programs: CSV, Parquet, CIF, POSCAR, extxyz, OPTIMADE, pymatgen."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gnome_core import spreadsheets
from gnome_core.compositions.formulas import SYMBOLS, composition_key
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.files import replacing, sync_file_system, write_file

_ROWS = 256  # of a group: some dozen systems, some ten kilobytes


def write_parquet(table: pa.Table, path: str | Path) -> None:
    """The table as it is (of entries: schema version and units in its metadata), compressed with zstd."""
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd")


def write_snapshot(entries: pa.Table, path: str | Path) -> None:
    """Entries (ENTRY_SCHEMA) so that those of a few chemical systems are read without the rest: sorted by system, in
    small row groups. Lengths and coordinates keep 7 digits, 1e-6 Å: energies do not notice."""
    entries = entries.sort_by([("chemsys", "ascending"), ("id", "ascending")])
    for name in ("lattice", "frac_coords"):
        place = entries.schema.get_field_index(name)
        entries = entries.set_column(place, name, entries[name].cast(pa.list_(pa.float32())))
    with replacing(path) as file:
        pq.write_table(
            entries,
            file,
            compression="zstd",
            compression_level=19,
            row_group_size=_ROWS,
            use_dictionary=["formula", "chemsys", "scale", "source", "energy_kind"],
        )


def write_csv(entries: pa.Table, path: str | Path) -> None:
    """One line an entry: all plain columns, and the number of sites instead of the structure."""
    sites = pc.call_function("list_value_length", [entries["numbers"]])
    spreadsheets.write_csv(entries.select(_plain(entries)).append_column("n_sites", sites), path)


def write_cif(entries: pa.Table, folder: str | Path) -> list[Path]:
    """One file an entry, named by its id, in a folder that is made if needed; the files' paths in row order."""
    from gnome_core.crystals.cif import format_cif

    return _write_each(entries, folder, ".cif", format_cif)


def write_poscar(entries: pa.Table, folder: str | Path) -> list[Path]:
    """One POSCAR an entry, ID.vasp, sites sorted by element; files and names as those of `write_cif`."""
    from pymatgen.io.vasp.inputs import Poscar

    from gnome_core.crystals.convert import to_structure

    def text(crystal: Crystal, key: str) -> str:
        return Poscar(to_structure(crystal).get_sorted_structure(), comment=key).get_str(significant_figures=12)

    return _write_each(entries, folder, ".vasp", text)


def write_extxyz(entries: pa.Table, path: str | Path) -> None:
    """One configuration an entry, its plain columns (no nulls or empty texts) in the comment line, as ASE reads it."""
    from ase.io.extxyz import write_extxyz as write_frames

    from gnome_core.crystals.convert import to_atoms

    frames = []
    for crystal, row in _rows(entries):
        atoms = to_atoms(crystal)
        atoms.info = {name: value for name, value in row.items() if value is not None and value != ""}
        frames.append(atoms)
    text = io.StringIO()
    write_frames(text, frames)
    write_file(path, text.getvalue().encode())


def write_optimade(entries: pa.Table, path: str | Path) -> None:
    """One JSON document, as an OPTIMADE server (1.2) answers for /structures: the standard's names, and every plain
    column as _gnome_NAME."""
    data = [
        {
            "type": "structures",
            "id": row["id"],
            "attributes": {**_optimade(crystal), **{f"_gnome_{n}": v for n, v in row.items() if n != "id"}},
        }
        for crystal, row in _rows(entries)
    ]
    meta = {
        "api_version": "1.2.0",
        "query": {"representation": "/structures"},
        "data_returned": len(data),
        "more_data_available": False,
        "provider": {"name": "gnome-flywheel", "prefix": "gnome", "description": "exported from a store"},
    }
    write_file(path, json.dumps({"meta": meta, "data": data}).encode())


def write_pymatgen(entries: pa.Table, path: str | Path) -> None:
    """One JSON list of ComputedStructureEntry (energies in eV of the cell), which monty's `loadfn` reads; columns that
    are no part of one are its `data`."""
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    from gnome_core.crystals.convert import to_structure

    texts = []
    for crystal, row in _rows(entries):
        key, energy, correction = (row.pop(name) for name in ("id", "energy_per_atom", "correction_per_atom"))
        n = crystal.n_sites
        entry = ComputedStructureEntry(to_structure(crystal), n * energy, n * correction, data=row, entry_id=key)
        texts.append(json.dumps(entry.as_dict()))
    write_file(path, f"[{', '.join(texts)}]".encode())


def _optimade(crystal: Crystal) -> dict:
    """The attributes of the standard, version 1.2; lengths in Å."""
    counts = sorted((SYMBOLS[z], n) for z, n in composition_key(crystal.numbers))
    atoms = sum(n for _, n in counts)
    letters = zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", sorted((n for _, n in counts), reverse=True), strict=False)
    sites = [SYMBOLS[z] for z in crystal.numbers.tolist()]
    return {
        "last_modified": None,
        "elements": [symbol for symbol, _ in counts],
        "nelements": len(counts),
        "elements_ratios": [n / atoms for _, n in counts],
        "chemical_formula_descriptive": _formula(counts),
        "chemical_formula_reduced": _formula(counts),
        "chemical_formula_anonymous": _formula(letters),
        "dimension_types": [1, 1, 1],
        "nperiodic_dimensions": 3,
        "lattice_vectors": crystal.lattice.tolist(),
        "cartesian_site_positions": crystal.positions.tolist(),
        "nsites": crystal.n_sites,
        "species": [{"name": symbol, "chemical_symbols": [symbol], "concentration": [1.0]} for symbol, _ in counts],
        "species_at_sites": sites,
        "structure_features": [],
    }


def _formula(counts: Iterable[tuple[str, int]]) -> str:
    return "".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in counts)


def _plain(entries: pa.Table) -> list[str]:
    """Columns that are not nested."""
    return [name for name in entries.column_names if not pa.types.is_nested(entries.schema.field(name).type)]


def _rows(entries: pa.Table) -> Iterator[tuple[Crystal, dict]]:
    """Each crystal and its plain columns; NaN, which JSON does not know, as None."""
    plain = entries.select(_plain(entries)).to_pylist()
    for crystal, row in zip(crystals_from_batch(entries), plain, strict=True):
        yield crystal, {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in row.items()}


def _write_each(entries: pa.Table, folder: str | Path, ending: str, text: Callable[[Crystal, str], str]) -> list[Path]:
    """A file an entry, of text(crystal, id), named by its id; see `write_cif`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ids = entries["id"].to_pylist()
    paths = [folder / f"{name}{ending}" for name in file_names(ids)]
    for key, crystal, path in zip(ids, crystals_from_batch(entries), paths, strict=True):
        write_file(path, text(crystal, key).encode(), durable=False)
    sync_file_system(folder)
    return paths


def file_names(ids: Sequence[str]) -> list[str]:
    """A name without ending for each id, as any file system takes it.

    Characters that some file system refuses become "_"; ids that then coincide get their row number appended.
    """
    names: list[str] = []
    taken: set[str] = set()
    for row, key in enumerate(ids):
        name = re.sub(r"[^A-Za-z0-9_.+-]", "_", key).lstrip(".")[:150] or "entry"
        if name.lower() in taken:  # file systems may ignore case
            name = f"{name}-{row}"
        taken.add(name.lower())
        names.append(name)
    return names
