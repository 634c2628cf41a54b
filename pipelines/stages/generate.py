"""generate: parents -> distinct new candidates, at most as many as are scored."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from gnome_core.generation.generators import Shard, all_shards
from pipelines import progress, tags
from pipelines.config import derived_seed
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import WriteTable
from pipelines.resources import collect_known, parent_table
from pipelines.round import Job
from pipelines.schemas import CANDIDATE_SCHEMA
from pipelines.store import Manifest
from pipelines.transforms.generate import GenerateRecipes, NameCandidates
from pipelines.transforms.sample import SampleDistinct


def run(job: Job) -> Manifest:
    config, root, path = job.config, job.store.root, job.attempt.path
    seed = derived_seed(config, "generate", job.round, config.generation.seed)
    generation = config.candidates().model_copy(update={"seed": seed})
    parents = parent_table(root, job.round - 1)
    shards = all_shards(parents, generation)
    known, known_path = collect_known(job.store, job.round), f"{path}/known_compositions"
    job.store.storage.write(known_path, known.to_bytes())
    progress.expect(len(shards), "shards")

    def build(pipeline: beam.Pipeline) -> None:
        generated = (
            pipeline
            | "Shards" >> beam.Create(shards).with_output_types(Shard)
            | "SpreadShards" >> beam.Reshuffle()
            | "Generate"
            >> beam.ParDo(GenerateRecipes(root, job.round, generation, config.holdout, known_path))
            .with_output_types(pa.RecordBatch, **tags.HINTS)
            .with_outputs(tags.COUNTS, main="rows")
        )
        sampled, left_out = generated.rows | "Sample" >> SampleDistinct(
            config.scoring.max_candidates, config.part_files
        )
        named = sampled | "Name" >> beam.ParDo(NameCandidates(root, job.round)).with_output_types(
            pa.RecordBatch, **tags.HINTS
        ).with_outputs(tags.COUNTS, main="rows")
        files = named.rows | "Write" >> WriteTable(
            root, path, "candidates", CANDIDATE_SCHEMA, ("digest",), config.part_files
        )
        counts = [generated[tags.COUNTS], *left_out, named[tags.COUNTS]]
        pipeline | "Manifest" >> WriteManifest(root, path, "candidates", [files], counts)

    return run_job(job, build, {"parents": len(parents), "shards": len(shards), "known_compositions": len(known)})
