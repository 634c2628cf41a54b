"""One element a material: molecular dynamics at each temperature, then its conductivity. Runs resume by themselves."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.analysis.diffusion import TooShort, diffusion
from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.writers import write_parquet
from gnome_core.potentials.md_config import MDConfig
from pipelines.beam import progress
from pipelines.beam.options import network_hints
from pipelines.beam.runners import run_pipeline
from pipelines.beam.tables import ReadFiles
from pipelines.reading.committed import once_per_process
from pipelines.store.store import Store

CONDUCTIVITY_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("ion", pa.string(), nullable=False),
        pa.field("temperature", pa.float64(), nullable=False),
        pa.field("trajectory", pa.string(), nullable=False),  # file
        pa.field("stopped", pa.string()),  # why the run ended early, or why it says nothing
        pa.field("diffusivity", pa.float64()),
        pa.field("conductivity", pa.float64()),
        pa.field("framework_msd", pa.float64()),
        pa.field("lags", pa.list_(pa.field("element", pa.float64()))),
        pa.field("msd", pa.list_(pa.field("element", pa.float64()))),
    ],
    metadata={
        "schema": "gnome.conductivity",
        "schema_version": "1",
        "unit.temperature": "kelvin",
        "unit.diffusivity": "cm^2/s",
        "unit.conductivity": "mS/cm",
        "unit.framework_msd": "angstrom^2",
        "unit.lags": "ps",
        "unit.msd": "angstrom^2",
    },
)


@dataclass(frozen=True)
class MDTask:
    """A material to simulate. crystal: one row of CRYSTAL_FIELDS."""

    crystal: pa.RecordBatch
    ion: str
    temperature: float
    seed: int


TASK_COLUMNS = ("ion", "temperature", "seed")


@once_per_process
def _potential(name: str):
    from gnome_core.potentials.by_name import make_potential

    return make_potential(name)


@beam.typehints.with_output_types(pa.RecordBatch)
class RunMD(beam.DoFn):
    """MDTask -> one row of CONDUCTIVITY_SCHEMA; its trajectory, and checkpoints until it ends, below `out`."""

    def __init__(self, out: str, potential: str, config: MDConfig, skip: float):
        self.out, self.potential, self.config, self.skip = out, potential, config, skip

    def process(self, task: MDTask) -> Iterator[pa.RecordBatch]:
        from gnome_core.potentials.md import run_digest, run_md
        from gnome_core.potentials.potential import CannotJudge
        from pipelines.potentials.trajectories import checkpoint_path, drop_checkpoint, write_trajectory

        (crystal,) = crystals_from_batch(task.crystal)
        name = task.crystal["id"][0].as_py()
        config = self.config.model_copy(update={"temperature": task.temperature})
        path = Path(self.out, "trajectories", f"{_file_name(name)}-{task.temperature:g}K.parquet")
        row = {"id": name, "ion": task.ion, "temperature": task.temperature, "trajectory": str(path)}
        potential = _potential(self.potential)
        digest = run_digest(crystal, potential, config, task.seed)
        trajectory = _kept(path, digest)
        if trajectory is None:
            checkpoint = checkpoint_path(path.parent, digest)
            try:
                trajectory = run_md(crystal, potential, config, task.seed, checkpoint)
            except CannotJudge as error:
                yield pa.RecordBatch.from_pylist([row | {"stopped": str(error)}], schema=CONDUCTIVITY_SCHEMA)
                return
            write_trajectory(trajectory, path)
            drop_checkpoint(checkpoint)
        progress.advance(1)
        row["stopped"] = trajectory.stopped
        yield measured(row, trajectory.crystal, trajectory.positions, trajectory.times, self.skip)


def measured(row: Mapping, crystal: Crystal, positions: np.ndarray, times: np.ndarray, skip: float) -> pa.RecordBatch:
    """One row of CONDUCTIVITY_SCHEMA: what is known of the run (id, ion, temperature, trajectory, stopped) and what its
    positions say; arguments as of `gnome_core.analysis.diffusion.diffusion`."""
    row = dict(row)
    try:
        found = diffusion(crystal, positions, times, row["ion"], row["temperature"], skip)
        row |= {
            "diffusivity": found.diffusivity,
            "conductivity": found.conductivity,
            "framework_msd": found.framework_msd,
            "lags": found.lags.tolist(),
            "msd": found.msd.tolist(),
        }
    except TooShort as error:
        row["stopped"] = row["stopped"] or str(error)
    return pa.RecordBatch.from_pylist([row], schema=CONDUCTIVITY_SCHEMA)


def _kept(path: Path, digest: str):
    """The trajectory of an earlier screening, if it is the one that would be made now."""
    from pipelines.potentials.trajectories import read_trajectory

    try:
        found = read_trajectory(path)
    except (OSError, ValueError, KeyError, AttributeError):  # none, of another version, or cut short
        return None
    return found if found.digest == digest else None


def _file_name(id_: str) -> str:
    """The id where it can be a file's name, else one that no other id has."""
    plain = re.sub(r"[^A-Za-z0-9_.+-]", "_", id_).lstrip(".")[:100]
    return id_ if id_ == plain else f"{plain}-{hashlib.blake2b(id_.encode(), digest_size=4).hexdigest()}"


def run_tasks(
    tasks: Sequence[MDTask], out: str, potential: str, config: MDConfig, skip: float, flags: Sequence[str]
) -> pa.Table:
    """Every task through RunMD, spread over workers; the rows, sorted, are also in out/conductivities.parquet."""
    progress.expect(len(tasks), "trajectories")
    Path(out).mkdir(parents=True, exist_ok=True)
    rows_path = Path(out, "conductivities.parquet")
    asked = Store(out).write_table("tasks.parquet", "tasks", _table(tasks), row_group=1)

    def build(pipeline: beam.Pipeline) -> None:
        (
            pipeline
            | "Crystals" >> ReadFiles(out, [asked], row_group=1)
            | "Tasks" >> beam.Map(_task).with_output_types(MDTask)
            | "Run" >> beam.ParDo(RunMD(out, potential, config, skip)).with_resource_hints(**network_hints(flags))
            | "Gather" >> beam.combiners.ToList()
            | "Write" >> beam.Map(_write_rows, str(rows_path))
        )

    run_pipeline(flags, build)
    return pq.read_table(rows_path)


def _table(tasks: Sequence[MDTask]) -> pa.Table:
    crystals = pa.Table.from_batches([task.crystal for task in tasks])
    for name in TASK_COLUMNS:
        crystals = crystals.append_column(name, pa.array([getattr(task, name) for task in tasks]))
    return crystals


def _task(row: pa.RecordBatch) -> MDTask:
    crystal = row.select([name for name in row.schema.names if name not in TASK_COLUMNS])
    return MDTask(crystal, *(row[name][0].as_py() for name in TASK_COLUMNS))


def _write_rows(batches: Sequence[pa.RecordBatch], path: str) -> None:
    table = pa.Table.from_batches(batches, CONDUCTIVITY_SCHEMA).sort_by(
        [("id", "ascending"), ("temperature", "ascending")]
    )
    write_parquet(table, path)
