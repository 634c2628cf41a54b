"""generate: parents -> distinct new candidates, at most as many as are scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.compositions.formulas import SYMBOLS, formula_of_composition
from gnome_core.compositions.known import composition_hashes
from gnome_core.crystals.split import holds_withheld
from gnome_core.generation.config import SUBSTITUTION_RULE, GenerationConfig
from gnome_core.generation.generators import BATCH_ROWS, Shard, all_shards, installed_generators, shard_recipes
from gnome_core.generation.given import GIVEN_SCHEMA, Given, given_by_key, read_given
from gnome_core.generation.oxidation import can_be_neutral
from gnome_core.generation.recipe import recipe_compositions, recipe_digests
from gnome_core.selection.draws import draws
from pipelines.beam import progress, tags
from pipelines.beam.dead_letters import DeadLetter, write_letters
from pipelines.beam.distinct_sample import DRAW, SampleDistinct
from pipelines.beam.metrics import timer
from pipelines.beam.tables import WriteTable
from pipelines.reading.committed import GIVEN, parent_table
from pipelines.reading.known import LISTS_FILE, STORE, compositions_of_files, left_out, mapped_compositions
from pipelines.reading.schemas import CANDIDATE_SCHEMA
from pipelines.rounds.config import derived_seed
from pipelines.rounds.job import Job
from pipelines.rounds.manifest import FromDriver, WriteManifest, run_job
from pipelines.store.records import Manifest
from pipelines.store.store import Store


def run(job: Job) -> Manifest:
    config, root, path = job.config, job.store.root, job.attempt.path
    seed = derived_seed(config, "generate", job.round, config.generation.seed)
    generation = config.candidates().model_copy(update={"seed": seed})
    given = read_given(generation.files, generation.elements)
    parents = replace(parent_table(root, job.round - 1), given=given_by_key(given.table))
    shards = all_shards(parents, generation)
    letters = [DeadLetter("generate", item.key, item.reason, item.message, item.payload) for item in given.rejected]
    listed = job.store.write_table(f"{path}/given.parquet", GIVEN, given.table) if generation.files else None
    written = [*([listed] if listed else []), *write_letters(job.store, path, letters)]
    files = compositions_of_files(generation.known_lists)
    known, known_path = left_out(job.store, job.round, generation.known_lists, files), f"{path}/known_compositions"
    job.store.storage.write(known_path, known.to_bytes())
    progress.expect(len(shards), "shards")

    def build(pipeline: beam.Pipeline) -> None:
        generated = (
            pipeline
            | "Shards" >> beam.Create(shards).with_output_types(Shard)
            | "SpreadShards" >> beam.Reshuffle()
            | "Generate"
            >> beam.ParDo(
                GenerateRecipes(
                    root,
                    job.round,
                    generation,
                    config.holdout,
                    known_path,
                    listed and listed.path,
                    config.scoring.sample == "compositions",
                )
            )
            .with_output_types(pa.RecordBatch, **tags.HINTS)
            .with_outputs(tags.COUNTS, main="rows")
        )
        sampled, over_limit = generated.rows | "Sample" >> SampleDistinct(
            config.scoring.max_candidates, config.part_files
        )
        named = sampled | "Name" >> beam.ParDo(NameCandidates(root, job.round)).with_output_types(
            pa.RecordBatch, **tags.HINTS
        ).with_outputs(tags.COUNTS, main="rows")
        # Candidates of one system stand together: its hull is built once for all of them, one structure speaks for all
        # of its composition.
        by = ("chemsys", "formula", "digest")
        candidates = named.rows | "Write" >> WriteTable(
            root, path, "candidates", CANDIDATE_SCHEMA, by, config.part_files
        )
        read = pipeline | "Read" >> beam.Create(list(_counted(given).items())).with_output_types(tuple[str, int])
        counts = [read, generated[tags.COUNTS], *over_limit, named[tags.COUNTS]]
        files = [candidates, pipeline | "Files" >> FromDriver(written)]
        pipeline | "Manifest" >> WriteManifest(root, path, "candidates", files, counts)

    manifest = run_job(job, build, {"parents": len(parents), "shards": len(shards), "known_compositions": len(known)})
    if not len(files):
        return manifest
    # The files may change or go; how new an entry is must not.
    blob = job.store.write_blob(f"{path}/known_lists.arrow", LISTS_FILE, files.to_bytes())
    return manifest.model_copy(update={"files": [*manifest.files, blob]})


def _counted(given: Given) -> dict[str, int]:
    """Of the rows of files, those of which no recipe is made."""
    totals = {tags.IN: len(given.rejected) + given.counts.total()}
    totals |= Counter(tags.dead(item.reason) for item in given.rejected)
    return totals | {tags.rejected(reason): n for reason, n in given.counts.items()}


@beam.typehints.with_output_types(pa.RecordBatch)
class GenerateRecipes(beam.DoFn):
    """Shard -> batches of RECIPE_SCHEMA with `digest` and `draw`; no crystal is built, no formula written.

    Rejects known compositions, counted by the first source that knows them ("known_formula" is the store itself), and,
    under a holdout, chemical systems that hold a withheld one: the snapshot lacks its compounds, next to which anything
    would look stable. Tallies, by generator: what its `recipes` counts, and "all/4" and "new/4", the recipes of four
    elements before and after rejection.

    known, given: store-relative paths of the known compositions, and of the crystals that files gave. whole: recipes of
    one composition draw alike.
    """

    def __init__(
        self,
        root: str,
        round_: int,
        config: GenerationConfig,
        holdout: str,
        known: str,
        given: str | None = None,
        whole: bool = False,
    ):
        self.root, self.round, self.config, self.holdout = root, round_, config, holdout
        self.known_path, self.given_path, self.whole = known, given, whole

    def setup(self) -> None:
        self.parents = parent_table(self.root, self.round - 1)
        if self.given_path is not None:
            table = pq.read_table(pa.BufferReader(Store(self.root).storage.read(self.given_path)))
            self.parents = replace(self.parents, given=given_by_key(table.cast(GIVEN_SCHEMA)))
        self.known = mapped_compositions(self.root, self.known_path)

    def process(self, shard: Shard) -> Iterator:
        counts: Counter[str] = Counter()
        tallies: Counter[str] = Counter()
        with timer("generate"):
            for recipes in shard_recipes(shard, self.parents, self.config, tallies):
                kept = self._new(recipes, counts, tallies)
                if kept.num_rows:
                    yield kept
        for name, n in counts.items():
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (name, n))
        for name, n in tallies.items():
            yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.tally(f"{shard.generator}/{name}"), n))
        progress.advance()

    def _new(self, recipes: pa.RecordBatch, counts: Counter[str], tallies: Counter[str]) -> pa.RecordBatch:
        compositions = recipe_compositions(recipes, self.parents)
        present = compositions > 0
        hashes = composition_hashes(compositions)
        known_to = self.known.find(hashes)
        known = known_to > 0
        withheld = np.zeros(len(known), bool)
        if self.holdout == "holdout-v1":
            withheld[~known] = [holds_withheld(system) for system in _systems(present[~known])]
        unbalanced = np.zeros(len(known), bool)
        if self.config.oxidation_rule:
            open_ = np.flatnonzero(~(known | withheld))
            unbalanced[open_] = ~can_be_neutral(compositions[open_], SUBSTITUTION_RULE)
        new = ~(known | withheld | unbalanced)
        counts[tags.IN] += recipes.num_rows
        for source, n in self._first_sources(known_to[known]):
            counts[tags.rejected("known_formula" if source == STORE else f"known_to_{source}")] += n
        for reason, rejected in (("withheld_system", withheld), ("not_neutral", unbalanced)):
            counts[tags.rejected(reason)] += int(rejected.sum())
        n_elements = present.sum(axis=1)
        for name, rows in (("all", n_elements), ("new", n_elements[new])):
            for k, n in enumerate(np.bincount(rows)):
                if n:
                    tallies[f"{name}/{k}"] += int(n)
        kept = recipes.filter(pa.array(new))
        digests = pa.array(recipe_digests(kept, self.parents), pa.binary(16))
        drawn = pa.array([value.tobytes() for value in hashes[new]], pa.binary(8)) if self.whole else digests
        return kept.append_column("digest", digests).append_column(DRAW, draws(drawn, self.config.seed))

    def _first_sources(self, known_to: np.ndarray) -> Iterator[tuple[str, int]]:
        """Each source, and how many of the rows it is the first to know. known_to: (n,) answers of `find`, not 0."""
        lowest = known_to & -known_to
        for bit, source in enumerate(self.known.sources):
            yield source, int((lowest == 1 << bit).sum())


@beam.typehints.with_output_types(pa.RecordBatch)
class NameCandidates(beam.DoFn):
    """Sampled recipes -> CANDIDATE_SCHEMA.

    Tallies, by generator: "kept/4", the rows of four elements, and "balanced/4", those of them that are charge-balanced
    by the strict rule.
    """

    def __init__(self, root: str, round_: int):
        self.root, self.round = root, round_

    def setup(self) -> None:
        self.parents = parent_table(self.root, self.round - 1)

    def process(self, sampled: pa.RecordBatch) -> Iterator:
        for start in range(0, sampled.num_rows, BATCH_ROWS):  # what has been sampled comes as one large batch
            yield from self._named(sampled.slice(start, BATCH_ROWS))

    def _named(self, batch: pa.RecordBatch) -> Iterator:
        compositions = recipe_compositions(batch, self.parents)
        compositions //= np.gcd.reduce(compositions, axis=1)[:, None]
        unique, inverse = np.unique(compositions, axis=0, return_inverse=True)
        formulas = [formula_of_composition(tuple((z, n) for z, n in enumerate(row) if n)) for row in unique.tolist()]
        rows = inverse.reshape(-1)
        named = batch.append_column("formula", pa.array(np.array(formulas, object)[rows], pa.string()))
        named = named.append_column("chemsys", pa.array(np.array(_systems(unique > 0), object)[rows], pa.string()))
        balanced, n_elements = can_be_neutral(unique, "strict")[rows], (unique > 0).sum(axis=1)[rows]
        codes = batch["generator"].to_numpy()
        for name, generator in installed_generators().items():
            own = codes == generator.code
            for kind, chosen in (("kept", own), ("balanced", own & balanced)):
                for k, n in enumerate(np.bincount(n_elements[chosen])):
                    if n:
                        yield beam.pvalue.TaggedOutput(tags.COUNTS, (tags.tally(f"{name}/{kind}/{k}"), int(n)))
        yield named.select(CANDIDATE_SCHEMA.names).cast(CANDIDATE_SCHEMA)


def _systems(present: np.ndarray) -> list[str]:
    """Chemical systems ("Li-O") of rows (n, 95) that say which elements there are."""
    return ["-".join(sorted(SYMBOLS[z] for z in np.flatnonzero(row))) for row in present]
