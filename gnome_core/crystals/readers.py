"""Snapshots of known crystals, from wherever a user has them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.compositions.formulas import within
from gnome_core.crystals.arrow import as_entries
from gnome_core.crystals.entries import Entry, Rejected, SourceError

__all__ = [
    "Entry",
    "Rejected",
    "SourceError",
    "elemental_entries",
    "embedded_elements",
    "embedded_entries",
    "read_snapshot",
    "read_table",
]

SCALE = "nequix-oam-1+mp2020/chgnet-2-35c26200"  # of the embedded snapshot and the embedded evaluator
SHIPPED = {"embedded": "snapshot.parquet", "evaluated": "evaluated.parquet"}  # source -> file in gnome_core/data
_KINDS = (
    "embedded, a FILE or FOLDER of crystals, gnome-csv:FILE, mp-entries:FILE, mp-api, mp-api:Li-P-S-Cl or optimade:URL"
)


def read_snapshot(source: str) -> Iterator[Entry | Rejected]:
    """The crystals of a source, each checked; what is broken comes as `Rejected` and the rest goes on.

    source: embedded | evaluated (see `evaluated_entries`) | FILE or FOLDER (see `sources.formats`)
        | gnome-csv:FILE (GNoME's summary, its CIF zip beside it) | mp-entries:FILE (see `sources.mp_entries`)
        | mp-api, or mp-api:Li-P-S-Cl for a system with all within it | optimade:URL.
        Ids are unique among the entries: a repeated one is rejected (duplicate_id).
    Raises SourceError when the source as a whole cannot be read.
    """
    return _unique(_read(source), source)


def read_table(table: pa.Table, source: str) -> Iterator[Entry | Rejected]:
    """`read_snapshot` for a table that was read from `source`: one item a row, in their order."""
    from gnome_core.crystals.sources.parquet import read_rows

    return _unique(read_rows(table, source), source)


def _unique(items: Iterable[Entry | Rejected], source: str) -> Iterator[Entry | Rejected]:
    seen: set[str] = set()
    for item in items:
        if isinstance(item, Rejected) or item.id not in seen:
            if isinstance(item, Entry):
                seen.add(item.id)
            yield item
        else:
            yield Rejected(item.id, "duplicate_id", f"{source}: id {item.id!r} appears again; make ids unique", b"")


def embedded_entries(elements: Collection[str] | None = None) -> pa.Table:
    """The snapshot shipped with the package (ENTRY_SCHEMA), its labels on the embedded evaluator's scale.

    elements: symbols; crystals that hold another one are left out, and row groups of only such are not read.
    """
    with resources.as_file(_embedded_file()) as path, pq.ParquetFile(path) as file:
        groups = range(file.num_row_groups)
        if elements is not None:
            systems = file.read(columns=["chemsys"])["chemsys"].to_pylist()
            ends = np.cumsum([file.metadata.row_group(group).num_rows for group in groups])
            wanted = np.flatnonzero(within(systems, elements))
            groups = np.unique(np.searchsorted(ends, wanted, "right")).tolist()
        entries = as_entries(file.read_row_groups(list(groups)))
    return entries if elements is None else entries.filter(pa.array(within(entries["chemsys"].to_pylist(), elements)))


def embedded_elements() -> list[str]:
    """The elements, sorted, of which the snapshot shipped with the package holds a crystal."""
    with resources.as_file(_embedded_file()) as path:
        systems = pq.read_table(path, columns=["chemsys"])["chemsys"].unique().to_pylist()
    return sorted({symbol for system in systems for symbol in system.split("-")})


def elemental_entries(scale: str = SCALE) -> pa.Table:
    """One entry an element (ENTRY_SCHEMA) on that scale, for snapshots that lack some; none on a scale not known."""
    with resources.as_file(_embedded_file("elements.parquet")) as path:
        return pq.read_table(path, filters=[("scale", "=", scale)])


def evaluated_entries(scale: str = SCALE) -> pa.Table:
    """Candidates that rounds evaluated (ENTRY_SCHEMA), as they were proposed, under the energies that they relaxed to:
    most of them far above the hull, unlike anything in a snapshot of what exists. None on a scale not known.
    """
    with resources.as_file(_embedded_file(SHIPPED["evaluated"])) as path:
        return pq.read_table(path, filters=[("scale", "=", scale)])


def _read(source: str) -> Iterator[Entry | Rejected]:
    # Each kind imports its own packages, so that reading Parquet never waits for pymatgen.
    kind, _, rest = source.partition(":")
    if kind == "mp-api":
        from gnome_core.crystals.sources.materials_project import read_materials_project

        yield from read_materials_project(rest or None)
    elif kind == "optimade":
        from gnome_core.crystals.sources.optimade import read_optimade

        yield from read_optimade(rest)
    elif kind == "gnome-csv":
        from gnome_core.crystals.sources.gnome_csv import read_gnome_csv

        yield from read_gnome_csv(Path(rest))
    elif kind == "mp-entries":
        from gnome_core.crystals.sources.mp_entries import read_mp_entries

        for item in read_mp_entries(Path(rest)):
            yield item if isinstance(item, Rejected) else item.entry
    else:
        yield from _read_path(source)


def _read_path(source: str) -> Iterator[Entry | Rejected]:
    with ExitStack() as stack:
        shipped = SHIPPED.get(source)
        path = stack.enter_context(resources.as_file(_embedded_file(shipped))) if shipped else Path(source)
        if not path.exists():
            raise SourceError(f"there is no {source!r}; a snapshot is {_KINDS}")
        from gnome_core.crystals.sources.formats import read_path

        yield from read_path(path)


def _embedded_file(name: str = SHIPPED["embedded"]) -> resources.abc.Traversable:
    file = resources.files("gnome_core.data") / name
    if not file.is_file():
        raise SourceError(f"this installation lacks {name}; install the package again or name a file")
    return file
