"""Potentials of the train stage: each member of the committee an element of its own; then the frames of the round on
which the committee disagrees are flagged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa

from dft.tables import FRAME_SCHEMA
from gnome_core.compositions.formulas import chemsys, reduced_formula
from gnome_core.crystals.arrow import crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.split import is_train, is_withheld
from gnome_core.potentials.committee import Committee
from gnome_core.potentials.files import PotentialRecord, load_potential
from gnome_core.potentials.frames import LabelledFrames, frames_from_table
from gnome_core.potentials.learnt import corrected
from gnome_core.potentials.nequip_potential import TrainedPotential
from gnome_core.potentials.potential import CannotJudge
from gnome_core.training.potential.loop import PotentialResult, train_potential
from pipelines.beam import progress, tags
from pipelines.beam.metrics import timer
from pipelines.beam.options import network_hints
from pipelines.beam.tables import ReadTable, WriteTable
from pipelines.beam.top_rows import KeepTop
from pipelines.errors import UserError
from pipelines.reading.committed import leaves_out_withheld, once_per_commit, once_per_process, references
from pipelines.reading.frames import frames_commit, frames_until
from pipelines.reading.potentials import (
    FLAGGED,
    POTENTIALS,
    PRETRAINED,
    WEIGHTS,
    local_potential,
    trained_potentials,
)
from pipelines.reading.schemas import FLAGGED_SCHEMA, POTENTIAL_SCHEMA
from pipelines.rounds.config import RoundConfig, derived_seed
from pipelines.rounds.job import Job
from pipelines.stages.train_folder import training_folder
from pipelines.store.digests import weights_digest
from pipelines.store.records import FileStat
from pipelines.store.store import Store

FILES = "files"
SCRATCH = "scratch"
TOGETHER = 64  # frames that the committee evaluates at once


@dataclass(frozen=True, eq=False)
class TrainingFrames:
    """What potentials of a round learn from: n frames, None where there is none; is_train: (n,) bool, the others
    validate. counts: of what was left out, for the stage's metrics."""

    frames: LabelledFrames | None
    is_train: np.ndarray
    counts: Mapping[str, int]

    @property
    def elements(self) -> tuple[int, ...]:
        return self.frames.elements if self.frames else ()


@once_per_commit(lambda root, round_, *_: [(round_, "evaluate") if round_ else (0, "snapshot")])
def training_frames(root: str, round_: int, withhold: bool, max_force: float) -> TrainingFrames:
    """Every frame of the snapshot's relaxations and of rounds 1..round_, less those of the withheld systems if
    `withhold`, and those with a force above max_force (eV/Å).

    Formulas decide which train, as they do for ensemble members: no later round trains on what an earlier one
    validated with, nor on another frame of its relaxation.
    """
    table = frames_until(Store(root), round_)
    if not len(table):
        return TrainingFrames(None, np.zeros(0, bool), {"frames": 0})
    frames = frames_from_table(table)
    held = np.array([withhold and is_withheld(chemsys(crystal.numbers)) for crystal in frames.crystals], bool)
    strong = ~held & np.array([np.abs(forces).max() > max_force for forces in frames.forces], bool)
    allowed = frames.take(~held & ~strong)
    kept = corrected(allowed)
    counts = {
        "frames": len(kept),
        "frames_withheld": int(held.sum()),
        "frames_above_max_force": int(strong.sum()),
        "frames_without_correction": len(allowed) - len(kept),
    }
    train = np.array([is_train(reduced_formula(crystal.numbers)) for crystal in kept.crystals], bool)
    return TrainingFrames(kept if len(kept) else None, train, counts)


def frames_of(store: Store, round_: int, config: RoundConfig) -> TrainingFrames:
    """The frames that a round's potentials learn from."""
    return training_frames(store.root, round_, leaves_out_withheld(store, config.holdout), config.potential.max_force)


class Start(NamedTuple):
    """What a potential starts from: address of its file, or None for nothing; and the same in words."""

    address: str | None
    said: str


@dataclass(frozen=True)
class PotentialTask:
    """One potential to train."""

    member: int
    seed: int
    start: Start

    @property
    def name(self) -> str:
        return f"potential-{self.member:03d}"


def potential_tasks(job: Job) -> list[PotentialTask]:
    """The committee that the round trains: none where no frame trains. Raises UserError for a schedule that waits for
    frames that validate where there are none."""
    settings, data = job.config.potential, frames_of(job.store, job.round, job.config)
    if not data.is_train.any():
        return []
    starts = _starts(job, data.elements)
    if settings.of_start(starts[0].address is None).schedule == "plateau" and data.is_train.all():
        raise UserError(
            'potential.training.schedule = "plateau" waits for a better validation loss, and no frame is of a formula '
            f"that validates; `gnome round drop {job.store.root}`, and take another schedule"
        )
    return [
        PotentialTask(member, derived_seed(job.config, "potential", job.round, member), starts[member % len(starts)])
        for member in range(settings.members)
    ]


def _starts(job: Job, elements: Sequence[int]) -> list[Start]:
    """What the members start from, in their order; further members from the same again."""
    settings, found = job.config.potential, trained_potentials(job.store, job.round)
    if settings.start == "fine_tune":
        earlier = [Start(address, f"round {found.round}") for address in found.addresses] if found else []
        for starts in (earlier, [Start(PRETRAINED, PRETRAINED)]):
            if starts and all(set(elements) <= _elements(start.address) for start in starts):
                return starts
    return [Start(None, SCRATCH)]


def _elements(address: str | None) -> set[int]:
    """Atomic numbers that a potential's network has weights for."""
    assert address is not None
    return set(load_potential(local_potential(address))[1].config.elements)


def _store_elements(root: str, elements: Sequence[int]) -> tuple[int, ...]:
    """All that the store may ever have frames of, so that later rounds can go on with the network."""
    return tuple(sorted({*elements, *references(root).energies}))


def train_committee(
    pipeline: beam.Pipeline, job: Job, work: str, tasks: Sequence[PotentialTask]
) -> tuple[list[beam.PCollection], list[beam.PCollection]]:
    """Train the potentials, then flag frames of the round: (FileStat JSON of what is written, counts).

    work: store-relative folder of checkpoints.
    """
    root, path, config = job.store.root, job.attempt.path, job.config
    trained = (
        pipeline
        | "Potentials" >> beam.Create(tasks, reshuffle=False).with_output_types(PotentialTask)
        | "SpreadPotentials" >> beam.Reshuffle()
        | "TrainPotential"
        >> beam.ParDo(TrainPotential(root, path, work, job.round, config))
        .with_output_types(pa.RecordBatch, **{tags.COUNTS: tuple[str, int], FILES: str})
        .with_resource_hints(**network_hints(job.flags, exclusive=True))
        .with_outputs(tags.COUNTS, FILES, main="rows")
    )
    own = frames_commit(job.store, job.round)
    assert own is not None
    withhold = leaves_out_withheld(job.store, config.holdout)
    scored = (
        pipeline
        | "Frames" >> ReadTable(root, own, "frames", FRAME_SCHEMA.names)
        | "Disagreement"
        >> beam.ParDo(
            FlagFrames(root, withhold, config.potential.max_force, config.potential.flag_above),
            beam.pvalue.AsList(trained[FILES]),
        )
        .with_output_types(pa.RecordBatch, **{tags.COUNTS: tuple[str, int]})
        .with_resource_hints(**network_hints(job.flags))
        .with_outputs(tags.COUNTS, main="rows")
    )
    # Frames of one relaxation are much the same: one of them stands for all.
    worst, _ = scored.rows | "WorstOfRelaxation" >> KeepTop("job", 1, (ORDER, "id"), "")
    flagged, _ = worst | "Worst" >> KeepTop(None, config.potential.flag_most, (ORDER, "id"), "")
    files = [
        trained.rows | "WritePotentials" >> WriteTable(root, path, POTENTIALS, POTENTIAL_SCHEMA, ("name",), 1),
        flagged | "WriteFlagged" >> WriteTable(root, path, FLAGGED, FLAGGED_SCHEMA, ("id",), 1),
        trained[FILES],
    ]
    return files, [trained[tags.COUNTS], scored[tags.COUNTS]]


@beam.typehints.with_output_types(pa.RecordBatch)
class TrainPotential(beam.DoFn):
    """PotentialTask -> its row of POTENTIAL_SCHEMA; FileStat JSON of its files on the tag FILES.

    Works in `work` (store-relative), where a later attempt at the same stage finds its checkpoints.
    """

    def __init__(self, root: str, path: str, work: str, round_: int, config: RoundConfig):
        self.root, self.path, self.work, self.round, self.config = root, path, work, round_, config

    def process(self, task: PotentialTask) -> Iterator:
        store, settings = Store(self.root), self.config.potential
        data, fresh = frames_of(store, self.round, self.config), task.start.address is None
        assert data.frames is not None
        energies = references(self.root).energies
        with (
            training_folder(store.storage, f"{self.work}/potential", task.name) as (folder, keep),
            timer("train_potential"),
        ):

            def epoch_ended(*_) -> None:
                progress.advance()
                keep()

            result = train_potential(
                data.frames,
                data.is_train,
                seed=task.seed,
                out_dir=folder,
                name=task.name,
                model=settings.network(_store_elements(self.root, data.elements)) if fresh else None,
                training=settings.of_start(fresh),
                references=energies if settings.training.shifts == "references" else None,
                init_from=None if task.start.address is None else local_potential(task.start.address),
                origin=f"{len(data.frames)} frames of rounds 0 to {self.round}",
                progress=epoch_ended,
            )
            yield from self._outputs(store, task, result)

    def _outputs(self, store: Store, task: PotentialTask, result: PotentialResult) -> Iterator:
        # Equal potentials of two stores are equal files: what one started from is named, not where that was.
        record = PotentialRecord.model_validate_json(Path(result.path).with_suffix(".json").read_bytes())
        said = None if task.start.address is None else task.start.said
        content = record.model_copy(update={"init_from": said}).model_dump_json(indent=1).encode()
        for suffix, data in ((".npz", Path(result.path).read_bytes()), (".json", content)):
            stat = store.write_blob(f"{self.path}/{WEIGHTS}/{task.name}{suffix}", WEIGHTS, data)
            yield beam.pvalue.TaggedOutput(FILES, stat.model_dump_json())
        names = ("energy_mae", "energy_rmse", "force_mae", "force_rmse")
        row = {
            "member": task.member,
            "name": task.name,
            "weights": weights_digest(result.path),
            "start": task.start.said,
            "epochs": result.epochs,
            "n_train": result.n_train,
            "n_val": result.n_val,
            **{name: 1e-3 * result.errors[name] for name in names if name in result.errors},
        }
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, 1))
        yield pa.RecordBatch.from_pylist([row], schema=POTENTIAL_SCHEMA)


@once_per_process
def committee_of(addresses: tuple[str, ...]) -> Committee:
    return Committee([TrainedPotential.load(local_potential(address)) for address in addresses])


ORDER = "order"  # the force spread, negative: what sorts first is the worst
SCORED, UNJUDGED = "frames_scored", "frames_unjudged"


@beam.typehints.with_output_types(pa.RecordBatch)
class FlagFrames(beam.DoFn):
    """Batches of FRAME_SCHEMA, FileStat JSON of potentials' files -> FLAGGED_SCHEMA, with ORDER, of the frames on which
    the potentials disagree by more than `above` (eV/Å) about the force on an atom.

    Looks at no frame of a withheld system if `withhold`, and at none with a force above max_force (eV/Å); tallies those
    that a potential cannot judge.
    """

    def __init__(self, root: str, withhold: bool, max_force: float, above: float):
        self.root, self.withhold, self.max_force, self.above = root, withhold, max_force, above

    def process(self, batch: pa.RecordBatch, files: Sequence[str]) -> Iterator:
        storage = Store(self.root).storage
        paths = sorted(FileStat.model_validate_json(text).path for text in files)
        committee = committee_of(tuple(storage.address(path) for path in paths if path.endswith(".npz")))
        crystals = crystals_from_batch(batch)
        wanted = [row for row, crystal in enumerate(crystals) if self._is_wanted(batch, row, crystal)]
        rows = [row for row in wanted if _is_judged(committee, crystals[row])]
        spread = np.zeros(len(rows))
        for start in range(0, len(rows), TOGETHER):
            answers = committee.evaluate_with_spread([crystals[row] for row in rows[start : start + TOGETHER]])
            spread[start : start + TOGETHER] = [forces.max() for _, forces in answers]
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.tally(SCORED), len(rows)))
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.tally(UNJUDGED), len(wanted) - len(rows)))
        high = [(row, float(value)) for row, value in zip(rows, spread, strict=True) if value > self.above]
        if high:
            yield _flagged(batch, [(row, crystals[row], value) for row, value in high])

    def _is_wanted(self, batch: pa.RecordBatch, row: int, crystal: Crystal) -> bool:
        if self.withhold and is_withheld(chemsys(crystal.numbers)):
            return False
        return bool(np.abs(batch["forces"][row].values.to_numpy()).max() <= self.max_force)


def _is_judged(committee: Committee, crystal: Crystal) -> bool:
    try:
        committee.check(crystal)
    except CannotJudge:
        return False
    return True


def _flagged(batch: pa.RecordBatch, rows: Sequence[tuple[int, Crystal, float]]) -> pa.RecordBatch:
    jobs, steps = ([batch[name][row].as_py() for row, *_ in rows] for name in ("job", "step"))
    crystals, spread = [crystal for _, crystal, _ in rows], [value for *_, value in rows]
    found = record_batch(
        FLAGGED_SCHEMA,
        [f"{job}-{step}" for job, step in zip(jobs, steps, strict=True)],
        crystals,
        formula=[reduced_formula(crystal.numbers) for crystal in crystals],
        chemsys=[chemsys(crystal.numbers) for crystal in crystals],
        job=jobs,
        step=steps,
        force_spread=spread,
    )
    return found.append_column(ORDER, pa.array([-value for value in spread]))
