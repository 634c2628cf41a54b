"""The sources of a snapshot: what each `--snapshot` holds, and ids that tell the crystals of several apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from gnome_core.compositions.formulas import NUMBERS, reduced_formula, within
from gnome_core.crystals.arrow import ENTRY_SCHEMA
from gnome_core.crystals.readers import Entry, Rejected, read_snapshot, read_table
from pipelines.reading.schemas import ORIGIN_SCHEMA
from pipelines.stages.snapshot_labelled import checked_entries
from pipelines.stages.snapshot_raw import SCALE, raw_energies_of, raw_entries
from pipelines.stages.snapshot_recompute import table_of_entries


@dataclass(frozen=True)
class Source:
    """One source as it was read.

    items: its rows, those of other elements left out. entries: its crystals as ENTRY_SCHEMA where it says their
    energies on the evaluator's scale; None where they are to be evaluated. tabled: whether it is a table of entries, on
    whatever scale. outside: how many crystals of other elements there are. renamed: id -> the one that the source gives
    it. corrections: version of what was added to raw energies; "" where they were taken as they are.
    """

    name: str
    items: list[Entry | Rejected]
    entries: pa.Table | None
    tabled: bool
    outside: int
    renamed: dict[str, str]
    corrections: str = ""

    @property
    def crystals(self) -> list[Entry]:
        return [item for item in self.items if isinstance(item, Entry)]


def read_source(name: str, elements: Collection[str] | None, scale: str) -> Source:
    """A source (see `read_snapshot`) with its energies if they are on `scale`; crystals of `elements` alone, if given.

    Raises SourceError where it cannot be read at all.
    """
    if (raw := raw_energies_of(name, scale)) is not None:
        return _read_raw(name, raw, elements)
    table = table_of_entries(name, elements)
    entries = None
    if table is not None and table["scale"].unique().to_pylist() == [scale]:
        entries, items = checked_entries(table, name, scale)
    else:
        items = list(read_snapshot(name) if table is None else read_table(table, name))
    n = len(items)
    if elements is not None:
        allowed = {NUMBERS[symbol] for symbol in elements}
        items = [it for it in items if isinstance(it, Rejected) or allowed.issuperset(it.crystal.numbers.tolist())]
        if entries is not None:
            entries = entries.filter(pa.array(within(entries["chemsys"].to_pylist(), elements)))
    return Source(name, items, entries, table is not None, n - len(items), {})


def _read_raw(name: str, path: Path, elements: Collection[str] | None) -> Source:
    found = raw_entries(path, elements)
    entries, items = checked_entries(found.entries, name, SCALE)
    return Source(name, [*items, *found.rejected], entries, True, found.outside, {}, found.corrections)


def told_apart(sources: Sequence[Source]) -> list[Source]:
    """The sources with ids that are unique over all: one that an earlier source has ends in "@2" in the second."""
    taken: set[str] = set()
    found = []
    for place, source in enumerate(sources, start=1):
        own = {entry.id for entry in source.crystals}
        new = {id_: _free(id_, place, taken | own) for id_ in own & taken}
        found.append(_renamed(source, new) if new else source)
        taken |= own - new.keys() | set(new.values())
    return found


def _free(id_: str, place: int, taken: Collection[str]) -> str:
    name = f"{id_}@{place}"
    while name in taken:  # by a crystal that a file calls so
        name += f"@{place}"
    return name


def _renamed(source: Source, new: dict[str, str]) -> Source:
    items = [
        replace(item, id=new[item.id]) if isinstance(item, Entry) and item.id in new else item for item in source.items
    ]
    entries = source.entries
    if entries is not None:
        ids = pa.array([new.get(id_, id_) for id_ in entries["id"].to_pylist()], pa.string())
        entries = entries.set_column(0, ENTRY_SCHEMA.field("id"), ids)
    return replace(source, items=items, entries=entries, renamed={name: id_ for id_, name in new.items()})


def origins(sources: Sequence[Source]) -> pa.Table:
    """ORIGIN_SCHEMA: which source every crystal is of."""
    rows = [(source, entry) for source in sources for entry in source.crystals]
    return pa.table(
        [
            [entry.id for _, entry in rows],
            [source.name for source, _ in rows],
            [source.renamed.get(entry.id, entry.id) for source, entry in rows],
            [reduced_formula(entry.crystal.numbers) for _, entry in rows],
        ],
        schema=ORIGIN_SCHEMA,
    )
