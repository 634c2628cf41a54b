"""Folders and archives of files of crystals: files are chosen by their names, the others are no rows."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PurePosixPath

from gnome_core.crystals.entries import Entry, Rejected, SourceError
from gnome_core.crystals.sources.source_file import SourceFile, file_in_archive, file_on_disk, name_of, plain_name

Read = Callable[[SourceFile], Iterator[Entry | Rejected]]
Wanted = Callable[[str], bool]  # of a name without the ending of a compression


def read_folder(folder: Path, wanted: Wanted, read: Read) -> Iterator[Entry | Rejected]:
    """The wanted files under the folder, in the order of names. Raises SourceError when there is none."""
    if (folder / "rounds").is_dir():
        raise SourceError(f"{folder} is a store; `gnome export {folder} --format parquet` writes its crystals")
    paths = [path for path in sorted(folder.rglob("*")) if _is_wanted(path.relative_to(folder), wanted)]
    found = False
    for path in paths:
        if path.is_file():
            found = True
            yield from read(file_on_disk(path, folder))
    if not found:
        raise SourceError(f"{folder} holds no files of crystals; name the folder that does")


def read_zip(file: SourceFile, wanted: Wanted, read: Read) -> Iterator[Entry | Rejected]:
    """The wanted members, as they stand. A damaged one costs itself. Raises SourceError when there is none."""
    found = False
    with file.open() as raw, zipfile.ZipFile(raw) as archive:
        for member in archive.infolist():
            if member.is_dir() or not _is_wanted(PurePosixPath(member.filename), wanted):
                continue
            found = True
            try:
                content = archive.read(member)
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
                message = f"{file.where}, {member.filename}: cannot be unpacked ({error}); download it again"
                yield Rejected(name_of(PurePosixPath(member.filename)), "unreadable_file", message, b"")
                continue
            yield from read(file_in_archive(member.filename, file.where, content))
    if not found:
        raise SourceError(f"{file.where} holds no files of crystals")


def read_tar(file: SourceFile, wanted: Wanted, read: Read) -> Iterator[Entry | Rejected]:
    """The wanted members, as they come, compressed or not. Raises SourceError when there is none."""
    found = False
    with file.open() as raw, tarfile.open(fileobj=raw, mode="r|*") as archive:
        for member in archive:
            if member.isfile() and _is_wanted(PurePosixPath(member.name), wanted):
                found = True
                stream = archive.extractfile(member)
                assert stream is not None
                yield from read(file_in_archive(member.name, file.where, stream.read()))
    if not found:
        raise SourceError(f"{file.where} holds no files of crystals")


def _is_wanted(path: PurePath, wanted: Wanted) -> bool:
    # Archives and disks of macOS hold a twin of each file that is none.
    return wanted(plain_name(path).name) and not path.name.startswith("._") and "__MACOSX" not in path.parts
