"""Crystals of the files that ASE reads: POSCAR, extxyz, its databases, and the rest of its formats."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from gnome_core.crystals.convert import from_atoms
from gnome_core.crystals.crystal import Crystal, InvalidCrystal
from gnome_core.crystals.entries import MAX_PAYLOAD, Entry, Rejected, SourceError, read_entry
from gnome_core.crystals.sources.rows import said_of
from gnome_core.crystals.sources.source_file import SourceFile, file_on_disk, numbered, plain_path, text_of

if TYPE_CHECKING:
    from ase import Atoms


def read_images(path: Path) -> Iterator[Atoms]:
    """All images of a file that ASE reads. Raises SourceError naming the file and the image."""
    with plain_path(file_on_disk(path)) as plain:
        try:
            yield from _images(plain, ":", None)
        except InvalidCrystal as error:
            raise SourceError(f"{path}: {error}; give a CIF, POSCAR or extxyz file") from error


def read_last(format: str) -> Callable[[SourceFile], Iterator[Entry | Rejected]]:
    """A reader of files of one ASE format, of whose images the last counts: the others are on the way to it."""

    def read(file: SourceFile) -> Iterator[Entry | Rejected]:
        yield _entry(file.where, file.key, format, lambda: _last(file, format), lambda: _content(file))

    return read


def read_all(format: str) -> Callable[[SourceFile], Iterator[Entry | Rejected]]:
    """A reader of files of one ASE format, each image of which is a crystal."""

    def read(file: SourceFile) -> Iterator[Entry | Rejected]:
        row = -1
        with plain_path(file) as path:
            try:
                for row, key, atoms in numbered(file.key, _images(path, ":", format)):
                    yield _of_atoms(f"{file.where}, configuration {row}", key, format, atoms)
            except InvalidCrystal as error:
                message = f"{file.where}: {error}; what follows is not read"
                yield Rejected(f"{file.key}-{row + 1}", error.reason, message, b"")

    return read


def read_guessed(file: SourceFile) -> Iterator[Entry | Rejected] | None:
    """The crystals of a file of any other format that ASE knows by name or content; None where it knows none."""
    from ase.io.formats import filetype, ioformats

    with plain_path(file) as path:
        try:
            format = filetype(str(path))
        except Exception:  # UnknownFileTypeError, and whatever its looks into broken files meet
            return None
    if format not in ioformats:  # an ending that it made nothing of
        return None
    return read_extxyz(file) if format in ("extxyz", "xyz") else read_last(format)(file)


def read_extxyz(file: SourceFile) -> Iterator[Entry | Rejected]:
    """Every configuration, as they come. A broken one costs itself; what follows a line that should be a number of
    atoms and is not cannot be told apart, and is one `Rejected`."""
    with text_of(file) as text:
        for row, key, chunk in numbered(file.key, _chunks(text)):
            where = f"{file.where}, configuration {row}"
            yield _entry(where, key, "extxyz", lambda chunk=chunk: _of_chunk(chunk), chunk.encode)


def read_database(file: SourceFile, kind: str = "db") -> Iterator[Entry | Rejected]:
    """Every row of a database of ASE ("db": SQLite, "json"), as they come; named by a key `id`, `material_id` ... or by
    its number."""
    from ase.db import connect

    row = None
    with plain_path(file) as path:
        try:
            for row in connect(path, type=kind, use_lock_file=False).select():
                where, key = f"{file.where}, row {row.id}", f"{file.key}-{row.id}"
                try:
                    atoms = row.toatoms()
                except Exception as error:
                    yield Rejected(key, "unreadable_file", f"{where}: {_said(error)}; write it again", b"")
                    continue
                atoms.info = {**row.key_value_pairs}
                yield _of_atoms(where, key, "ase", atoms)
        except Exception as error:  # of sqlite3, json or ase.db
            after = f", after row {row.id}" if row is not None else ""
            yield Rejected(file.key, "unreadable_file", f"{file.where}{after}: {_said(error)}; copy it again", b"")


def crystal_of_atoms(atoms: Atoms) -> Crystal:
    """Raises InvalidCrystal for disorder and for what is no bulk crystal."""
    occupancies: Mapping = atoms.info.get("occupancy") or {}
    if any(len(species) > 1 or min(species.values()) < 1 for species in occupancies.values()):
        raise InvalidCrystal("partial_occupancy", "sites are disordered; use an ordered approximant")
    return from_atoms(atoms)


def _entry(
    where: str, key: str, source: str, load: Callable[[], Atoms], payload: Callable[[], bytes]
) -> Entry | Rejected:
    try:
        atoms = load()
    except InvalidCrystal as error:
        return Rejected(key, error.reason, f"{where}: {error}", payload()[:MAX_PAYLOAD])
    return _of_atoms(where, key, source, atoms)


def _of_atoms(where: str, key: str, source: str, atoms: Atoms) -> Entry | Rejected:
    said = said_of({**atoms.info, **(atoms.calc.results if atoms.calc else {})}, key)
    return read_entry(
        said.id, where, source, lambda: crystal_of_atoms(atoms), said.label, lambda: _text(atoms), unused=said.unused
    )


def _last(file: SourceFile, format: str) -> Atoms:
    with plain_path(file) as path:
        images = list(_images(path, -1, format))
    if not images:
        raise InvalidCrystal("no_sites", "no structure in it; give a CIF, POSCAR or extxyz file")
    return images[-1]


def _images(path: Path, index: int | str, format: str | None) -> Iterator[Atoms]:
    """Raises InvalidCrystal for what ASE cannot read."""
    from ase.io import iread

    n = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for atoms in iread(path, index, format, do_not_split_by_at_sign=True):
                yield atoms
                n += 1
        except Exception as error:  # its readers raise whatever broken text makes them meet, AssertionError among it
            where = f"configuration {n}" if n else "it"
            taken_for = f" as {format}" if format else ""
            raise InvalidCrystal("unreadable_file", f"ASE cannot read {where}{taken_for} ({_said(error)})") from error


def _chunks(text: TextIO) -> Iterator[str]:
    """The text of each configuration of an extxyz file; the last is a line that is no number of atoms, if one comes."""
    for first in text:
        if not first.strip():
            continue
        n = int(first) if first.strip().isdecimal() else 0
        yield "".join([first, *itertools.islice(text, n + 1)])
        if not n:
            return


def _of_chunk(chunk: str) -> Atoms:
    from ase.io.extxyz import read_xyz

    first, _, _ = chunk.partition("\n")
    if not first.strip().isdecimal() or int(first) == 0:
        raise InvalidCrystal("unreadable_file", f"{first[:40]!r} is no number of atoms; what follows is not read")
    try:
        return list(read_xyz(StringIO(chunk), 0))[-1]
    except Exception as error:  # as above
        raise InvalidCrystal("unreadable_file", f"ASE cannot read it ({_said(error)}); mend it") from error


def _said(error: Exception) -> str:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return f"it knows no {said}" if isinstance(error, KeyError) else said


def _content(file: SourceFile) -> bytes:
    with file.open() as raw:
        return raw.read(MAX_PAYLOAD)


def _text(atoms: Atoms) -> bytes:
    from ase.io import write

    text = StringIO()
    write(text, atoms, format="extxyz")
    return text.getvalue().encode()
