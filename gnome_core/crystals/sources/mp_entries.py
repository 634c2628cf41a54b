"""Entries of the Materials Project with the energies that were computed: pymatgen's JSON of its client's entries."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gnome_core.crystals.crystal import InvalidCrystal
from gnome_core.crystals.entries import MAX_PAYLOAD, Entry, Rejected, SourceError
from gnome_core.crystals.sources.json_file import read_documents
from gnome_core.crystals.sources.rows import flat_row, read_row
from gnome_core.crystals.sources.source_file import file_on_disk

KIND = "mp-entries"


@dataclass(frozen=True)
class RawEntry:
    """A crystal as VASP computed it. energy_per_atom: eV, without any correction. run_type: GGA, GGA+U or another.
    hubbards: element symbol -> U (eV); None where the entry says none of a GGA+U calculation."""

    entry: Entry
    energy_per_atom: float
    run_type: str
    hubbards: Mapping[str, float] | None


def read_mp_entries(path: Path) -> Iterator[RawEntry | Rejected]:
    """The entries of a file (`ComputedStructureEntry.as_dict`, a list of them; compressed or not).

    Raises SourceError where there is no such file. A document without structure, energy or run type is `Rejected`.
    """
    if not path.is_file():
        raise SourceError(
            f"there is no {str(path)!r}; a snapshot {KIND}:FILE is JSON of the Materials Project's entries"
        )
    return read_documents(file_on_disk(path), lambda document, where, key: [_read(document, where, key)])


def _read(document: object, where: str, key: str) -> RawEntry | Rejected:
    entry = read_row(document, where, key, "mp")
    if isinstance(entry, Rejected):
        return entry
    try:
        return _raw(entry, flat_row(document))
    except InvalidCrystal as error:
        payload = json.dumps(document, default=str).encode()[:MAX_PAYLOAD]
        return Rejected(entry.id, error.reason, f"{where}: {error}", payload)


def _raw(entry: Entry, row: Mapping) -> RawEntry:
    energy, parameters = row.get("energy"), row.get("parameters")
    if isinstance(energy, bool) or not isinstance(energy, int | float) or not math.isfinite(energy):
        raise InvalidCrystal("missing_energy", f"its energy is {energy!r}; an entry has the raw one of its cell in eV")
    parameters = parameters if isinstance(parameters, Mapping) else {}
    kind = parameters.get("run_type")
    if not isinstance(kind, str):
        raise InvalidCrystal("missing_run_type", "its parameters name no run_type, which says what was computed")
    kind, hubbards = kind.upper().replace("_U", "+U"), parameters.get("hubbards")
    if hubbards is not None and not (isinstance(hubbards, Mapping) and all(map(_is_u, hubbards.values()))):
        raise InvalidCrystal("malformed_row", f"its hubbards are {hubbards!r}, not elements with their U")
    given = dict(hubbards) if hubbards else None if kind.endswith("+U") else {}
    return RawEntry(entry, energy / entry.crystal.n_sites, kind, given)


def _is_u(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
