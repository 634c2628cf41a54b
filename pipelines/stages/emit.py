"""emit: selected candidates, and random structures of selected compositions -> jobs for the evaluator, in folders of
their own where a program is to find them."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa

from dft.evaluators.make import make_evaluator
from dft.names import is_engine
from dft.tables import job_digest, protocol_json
from gnome_core.compositions.formulas import NUMBERS
from gnome_core.crystals.arrow import crystals_to_arrays
from gnome_core.crystals.crystal import Crystal, invalid_reason
from gnome_core.generation.config import RandomSearchConfig
from gnome_core.generation.generators import expand, try_expand
from gnome_core.generation.recipe import NO_PARENT
from gnome_core.potentials.config import RelaxConfig
from pipelines.beam import tags
from pipelines.beam.options import network_hints
from pipelines.beam.tables import ReadTable, WriteTable
from pipelines.beam.top_rows import KeepTop
from pipelines.evaluation.jobs import WriteJobs, check_library
from pipelines.evaluation.pre_relax import pre_relax
from pipelines.reading.bucket_jobs import SHARD
from pipelines.reading.committed import candidate_parents, emitted_jobs
from pipelines.reading.potentials import evaluator_until
from pipelines.reading.schemas import PACKING_SCHEMA, PROPOSAL_SCHEMA, SELECTED_SCHEMA
from pipelines.rounds.config import derived_seed
from pipelines.rounds.job import Job
from pipelines.rounds.manifest import WriteManifest, run_job
from pipelines.stages.packing import PACKING, CountPacking
from pipelines.stages.searched_compositions import of_framework, random_structures
from pipelines.store.records import Manifest
from pipelines.store.store import Store

BUNDLES = 16  # parts of the jobs, which different workers write


def run(job: Job) -> Manifest:
    evaluation = job.config.evaluation
    root, path, name = job.store.root, job.attempt.path, evaluation.evaluator
    protocol = protocol_json(make_evaluator(name, evaluation.relaxation(), job.config.dft).protocol)
    pre_relax_by = evaluation.pre_relax and evaluator_until(job.store, job.round, evaluation.pre_relax)
    relaxation = (pre_relax_by, evaluation.relaxation()) if pre_relax_by else None
    lacking = _lacking(job) if is_engine(name) else frozenset()
    seed = derived_seed(job.config, "search", job.round)
    search = (job.config.generation.random_search, seed) if job.config.searches else None
    # Shards are made of what comes together.
    bundles = min(BUNDLES, 1 + job.input("select").rows("selected") // SHARD) if job.store.in_bucket else BUNDLES

    def build(pipeline: beam.Pipeline) -> None:
        made = (
            pipeline
            | "Selected" >> ReadTable(root, job.input("select"), "selected")
            | "MakeJobs"
            >> beam.ParDo(MakeJobs(root, job.round, name, protocol, lacking, search, relaxation))
            .with_output_types(pa.RecordBatch, **tags.HINTS, **{PACKING: tuple[str, tuple[int, int]]})
            .with_resource_hints(**(network_hints(job.flags) if relaxation else {}))
            .with_outputs(tags.COUNTS, PACKING, main="rows")
        )
        # Two recipes can end in one crystal.
        distinct, same = made.rows | "Deduplicate" >> KeepTop("id", 1, ("digest",), "same_job", bundles)
        if is_engine(name):
            distinct = distinct | "WriteJobs" >> beam.ParDo(WriteJobs(root, job.config.dft))
        files = [
            distinct | "Write" >> WriteTable(root, path, "jobs", PROPOSAL_SCHEMA, ("id",), 1),
            made[PACKING]
            | "Packing" >> CountPacking()
            | "WritePacking" >> WriteTable(root, path, "packing", PACKING_SCHEMA, ("formula",), 1),
        ]
        pipeline | "Manifest" >> WriteManifest(root, path, "jobs", files, [made[tags.COUNTS], *same])

    return run_job(job, build, {})


def _lacking(job: Job) -> frozenset[str]:
    """Elements of the selected candidates that the engine has no potential for; looked up once for all jobs."""
    selected = job.store.read_table(job.input("select"), "selected", SELECTED_SCHEMA, ["chemsys"])
    elements = {element for system in selected["chemsys"].unique().to_pylist() for element in system.split("-")}
    checked = check_library(job.config.evaluation.evaluator, job.config.dft, [NUMBERS[e] for e in sorted(elements)])
    return checked.lacking


COMPOSITIONS_AT_ONCE = 16  # whose random structures are in memory together


@beam.typehints.with_output_types(pa.RecordBatch)
class MakeJobs(beam.DoFn):
    """SELECTED_SCHEMA -> PROPOSAL_SCHEMA: the candidate as its recipe, or a relaxation, makes it, id = job digest.

    A composition that is to be searched becomes its random structures, and each of these counts as one that came in;
    those that cannot be packed are rejected; the tag PACKING counts them. Rejects jobs that an earlier round emitted,
    and those with an element in `lacking`, which cannot be run.

    search: random structures of a composition and the seed of their draws; None where compositions are not searched.
    relaxation: evaluator that relaxes candidates first, and its settings; None leaves them as they are.
    """

    def __init__(
        self,
        root: str,
        round_: int,
        evaluator: str,
        protocol: str,
        lacking: frozenset[str] = frozenset(),
        search: tuple[RandomSearchConfig, int] | None = None,
        relaxation: tuple[str, RelaxConfig] | None = None,
    ):
        self.root, self.round, self.evaluator, self.protocol, self.lacking = root, round_, evaluator, protocol, lacking
        self.search, self.relaxation = search, relaxation

    def setup(self) -> None:
        self.parents = candidate_parents(self.root, self.round)
        self.emitted = emitted_jobs(Store(self.root), self.round)

    def process(self, batch: pa.RecordBatch) -> Iterator:
        if self.search is None:
            yield from self._jobs(batch, expand(batch, self.parents))
            return
        crystals = of_framework(batch, "structural")
        yield from self._jobs(crystals, expand(crystals, self.parents))
        searched = of_framework(batch, "compositional")
        for start in range(0, searched.num_rows, COMPOSITIONS_AT_ONCE):
            few = searched.slice(start, COMPOSITIONS_AT_ONCE)
            yield from self._searched(random_structures(few, *self.search, self.parents))

    def _searched(self, batch: pa.RecordBatch) -> Iterator:
        crystals = try_expand(batch, self.parents)
        for formula, crystal in zip(batch["formula"].to_pylist(), crystals, strict=True):
            yield beam.pvalue.TaggedOutput(PACKING, (formula, (1, int(crystal is None))))
        reasons = [invalid_reason(crystal) for crystal in crystals]
        for reason in filter(None, reasons):
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, 1))
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected(reason), 1))
        good = [crystal for crystal, reason in zip(crystals, reasons, strict=True) if crystal and reason is None]
        yield from self._jobs(batch.filter(pa.array([reason is None for reason in reasons], pa.bool_())), good)

    def _jobs(self, batch: pa.RecordBatch, crystals: list[Crystal]) -> Iterator:
        if self.relaxation is not None:
            crystals = pre_relax(crystals, *self.relaxation)
        jobs = [job_digest(crystal, self.protocol) for crystal in crystals]
        systems = batch["chemsys"].to_pylist()
        reasons = [self._reason(job, system) for job, system in zip(jobs, systems, strict=True)]
        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.IN, batch.num_rows))
        for reason in filter(None, reasons):
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.rejected(reason), 1))
        columns = {
            **{name: batch[name] for name in batch.schema.names},
            **crystals_to_arrays(crystals),
            "id": pa.array(jobs, pa.string()),
            "evaluator": pa.repeat(self.evaluator, batch.num_rows),
            "protocol": pa.repeat(self.protocol, batch.num_rows),
            "parent_id": pa.array([self._parent_id(row) for row in batch["parent"].to_pylist()], pa.string()),
        }
        proposals = pa.RecordBatch.from_arrays([columns[n] for n in PROPOSAL_SCHEMA.names], schema=PROPOSAL_SCHEMA)
        kept = proposals.filter(pa.array(np.array([reason is None for reason in reasons], bool)))
        if kept.num_rows:
            yield kept

    def _parent_id(self, row: int) -> str | None:
        return None if row == NO_PARENT else self.parents.ids[row]

    def _reason(self, job: str, chemsys: str) -> str | None:
        if job in self.emitted:
            return "emitted_before"
        return "missing_potential" if self.lacking & set(chemsys.split("-")) else None
