"""Selected candidates -> jobs named by what they ask for, so that asking twice changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa

from dft.jobs import job_digest
from gnome_core.crystals.arrow import crystals_to_arrays
from gnome_core.generation.generators import expand
from gnome_core.generation.recipe import NO_PARENT
from pipelines import tags
from pipelines.resources import emitted_jobs, parent_table
from pipelines.schemas import PROPOSAL_SCHEMA
from pipelines.store import Store


@beam.typehints.with_output_types(pa.RecordBatch)
class MakeJobs(beam.DoFn):
    """SELECTED_SCHEMA -> PROPOSAL_SCHEMA: the candidate as its recipe makes it, id = job digest.

    Rejects jobs that an earlier round emitted, and those with an element in `lacking`, which cannot be run.
    """

    def __init__(self, root: str, round_: int, evaluator: str, protocol: str, lacking: frozenset[str] = frozenset()):
        self.root, self.round, self.evaluator, self.protocol, self.lacking = root, round_, evaluator, protocol, lacking

    def setup(self) -> None:
        self.parents = parent_table(self.root, self.round - 1)
        self.emitted = emitted_jobs(Store(self.root), self.round)

    def process(self, batch: pa.RecordBatch) -> Iterator:
        crystals = expand(batch, self.parents)
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
