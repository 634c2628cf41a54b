"""Selected candidates -> jobs named by what they ask for, so that asking twice changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa

from dft.tables import job_digest
from gnome_core.crystals.arrow import crystals_to_arrays
from gnome_core.crystals.crystal import Crystal, invalid_reason
from gnome_core.generation.config import RandomSearchConfig
from gnome_core.generation.generators import expand, try_expand
from gnome_core.generation.recipe import NO_PARENT
from gnome_core.potentials.config import RelaxConfig
from pipelines import tags
from pipelines.resources import emitted_jobs, parent_table
from pipelines.schemas import PROPOSAL_SCHEMA
from pipelines.store import Store
from pipelines.transforms.compositions import of_framework, random_structures
from pipelines.transforms.pre_relax import pre_relax
from pipelines.transforms.score import PACKING

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
        self.parents = parent_table(self.root, self.round - 1)
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
