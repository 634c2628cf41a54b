"""Which crystals of a snapshot are worth computing again: its stable entries and its elements."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dft.tables import job_digest
from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formulas import NUMBERS
from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch, record_batch
from gnome_core.crystals.readers import elemental_entries, embedded_entries
from gnome_core.stability.hull import Hull
from pipelines.stages.snapshot_entries import elements_alone


def table_of_entries(source: str, elements: Collection[str] | None) -> pa.Table | None:
    """The rows, as they are, of a source that is a table of entries: the embedded snapshot, of it only crystals of
    `elements` if given, or a file like it."""
    if source == "embedded":
        return embedded_entries(elements)
    path = Path(source)
    if path.suffix != ".parquet" or not path.is_file():
        return None
    required = {field.name for field in ENTRY_SCHEMA if not field.nullable}
    try:
        return pq.read_table(path) if required <= set(pq.read_schema(path).names) else None
    except (pa.ArrowException, OSError):
        return None  # the reader of crystals says what is wrong, and reads what can be read


def labels_of(crystals: pa.Table, labels: Mapping[str, float | None] | None) -> np.ndarray:
    """(n,) formation energies of UNLABELLED_SCHEMA rows, eV/atom, NaN where unknown.

    labels: those of a table of entries, by its ids; None where the source is none: the label is the database's.
    """
    if labels is None:
        return crystals["reference_e_form_per_atom"].to_numpy()
    return np.array([labels.get(id_) for id_ in crystals["entry"].to_pylist()], float)


def worth_recomputing(numbers: list[list[int]], e_form: np.ndarray, elements: Collection[str] | None) -> np.ndarray:
    """(n,) bool: on the hull of the labels, the lowest crystal of an element, or unlabelled; `elements` only, if given.

    numbers: atomic numbers of n crystals; e_form: (n,) eV/atom, NaN where there is no label.
    """
    allowed = {NUMBERS[symbol] for symbol in elements} if elements is not None else None
    inside = np.array([allowed is None or set(row) <= allowed for row in numbers], bool)
    chosen = inside & np.isnan(e_form)
    labelled = np.flatnonzero(inside & ~np.isnan(e_form))
    if not len(labelled):
        return chosen
    counts = atom_counts([np.array(numbers[row]) for row in labelled])
    present = np.flatnonzero(counts.any(axis=0))
    # Elements end the hull at 0 eV/atom whether or not the snapshot has a crystal of theirs.
    ids = [f"row-{row}" for row in labelled] + [f"element-{z}" for z in present]
    everything = [numbers[row] for row in labelled] + [[z] for z in present.tolist()]
    table = pa.table(
        {
            "id": ids,
            "numbers": pa.array(everything, pa.list_(pa.uint8())),
            "e_form_per_atom": np.concatenate([e_form[labelled], np.zeros(len(present))]),
            "scale": pa.repeat("labels", len(ids)),
        }
    )
    stable = Hull.from_table(table).stable_mask()[: len(labelled)]
    lowest: dict[int, int] = {}
    for row in labelled:
        if len(set(numbers[row])) == 1:
            best = lowest.setdefault(numbers[row][0], row)
            lowest[numbers[row][0]] = min(best, row, key=lambda i: (e_form[i], i))
    chosen[labelled[stable]] = True
    chosen[list(lowest.values())] = True
    elemental = np.array([len(set(row)) == 1 for row in numbers])
    kept = np.isin(np.arange(len(numbers)), list(lowest.values()))
    return chosen & (~elemental | kept | np.isnan(e_form))


def in_compounds_only(*tables: pa.Table) -> set[int]:
    """The elements that crystals of the tables hold and that none of them is of alone."""
    numbers = [row for table in tables for row in table["numbers"].to_pylist()]
    return set().union(*numbers) - elements_alone(numbers)


def without_entry(crystals: pa.Table, entries: pa.Table) -> set[int]:
    """The elements that crystals or entries hold and that no entry is of alone: a crystal may fail, or be another phase
    than the element's ground state."""
    numbers = entries["numbers"].to_pylist()
    return set().union(*crystals["numbers"].to_pylist(), *numbers) - elements_alone(numbers)


def missing_elements(wanted: Collection[int], schema: pa.Schema, protocol: str) -> pa.Table:
    """Crystals shipped with the package of the elements `wanted`, to be evaluated."""
    shipped = elemental_entries()
    shipped = shipped.filter(pa.array([numbers[0] in wanted for numbers in shipped["numbers"].to_pylist()], pa.bool_()))
    found = crystals_from_batch(shipped)
    batch = record_batch(
        schema,
        [job_digest(crystal, protocol) for crystal in found],
        found,
        entry=[f"element-{symbol}" for symbol in shipped["chemsys"].to_pylist()],
        source="element",
    )
    return pa.Table.from_batches([batch])
