"""Several sources of known crystals are one snapshot: of a structure that more than one holds the lowest stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch
from gnome_core.matching.clusters import cluster_structures, representatives
from pipelines.beam import tags
from pipelines.reading.schemas import MERGED_SCHEMA, ORIGIN_SCHEMA
from pipelines.store.store import Store

REASON = "same_structure"
MERGED, ALONE = "merged", "alone"


def merge_structures(entries: pa.Table, origins: pa.Table) -> tuple[pa.Table, pa.Table]:
    """(entries that stay, MERGED_SCHEMA of the others) of entries on one scale.

    Compositions that more than one source holds are clustered (`cluster_structures`), and of a cluster with crystals of
    more than one source the lowest stays; of equal ones that of the source named first. origins: ORIGIN_SCHEMA.
    """
    shared, places = shared_formulas(origins), source_places(origins)
    of_several = pa.array([formula in shared for formula in entries["formula"].to_pylist()], pa.bool_())
    kept, left_out = [entries.filter(pc.invert(of_several))], [MERGED_SCHEMA.empty_table()]
    rows = entries.filter(of_several)
    for formula in sorted(set(rows["formula"].to_pylist())):
        stay, merged = _merged(rows.filter(pc.equal(rows["formula"], formula)), places)
        kept.append(stay)
        left_out.append(merged)
    return pa.concat_tables(kept).combine_chunks(), pa.concat_tables(left_out).combine_chunks()


def shared_formulas(origins: pa.Table) -> set[str]:
    """The compositions that more than one source holds."""
    pairs = set(zip(origins["formula"].to_pylist(), origins["snapshot"].to_pylist(), strict=True))
    return {formula for formula, n in Counter(formula for formula, _ in pairs).items() if n > 1}


def source_places(origins: pa.Table) -> dict[str, int]:
    """id -> place of its source among all."""
    names = {name: place for place, name in enumerate(dict.fromkeys(origins["snapshot"].to_pylist()))}
    return {
        id_: names[name] for id_, name in zip(origins["id"].to_pylist(), origins["snapshot"].to_pylist(), strict=True)
    }


class MergeStructures(beam.PTransform):
    """`merge_structures` of batches of ENTRY_SCHEMA: the entries that stay, and the tags MERGED and COUNTS.

    origins: store-relative path of the ORIGIN_SCHEMA table.
    """

    def __init__(self, root: str, origins: str):
        super().__init__()
        self.root, self.origins = root, origins

    def expand(self, entries):
        parted = entries | "Part" >> beam.ParDo(_Part(self.root, self.origins)).with_output_types(
            tuple[str, pa.RecordBatch], **{ALONE: pa.RecordBatch}
        ).with_outputs(ALONE, main="shared")
        merged = (
            parted.shared
            | "ByFormula" >> beam.GroupByKey()
            | "Merge"
            >> beam.ParDo(_Merge(self.root, self.origins))
            .with_output_types(pa.RecordBatch, **{MERGED: pa.RecordBatch, tags.COUNTS: tuple[str, int]})
            .with_outputs(MERGED, tags.COUNTS, main="rows")
        )
        rows = (parted[ALONE], merged.rows) | "All" >> beam.Flatten()
        return rows, merged[MERGED], merged[tags.COUNTS]


class _OfOrigins(beam.DoFn):
    def __init__(self, root: str, path: str):
        self.root, self.path = root, path

    def read(self) -> pa.Table:
        return pq.read_table(pa.BufferReader(Store(self.root).storage.read(self.path))).cast(ORIGIN_SCHEMA)


class _Part(_OfOrigins):
    def setup(self) -> None:
        self.shared = shared_formulas(self.read())

    def process(self, entries: pa.RecordBatch) -> Iterator:
        formulas = np.array(entries["formula"].to_pylist(), object)
        several = np.array([formula in self.shared for formula in formulas], bool)
        for formula in np.unique(formulas[several]).tolist():
            yield formula, entries.take(pa.array(np.flatnonzero(formulas == formula)))
        if not several.all():
            yield beam.pvalue.TaggedOutput(ALONE, entries.take(pa.array(np.flatnonzero(~several))))


class _Merge(_OfOrigins):
    def setup(self) -> None:
        self.places = source_places(self.read())

    def process(self, element: tuple[str, Iterable[pa.RecordBatch]]) -> Iterator:
        kept, merged = _merged(pa.Table.from_batches(element[1], ENTRY_SCHEMA), self.places)
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected(REASON), len(merged)))
        for batch in merged.combine_chunks().to_batches():
            yield beam.pvalue.TaggedOutput(MERGED, batch)
        yield from kept.combine_chunks().to_batches()


def _merged(entries: pa.Table, places: Mapping[str, int]) -> tuple[pa.Table, pa.Table]:
    """`merge_structures` of the entries of one composition, whatever order they come in."""
    ids = entries["id"].to_pylist()
    order = sorted(range(len(ids)), key=lambda row: (places[ids[row]], ids[row]))
    entries, ids = entries.take(pa.array(order, pa.int64())).combine_chunks(), [ids[row] for row in order]
    energies = entries["e_form_per_atom"].to_numpy()
    labels = cluster_structures(crystals_from_batch(entries), energies)
    lowest = representatives(labels, energies)
    sources = np.array([places[id_] for id_ in ids])
    of_several = np.array([len(set(sources[labels == label])) > 1 for label in range(len(lowest))], bool)
    stays = ~of_several[labels]
    stays[lowest] = True
    gone = np.flatnonzero(~stays)
    merged = pa.table(
        [[ids[row] for row in gone], [ids[lowest[labels[row]]] for row in gone], energies[gone]], schema=MERGED_SCHEMA
    )
    return entries.filter(pa.array(stays)), merged
