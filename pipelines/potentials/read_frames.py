"""Labelled frames from where a user has them: a store, a folder that `gnome potential label` wrote, Parquet, extxyz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dft.tables import FRAME_SCHEMA
from gnome_core.compositions.formulas import chemsys
from gnome_core.crystals.split import is_withheld
from gnome_core.potentials.frames import BadFrames, LabelledFrames, frames_from_table
from pipelines.errors import UserError
from pipelines.reading.committed import references
from pipelines.rounds.manifest import read_manifest
from pipelines.store.store import MANIFEST, Store

LABELS = "labels"  # where a folder of `gnome potential label` holds its tables and, written last, MANIFEST.json


def read_frames(source: str, holdout: str = "none") -> LabelledFrames:
    """The frames of STORE | FOLDER of `gnome potential label` | FILE.parquet (FRAME_SCHEMA) | FILE.extxyz.

    holdout: "holdout-v1" leaves the withheld chemical systems out. Raises UserError.
    """
    path = Path(source)
    try:
        frames = _extxyz(path) if path.suffix in (".xyz", ".extxyz") else frames_from_table(_table(path))
    except (BadFrames, OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{source}: {error}") from None
    if holdout == "holdout-v1":
        frames = frames.take(np.array([not is_withheld(chemsys(c.numbers)) for c in frames.crystals], bool))
    if not len(frames):
        raise UserError(f"{source}: no frame that may be trained on")
    return frames


def references_of(source: str) -> dict[int, float]:
    """Elemental references of a store, eV/atom by atomic number. Raises UserError for another source."""
    if not (Path(source) / "rounds").is_dir():
        raise UserError(f'{source} has no elemental references; set training.shifts = "fit"')
    return dict(references(source).energies)


def _table(path: Path) -> pa.Table:
    if (path / LABELS / MANIFEST).exists():
        store = Store(str(path))
        files = [stat for stat in read_manifest(store, LABELS).files if stat.table == "frames"]
        return _concat([store.open_parquet(stat).read() for stat in files])
    if (path / "rounds").is_dir():
        store = Store.open(str(path))
        commits = [store.commit(round_, "evaluate") for round_ in store.rounds()]
        return _concat([store.read_table(c, "frames", FRAME_SCHEMA) for c in commits if c is not None])
    if path.suffix != ".parquet":
        raise UserError(f"{path}: neither a store, nor a folder of labels, nor a .parquet or .extxyz file")
    table = pq.read_table(path)
    if missing := set(FRAME_SCHEMA.names) - set(table.column_names):
        raise UserError(f"{path}: lacks the columns {', '.join(sorted(missing))} of a table of frames")
    return table


def _concat(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(
        [FRAME_SCHEMA.empty_table(), *(t.select(FRAME_SCHEMA.names).cast(FRAME_SCHEMA) for t in tables)]
    )


def _extxyz(path: Path) -> LabelledFrames:
    """Every configuration a frame and a group of its own; energy and forces are needed, stress may be missing."""
    from ase.calculators.calculator import PropertyNotImplementedError
    from ase.io import iread

    from gnome_core.crystals.convert import from_atoms
    from gnome_core.crystals.crystal import InvalidCrystal

    crystals, energies, forces, stresses = [], [], [], []
    for index, atoms in enumerate(iread(path, index=":")):
        try:
            crystals.append(from_atoms(atoms))
            energies.append(atoms.get_potential_energy())
            forces.append(atoms.get_forces())
        except (InvalidCrystal, RuntimeError, PropertyNotImplementedError) as error:
            raise BadFrames(f"configuration {index}: {error}; give every one a cell, an energy and forces") from None
        has_stress = atoms.calc is not None and "stress" in atoms.calc.results
        stresses.append(atoms.get_stress(voigt=False) if has_stress else np.full((3, 3), np.nan))
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
