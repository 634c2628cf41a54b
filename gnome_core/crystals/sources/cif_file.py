"""The crystal of a CIF file."""

from __future__ import annotations

from collections.abc import Iterator

from gnome_core.crystals.cif import parse_cif
from gnome_core.crystals.cif_blocks import decode_cif
from gnome_core.crystals.entries import Entry, Rejected, read_entry
from gnome_core.crystals.sources.source_file import SourceFile


def read_cif(file: SourceFile) -> Iterator[Entry | Rejected]:
    """One structure a file."""
    with file.open() as raw:
        content = raw.read()
    yield read_cif_bytes(file.key, file.where, "cif", content, None)


def read_cif_bytes(key: str, where: str, source: str, content: bytes, e_form_per_atom: object) -> Entry | Rejected:
    """The entry of one CIF file's bytes."""
    return read_entry(key, where, source, lambda: parse_cif(decode_cif(content)), e_form_per_atom, lambda: content)
