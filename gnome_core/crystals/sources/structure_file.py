"""The one crystal of a structure file of any format."""

from __future__ import annotations

import codecs
import re
import tempfile
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gnome_core.crystals.cif import parse_cif
from gnome_core.crystals.cif_blocks import decode_cif
from gnome_core.crystals.convert import from_atoms
from gnome_core.crystals.crystal import Crystal, InvalidCrystal, check_crystal
from gnome_core.crystals.entries import SourceError

if TYPE_CHECKING:
    from ase import Atoms

_SNIFFED = 1 << 20  # bytes in which a CIF of another name is recognised
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = list(read_images(path, -1))
    if not images:
        raise InvalidCrystal("no_sites", "no structure in it; give a CIF, POSCAR or extxyz file")
    (atoms,) = images
    if any(len(species) > 1 or min(species.values()) < 1 for species in (atoms.info.get("occupancy") or {}).values()):
        raise InvalidCrystal("partial_occupancy", "sites are disordered; use an ordered approximant")
    return from_atoms(atoms)


def read_images(path: Path, index: int | str = ":") -> Iterator[Atoms]:
    """The images of a file that ASE reads, all or the one of an index. Raises SourceError naming the file."""
    from ase.io import iread

    n = 0
    with _unmarked(path) as plain:
        try:
            for atoms in iread(plain, index, do_not_split_by_at_sign=True):
                yield atoms
                n += 1
        except Exception as error:  # its readers raise whatever broken text makes them meet, AssertionError among it
            said = " ".join(str(error).split())[:200] or type(error).__name__
            said = f"it knows no {said}" if isinstance(error, KeyError) else said
            where = f"configuration {n}" if n else "it"
            raise SourceError(f"{path}: ASE cannot read {where} ({said}); give a CIF, POSCAR or extxyz file") from error


@contextmanager
def _unmarked(path: Path) -> Generator[Path]:
    """The file, or a copy in UTF-8 of one that begins with a byte order mark, which readers take for text."""
    with path.open("rb") as file:
        marked = file.read(max(map(len, _MARKS))).startswith(_MARKS)
    if not marked:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)  # the format is told by it
        copy.write_text(decode_cif(path.read_bytes()), encoding="utf-8")
        yield copy
