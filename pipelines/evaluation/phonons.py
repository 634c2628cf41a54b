"""Phonons of crystals of any source in this process: rows with frequencies, or the reasons why there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dft.evaluators.evaluator import Evaluator
from dft.evaluators.potential import Labeller, PotentialEvaluator
from dft.tables import DONE
from gnome_core.analysis.phonons import save_bands, vibrations
from gnome_core.compositions.formulas import chemsys, reduced_formula
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.symmetry import primitive_cell
from gnome_core.crystals.writers import file_names
from gnome_core.potentials.force_constants import NoPhonons, harmonic
from gnome_core.potentials.potential import Potential
from pipelines.errors import UserError
from pipelines.evaluation.constrained import constrained
from pipelines.evaluation.relaxing import KeptBatches, relaxed

GIVEN = 0.01  # Å, to which the symmetry of given crystals is looked for

_FOUND = [
    pa.field("status", pa.string(), nullable=False),  # done, or the short name of the failure
    pa.field("message", pa.string(), nullable=False),
    pa.field("lowest_frequency", pa.float64()),  # imaginary ones are negative
    pa.field("optical_frequency", pa.float64()),  # the highest at Gamma; null of crystals with one atom
    pa.field("heat_capacity", pa.float64()),  # at 300 K and constant volume, a mole of atoms
    pa.field("supercell_atoms", pa.int32()),
    pa.field("displacements", pa.int32()),
]
_FOUND_SCHEMA = pa.schema(_FOUND)

PHONON_SCHEMA = pa.schema(
    [
        *CRYSTAL_FIELDS,  # the primitive cell, relaxed unless as given
        pa.field("formula", pa.string(), nullable=False),
        pa.field("chemsys", pa.string(), nullable=False),
        *_FOUND,
        pa.field("dynamically_stable", pa.bool_()),  # lowest_frequency >= -tolerance
        pa.field("tolerance", pa.float64(), nullable=False),
        pa.field("steps", pa.int32(), nullable=False),  # of the relaxation
        pa.field("scale", pa.string(), nullable=False),
    ],
    metadata={
        "schema": "gnome.phonons",
        "schema_version": "1",
        "unit.lattice": "angstrom",
        "unit.lowest_frequency": "THz",
        "unit.optical_frequency": "THz",
        "unit.tolerance": "THz",
        "unit.heat_capacity": "J/mol/K, mole of atoms",
    },
)


@dataclass(frozen=True)
class Pictures:
    """Band structures as FOLDER/ID.png."""

    folder: Path
    names: Sequence[str]

    @classmethod
    def of(cls, folder: Path, ids: Sequence[str]) -> Pictures:
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, file_names(ids))

    def path(self, row: int) -> Path:
        return self.folder / f"{self.names[row]}.png"


def primitive_cells(crystals: Sequence[Crystal]) -> list[Crystal]:
    """Standardised primitive cells; a crystal of which no symmetry is found stays as it is."""
    return [primitive_cell(crystal, GIVEN) or crystal for crystal in crystals]


def relaxed_cells(
    evaluator: Evaluator,
    cells: Sequence[Crystal],
    kept: KeptBatches,
    progress: Callable[[int], None] | None = None,
) -> pa.Table:
    """RESULT_SCHEMA of cells relaxed within their symmetry; as given by an evaluator that labels."""
    if isinstance(evaluator, Labeller):
        return relaxed(evaluator, cells, None, kept, progress)
    evaluate, settings = constrained(evaluator, 0.0, cell=True, symmetry=True)
    return relaxed(evaluator, cells, evaluate, kept, progress, settings)


def phonons(
    evaluator: Evaluator,
    ids: Sequence[str],
    results: pa.Table,
    length: float,
    tolerance: float,
    kept: KeptBatches,
    pictures: Pictures | None = None,
    progress: Callable[[int], None] | None = None,
) -> pa.Table:
    """PHONON_SCHEMA of the results of `relaxed_cells`, one row a crystal in their order.

    length: Å, of `gnome_core.potentials.force_constants.supercell_matrix`. Raises UserError for an evaluator that is
    no potential.
    """
    if not isinstance(evaluator, PotentialEvaluator):
        raise UserError(f"{evaluator.name} has no forces on displaced atoms; potentials have")
    crystals = list(crystals_from_batch(results))
    batches = []
    for row, (crystal, job, status) in enumerate(
        zip(crystals, results["id"].to_pylist(), results["status"].to_pylist(), strict=True)
    ):
        key = [job, f"phonons {length:g}"]
        picture = pictures.path(row) if pictures else None
        batch = kept.read(key)
        if status != DONE:
            batch = _row(status=status, message=results["message"][row].as_py())
        elif batch is None or (picture and not picture.exists()):
            batch = _found(crystal, evaluator.potential, length, picture)
            kept.keep(key, batch)
        batches.append(batch)
        if progress:
            progress(1)
    found = pa.Table.from_batches(batches, _FOUND_SCHEMA)
    lowest = found["lowest_frequency"].to_pylist()
    described = record_batch(
        PHONON_SCHEMA,
        list(ids),
        crystals,
        formula=[reduced_formula(crystal.numbers) for crystal in crystals],
        chemsys=[chemsys(crystal.numbers) for crystal in crystals],
        **{name: found[name].combine_chunks() for name in found.column_names},
        dynamically_stable=[None if frequency is None else frequency >= -tolerance for frequency in lowest],
        tolerance=np.full(len(ids), tolerance),
        steps=results["steps"].combine_chunks(),
        scale=results["scale"].combine_chunks(),
    )
    return pa.Table.from_batches([described])


def _found(crystal: Crystal, potential: Potential, length: float, picture: Path | None) -> pa.RecordBatch:
    try:
        model = harmonic(crystal, potential, length)
    except NoPhonons as error:
        return _row(status=error.reason, message=str(error))
    if picture:
        save_bands(model, picture)
    answer = vibrations(model)
    return _row(
        status=DONE,
        message="",
        lowest_frequency=answer.lowest,
        optical_frequency=answer.optical,
        heat_capacity=answer.heat_capacity,
        supercell_atoms=len(model.supercell),
        displacements=len(model.displacements),
    )


def _row(**values: object) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([values], _FOUND_SCHEMA)
