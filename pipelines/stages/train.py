"""train: all entries so far -> the next ensemble, each member an element of its own, or all in one program; and the
next potentials, if they are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnome_core.compositions.formulas import SYMBOLS, within
from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch
from gnome_core.crystals.readers import evaluated_entries
from gnome_core.crystals.split import is_train, is_withheld
from gnome_core.ensembles.calibration import FILE as CALIBRATION
from gnome_core.ensembles.ensemble import calibrate
from gnome_core.graphs.cache import cached_graphs, concatenate
from gnome_core.graphs.featurize import GraphTable, compositional_graphs
from gnome_core.models.members import member_name
from gnome_core.models.shipped import Framework
from gnome_core.training.members.batches import Replay
from gnome_core.training.members.loop import MemberResult, train_members
from pipelines.beam import progress, tags
from pipelines.beam.metrics import timer
from pipelines.beam.options import network_hints
from pipelines.beam.tables import WriteTable
from pipelines.reading.committed import (
    all_proposals,
    entries_until,
    labels_of,
    leaves_out_withheld,
    once_per_commit,
    proposed_entries,
    references,
)
from pipelines.reading.members import local_member, member_addresses, shipped_addresses, weights_of
from pipelines.reading.potentials import POTENTIALS
from pipelines.reading.schemas import MEMBER_SCHEMA
from pipelines.rounds.config import MemberTrainingConfig, RoundConfig, derived_seed
from pipelines.rounds.job import Job
from pipelines.rounds.manifest import WriteManifest, run_job
from pipelines.stages.searched_compositions import composition_labels, labels_used
from pipelines.stages.snapshot_entries import relabelled
from pipelines.stages.train_folder import training_folder
from pipelines.stages.train_potentials import FILES, frames_of, potential_tasks, train_committee
from pipelines.store.digests import json_digest, weights_digest
from pipelines.store.records import FileStat, Manifest
from pipelines.store.store import Store


def run(job: Job) -> Manifest:
    root, path, config = job.store.root, job.attempt.path, job.config
    tasks = [task for framework in config.trained for task in _tasks(job, framework)]
    potentials = potential_tasks(job) if config.training.potential else []
    inputs = json_digest({key: commit.digest for key, commit in job.inputs.items()})
    epochs = [len(task.members) * config.ensemble_of(task.framework)[2].of_round(job.round).epochs for task in tasks]
    epochs += [config.potential.of_start(task.start.address is None).epochs for task in potentials]
    progress.expect(sum(epochs), "epochs")
    work = f"rounds/r{job.round:04d}/train/checkpoints/{inputs[:12]}"

    def build(pipeline: beam.Pipeline) -> None:
        trained = (
            pipeline
            | "Members" >> beam.Create(tasks, reshuffle=False).with_output_types(TrainTask)
            | "SpreadMembers" >> beam.Reshuffle()
            | "Train"
            >> beam.ParDo(TrainMembers(root, path, work, job.round, config))
            .with_output_types(pa.RecordBatch, **{tags.COUNTS: tuple[str, int], FILES: str})
            .with_resource_hints(**network_hints(job.flags, exclusive=True))
            .with_outputs(tags.COUNTS, FILES, main="rows")
        )
        by = ("framework", "name")
        rows = trained.rows | "Write" >> WriteTable(root, path, "members", MEMBER_SCHEMA, by, 1)
        files, counted = [rows, trained[FILES]], [trained[tags.COUNTS]]
        if potentials:
            of_potentials = train_committee(pipeline, job, work, potentials)
            files, counted = files + of_potentials[0], counted + of_potentials[1]
        pipeline | "Manifest" >> WriteManifest(root, path, ("members", POTENTIALS), files, counted)

    counts = labelled(root, job.round, config, "compositional").counts if config.searches else {}
    if config.training.potential:
        counts = {**counts, **frames_of(job.store, job.round, config).counts}
    manifest = run_job(job, build, dict(counts))
    blobs = [_calibration(job, framework, manifest) for framework in config.trained]
    return manifest.model_copy(update={"files": [*manifest.files, *blobs]})


def _calibration(job: Job, framework: Framework, manifest: Manifest) -> FileStat:
    """Calibrate the spread of the members just trained, on what none of them trained on."""
    data, table = labelled(job.store.root, job.round, job.config, framework), weights_of(framework)
    files = sorted(job.store.local_file(stat) for stat in manifest.files if stat.table == table)
    members = [path for path in files if path.endswith(".npz")]
    content = calibrate(members, data.graphs, data.e_form, data.is_train, _calibrating(data))
    return job.store.write_blob(f"{job.attempt.path}/{table}/{CALIBRATION}", table, content)


def _calibrating(data: Dataset) -> np.ndarray:
    """(n,) bool: what calibrates the spread. Candidates as they were proposed, which is what scoring sees and where
    members err most; all of the data while too few of these are held out."""
    held_out = data.proposed & ~data.is_train
    return data.proposed if held_out.sum() >= MIN_PROPOSED else np.ones(len(held_out), bool)


def _tasks(job: Job, framework: Framework) -> list[TrainTask]:
    n_members, _, training = job.config.ensemble_of(framework)
    purpose = ("train", job.round) if framework == "structural" else ("train", job.round, framework)
    seed, starts = derived_seed(job.config, *purpose), _starts(job, framework)
    groups = [range(n_members)] if training.together else [range(k, k + 1) for k in range(n_members)]
    return [TrainTask(framework, tuple(group), seed, tuple(starts[k % len(starts)] for k in group)) for group in groups]


def _starts(job: Job, framework: Framework) -> Sequence[str | None]:
    """Addresses of the members to start from; further members start from them again. (None,) = from nothing."""
    if job.config.ensemble_of(framework)[2].starts_fresh(job.round):
        return (None,)
    if job.round:
        return member_addresses(job.store, job.input("train"), framework)
    return shipped_addresses(framework)


MIN_PROPOSED = 50  # held-out candidates that make a calibration of their own
GRAPHS = "cache"  # store-relative folder of files that can be made again


@dataclass(frozen=True)
class TrainTask:
    """Members to train in one program. init_from: for each, address of the member it starts from, or None."""

    framework: Framework
    members: tuple[int, ...]
    seed: int
    init_from: tuple[str | None, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled graphs in a fixed order. e_form: (n,) eV/atom; is_train: (n,) bool; old: (n,) bool, labelled before the
    round, or in the snapshot; proposed: (n,) bool, candidates in the geometry that they were proposed with.

    counts: where labels of compositions come from, for the stage's metrics.
    """

    graphs: GraphTable
    e_form: np.ndarray
    is_train: np.ndarray
    old: np.ndarray
    proposed: np.ndarray
    counts: Mapping[str, int] = field(default_factory=dict)


@once_per_commit(lambda root, round_, *_: [labels_of(round_)])
def composition_dataset(root: str, round_: int, withhold: bool, least_converged: int, snapshot_labels: bool) -> Dataset:
    """The lowest energies of all compositions labelled up to a round, less those of the withheld systems if `withhold`.

    Those of random structures count where at least `least_converged` converged. snapshot_labels: see `labels_used`.
    """
    store = Store(root)
    entries = entries_until(store, round_, ["formula", "chemsys", "numbers", "e_form_per_atom", "job"])
    jobs = all_proposals(store, round_, ["id", "generator"])
    labels = labels_used(composition_labels(_kept(entries, withhold), jobs, least_converged), snapshot_labels)
    counts = {
        "composition_labels": len(labels.formulas),
        "composition_labels_searched": int(labels.searched.sum()),
        "compositions_below_least_converged": labels.too_few,
    }
    train = np.array([is_train(formula) for formula in labels.formulas])
    graphs = compositional_graphs(labels.compositions)
    return Dataset(graphs, labels.e_form, train, np.ones(len(train), bool), np.zeros(len(train), bool), counts)


def _kept(entries: pa.Table, withhold: bool) -> pa.Table:
    if not withhold:
        return entries
    return entries.filter(pa.array([not is_withheld(system) for system in entries["chemsys"].to_pylist()], pa.bool_()))


@once_per_commit(lambda root, round_, *_: [labels_of(round_)])
def dataset(
    root: str, round_: int, withhold: bool, cutoff: float, shipped: bool, most_old: int | None = None, seed: int = 0
) -> Dataset:
    """Everything labelled up to a round, less the withheld chemical systems if `withhold`; if `shipped`, with the
    candidates that come with the package. most_old: so many old labels, drawn at random; None = all.

    Crystals that rounds evaluated come twice: relaxed, and as they were proposed under their relaxed energy. Scoring
    sees unrelaxed cells, and these are the only ones with a label.
    """
    store = Store(root)
    found, cache = entries_until(store, round_), store.storage.local_path(GRAPHS)
    # A round's crystals never change: each round's graphs are built once, whoever trains on them later.
    relaxed = [found.filter(pc.equal(found["round"], earlier)) for earlier in range(round_ + 1)]
    proposed = [*([shipped_candidates(root)] if shipped else []), *proposed_entries(store, round_)]
    parts = [_kept(part, withhold).sort_by("id") for part in (*relaxed, *proposed)]
    if most_old is not None:
        olds = [round_ == 0 or bool(len(part) and part["round"][0].as_py() < round_) for part in parts]
        parts = draw(parts, olds, most_old, np.random.default_rng(seed))
    as_proposed = np.repeat(np.arange(len(parts)) >= len(relaxed), [len(part) for part in parts])
    parts = [part for part in parts if len(part)]
    graphs = concatenate([cached_graphs(crystals_from_batch(part), cutoff, cache) for part in parts])
    entries = pa.concat_tables(parts)
    train = np.array([is_train(formula) for formula in entries["formula"].to_pylist()])
    old = (entries["round"].to_numpy() < round_) | (round_ == 0)
    return Dataset(graphs, entries["e_form_per_atom"].to_numpy(), train, old, as_proposed)


def draw(parts: list[pa.Table], old: list[bool], most: int, rng: np.random.Generator) -> list[pa.Table]:
    """The parts, those that are old with `most` of their rows together, drawn at random, in their order."""
    lengths = np.where(old, [len(part) for part in parts], 0)
    drawn = np.zeros(lengths.sum(), bool)
    drawn[rng.permutation(len(drawn))[:most]] = True
    masks = np.split(drawn, lengths.cumsum()[:-1])
    return [
        part.filter(pa.array(mask)) if is_old else part for part, mask, is_old in zip(parts, masks, old, strict=True)
    ]


def shipped_candidates(root: str) -> pa.Table:
    """The evaluated candidates that come with the package (ENTRY_SCHEMA), of elements that the store has references of:
    formation energies from those; none where the store's scale is another one."""
    own = references(root)
    found = evaluated_entries(own.scale)
    held = pa.array(within(found["chemsys"].to_pylist(), {SYMBOLS[z] for z in own.elements}))
    return pa.Table.from_batches(relabelled(found.filter(held).to_batches(), own), ENTRY_SCHEMA)


def labelled(root: str, round_: int, config: RoundConfig, framework: Framework) -> Dataset:
    """What a framework's members of a round learn from."""
    withhold = leaves_out_withheld(Store(root), config.holdout)
    if framework == "structural":
        most_old, seed = config.training.most_replayed(round_), derived_seed(config, "replay", round_)
        return dataset(root, round_, withhold, config.model.cutoff, config.shipped_candidates, most_old, seed)
    own = config.compositional
    return composition_dataset(root, round_, withhold, own.least_converged, own.snapshot_labels)


@beam.typehints.with_output_types(pa.RecordBatch)
class TrainMembers(beam.DoFn):
    """TrainTask -> a row of MEMBER_SCHEMA for each member; FileStat JSON of their files on the tag FILES.

    Works in `work` (store-relative), where a later attempt at the same stage finds its checkpoints.
    """

    def __init__(self, root: str, path: str, work: str, round_: int, config: RoundConfig):
        self.root, self.path, self.work, self.round, self.config = root, path, work, round_, config

    def process(self, task: TrainTask) -> Iterator:
        store = Store(self.root)
        _, model, training = self.config.ensemble_of(task.framework)
        data = labelled(self.root, self.round, self.config, task.framework)
        work, name = f"{self.work}/{task.framework}", member_name(task.members[0])
        with training_folder(store.storage, work, name) as (folder, keep), timer("train"):

            def epoch_ended(*_) -> None:
                progress.advance()
                keep()

            results = train_members(
                data.graphs,
                data.e_form,
                data.is_train,
                members=task.members,
                seed=task.seed,
                out_dir=folder,
                model=model,
                training=training.of_round(self.round),
                replay=self._replay(training, data),
                init_from=[address and local_member(address) for address in task.init_from],
                progress=epoch_ended,
            )
            for result in results:
                yield from self._outputs(store, task.framework, result, data)

    def _replay(self, training: MemberTrainingConfig, data: Dataset) -> Replay | None:
        if training.replay is None or training.starts_fresh(self.round):
            return None
        return Replay(data.old, training.replay)

    def _outputs(self, store: Store, framework: Framework, result: MemberResult, data: Dataset) -> Iterator:
        name, table = member_name(result.member), weights_of(framework)
        for suffix in (".npz", ".json"):
            content = Path(result.path).with_suffix(suffix).read_bytes()
            stat = store.write_blob(f"{self.path}/{table}/{name}{suffix}", table, content)
            yield beam.pvalue.TaggedOutput(FILES, stat.model_dump_json())
        row = {
            "framework": framework,
            "member": result.member,
            "name": name,
            "weights": weights_digest(result.path),
            "epochs": result.epochs,
            "n_train": int(data.is_train.sum()),
            "n_val": int((~data.is_train).sum()),
            "train_mae": result.train_mae,
            "val_mae": result.val_mae,
        }
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, 1))
        yield pa.RecordBatch.from_pylist([row], schema=MEMBER_SCHEMA)
