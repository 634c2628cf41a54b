"""Shards: the files of many jobs in one tar, to be copied, or kept where there are no folders."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

JobFiles = Mapping[str, bytes]  # path, relative to the job's folder -> content


class _Place(NamedTuple):
    path: str
    offset: int
    size: int


def write_shard(file: BinaryIO, jobs: Iterable[tuple[str, JobFiles]]) -> None:
    """Jobs as (id, files). The same jobs give the same bytes."""
    with tarfile.open(fileobj=file, mode="w") as shard:
        for id_, files in jobs:
            for path, data in files.items():
                member = tarfile.TarInfo(f"{id_[:2]}/{id_}/{path}")
                member.size, member.mode = len(data), 0o644
                shard.addfile(member, io.BytesIO(data))


class Shard:
    """A shard's jobs, listed once. Raises tarfile.TarError or ValueError for what is no whole shard."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._places: dict[str, list[_Place]] = {}
        with tarfile.open(self.path) as shard:
            for member in shard:
                if member.isfile():
                    if ".." in PurePosixPath(member.name).parts:
                        raise tarfile.TarError(f"{member.name!r} leads out of the folder")
                    _, id_, name = member.name.split("/", 2)
                    self._places.setdefault(id_, []).append(_Place(name, member.offset_data, member.size))

    def ids(self) -> list[str]:
        return list(self._places)

    def files(self, id_: str) -> dict[str, bytes]:
        """Raises KeyError for a job that is not in it."""
        with open(self.path, "rb") as file:
            return {place.path: _part(file, place) for place in self._places[id_]}


def _part(file: BinaryIO, place: _Place) -> bytes:
    file.seek(place.offset)
    return file.read(place.size)
