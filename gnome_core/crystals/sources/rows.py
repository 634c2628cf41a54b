"""The crystal, id and label of a row, of a table or of a list of JSON documents, by the names that databases use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any

from gnome_core.crystals.cif import parse_cif
from gnome_core.crystals.convert import from_structure
from gnome_core.crystals.crystal import Crystal, InvalidCrystal
from gnome_core.crystals.entries import Entry, Rejected, read_entry
from gnome_core.crystals.sources.optimade import crystal_of_structure
from gnome_core.crystals.sources.values import NOTHING, as_number

# The first that a row has, in any case of letters. Materials Project, LeMaterial, pymatgen, Alexandria, JARVIS.
IDS = ("id", "material_id", "immutable_id", "entry_id", "mat_id", "jid")
# Formation energies, eV/atom.
LABELS = ("e_form_per_atom", "formation_energy_per_atom", "formation_energy_peratom")
# pymatgen's JSON, text of a CIF or of a POSCAR: the cell itself tells which.
STRUCTURES = ("structure", "computed_structure_entry", "cif", "poscar", "contcar")
OPTIMADE = "lattice_vectors"

_ENERGY = re.compile(r"energy|enthalpy|^e_|^delta_e", re.IGNORECASE)
_CIF = re.compile(r"^\s*_cell[_.]length_a\s", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Columns:
    """The names, as they are spelled, of a row's id, crystal and label; None where it has none.

    energies: those of all energies that are no label: of totals, whose scale is not known, or measured from a hull.
    """

    id: str | None
    structure: str | None
    label: str | None
    energies: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> Columns:
        spelled: dict[str, str] = {}
        for name in names:
            spelled.setdefault(str(name).lower(), name)
        found = {known: spelled[known] for known in (*IDS, *LABELS, *STRUCTURES, OPTIMADE) if known in spelled}
        first = [next((found[name] for name in kind if name in found), None) for kind in (IDS, LABELS)]
        structure = next((found[name] for name in (*STRUCTURES, OPTIMADE) if name in found), None)
        energies = (name for name in spelled.values() if _ENERGY.search(str(name)) and str(name).lower() not in LABELS)
        return cls(first[0], structure, first[1], tuple(sorted(energies)))


def read_row(row: object, where: str, key: str, source: str) -> Entry | Rejected:
    """The entry of a row: a pymatgen Structure or entry, an OPTIMADE structure, or a record whose cell is one or text.

    key: its id where it has none. The label is a formation energy of `LABELS`; other energies are named as unused.
    """

    def payload() -> bytes:
        return json.dumps(row, default=str).encode()

    try:
        flat = flat_row(row)
    except InvalidCrystal as error:
        return Rejected(key, error.reason, f"{where}: {error}", payload())
    said = said_of(flat, key)
    return read_entry(said.id, where, source, lambda: _crystal(flat), said.label, payload, unused=said.unused)


@dataclass(frozen=True)
class Said:
    """What a row says of its crystal: id, the cell of its label, names of the energies that are none."""

    id: str
    label: object
    unused: tuple[str, ...]


def said_of(row: Mapping, key: str) -> Said:
    """key: the id where the row has none."""
    spelled = {str(name).lower(): name for name in row}
    ids = (row[spelled[name]] for name in IDS if name in spelled)
    id_ = next((str(cell) for cell in ids if cell is not None and str(cell)), key)
    columns = Columns.of(row)
    label = row[columns.label] if columns.label else None
    if label is not None and str(label).strip().lower() not in NOTHING:
        return Said(id_, label, ())
    return Said(id_, None, tuple(name for name in columns.energies if _is_number(row[name])))


def flat_row(row: object) -> Mapping:
    """The row with what its entry and the entry's `data` say; cells of the row itself win."""
    if not isinstance(row, Mapping):
        raise InvalidCrystal("malformed_row", f"{str(row)[:60]!r} is no structure; give pymatgen's JSON")
    if isinstance(row.get("attributes"), Mapping):  # OPTIMADE
        row = {**row["attributes"], **{name: value for name, value in row.items() if name != "attributes"}}
    name = Columns.of(row).structure
    cell = row[name] if name else None
    if isinstance(cell, str) and cell.lstrip().startswith("{"):
        try:
            cell = json.loads(cell)
        except ValueError as error:
            raise InvalidCrystal("malformed_row", f"{name} is no JSON ({error}); write it again") from None
        row = {**row, name: cell}
    if isinstance(cell, Mapping) and isinstance(cell.get("structure"), Mapping):
        row = {**cell, **{other: value for other, value in row.items() if other != name}}
        row["structure"] = cell["structure"]
    return {**row["data"], **row} if isinstance(row.get("data"), Mapping) else row


def _is_number(cell: object) -> bool:
    try:
        return not isinstance(cell, bool) and as_number(cell) is not None
    except ValueError:
        return False


def _crystal(row: Mapping) -> Crystal:
    if "lattice" in row and "sites" in row:
        return _of_pymatgen(row)
    columns = Columns.of(row)
    if columns.structure is None:
        raise InvalidCrystal("missing_structure", f"no structure among {sorted(map(str, row))[:12]}; write it again")
    cell = row[columns.structure]
    if columns.structure.lower() == OPTIMADE:
        return _of_optimade(row)
    if cell is None or cell == "":
        raise InvalidCrystal("missing_structure", f"{columns.structure} is empty; leave the row out")
    if isinstance(cell, Mapping):
        return _of_optimade(cell) if OPTIMADE in cell else _of_pymatgen(cell)
    if isinstance(cell, str | bytes):
        return _of_text(cell if isinstance(cell, str) else cell.decode("utf-8", errors="replace"))
    raise InvalidCrystal("malformed_row", f"{columns.structure} is {str(cell)[:60]!r}; give CIF, POSCAR or JSON")


def _of_optimade(attributes: Mapping) -> Crystal:
    symbols = attributes.get("species_at_sites")
    plain = [{"name": symbol, "chemical_symbols": [symbol]} for symbol in sorted(set(symbols or ()))]
    return crystal_of_structure({"attributes": {**attributes, "species": attributes.get("species") or plain}})


def _of_pymatgen(document: Mapping) -> Crystal:
    from pymatgen.core import Structure

    try:
        structure = Structure.from_dict(_without_nulls(document))
    except Exception as error:  # whatever broken documents make it meet
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InvalidCrystal("malformed_row", f"no Structure of pymatgen ({said}); write it again") from error
    return from_structure(structure)


def _without_nulls(value: Any) -> Any:
    """A document as it was before a table gave all of its rows the same fields."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _of_text(text: str) -> Crystal:
    if _CIF.search(text):
        return parse_cif(text)
    from ase.io.vasp import read_vasp

    from gnome_core.crystals.convert import from_atoms

    try:
        atoms = read_vasp(StringIO(text))
    except Exception as error:  # as for files
        said = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        message = f"{text[:40]!r} is no text of a CIF, POSCAR or pymatgen's JSON ({said})"
        raise InvalidCrystal("unreadable_file", message) from error
    return from_atoms(atoms)
