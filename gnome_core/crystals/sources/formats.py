"""What a file of crystals can be: one table, by which every command reads."""

from __future__ import annotations

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from gnome_core.crystals.cif_blocks import decode_cif
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.entries import Entry, Rejected, SourceError
from gnome_core.crystals.sources.ase_file import read_all, read_database, read_extxyz, read_guessed, read_last
from gnome_core.crystals.sources.cif_file import read_cif
from gnome_core.crystals.sources.containers import read_folder, read_tar, read_zip
from gnome_core.crystals.sources.csv_file import read_csv
from gnome_core.crystals.sources.json_file import read_json
from gnome_core.crystals.sources.parquet import read_parquet
from gnome_core.crystals.sources.source_file import SourceFile, file_on_disk

_SNIFFED = 1 << 20  # bytes in which a CIF of another name is recognised
_CIF_TEXT = re.compile(r"^_cell[_.]length_a\s", re.IGNORECASE | re.MULTILINE)
# What a damaged compression or archive raises; an OSError with a number is the machine's.
_DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, OSError)


@dataclass(frozen=True)
class Format:
    """endings, words: of names in lower case: how one ends, or what it holds. magic: how the content begins.

    alone: a table, a database or an archive, for which folders and archives are not searched.
    """

    name: str
    read: Callable[[SourceFile], Iterator[Entry | Rejected]]
    endings: tuple[str, ...]
    words: tuple[str, ...] = ()
    magic: bytes | None = None
    alone: bool = False


CIF = Format("CIF", read_cif, (".cif", ".mcif"))
POSCAR = Format("POSCAR", read_last("vasp"), (".vasp",), words=("poscar", "contcar"))
JSON = Format("JSON", read_json, (".json", ".jsonl"))
FORMATS = (
    CIF,
    POSCAR,
    Format("extxyz", read_extxyz, (".extxyz", ".xyz")),
    Format("ASE trajectory", read_all("traj"), (".traj",)),
    Format("ASE database", read_database, (".db",), magic=b"SQLite format 3\0", alone=True),
    Format("RES", read_last("res"), (".res",)),
    Format("XSF", read_last("xsf"), (".xsf",)),
    JSON,
    Format("CSV", read_csv, (".csv",), alone=True),
    Format("Parquet", read_parquet, (".parquet",), magic=b"PAR1", alone=True),
    Format("zip", lambda file: read_zip(file, _in_folders, read_file), (".zip",), magic=b"PK\3\4", alone=True),
    Format("tar", lambda file: read_tar(file, _in_folders, read_file), (".tar", ".tgz", ".tbz2", ".txz"), alone=True),
)
KNOWN = ", ".join(f"{one.name} ({', '.join((*one.endings, *map(str.upper, one.words)))})" for one in FORMATS)


def read_path(path: Path) -> Iterator[Entry | Rejected]:
    """The crystals of a file, or of the files of a folder. Raises SourceError for what is neither."""
    if path.is_dir():
        yield from read_folder(path, _in_folders, read_file)
    elif path.is_file():
        yield from read_file(file_on_disk(path))
    else:
        raise SourceError(f"there is no {str(path)!r}")


def read_file(file: SourceFile) -> Iterator[Entry | Rejected]:
    """The crystals of a file, by its name, or else by its content; a damaged compression or archive is one `Rejected`.

    Raises SourceError for a format that is none of those known.
    """
    named = _named(file.name)
    ending = next((e for e in named.endings if file.name.lower().endswith(e)), "") if named else None
    stem = file.key[: len(file.key) - len(ending)] if ending is not None else str(PurePath(file.key).with_suffix(""))
    file = replace(file, key=stem)
    try:
        if named is None or named is POSCAR:
            named = _recognised(file) or named
        items = named.read(file) if named else read_guessed(file)
        if items is None:
            raise SourceError(
                f"{file.where}: of no format that is read; there is {KNOWN}, and what else ASE recognises"
            )
        yield from items
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        message = f"{file.where}: damaged ({error}); what follows is not read: copy or download it again"
        yield Rejected(file.key, "unreadable_file", message, b"")


def read_structure(path: Path) -> Crystal:
    """The crystal of a file of any format; of several the last.

    Raises SourceError naming the file for what cannot be read or is no ordered, periodic crystal.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    last: Entry | Rejected | None = None
    for last in read_path(path):  # noqa: B007
        pass
    if last is None:
        raise SourceError(f"{path}: no structure in it")
    if isinstance(last, Rejected):
        raise SourceError(last.message)
    return last.crystal


def _named(name: str) -> Format | None:
    """The format that a file's name tells: its ending, or else a word in it."""
    name = name.lower()
    by_ending = (one for one in FORMATS if name.endswith(one.endings))
    return next(by_ending, None) or next((one for one in FORMATS if any(word in name for word in one.words)), None)


def _in_folders(name: str) -> bool:
    found = _named(name)
    return found is not None and not found.alone


def _recognised(file: SourceFile) -> Format | None:
    """The format that the content tells."""
    with file.open() as raw:
        head = raw.read(_SNIFFED)
    if found := next((one for one in FORMATS if one.magic and head.startswith(one.magic)), None):
        return found
    text = decode_cif(head)
    if _CIF_TEXT.search(text):
        return CIF
    return JSON if text.lstrip()[:1] in ("{", "[") and text.strip() else None
