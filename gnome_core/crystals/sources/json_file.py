"""Crystals of JSON: pymatgen's Structures and entries, OPTIMADE's answers, pandas' tables, ASE's databases."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TextIO, TypeVar

from gnome_core.crystals.crystal import InvalidCrystal
from gnome_core.crystals.entries import Entry, Rejected
from gnome_core.crystals.sources.ase_file import read_database
from gnome_core.crystals.sources.rows import STRUCTURES, Columns, read_row
from gnome_core.crystals.sources.source_file import SourceFile, numbered, text_of

T = TypeVar("T")

_CHUNK = 1 << 20  # characters
_LISTS = ("entries", "structures", "data")
_LIST = re.compile(rf'\s*(\{{\s*"({"|".join(_LISTS)})"\s*:\s*)?\[')
_BEGINS = re.compile(r"[^\s,]")  # the next value, behind spaces and commas


def read_json(file: SourceFile) -> Iterator[Entry | Rejected]:
    """A document, a list of them ({"entries": [...]} and {"data": [...]} too), one a line, or an object of id ->
    document; the tables that pandas writes, by rows or by columns. Lists and lines are read as they come.

    Where the text ends or breaks off is one `Rejected`, after all documents before it.
    """

    def read(document: object, where: str, key: str) -> Iterable[Entry | Rejected]:
        if isinstance(document, Mapping) and "nextid" in document:
            return read_database(file, "json")
        return [read_row(document, where, key, "json")]

    return read_documents(file, read)


def read_documents(file: SourceFile, read: Callable[[object, str, str], Iterable[T]]) -> Iterator[T | Rejected]:
    """What `read` makes of every document of the file, of where it stands and of its name; as `read_json`."""
    row = -1
    try:
        for row, key, (name, document) in numbered(file.key, _documents(file)):
            yield from read(document, f"{file.where}, row {row}", name or key)
    except InvalidCrystal as error:
        yield Rejected(f"{file.key}-{row + 1}", error.reason, f"{file.where}, row {row + 1}: {error}", b"")


def _documents(file: SourceFile) -> Iterator[tuple[str | None, object]]:
    """(name, document) of each."""
    with text_of(file) as text:
        head = text.read(_CHUNK)
        if listed := _LIST.match(head):
            for document in _values(head[listed.end() :], text, ends=True):
                yield None, document
        else:
            for document in _values(head, text, ends=False):
                yield from _within(document)


def _values(buffer: str, rest: TextIO, ends: bool) -> Iterator[object]:
    """The values of a list (ends: up to its bracket) or of lines, of which no more than one is held as text."""
    decoder, position = json.JSONDecoder(), 0
    while True:
        begun = _BEGINS.search(buffer, position)
        position = begun.start() if begun else len(buffer)
        if ends and buffer.startswith("]", position):
            return
        try:
            value, position = decoder.raw_decode(buffer, position)
        except json.JSONDecodeError as error:
            # What is not complete yet: twice as much each time, so that a value is not tried at every piece of it.
            buffer, position = buffer[position:], 0
            more = rest.read(max(_CHUNK, len(buffer)))
            if not more:
                if buffer or ends:
                    message = f"the JSON is broken or cut off ({error.msg}); what follows is not read"
                    raise InvalidCrystal("unreadable_file", message) from None
                return
            buffer += more
        else:
            yield value


def _within(document: object) -> Iterator[tuple[str | None, object]]:
    """The documents of an object, by their names."""
    if not isinstance(document, Mapping) or "nextid" in document or {"lattice", "sites"} <= set(document):
        yield None, document
    elif isinstance(names := document.get("columns"), list) and isinstance(document.get("data"), list):
        for cells in document["data"]:
            yield None, dict(zip(names, cells, strict=False)) if isinstance(cells, list) else cells
    elif listed := next((document[name] for name in _LISTS if isinstance(document.get(name), list)), None):
        for item in listed:
            yield None, item
    elif column := _column(document):
        for name in column:
            yield None, {key: cells.get(name) for key, cells in document.items() if isinstance(cells, Mapping)}
    elif Columns.of(document).structure or "attributes" in document or not _all_documents(document):
        yield None, document
    else:
        yield from document.items()


def _column(document: Mapping) -> Mapping | None:
    """The column of structures, by row, of a table that pandas wrote by columns."""
    for name in STRUCTURES:
        cells = document.get(name)
        if (
            isinstance(cells, Mapping)
            and cells
            and not {"lattice", "sites", "structure", "lattice_vectors"} & set(cells)
        ):
            return cells
    return None


def _all_documents(document: Mapping) -> bool:
    return bool(document) and all(isinstance(value, Mapping) for value in document.values())
