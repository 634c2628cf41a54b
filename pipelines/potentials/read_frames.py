"""Labelled frames from where a user has them: a store, a folder that `gnome potential label` wrote, Parquet, extxyz."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dft.tables import FRAME_SCHEMA
from gnome_core.compositions.formulas import chemsys
from gnome_core.crystals.split import is_withheld
from gnome_core.potentials.frames import BadFrames, LabelledFrames, frames_from_table
from pipelines.errors import UserError
from pipelines.reading.committed import references
from pipelines.reading.frames import frames_until
from pipelines.rounds.manifest import read_manifest
from pipelines.store.store import MANIFEST, Store

if TYPE_CHECKING:
    from ase import Atoms

LABELS = "labels"  # where a folder of `gnome potential label` holds its tables and, written last, MANIFEST.json


def read_frames(source: str, holdout: str = "none") -> LabelledFrames:
    """The frames of STORE | FOLDER of `gnome potential label` | FILE.parquet (FRAME_SCHEMA) | a FILE that ASE reads
    with energies and forces (extxyz, its databases and trajectories, outputs of programs).

    holdout: "holdout-v1" leaves the withheld chemical systems out. Raises UserError.
    """
    path = Path(source)
    try:
        images = path.is_file() and path.suffix != ".parquet"
        frames = _images(path) if images else frames_from_table(_table(source))
    except (BadFrames, OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{source}: {error}") from None
    if holdout == "holdout-v1":
        frames = frames.take(np.array([not is_withheld(chemsys(c.numbers)) for c in frames.crystals], bool))
    if not len(frames):
        raise UserError(f"{source}: no frame that may be trained on")
    return frames


def references_of(source: str) -> dict[int, float]:
    """Elemental references of a store, eV/atom by atomic number. Raises UserError for another source."""
    if not Store(source).rounds():
        raise UserError(f'{source} has no elemental references; set training.shifts = "fit"')
    return dict(references(source).energies)


def _table(source: str) -> pa.Table:
    path, store = Path(source), Store(source)
    if store.storage.exists(f"{LABELS}/{MANIFEST}"):
        files = [stat for stat in read_manifest(store, LABELS).files if stat.table == "frames"]
        return _concat([store.open_parquet(stat).read() for stat in files])
    if store.rounds():
        store = Store.open(source)
        return frames_until(store, store.rounds()[-1])
    if path.suffix != ".parquet":
        raise UserError(f"{source}: neither a store, nor a folder of labels, nor a file")
    table = pq.read_table(path)
    if missing := set(FRAME_SCHEMA.names) - set(table.column_names):
        raise UserError(f"{path}: lacks the columns {', '.join(sorted(missing))} of a table of frames")
    return table


def _concat(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(
        [FRAME_SCHEMA.empty_table(), *(t.select(FRAME_SCHEMA.names).cast(FRAME_SCHEMA) for t in tables)]
    )


def _images(path: Path) -> LabelledFrames:
    """Every configuration a frame and a group of its own; energy and forces are needed, stress may be missing."""
    from gnome_core.crystals.convert import from_atoms
    from gnome_core.crystals.crystal import InvalidCrystal
    from gnome_core.crystals.sources.ase_file import read_images

    crystals, energies, forces, stresses = [], [], [], []
    for index, atoms in enumerate(read_images(path)):
        try:
            crystals.append(from_atoms(atoms))
            energies.append(_labelled(atoms, "energy", ENERGIES, ()))
            forces.append(_labelled(atoms, "forces", FORCES, (len(atoms), 3)))
            stresses.append(_stress(atoms))
        except (InvalidCrystal, BadFrames) as error:
            raise BadFrames(f"configuration {index}: {error}; give every one a cell, an energy and forces") from None
    n = len(crystals)
    groups = np.arange(n).astype(str)
    return LabelledFrames(
        crystals,
        np.array(energies, float),
        forces,
        np.array(stresses).reshape(n, 3, 3),
        np.ones(n, bool),
        groups,
        path.stem,
    )


# Where files have labels that ASE does not take for results: by the names that other programs give them.
ENERGIES = ("energy", "free_energy")
FORCES = ("forces", "force")
VIRIALS = ("virial", "virials")


def _labelled(atoms: Atoms, result: str, names: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    """A result as it stands in the file. Constraints say what may move, not what pulls: they change nothing here."""
    results = atoms.calc.results if atoms.calc else {}
    for places in (results, atoms.info, atoms.arrays):
        for name in (result, *names):
            if name in places:
                value = _numbers(name, places[name])
                if value.shape != shape:
                    raise BadFrames(f"{name} of shape {value.shape} for {len(atoms)} atoms")
                return value
    raise BadFrames(f"no {result}")


def _stress(atoms: Atoms) -> np.ndarray:
    """(3, 3) eV/Å^3, tension positive: the file's stress, else its virial, which is -stress * volume; NaN for neither.

    The sign is ASE's (`ase.calculators.calculator.Calculator.get_stress` and the virials of extxyz files): stress is
    dE/dstrain / volume, and the virial, the sum of r f over the atoms, is -dE/dstrain.
    """
    results = atoms.calc.results if atoms.calc else {}
    if (found := next((place["stress"] for place in (results, atoms.info) if "stress" in place), None)) is not None:
        return _as_matrix("stress", found)
    for places in (atoms.info, results):
        for name in VIRIALS:
            if name in places:
                return -_as_matrix(name, places[name]) / atoms.get_volume()
    return np.full((3, 3), np.nan)


def _as_matrix(name: str, value: object) -> np.ndarray:
    """(3, 3) of a matrix, of its nine numbers, or of Voigt's six (xx, yy, zz, yz, xz, xy)."""
    from ase.stress import voigt_6_to_full_3x3_stress

    given = _numbers(name, value)
    if given.shape == (6,):
        return voigt_6_to_full_3x3_stress(given)
    if given.shape not in ((9,), (3, 3)):
        raise BadFrames(f"{name} of shape {given.shape}, which is no matrix")
    matrix = given.reshape(3, 3)
    if not np.allclose(matrix, matrix.T, atol=1e-3 * max(1.0, np.abs(matrix).max())):
        raise BadFrames(f"{name} is not symmetric")
    return (matrix + matrix.T) / 2


def _numbers(name: str, value: object) -> np.ndarray:
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError):
        raise BadFrames(f"{name} is {value!r}, which is no number") from None
