"""A file of crystals wherever it lies: on disk or in an archive, compressed or not."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import itertools
import lzma
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO, TextIO, TypeVar, cast

COMPRESSED = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

T = TypeVar("T")
P = TypeVar("P", bound=PurePath)


@dataclass(frozen=True)
class SourceFile:
    """What a reader is given.

    name: of the file, without the ending of a compression; it tells the format. key: what its crystals are called where
    they have no ids. where: what messages call it. open: its content, decompressed; may be called again. path: where it
    lies as it is; None for what is compressed or in an archive.
    """

    name: str
    key: str
    where: str
    open: Callable[[], BinaryIO]
    path: Path | None = None


def file_on_disk(path: Path, folder: Path | None = None) -> SourceFile:
    """The file at a path; its key is the path within the folder, or else its name."""
    key = name_of(plain_name(PurePath(path.name) if folder is None else path.relative_to(folder)))
    unpack = COMPRESSED.get(path.suffix.lower())
    if unpack is None:
        return SourceFile(path.name, key, str(path), lambda: path.open("rb"), path)
    return SourceFile(path.stem, key, str(path), lambda: cast(BinaryIO, unpack(path, "rb")))


def file_in_archive(member: str, archive: str, content: bytes) -> SourceFile:
    """A file whose content was taken out of an archive."""
    path = PurePosixPath(member)
    plain, where, unpack = plain_name(path), f"{archive}, {member}", COMPRESSED.get(path.suffix.lower())
    if unpack is None:
        return SourceFile(plain.name, name_of(plain), where, lambda: io.BytesIO(content))
    return SourceFile(plain.name, name_of(plain), where, lambda: cast(BinaryIO, unpack(io.BytesIO(content), "rb")))


def plain_name(path: P) -> P:
    """The path without the ending of a compression."""
    return path.with_suffix("") if path.suffix.lower() in COMPRESSED else path


def name_of(path: PurePath) -> str:
    """The path as text that every table can hold, also where the locale knows ASCII alone."""
    return os.fsencode(path.as_posix()).decode("utf-8", errors="replace")


@contextmanager
def text_of(file: SourceFile, newline: str | None = None) -> Generator[TextIO]:
    """The file as text: UTF-8, or UTF-16 as some Windows editors write; bytes of other encodings become U+FFFD."""
    with file.open() as raw:
        start = raw.read(2)
    encoding = "utf-8-sig"
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    elif len(start) > 1 and (start[0] == 0) != (start[1] == 0):  # ASCII in two bytes a character, without a mark
        encoding = "utf-16-be" if start[0] == 0 else "utf-16-le"
    with file.open() as raw, io.TextIOWrapper(raw, encoding, errors="replace", newline=newline) as text:
        yield text


@contextmanager
def plain_path(file: SourceFile) -> Generator[Path]:
    """A path where the file lies as it is; of one that does not, or begins with a byte order mark, that of a copy."""
    marks = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    with file.open() as raw:
        marked = raw.read(max(map(len, marks))).startswith(marks)
    if file.path is not None and not marked:
        yield file.path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, file.name)  # the format is told by it
        if marked:
            with text_of(file) as text:
                copy.write_text(text.read(), encoding="utf-8")
        else:
            with file.open() as raw:
                copy.write_bytes(raw.read())
        yield copy


def numbered(key: str, items: Iterable[T]) -> Iterator[tuple[int, str, T]]:
    """(position, "key-position", item) of each, as they come; of an only one the name is the key alone."""
    rest = iter(items)
    first = list(itertools.islice(rest, 2))
    for row, item in enumerate(itertools.chain(first, rest)):
        yield row, key if len(first) == 1 else f"{key}-{row}", item
