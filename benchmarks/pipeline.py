"""Recipes through generate, a cheap stand-in for score, and select: rates, memory, bytes between steps, growth.

    python benchmarks/pipeline.py STRUCTURES.parquet [--sizes 1e4 1e5 1e6]
    python benchmarks/pipeline.py --quick

Parents are drawn at random from the crystals of the file (columns id, lattice, frac_coords, numbers) or, with --quick,
from the embedded snapshot, as many as a size takes with about 40 recipes each; all distinct new candidates are kept.
The stand-in draws every energy from the digest, so that 1 % of the candidates lie below the threshold; everything else
is what a round runs. Each size runs in a process of its own. Bytes are those that Beam's coders wrote for record
batches and for the combiners' tables between steps; growth exponents are those of CPU seconds between neighbouring
sizes, less what an almost empty run takes. At the second size two worker processes run against one. Ends with a line of
JSON.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from generate_stage import COLUMNS, make_store

STAGES = ("generate", "score", "select")
THRESHOLD = 0.05
SURVIVING = 0.01  # share of candidates below the threshold
RECIPES_PER_PARENT = 40
MAX_SITES = 12
WORKERS = "--direct_running_mode=multi_processing"


def parents_of(structures: str | None) -> pa.Table:
    """COLUMNS of all that may be parents, in a random order."""
    from gnome_core.crystals.readers import embedded_entries

    table = pq.read_table(structures, columns=COLUMNS) if structures else embedded_entries().select(COLUMNS)
    table = table.filter(pc.less_equal(pc.list_value_length(table["numbers"]), MAX_SITES))
    return table.take(pa.array(np.random.default_rng(0).permutation(len(table))))


def cheap_score(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Candidates -> SCORED_SCHEMA with energies drawn from their digests."""
    from gnome_core.selection.draws import draws
    from pipelines.reading.schemas import SCORED_SCHEMA

    n = batch.num_rows
    above = THRESHOLD / SURVIVING * (draws(batch["digest"], 7).to_numpy() / 2**64)
    columns = {
        **{name: batch[name] for name in batch.schema.names},
        "median": above - 1.0,
        "iqr": np.full(n, 0.02),
        "evaluations": np.ones(n, np.int32),
        "refined": np.ones(n, bool),
        "best_volume_factor": np.ones(n),
        "e_above_hull": above,
    }
    arrays = [pa.array(columns[name]) for name in SCORED_SCHEMA.names]
    return pa.RecordBatch.from_arrays(arrays, schema=SCORED_SCHEMA)


def run_score(store, flags: list[str]) -> None:
    """The score stage with `cheap_score` in place of networks: the same reading, writing and counting."""
    import apache_beam as beam

    from pipelines.beam import tags
    from pipelines.beam.runners import run_pipeline, runner_flags
    from pipelines.beam.tables import ReadTable, WriteTable
    from pipelines.reading.schemas import SCORED_SCHEMA
    from pipelines.rounds import driver
    from pipelines.rounds.manifest import WriteManifest, read_manifest
    from pipelines.store.records import Attempt, Commit, table_digests

    candidates, path = store.commit(1, "generate"), Attempt(1, "score", "made").path

    def build(pipeline: beam.Pipeline) -> None:
        read = pipeline | ReadTable(store.root, candidates, "candidates")
        counts = read | "In" >> beam.Map(lambda rows: (tags.IN, rows.num_rows)).with_output_types(tuple[str, int])
        scored = read | "Score" >> beam.Map(cheap_score).with_output_types(pa.RecordBatch)
        files = scored | WriteTable(store.root, path, "scored", SCORED_SCHEMA, ("digest",), n_parts=8)
        pipeline | WriteManifest(store.root, path, "scored", [files], [counts])

    start = time.monotonic()
    run_pipeline(runner_flags(flags), build)
    manifest = read_manifest(store, path)
    store.publish(
        Commit(
            stage="score",
            round=1,
            attempt="made",
            files=manifest.files,
            rows_digests=table_digests(manifest.files),
            counts=manifest.counts,
            inputs={},
            config=store.start_round(1, driver.load_round_config(store, 1).document()),
            code="",
            seconds=round(time.monotonic() - start, 2),
        )
    )


def count_encoded() -> Counter[str]:
    """From here on, count what the coders write in this process."""
    from pipelines.beam import coders

    encoded: Counter[str] = Counter()
    for coder in (coders.RecordBatchCoder, coders.TableCoder):

        def encode(self, value, write=coder.encode):
            data = write(self, value)
            encoded["bytes"] += len(data)
            encoded["rows"] += value.num_rows
            return data

        coder.encode = encode
    return encoded


def run(root: str, flags: list[str]) -> None:
    """In this process: round 1's three stages; prints what they took as a line of JSON."""
    from pipelines.rounds import driver
    from pipelines.rounds.config import RoundConfig
    from pipelines.store.store import Store

    config = RoundConfig.model_validate(
        {
            "generation": {"max_recipes_per_parent": RECIPES_PER_PARENT, "max_sites": MAX_SITES, "known": "snapshot"},
            "scoring": {"max_candidates": 10**8},
            "selection": {"threshold": THRESHOLD},
            "part_files": 8,
        }
    )
    store = Store(root)
    store.start_round(1, config.document())
    encoded, stages = count_encoded(), {}
    for stage in STAGES:
        before, begin, seen = cpu_seconds(), time.monotonic(), Counter(encoded)
        if stage == "score":
            run_score(store, flags)
        else:
            list(driver.run_stages(store, 1, [stage], flags))
        made = store.commit(1, stage)
        assert made is not None
        stages[stage] = {
            "in": made.counts.n_in,
            "out": made.counts.n_out,
            "rejected": made.counts.rejected,
            "cpu_s": round(cpu_seconds() - before, 2),
            "wall_s": round(time.monotonic() - begin, 2),
            "bytes": encoded["bytes"] - seen["bytes"],
            "rows_encoded": encoded["rows"] - seen["rows"],
        }
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"stages": stages, "peak_mib": round(peak / 1024)}))


def cpu_seconds() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def in_fresh_process(parents: pa.Table, flags: Sequence[str] = ()) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        root = str(Path(folder, "store"))
        make_store(root, parents)
        job = json.dumps({"root": root, "flags": list(flags)})
        done = subprocess.run([sys.executable, __file__, "--job", job], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
    result = json.loads(done.stdout.splitlines()[-1])
    stages = result["stages"]
    for earlier, later in pairwise(STAGES):
        assert stages[later]["in"] == stages[earlier]["out"], "rows lost or repeated between stages"
    return {
        "recipes": stages["generate"]["in"],
        "candidates": stages["generate"]["out"],
        "below_threshold": stages["select"]["in"] - stages["select"]["rejected"].get("above_threshold", 0),
        "cpu_s": round(sum(stage["cpu_s"] for stage in stages.values()), 1),
        "wall_s": round(sum(stage["wall_s"] for stage in stages.values()), 1),
        **result,
    }


def summary(row: dict, empty: dict) -> dict:
    """What one size is judged by."""
    stages = row["stages"]
    cpu = row["cpu_s"] - empty["cpu_s"]
    return {
        "recipes": row["recipes"],
        "candidates": row["candidates"],
        "below_threshold": row["below_threshold"],
        "recipes_per_cpu_s": round(row["recipes"] / max(cpu, 1e-9)),
        "peak_mib": row["peak_mib"],
        **{f"{stage}_bytes_a_row_in": round(stages[stage]["bytes"] / stages[stage]["in"], 1) for stage in STAGES},
        "select_bytes_a_survivor": round(stages["select"]["bytes"] / max(1, row["below_threshold"])),
    }


def growth(rows: list[dict], empty: dict) -> list[float]:
    """Exponents of CPU seconds over recipes between neighbouring sizes."""
    cpu = [max(row["cpu_s"] - empty["cpu_s"], 1e-3) for row in rows]
    return [
        round(math.log(b / a) / math.log(large["recipes"] / small["recipes"]), 3)
        for a, b, small, large in zip(cpu, cpu[1:], rows, rows[1:], strict=False)
    ]


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", nargs="?")
    parser.add_argument("--quick", action="store_true", help="two small sizes, under a minute")
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e4, 1e5, 1e6])
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        return run(**json.loads(arguments.job))
    if not (arguments.structures or arguments.quick):
        parser.error("name a file of structures, or --quick")
    sizes = [1e4, 3e4] if arguments.quick else arguments.sizes
    result: dict = {"benchmark": "pipeline", "sizes": []}
    whole = parents_of(None if arguments.quick else arguments.structures)
    parents = [whole.slice(0, round(size / RECIPES_PER_PARENT)) for size in sizes]
    empty = in_fresh_process(whole.slice(0, 16))
    print(f"almost empty: {empty['recipes']} recipes in {empty['cpu_s']} CPU s", flush=True)
    rows = []
    for own in parents:
        rows.append(in_fresh_process(own))
        result["sizes"].append(summary(rows[-1], empty))
        for stage in STAGES:
            print(f"  {stage:9}", rows[-1]["stages"][stage], flush=True)
        print(result["sizes"][-1], flush=True)
    result["growth"] = growth(rows, empty)
    if not arguments.quick:
        one, two = (in_fresh_process(parents[1], (WORKERS, f"--direct_num_workers={n}")) for n in (1, 2))
        result["workers"] = {"one_wall_s": one["wall_s"], "two_wall_s": two["wall_s"], "recipes": one["recipes"]}
        print("worker processes:", result["workers"], flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
