"""What is known: to a store, to the lists that its rounds were given, and so how new its entries are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.compositions.known import (
    N_COLUMNS,
    KnownCompositions,
    composition_hashes,
    crystal_hashes,
    shipped_compositions,
)
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.entries import Rejected
from gnome_core.crystals.sources.formula_table import read_formula_table
from gnome_core.generation.config import SHIPPED
from gnome_core.matching.novelty import KNOWN_STRUCTURE, KnownCrystals, Novelty
from pipelines.errors import UserError
from pipelines.reading.committed import all_proposals, entries_until, once_per_process
from pipelines.store.records import table_files
from pipelines.store.store import Store

STORE = "store"  # what a store's own entries and proposals are called among the sources
LISTS_FILE = "known_lists"  # blob of a generate stage: the compositions of the files that its round was given


def compositions_of_store(store: Store, round_: int) -> KnownCompositions:
    """Compositions of all entries and proposals, evaluated or not, from before a round."""
    entries = entries_until(store, round_ - 1, ["numbers"])
    jobs = all_proposals(store, round_ - 1, ["numbers"])
    hashes = np.concatenate([crystal_hashes(table["numbers"]) for table in (entries, jobs)])
    return KnownCompositions.of_source(STORE, hashes)


def compositions_of_files(lists: Iterable[str]) -> KnownCompositions:
    """What the files among `lists` name, each a source of its own, by the file's name.

    Raises UserError for a file that is not there or lacks the column, and, naming the row, for what is no formula.
    """
    return KnownCompositions.union([_read(Path(name)) for name in lists if name != SHIPPED])


def _read(path: Path) -> KnownCompositions:
    if not path.is_file():
        raise UserError(f"generation.known: {path}: no such file")
    good, bad = [], []
    for row in read_formula_table(path):
        (bad if isinstance(row, Rejected) else good).append(row)
    if bad:
        more = f" (and {len(bad) - 1} more such rows)" if len(bad) > 1 else ""
        raise UserError(f"generation.known: {bad[0].message}{more}; mend the rows, or leave them out")
    compositions = np.zeros((len(good), N_COLUMNS), np.int32)
    for counts, row in zip(compositions, good, strict=True):
        for z, n in row.composition:
            counts[z] = n
    return KnownCompositions.of_source(path.name, composition_hashes(compositions))


def left_out(store: Store, round_: int, lists: Iterable[str], files: KnownCompositions) -> KnownCompositions:
    """What a round does not propose. files: `compositions_of_files` of its lists."""
    shipped = [shipped_compositions()] if SHIPPED in lists else []
    return KnownCompositions.union([compositions_of_store(store, round_), *shipped, files])


@once_per_process
def mapped_compositions(root: str, path: str) -> KnownCompositions:
    """The set that the driver wrote to the store-relative `path`, mapped from the file."""
    return KnownCompositions.map_file(Store(root).storage.fetch(path))


def listed_compositions(store: Store) -> KnownCompositions:
    """The shipped list, and those of files that any round was given."""
    commits = [store.commit(round_, "generate") for round_ in store.rounds()]
    stats = [stat for commit in commits if commit for stat in table_files(commit, LISTS_FILE)]
    files = [KnownCompositions.from_bytes(store.read_file(stat)) for stat in stats]
    return KnownCompositions.union([shipped_compositions(), *files])


def novelties(store: Store, entries: pa.Table) -> list[Novelty]:
    """How new each entry was to whoever had the store's snapshot and its lists, whichever of these a round left out.

    entries: ENTRY_SCHEMA, all of the snapshot among them, which are known from their source.
    """
    in_snapshot = pc.equal(entries["round"], 0)
    known = KnownCrystals(entries.filter(in_snapshot), listed_compositions(store))
    found = iter(map(known.novelty, crystals_from_batch(entries.filter(pc.invert(in_snapshot)))))
    return [
        Novelty(KNOWN_STRUCTURE, source) if old else next(found)
        for source, old in zip(entries["source"].to_pylist(), in_snapshot.to_pylist(), strict=True)
    ]
