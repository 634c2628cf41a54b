"""Elements of one ensemble member, or of all: trained where a worker has time, resumed from their own checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.split import is_train, is_withheld
from gnome_core.graphs.featurize import GraphTable, structural_graphs
from gnome_core.models.config import StructuralConfig
from gnome_core.models.registry import member_name
from gnome_core.training.config import TrainingConfig
from gnome_core.training.loop import MemberResult, train_members
from pipelines import progress, tags
from pipelines.checkpoints import training_folder
from pipelines.members import WEIGHTS, local_member
from pipelines.metrics import timer
from pipelines.resources import entries_until, once_per_process, proposed_entries
from pipelines.schemas import MEMBER_SCHEMA
from pipelines.store import Store

FILES = "files"


@dataclass(frozen=True)
class TrainTask:
    """Members to train in one program. init_from: for each, address of the member it starts from, or None."""

    members: tuple[int, ...]
    seed: int
    init_from: tuple[str | None, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled graphs, sorted by id. e_form: (n,) eV/atom; is_train: (n,) bool."""

    graphs: GraphTable
    e_form: np.ndarray
    is_train: np.ndarray


@once_per_process
def dataset(root: str, round_: int, holdout: str, cutoff: float) -> Dataset:
    """Everything labelled up to a round, less the withheld chemical systems under a holdout.

    Crystals that rounds evaluated come twice: relaxed, and as they were proposed under their relaxed energy. Scoring
    sees unrelaxed cells, and these are the only ones with a label.
    """
    store = Store(root)
    entries = pa.concat_tables([entries_until(store, round_), *proposed_entries(store, round_)]).sort_by("id")
    if holdout == "holdout-v1":
        entries = entries.filter(pa.array([not is_withheld(system) for system in entries["chemsys"].to_pylist()]))
    crystals = crystals_from_batch(entries)
    train = np.array([is_train(formula) for formula in entries["formula"].to_pylist()])
    return Dataset(structural_graphs(crystals, cutoff), entries["e_form_per_atom"].to_numpy(), train)


@beam.typehints.with_output_types(pa.RecordBatch)
class TrainMembers(beam.DoFn):
    """TrainTask -> a row of MEMBER_SCHEMA for each member; FileStat JSON of their files on the tag FILES.

    Works in `work` (store-relative), where a later attempt at the same stage finds its checkpoints.
    """

    def __init__(
        self,
        root: str,
        path: str,
        work: str,
        round_: int,
        holdout: str,
        model: StructuralConfig,
        training: TrainingConfig,
    ):
        self.root, self.path, self.work, self.round, self.holdout = root, path, work, round_, holdout
        self.model, self.training = model, training

    def process(self, task: TrainTask) -> Iterator:
        store = Store(self.root)
        data = dataset(self.root, self.round, self.holdout, self.model.cutoff)
        name = member_name(task.members[0])
        with training_folder(store.storage, self.work, name) as (folder, keep), timer("train"):

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
                model=self.model,
                training=self.training,
                init_from=[address and local_member(address) for address in task.init_from],
                progress=epoch_ended,
            )
            for result in results:
                yield from self._outputs(store, result, data)

    def _outputs(self, store: Store, result: MemberResult, data: Dataset) -> Iterator:
        name = member_name(result.member)
        for suffix in (".npz", ".json"):
            content = Path(result.path).with_suffix(suffix).read_bytes()
            stat = store.write_blob(f"{self.path}/{WEIGHTS}/{name}{suffix}", WEIGHTS, content)
            yield beam.pvalue.TaggedOutput(FILES, stat.model_dump_json())
        row = {
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


def weights_digest(path: str) -> str:
    """32 hex characters of a member's arrays and their names."""
    digest = hashlib.blake2b(digest_size=16)
    with np.load(path, allow_pickle=False) as arrays:
        for name in sorted(arrays.files):
            digest.update(name.encode() + b"\0" + arrays[name].tobytes())
    return digest.hexdigest()
