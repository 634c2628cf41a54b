"""generate: parents -> distinct new candidates, at most as many as are scored."""

from __future__ import annotations

import math

import apache_beam as beam
import numpy as np
import pyarrow as pa

from gnome_core.generation.generators import Shard, all_shards
from pipelines import progress, tags
from pipelines.config import derived_seed
from pipelines.io.manifest import WriteManifest, run_job
from pipelines.io.tables import WriteTable, bucket_of
from pipelines.resources import parent_table
from pipelines.round import Job
from pipelines.schemas import CANDIDATE_SCHEMA
from pipelines.store import Manifest
from pipelines.transforms.draws import draws
from pipelines.transforms.generate import GenerateCandidates
from pipelines.transforms.top import KeepTop


def run(job: Job) -> Manifest:
    config, root = job.config, job.store.root
    seed = derived_seed(config, "generate", job.round, config.generation.seed)
    generation = config.generation.model_copy(update={"seed": seed})
    shards = all_shards(parent_table(root, job.round - 1), generation)
    n_parts = config.part_files
    progress.expect(len(shards), "shards of parents")

    def build(pipeline: beam.Pipeline) -> None:
        generated = (
            pipeline
            | "Shards" >> beam.Create(shards).with_output_types(Shard)
            | "SpreadShards" >> beam.Reshuffle()
            | "Generate"
            >> beam.ParDo(GenerateCandidates(root, job.round, generation, config.holdout))
            .with_output_types(pa.RecordBatch, **tags.HINTS)
            .with_outputs(tags.COUNTS, main="rows")
        )
        distinct, duplicates = generated.rows | "Deduplicate" >> KeepTop("digest", 1, ("parent",), "duplicate", n_parts)
        # A uniform choice within each bucket of digests is one of all, without a global sort.
        limit = math.ceil(config.scoring.max_candidates / n_parts)
        ranked = distinct | "Draw" >> beam.Map(_with_draw, seed, n_parts).with_output_types(pa.RecordBatch)
        kept, over = ranked | "Limit" >> KeepTop("bucket", limit, ("draw", "digest"), "over_limit", n_parts)
        files = kept | "Write" >> WriteTable(
            root, job.attempt.path, "candidates", CANDIDATE_SCHEMA, ("digest",), n_parts
        )
        counts = [generated[tags.COUNTS], *duplicates, *over]
        pipeline | "Manifest" >> WriteManifest(root, job.attempt.path, "candidates", [files], counts)

    return run_job(job, build, {"parents": len(parent_table(root, job.round - 1)), "shards": len(shards)})


def _with_draw(batch: pa.RecordBatch, seed: int, n_buckets: int) -> pa.RecordBatch:
    buckets = np.char.mod("%d", bucket_of(batch["digest"], n_buckets))
    return batch.append_column("bucket", pa.array(buckets.tolist(), pa.string())).append_column(
        "draw", draws(batch["digest"], seed)
    )
