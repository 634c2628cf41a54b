"""The compositional framework: compositions as candidates, their random structures, what these say of a composition.

GNoME, Nature 624, 80 (2023), Methods: compositions near the hull by the compositional ensemble are searched with 100
random structures each, and are labels for it once at least 10 of those have converged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.packed import pack_compositions
from gnome_core.generation.config import RandomSearchConfig
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.random_search import CODE, random_recipes
from gnome_core.generation.recipe import RECIPE_SCHEMA, cell_atoms, recipe_digests
from gnome_core.models.shipped import Framework
from pipelines.beam import tags
from pipelines.reading.schemas import CONVERGENCE_SCHEMA
from pipelines.rounds.config import LEAST_SEARCHED

CONVERGENCE = "convergence"  # side output: (formula, (runs, converged, lowest energy))


def of_framework(batch: pa.RecordBatch, framework: Framework) -> pa.RecordBatch:
    """The candidates of one framework, of a round in which compositions are searched."""
    searched = pc.equal(batch["generator"], CODE)
    return batch.filter(searched if framework == "compositional" else pc.invert(searched))


@beam.typehints.with_output_types(pa.RecordBatch)
class NameCompositions(beam.DoFn):
    """Compositions to score -> the same with `id`, and `numbers`: the atoms of the formula unit."""

    def process(self, batch: pa.RecordBatch) -> Iterator:
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, batch.num_rows))
        if not batch.num_rows:
            return
        ids = pa.array([digest.hex() for digest in batch["digest"].to_pylist()], pa.string())
        numbers = [np.repeat(np.arange(len(row)), row) for row in _formula_units(batch)]
        yield batch.append_column("id", ids).append_column("numbers", pa.array(numbers, pa.list_(pa.uint8())))


def _formula_units(batch: pa.RecordBatch) -> np.ndarray:
    """(n, 95) atoms of the reduced formulas."""
    atoms = cell_atoms(batch)
    return atoms // np.gcd.reduce(atoms, axis=1)[:, None]


def random_structures(
    batch: pa.RecordBatch, config: RandomSearchConfig, seed: int, parents: ParentTable
) -> pa.RecordBatch:
    """Chosen compositions -> `config.structures` rows of each, with the recipes and digests of random structures."""
    recipes = random_recipes(pack_compositions(_formula_units(batch)), config, seed)
    rows = np.repeat(np.arange(batch.num_rows), config.structures)
    columns = {name: recipes[name] for name in RECIPE_SCHEMA.names}
    columns["digest"] = pa.array(recipe_digests(recipes, parents), pa.binary(16))
    repeated = batch.take(pa.array(rows))
    return pa.RecordBatch.from_arrays(
        [columns.get(name, repeated[name]) for name in batch.schema.names], schema=batch.schema
    )


class _Lowest(beam.CombineFn):
    """(runs, converged, lowest energy) of parts -> of all."""

    def create_accumulator(self) -> tuple[int, int, float]:
        return 0, 0, np.inf

    def add_input(self, held: tuple, part: tuple) -> tuple[int, int, float]:
        return held[0] + part[0], held[1] + part[1], min(held[2], part[2])

    def merge_accumulators(self, accumulators: Iterable[tuple]) -> tuple[int, int, float]:
        total = self.create_accumulator()
        for held in accumulators:
            total = self.add_input(total, held)
        return total

    def extract_output(self, held: tuple) -> tuple[int, int, float]:
        return held


class CountConvergence(beam.PTransform):
    """The tag CONVERGENCE -> batches of CONVERGENCE_SCHEMA, one row a composition."""

    def expand(self, outcomes):
        return (
            outcomes
            | "Sum" >> beam.CombinePerKey(_Lowest()).with_output_types(tuple[str, tuple[int, int, float]])
            | "Batch" >> beam.BatchElements(min_batch_size=100, max_batch_size=2000)
            | "ToArrow" >> beam.Map(_convergence_batch).with_output_types(pa.RecordBatch)
        )


def _convergence_batch(rows: list[tuple[str, tuple[int, int, float]]]) -> pa.RecordBatch:
    named = [
        dict(zip(CONVERGENCE_SCHEMA.names, (formula, runs, converged, lowest if converged else None), strict=True))
        for formula, (runs, converged, lowest) in rows
    ]
    return pa.RecordBatch.from_pylist(named, schema=CONVERGENCE_SCHEMA)


class CompositionLabels(NamedTuple):
    """n compositions with the lowest formation energy known of each.

    formulas: n, sorted. compositions: (n, 95) atoms in a cell. e_form: (n,) eV/atom. searched: (n,) bool, labelled by
    random structures alone. too_few: compositions that were searched and have too few converged structures for a label.
    """

    formulas: list[str]
    compositions: np.ndarray
    e_form: np.ndarray
    searched: np.ndarray
    too_few: int


def composition_labels(entries: pa.Table, jobs: pa.Table, least_converged: int) -> CompositionLabels:
    """What entries (ENTRY_SCHEMA columns formula, numbers, e_form_per_atom, job) say of their compositions.

    jobs: PROPOSAL_SCHEMA columns id and generator, of all that was proposed. Entries from random structures count only
    where their composition has at least `least_converged` of them; all others, the snapshot's and those made from
    parents, are crystals of their own.
    """
    by_search = set(jobs.filter(pc.equal(jobs["generator"], CODE))["id"].to_pylist())
    runs: dict[str, list[int]] = {}
    rows: dict[str, list[int]] = {}
    energies = entries["e_form_per_atom"].to_numpy()
    for row, (formula, job) in enumerate(zip(entries["formula"].to_pylist(), entries["job"].to_pylist(), strict=True)):
        (runs if job in by_search else rows).setdefault(formula, []).append(row)
    enough = {formula: own for formula, own in runs.items() if len(own) >= least_converged}
    formulas = sorted(rows.keys() | enough.keys())
    lowest = [min((*rows.get(f, ()), *enough.get(f, ())), key=lambda row: energies[row]) for f in formulas]
    return CompositionLabels(
        formulas,
        atom_counts(entries["numbers"].take(pa.array(lowest, pa.int64())).combine_chunks()),
        energies[lowest],
        np.array([formula not in rows for formula in formulas], bool),
        len(runs) - len(enough),
    )


def labels_used(labels: CompositionLabels, snapshot_labels: bool) -> CompositionLabels:
    """What the ensemble learns from: all, or, without snapshot_labels, those that were searched alone.

    As long as fewer than LEAST_SEARCHED were searched, all: a first round has no others.
    """
    if snapshot_labels or labels.searched.sum() < LEAST_SEARCHED:
        return labels
    rows = np.flatnonzero(labels.searched)
    return labels._replace(
        formulas=[labels.formulas[row] for row in rows],
        compositions=labels.compositions[rows],
        e_form=labels.e_form[rows],
        searched=labels.searched[rows],
    )
