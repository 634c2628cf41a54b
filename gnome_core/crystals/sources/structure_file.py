"""The one crystal of a structure file of any format."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from gnome_core.crystals.cif import parse_cif
from gnome_core.crystals.cif_blocks import decode_cif
from gnome_core.crystals.convert import from_atoms
from gnome_core.crystals.crystal import Crystal, InvalidCrystal, check_crystal
from gnome_core.crystals.entries import SourceError

_SNIFFED = 1 << 20  # bytes in which a CIF of another name is recognised


def read_structure(path: Path) -> Crystal:
    """CIF as `read_snapshot` reads it; POSCAR, extxyz and the others by ASE, of several images the last.

    Raises SourceError naming the file for what cannot be read or is no ordered, periodic crystal.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    try:
        crystal = parse_cif(decode_cif(path.read_bytes())) if _is_cif(path) else _by_ase(path)
        check_crystal(crystal)
    except InvalidCrystal as error:
        raise SourceError(f"{path}: {error}") from error
    return crystal


def _is_cif(path: Path) -> bool:
    if path.suffix.lower() in (".cif", ".mcif"):
        return True
    with path.open("rb") as file:
        return bool(re.search(r"^_cell[_.]length_a\s", decode_cif(file.read(_SNIFFED)), re.IGNORECASE | re.MULTILINE))


def _by_ase(path: Path) -> Crystal:
    from ase.io import read

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = read(path)
    except Exception as error:  # its readers raise whatever broken text makes them meet, AssertionError among it
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise SourceError(f"{path}: ASE cannot read it ({said}); give a CIF, POSCAR or extxyz file") from error
    atoms = atoms[-1] if isinstance(atoms, list) else atoms
    if any(len(species) > 1 or min(species.values()) < 1 for species in (atoms.info.get("occupancy") or {}).values()):
        raise InvalidCrystal("partial_occupancy", "sites are disordered; use an ordered approximant")
    return from_atoms(atoms)
