"""Molecular dynamics by first principles: jobs of chosen crystals, then their frames and conductivities."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa

from dft.config import DftConfig
from dft.engines import make_engine
from dft.jobs.engine import Calculation, Engine, OutputError, StepResult, check_output_of, job_files
from dft.jobs.folders import Job, JobFolder, JobFolders, State
from dft.tables import FRAME_SCHEMA, frame_batch, job_digest, protocol_json
from dft.vasp.dynamics import Dynamics, joined, read_dynamics
from gnome_core.analysis.diffusion import mobile_ion
from gnome_core.compositions.formulas import SYMBOLS, reduced_formula
from gnome_core.crystals.arrow import CRYSTAL_FIELDS, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import Rejected, read_snapshot
from gnome_core.crystals.supercells import repeated
from gnome_core.crystals.writers import write_parquet
from gnome_core.potentials.relax import Relaxation
from gnome_core.spreadsheets import write_csv
from pipelines.beam import progress, tags
from pipelines.beam.dead_letters import as_dead, dead_letter
from pipelines.beam.runners import run_pipeline
from pipelines.beam.tables import WriteTable
from pipelines.errors import UserError
from pipelines.evaluation.batches import FRAMES
from pipelines.evaluation.emitted_jobs import EmittedFolder
from pipelines.evaluation.jobs import PENDING, engine_of_process
from pipelines.potentials.classification import ANSWERS, REFERENCE_SCHEMA
from pipelines.potentials.conductivity import CONDUCTIVITY_SCHEMA, measured
from pipelines.potentials.read_frames import LABELS
from pipelines.potentials.superionic_screen import CLASSIFIED_AT, verdict
from pipelines.rounds.manifest import WriteManifest, read_manifest
from pipelines.store.records import Manifest
from pipelines.store.store import Store

MATERIAL = "material.json"
CONDUCTIVITIES = "conductivities"
REFERENCES = "references.parquet"


def crystals_of_file(path: str) -> pa.Table:
    """CRYSTAL_FIELDS of a file or folder of crystals (see `read_snapshot`). Raises UserError for one that cannot be
    read."""
    found = {}
    for item in read_snapshot(path):
        if isinstance(item, Rejected):
            raise UserError(f"{item.message}; mend it or take it out")
        found[item.id] = item.crystal
    if not found:
        raise UserError(f"{path}: no crystal")
    return pa.Table.from_batches([record_batch(pa.schema(CRYSTAL_FIELDS), list(found), list(found.values()))])


def emit(crystals: pa.Table, folder: Path, dft: DftConfig) -> tuple[int, int]:
    """(new jobs, jobs) in the folder: one a crystal, of the supercell that `dft.vasp.aimd.min_length` asks for.

    crystals: with CRYSTAL_FIELDS. Raises UserError, see `EmittedFolder.make`.
    """
    engine, here = make_engine("vasp", dft), EmittedFolder.make(folder, "vasp", dft)
    protocol = protocol_json(engine.protocol)
    files = {}
    for id_, crystal in zip(crystals["id"].to_pylist(), crystals_from_batch(crystals), strict=True):
        cell = repeated(crystal, dft.vasp.aimd.min_length)
        job = Job(job_digest(cell, protocol), cell, "vasp", protocol)
        material = {
            "id": id_,
            "lattice": crystal.lattice.tolist(),
            "frac_coords": crystal.frac_coords.tolist(),
            "numbers": crystal.numbers.tolist(),
        }
        files.setdefault(job.id, job_files(job, engine) | {MATERIAL: json.dumps(material).encode()})
    return here.folders.emit(files), len(files)


def material_of(folder: JobFolder) -> tuple[str, Crystal]:
    """Id and crystal that a job's supercell was made of. Raises OutputError for a folder that does not say."""
    path = folder.folder / MATERIAL
    try:
        document = json.loads(path.read_bytes())
        return str(document["id"]), Crystal(document["lattice"], document["frac_coords"], document["numbers"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError("damaged_job", f"{path}: {error}; emit the job again") from error


@beam.typehints.with_output_types(pa.RecordBatch)
class ReadRuns(beam.DoFn):
    """Id of a job -> a row of CONDUCTIVITY_SCHEMA; its frames on the tag FRAMES.

    Runs under way, or cut off, say in `stopped` how far they came; those without a step yet are rejected as pending,
    and materials without a mobile ion, whose frames are kept, as no_ion.
    """

    def __init__(self, root: str, dft: DftConfig, skip: float):
        self.root, self.dft, self.skip = root, dft, skip

    def process(self, id_: str) -> Iterator:
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, 1))
        progress.advance()
        folder, engine = JobFolders(self.root)[id_], engine_of_process("vasp", self.dft)
        try:
            runs = _runs(folder, engine)
            frames = self._frames(folder, runs, engine.scale) if runs else None
            row = self._row(folder, joined(list(runs.values()), str(folder.folder))) if runs else None
        except Exception as error:  # whatever is wrong with one job's files
            yield from as_dead([dead_letter("collect", id_, error, pa.RecordBatch.from_pylist([{"job": id_}]))])
            return
        if frames is not None:
            yield beam.pvalue.TaggedOutput(FRAMES, frames)
        if row is None:
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected("no_ion" if runs else PENDING), 1))
        else:
            yield row

    def _row(self, folder: JobFolder, run: Dynamics) -> pa.RecordBatch | None:
        id_, crystal = material_of(folder)
        ion = mobile_ion({SYMBOLS[z] for z in crystal.numbers.tolist()})
        aimd, ending = self.dft.vasp.aimd, folder.ending
        if ion is None:
            return None
        stopped = None
        if folder.state is not State.CONVERGED:
            why = ending.reason if ending else str(folder.state)
            stopped = f"{why} after {run.times[-1]:.1f} of {aimd.ramp + aimd.duration:g} ps"
        row = {"id": id_, "ion": ion, "temperature": aimd.temperature, "trajectory": str(folder.folder)}
        return measured(row | {"stopped": stopped}, run.crystal, run.positions, run.times, self.skip)

    def _frames(self, folder: JobFolder, runs: Mapping[str, Dynamics], scale: str) -> pa.RecordBatch:
        """FRAME_SCHEMA. Raises OutputError for a run of another crystal."""
        found = [(step, frame) for step, run in runs.items() for frame in run.frames(self.dft.vasp.aimd.label_every)]
        frames = [replace(frame, step=number) for number, (_, frame) in enumerate(found)]
        check_output_of(StepResult(frames), folder.folder, folder.job.crystal)
        outcome = Relaxation(frames, None)
        calculation = Calculation(outcome, tuple(step for step, _ in found), (scale,) * len(found))
        return frame_batch([folder.id], [outcome], scale, [calculation])


def _runs(folder: JobFolder, engine: Engine) -> dict[str, Dynamics]:
    """Calculation -> its steps so far, up to the first that has none. Raises OutputError where a job that converged
    lacks some."""
    found: dict[str, Dynamics] = {}
    for step in engine.steps:
        paths = [attempt.folder / step for attempt in reversed(folder.attempts)]
        paths.sort(key=lambda path: not (path / "done.json").exists())  # else the newest first
        for path in filter(Path.is_dir, paths):
            try:
                found[step] = read_dynamics(path)
                break
            except OutputError:
                if folder.state is State.CONVERGED:
                    raise
        if step not in found:
            break
    return found


class Collected(NamedTuple):
    """runs: rows of CONDUCTIVITY_SCHEMA without its curves, with the columns formula and verdict."""

    manifest: Manifest
    runs: pa.Table


def collect(folder: Path, out: Path, skip: float, flags: Sequence[str]) -> Collected:
    """Frames and conductivities of a folder of jobs that `emit` made, as far as they came.

    Writes below `out`: labels/ as `gnome potential train` reads it (tables frames, conductivities and dead, and
    MANIFEST.json last), conductivities.csv with what each run says, and references.parquet for `gnome potential
    classify`: runs at CLASSIFIED_AT that came to their end and did not melt. skip: ps left out at the start of a run.
    Raises UserError for another folder.
    """
    here = EmittedFolder.open(folder)
    if here is None or here.dft.vasp.protocol != "aimd":
        raise UserError(f"{folder} has no jobs of molecular dynamics; `gnome dft aimd STORE {folder}` emits some")
    here.folders.unpack()
    ids = here.folders.ids()
    progress.expect(len(ids), "jobs")
    out.mkdir(parents=True, exist_ok=True)

    def build(pipeline: beam.Pipeline) -> None:
        done = (
            pipeline
            | "Jobs" >> beam.Create(ids).with_output_types(str)
            | "Spread" >> beam.Reshuffle()
            | "Read"
            >> beam.ParDo(ReadRuns(str(here.folders.root), here.dft, skip))
            .with_output_types(pa.RecordBatch, **tags.HINTS, **{FRAMES: pa.RecordBatch})
            .with_outputs(tags.COUNTS, tags.DEAD, FRAMES, main="rows")
        )
        root = str(out)
        rows = done.rows | "Write" >> WriteTable(root, LABELS, CONDUCTIVITIES, CONDUCTIVITY_SCHEMA, ("id",), 1)
        frames = done[FRAMES] | "WriteFrames" >> WriteTable(root, LABELS, FRAMES, FRAME_SCHEMA, ("job", "step"), 2)
        pipeline | "Manifest" >> WriteManifest(
            root, LABELS, CONDUCTIVITIES, [rows, frames], [done[tags.COUNTS]], [done[tags.DEAD]]
        )

    run_pipeline(flags, build)
    store = Store(str(out))
    manifest = read_manifest(store, LABELS)
    manifest.counts.check(str(out))
    tables = [store.open_parquet(stat).read() for stat in manifest.files if stat.table == CONDUCTIVITIES]
    found = pa.concat_tables([CONDUCTIVITY_SCHEMA.empty_table(), *tables]).combine_chunks()
    return Collected(manifest, _write_tables(here, out, found))


def _write_tables(here: EmittedFolder, out: Path, found: pa.Table) -> pa.Table:
    materials = [material_of(here.folders[Path(path).name]) for path in found["trajectory"].to_pylist()]
    crystals = [crystal for _, crystal in materials]
    formulas = [reduced_formula(crystal.numbers) for crystal in crystals]
    verdicts = [verdict(row) if row["temperature"] == CLASSIFIED_AT else row["stopped"] for row in found.to_pylist()]
    runs = found.drop_columns(["lags", "msd", "stopped"]).add_column(1, "formula", pa.array(formulas, pa.string()))
    runs = runs.append_column("verdict", pa.array(verdicts, pa.string()))
    write_csv(runs, out / "conductivities.csv")
    references = record_batch(
        REFERENCE_SCHEMA,
        found["id"].to_pylist(),
        crystals,
        formula=formulas,
        ion=found["ion"].to_pylist(),
        conductivity=found["conductivity"].to_pylist(),
    )
    counts = pa.array([text in ANSWERS for text in verdicts], pa.bool_())
    write_parquet(pa.Table.from_batches([references]).filter(counts), out / REFERENCES)
    return runs
