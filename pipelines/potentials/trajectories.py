"""Trajectories as files: Parquet with units, or extxyz for other programs."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core import files
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.writers import write_parquet
from gnome_core.potentials.md_config import MDConfig
from pipelines.errors import UserError

if TYPE_CHECKING:
    from gnome_core.potentials.md import Trajectory

TRAJECTORY_SCHEMA = pa.schema(
    [
        pa.field("time", pa.float64(), nullable=False),
        pa.field("positions", pa.list_(pa.field("element", pa.float32())), nullable=False),  # 3n, unwrapped
        pa.field("energy", pa.float64(), nullable=False),  # potential energy of the cell
        pa.field("temperature", pa.float64(), nullable=False),
    ],
    metadata={
        "schema": "gnome.trajectory",
        "schema_version": "1",
        "unit.time": "ps",
        "unit.positions": "angstrom",
        "unit.energy": "eV",
        "unit.temperature": "kelvin",
    },
)


ENDINGS = (".parquet", ".extxyz", ".xyz")
CHECKPOINTS = ".checkpoints"  # beside what is written; its files have names of their own, which no user's file has


def checkpoint_path(folder: str | Path, digest: str) -> Path:
    """Where a run that writes into the folder keeps its state until it ends. digest: of `md.run_digest`."""
    return Path(folder, CHECKPOINTS, f"md-{digest}.npz")


def drop_checkpoint(path: Path) -> None:
    """Remove the state of a run that has ended, and the folder if nothing else is in it."""
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()


def write_trajectory(trajectory: Trajectory, path: str | Path) -> None:
    """Write .parquet (TRAJECTORY_SCHEMA; crystal, settings and stop reason in its metadata), .extxyz or .xyz.

    Raises UserError for other names.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        write_parquet(_table(trajectory), path)
    elif path.suffix in (".xyz", ".extxyz"):
        _write_extxyz(trajectory, path)
    else:
        raise UserError(f"{path}: must end in {' or '.join(ENDINGS)}")


def read_trajectory(path: str | Path) -> Trajectory:
    """A trajectory that `write_trajectory` wrote as Parquet."""
    from gnome_core.potentials.md import Trajectory  # takes seconds to import

    table = pq.read_table(path)
    meta = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    lattice = np.array(meta["lattice"].split(), float).reshape(3, 3)
    numbers = np.array(meta["numbers"].split(), int)
    positions = table["positions"].combine_chunks().flatten().to_numpy().reshape(len(table), len(numbers), 3)
    crystal = Crystal(lattice, positions[0].astype(float) @ np.linalg.inv(lattice), numbers)
    return Trajectory(
        crystal,
        positions,
        table["time"].to_numpy(),
        table["energy"].to_numpy(),
        table["temperature"].to_numpy(),
        meta["stopped"] or None,
        MDConfig.model_validate_json(meta["config"]),
        meta["scale"],
        meta.get("digest", ""),
    )


def _table(trajectory: Trajectory) -> pa.Table:
    n = len(trajectory.times)
    metadata = {
        "lattice": " ".join(map(repr, trajectory.crystal.lattice.ravel().tolist())),
        "numbers": " ".join(map(str, trajectory.crystal.numbers.tolist())),
        "config": trajectory.config.model_dump_json(),
        "scale": trajectory.scale,
        "digest": trajectory.digest,
        "stopped": trajectory.stopped or "",
    }
    schema = TRAJECTORY_SCHEMA.with_metadata({**TRAJECTORY_SCHEMA.metadata, **metadata})
    flat = pa.array(trajectory.positions.astype(np.float32).ravel())
    width = 3 * trajectory.crystal.n_sites
    positions = pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * width), flat)
    columns = [trajectory.times, positions, trajectory.energies, trajectory.temperatures]
    return pa.Table.from_arrays(
        [pa.array(c) if isinstance(c, np.ndarray) else c for c in columns], names=schema.names
    ).cast(schema)


def _write_extxyz(trajectory: Trajectory, path: Path) -> None:
    from ase.io import write

    from gnome_core.crystals.convert import to_atoms

    images = []
    for time, positions, energy, temperature in zip(
        trajectory.times, trajectory.positions, trajectory.energies, trajectory.temperatures, strict=True
    ):
        atoms = to_atoms(trajectory.crystal)
        atoms.set_positions(positions)
        atoms.info |= {"time_ps": float(time), "potential_energy": float(energy), "temperature": float(temperature)}
        images.append(atoms)
    text = io.StringIO()
    write(text, images, format="extxyz")
    files.write_file(path, text.getvalue().encode())
