"""Entries -> their distances to the hull, and the parents that the next round starts from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.generation.parents import ParentTable
from gnome_core.stability.compositions import atom_counts
from pipelines import tags
from pipelines.resources import hull_until, once_per_process
from pipelines.schemas import HULL_SCHEMA

PARENTS = "parents"


@dataclass(frozen=True)
class HullColumns:
    """Per entry of the hull, in its order: whether it is on it, and its distance to all the others, eV/atom."""

    on_hull: np.ndarray
    above_others: np.ndarray


@once_per_process
def hull_columns(root: str, round_: int) -> HullColumns:
    hull = hull_until(root, round_)
    return HullColumns(hull.stable_mask(), hull.entry_e_above_others())


@beam.typehints.with_output_types(pa.RecordBatch)
class MeasureEntries(beam.DoFn):
    """ENTRY_SCHEMA -> HULL_SCHEMA; entries at most `parents_within` eV/atom above the hull go to the tag PARENTS."""

    def __init__(self, root: str, round_: int, parents_within: float):
        self.root, self.round, self.parents_within = root, round_, parents_within

    def setup(self) -> None:
        self.hull, self.snapshot = hull_until(self.root, self.round), hull_until(self.root, 0)
        self.columns = hull_columns(self.root, self.round)

    def process(self, entries: pa.RecordBatch) -> Iterator:
        counts, e_form = atom_counts(entries["numbers"]), entries["e_form_per_atom"].to_numpy()
        rows = pc.index_in(entries["id"], self.hull.ids).to_numpy()
        above = self.hull.e_above_hull(counts, e_form)
        measured = {
            **{name: entries[name] for name in ("id", "formula", "chemsys", "round", "e_form_per_atom")},
            "e_above_hull_snapshot": self.snapshot.e_above_hull(counts, e_form),
            "e_above_hull": above,
            "e_above_hull_others": pa.array(self.columns.above_others[rows], from_pandas=True),
            "on_hull": self.columns.on_hull[rows],
        }
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, entries.num_rows))
        near = entries.filter(pa.array(above <= self.parents_within))
        if near.num_rows:
            yield beam.pvalue.TaggedOutput(PARENTS, ParentTable.from_entries(near).to_batch())
        yield pa.RecordBatch.from_arrays([pa.array(measured[n]) for n in HULL_SCHEMA.names], schema=HULL_SCHEMA)
