"""Candidates that stand in files, as other programs and generative models write them: `file:NAME`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER, NUMBERS
from gnome_core.compositions.packed import MAX_ELEMENTS, pack_compositions
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal, crystal_digest
from gnome_core.crystals.readers import Entry, Rejected, read_snapshot
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import BATCH_ROWS, Shard
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import NO_PARENT, Recipe, recipe_batch

CODE = 4
MAX_ATOMS = 255  # of one element in the cell: what a recipe can say

GIVEN_SCHEMA = pa.schema(
    [
        *CRYSTAL_FIELDS,  # id = as the file has it
        pa.field("key", pa.uint64(), nullable=False),  # of the crystal's content: the seed of its recipe
        pa.field("source", pa.string(), nullable=False),  # the file
    ],
    metadata={"schema": "gnome.given", "schema_version": "1", "unit.lattice": "angstrom"},
)


class Given(NamedTuple):
    """What files hold: GIVEN_SCHEMA of distinct candidates, rows that are no crystals, and how many usable crystals are
    no candidates, by reason."""

    table: pa.Table
    rejected: list[Rejected]
    counts: Counter[str]


class GivenGenerator:
    """Recipes name a crystal of `ParentTable.given` by its key, and its atoms; nothing is drawn."""

    name, code = "file", CODE

    def shards(self, parents: ParentTable, config: GenerationConfig) -> list[Shard]:
        """Ranges of the crystals, by their keys."""
        n = len(parents.given)
        return [Shard(self.name, i, min(i + BATCH_ROWS, n), config.seed) for i in range(0, n, BATCH_ROWS)]

    def recipes(
        self, shard: Shard, parents: ParentTable, config: GenerationConfig, counts: Counter[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """One batch of `RECIPE_SCHEMA`."""
        keys = sorted(parents.given)[shard.start : shard.stop]
        atoms = [np.bincount(parents.given[key].numbers, minlength=MAX_ATOMIC_NUMBER + 1) for key in keys]
        yield recipe_batch(NO_PARENT, CODE, pack_compositions(np.array(atoms)), None, np.array(keys, np.uint64))

    def expand(self, recipes: Sequence[Recipe], parents: ParentTable) -> list[Crystal | None]:
        """The crystals as they were given."""
        return [parents.given[recipe.seed] for recipe in recipes]


def read_given(files: Sequence[str], elements: Collection[str] | None) -> Given:
    """The candidates of files of crystals (see `read_snapshot`), each once; what holds another element than `elements`,
    if they are given, is none, and what no recipe can say. Raises SourceError for a file that cannot be read at all.
    """
    allowed = None if elements is None else {NUMBERS[symbol] for symbol in elements}
    found: dict[int, tuple[Entry, str]] = {}
    rejected, counts = [], Counter[str]()
    for file in files:
        for item in read_snapshot(file):
            if isinstance(item, Rejected):
                rejected.append(item)
            elif reason := _unfit(item.crystal, allowed):
                counts[reason] += 1
            elif (key := content_key(item.crystal)) in found:
                counts["duplicate"] += 1
            else:
                found[key] = item, file
    entries = [entry for entry, _ in found.values()]
    batch = record_batch(
        GIVEN_SCHEMA,
        [entry.id for entry in entries],
        [entry.crystal for entry in entries],
        key=pa.array(list(found), pa.uint64()),
        source=[file for _, file in found.values()],
    )
    return Given(pa.Table.from_batches([batch]), rejected, counts)


def given_by_key(table: pa.Table) -> dict[int, Crystal]:
    """GIVEN_SCHEMA rows as what `ParentTable.given` holds."""
    return dict(zip(table["key"].to_pylist(), crystals_from_batch(table), strict=True))


def content_key(crystal: Crystal) -> int:
    """64 bits, equal for equal crystals."""
    return int(crystal_digest(crystal)[:16], 16)


def _unfit(crystal: Crystal, allowed: set[int] | None) -> str | None:
    counts = np.bincount(crystal.numbers)
    present = set(np.flatnonzero(counts).tolist())
    if allowed is not None and not present <= allowed:
        return "other_elements"
    if len(present) > MAX_ELEMENTS or counts.max() > MAX_ATOMS:
        return "composition_too_large"
    return None
