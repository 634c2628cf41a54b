"""Crystals of a folder of CIF files, one structure a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gnome_core.crystals.cif import parse_cif
from gnome_core.crystals.cif_blocks import decode_cif
from gnome_core.crystals.entries import Entry, Rejected, SourceError, read_entry


def read_cif_folder(folder: Path) -> Iterator[Entry | Rejected]:
    """Every *.cif under the folder, in the order of names; the id is the path without its ending.

    Raises SourceError when there is none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".cif" and path.is_file())
    if not paths:
        raise SourceError(f"{folder} holds no .cif files; name the folder that does")
    for path in paths:
        content = path.read_bytes()
        key = path_name(path.relative_to(folder).with_suffix(""))
        yield read_cif_bytes(key, str(path), "cif", content, None)


def path_name(path: Path) -> str:
    """The path as text that every table can hold, also where the locale knows ASCII alone."""
    return os.fsencode(path.as_posix()).decode("utf-8", errors="replace")


def read_cif_bytes(key: str, where: str, source: str, content: bytes, e_form_per_atom: object) -> Entry | Rejected:
    """The entry of one CIF file's bytes."""
    return read_entry(key, where, source, lambda: parse_cif(decode_cif(content)), e_form_per_atom, lambda: content)
