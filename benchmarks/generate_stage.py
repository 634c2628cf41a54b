"""The generate stage through Beam on a large snapshot: recipes/s, peak memory, nothing lost, nothing twice.

    python benchmarks/generate_stage.py STRUCTURES.parquet [--quick] [--sizes 1e5 1e6 1e7] [-- BEAM OPTIONS]

Every crystal of the file (columns id, lattice, frac_coords, numbers) becomes an entry and a parent of a store. The
stage then runs once a size in a process of its own, over as many parents, drawn at random (larger ones than 24 sites
are passed over), as give about that many recipes of substitution and SAPS; at most 100,000 candidates are kept, as by
default. Rates are recipes per CPU-second from one size to the next, which leaves out what every run pays: loading, the
set of known compositions, naming and writing the kept. Then once over all parents of at most 12 sites, capped to about
10^6 recipes, all of them kept: every recipe that a plain loop makes is to come out once, unless its composition is
known. Ends with a line of JSON.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnome_core.compositions.formulas import chemsys
from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch, record_batch
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import all_shards, shard_recipes
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import recipe_digests, recipe_formulas

SIZES = {"generation": {"max_sites": 24, "known": "snapshot"}}
RECIPES_PER_PARENT = 2_500  # about, with SIZES; what decides how many parents a size takes
COLUMNS = ["id", "lattice", "frac_coords", "numbers"]  # of a file of structures
CAPPED = {
    "generation": {"max_sites": 12, "max_recipes_per_parent": 40, "known": "snapshot"},
    "scoring": {"max_candidates": 10**8},
}


def make_store(root: str, table: pa.Table) -> None:
    """Round 0's snapshot and hull as if it had been run, every row of COLUMNS a parent."""
    from pipelines.rounds.config import RoundConfig
    from pipelines.store.records import Attempt
    from pipelines.store.store import Store

    crystals = crystals_from_batch(table)
    parents = ParentTable.from_crystals(table["id"].to_pylist(), crystals)
    systems = [chemsys(crystal.numbers) for crystal in crystals]
    entries = record_batch(
        ENTRY_SCHEMA,
        parents.ids,
        crystals,
        formula=parents.formulas,
        chemsys=systems,
        energy_per_atom=0.0,
        correction_per_atom=0.0,
        e_form_per_atom=0.0,
        energy_kind="total",
        scale="none",
        source="benchmark",
        round=0,
    )
    store = Store(root)
    config = store.start_round(0, RoundConfig().document())
    for stage, name, rows in (("snapshot", "entries", entries), ("hull", "parents", parents.to_batch())):
        path = f"{Attempt(0, stage, 'made').path}/{name}/part-0.parquet"
        stat = store.write_table(path, name, pa.Table.from_batches([rows]))
        publish_made(store, stage, config, [stat], len(rows))


def publish_made(store, stage: str, config: str, files: list, n: int) -> None:
    """Publish a stage of round 0 as if it had been run, of n rows in these files of its attempt "made"."""
    from pipelines.store.records import Commit, Counts, table_digests

    store.publish(
        Commit(
            stage=stage,
            round=0,
            attempt="made",
            files=files,
            rows_digests=table_digests(files),
            counts=Counts(n_in=n, n_out=n),
            inputs={},
            config=config,
            code="",
            seconds=0.0,
        )
    )


def run_stage(root: str, settings: dict, n_parents: int | None, flags: list[str]) -> None:
    """In this process: round 1's generate over `n_parents` random parents, or all; prints what it took as JSON."""
    from pipelines.reading.committed import parent_table
    from pipelines.rounds import driver
    from pipelines.rounds.config import RoundConfig
    from pipelines.stages import generate
    from pipelines.store.store import Store

    store = Store(root)
    generation = GenerationConfig(parents_per_shard=16 if n_parents else 256, **settings.get("generation", {}))
    config = RoundConfig(generation=generation, **{k: v for k, v in settings.items() if k != "generation"})
    store.start_round(1, config.document())
    parents = parent_table(root, 0)
    if n_parents is not None:
        chosen = np.random.default_rng(0).permutation(-(-len(parents) // 16))[: -(-n_parents // 16)]
        whole = generate.all_shards
        generate.all_shards = lambda *arguments: [s for s in whole(*arguments) if s.start // 16 in chosen]
    before = time.process_time()
    for event in driver.run_stages(store, 1, ("generate",), flags):
        finished = event
    counts, commit = finished.commit.counts, finished.commit
    print(
        json.dumps(
            {
                "recipes": counts.n_in,
                "kept": counts.n_out,
                "rejected": counts.rejected,
                "cpu_s": round(time.process_time() - before, 1),
                "wall_s": commit.seconds,
                "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "new_by_generator": {k: v for k, v in commit.metrics.items() if "/new/" in k},
            }
        )
    )


def in_fresh_process(store: str, settings: dict, n_parents: int | None, flags: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(folder, "store"))
        subprocess.run(["cp", "-r", store, root], check=True)
        job = json.dumps({"root": root, "settings": settings, "n_parents": n_parents, "flags": flags})
        run = subprocess.run([sys.executable, __file__, "--job", job], capture_output=True, text=True)
        if run.returncode:
            sys.exit(run.stderr)
        result = json.loads(run.stdout.splitlines()[-1])
        if n_parents is None:
            result |= compare(root, settings)
    lost = result["recipes"] - result["kept"] - sum(result["rejected"].values())
    assert lost == 0, f"{lost} rows lost"
    return result


def compare(root: str, settings: dict) -> dict:
    """The committed candidates against a plain loop over the same shards: digests that are missing or come twice."""
    from pipelines.reading.committed import entries_until, parent_table
    from pipelines.reading.schemas import CANDIDATE_SCHEMA
    from pipelines.rounds.config import RoundConfig, derived_seed
    from pipelines.store.store import Store

    store, config = Store(root), RoundConfig.model_validate(Store(root).round_config(1))
    rows = store.read_table(store.commit(1, "generate"), "candidates", CANDIDATE_SCHEMA, ["digest"])[
        "digest"
    ].to_pylist()
    seed = derived_seed(config, "generate", 1, config.generation.seed)
    generation = config.generation.model_copy(update={"seed": seed})
    parents = parent_table(root, 0)
    known = set(entries_until(store, 0, ["formula"])["formula"].to_pylist())
    expected: set[bytes] = set()
    n_known = 0
    for shard in all_shards(parents, generation):
        for batch in shard_recipes(shard, parents, generation):
            new = [formula not in known for formula in recipe_formulas(batch, parents)]
            n_known += len(new) - sum(new)
            expected.update(recipe_digests(batch.filter(pa.array(new)), parents))
    kept = set(rows)
    result = {"lost": len(expected - kept), "unexpected": len(kept - expected), "twice": len(rows) - len(kept)}
    assert not any(result.values()), result
    return {**result, "known_by_formula": n_known}


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", nargs="?")
    parser.add_argument("--quick", action="store_true", help="2,000 crystals, under a minute")
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e5, 1e6, 1e7])
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("flags", nargs="*", help="Beam options, after --")
    arguments = parser.parse_args()
    if arguments.job:
        return run_stage(**json.loads(arguments.job))
    sizes = [5e4, 5e5] if arguments.quick else arguments.sizes
    result: dict = {"benchmark": "generate_stage", "sizes": []}
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder, "store"))
        started = time.process_time()
        table = pq.read_table(arguments.structures, columns=COLUMNS)
        make_store(store, table.slice(0, 2_000) if arguments.quick else table)
        print(f"store made in {time.process_time() - started:.0f} CPU s", flush=True)
        for size in sizes:
            row = in_fresh_process(store, SIZES, max(16, round(size / RECIPES_PER_PARENT)), arguments.flags)
            if last := result["sizes"][-1:]:
                more, longer = (row[key] - last[0][key] for key in ("recipes", "cpu_s"))
                row["recipes_per_cpu_s"] = round(more / longer)
            print(row, flush=True)
            result["sizes"].append(row)
        whole = in_fresh_process(store, {**CAPPED, "part_files": 8}, None, arguments.flags)
        print("all parents:", whole, flush=True)
        result["all_parents"] = whole
    print(json.dumps(result))


if __name__ == "__main__":
    main()
