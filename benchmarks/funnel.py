"""Recipes by the ten million through the real filter to a hundred choices: CPU time by part, what the pilots cost.

    python benchmarks/funnel.py STRUCTURES.parquet [--candidates 8e6] [--compare 40000] [--store DIR]
    python benchmarks/funnel.py --quick

The crystals of the file (columns id, lattice, frac_coords, numbers, e_form_per_atom) or, with --quick, of a part of the
embedded snapshot, become the entries of a store whose members are those that come with the package; elements that the
file lacks get an elemental entry. Then a round's own stages run in this process: hull, generate (substitution and SAPS
of all parents of at most 24 sites within 0.1 eV/atom of the hull), score and select. What is scored are whole
compositions, drawn at random, up to --candidates.

Before that, --compare of these candidates are screened twice in one process: as a worker does among 5e7 candidates, and
plainly, without pilots (one structure that speaks for its composition) and with second looks at all that the first
member leaves. Hours are projected to 5e7. Stages that a store of --store has committed are not run again. Ends with a
line of JSON.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import argparse
import json
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from generate_stage import COLUMNS, publish_made
from pipeline import cpu_seconds

from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.formulas import chemsys, reduced_formula
from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch, record_batch
from gnome_core.crystals.crystal import Crystal, invalid_reason
from gnome_core.crystals.readers import elemental_entries, embedded_entries
from gnome_core.ensembles.config import CascadeConfig
from gnome_core.ensembles.ensemble import EnsembleModel
from gnome_core.ensembles.screening import Screening, screen
from gnome_core.generation.generators import expand
from gnome_core.models.shipped import pretrained_members
from gnome_core.potentials.memory import keep_freed_memory
from gnome_core.units import PLAUSIBLE_E_FORM
from pipelines.reading.committed import candidate_parents, hull_until
from pipelines.reading.members import weights_of
from pipelines.reading.schemas import CANDIDATE_SCHEMA, MEMBER_SCHEMA
from pipelines.rounds import driver
from pipelines.rounds.config import RoundConfig
from pipelines.stages.score import looks_of_batch
from pipelines.store.records import Attempt, table_files
from pipelines.store.store import ROW_GROUP, Store

QUICK_ELEMENTS = ["Li", "Na", "Mg", "Al", "Ti", "Mn", "Fe", "O", "S", "F", "Cl"]
PROJECTED = 5e7  # recipes


def settings(candidates: int, quick: bool) -> RoundConfig:
    return RoundConfig.model_validate(
        {
            "generation": {"max_sites": 8 if quick else 24},
            "scoring": {"members": 4, "max_candidates": candidates, "sample": "compositions"},
            "part_files": max(2, round(candidates / 100_000)),
        }
    )


def make_store(store: Store, table: pa.Table, config: RoundConfig) -> None:
    """Round 0's snapshot as if it had been run on labelled crystals."""
    document = store.start_round(0, config.document())
    crystals = crystals_from_batch(table)
    entries = as_entries(table["id"].to_pylist(), crystals, table["e_form_per_atom"].to_numpy())
    held = {crystal.numbers[0] for crystal in crystals if len(set(crystal.numbers)) == 1}
    elements = elemental_entries()
    lacking = [symbol not in {chemsys([z]) for z in held} for symbol in elements["chemsys"].to_pylist()]
    elements = elements.filter(pa.array(lacking))
    added = as_entries(elements["id"].to_pylist(), crystals_from_batch(elements), np.zeros(len(elements)))
    folder = Attempt(0, "snapshot", "made").path
    files = [
        store.write_table(f"{folder}/{name}/part.parquet", name, rows)
        for name, rows in (("entries", entries), ("references", added))
    ]
    publish_made(store, "snapshot", document, files, len(table))


def publish_members(store: Store, config: RoundConfig) -> None:
    """Round 0's training as if it had left the members that come with the package."""
    document = store.start_round(0, config.document())
    folder, table_of = Attempt(0, "train", "made").path, weights_of("structural")
    blobs = [
        store.write_blob(f"{folder}/{table_of}/{path.name}", table_of, path.read_bytes())
        for path in sorted(pretrained_members("structural")[0].parent.glob("*.*"))
    ]
    none = store.write_table(f"{folder}/members/part.parquet", "members", MEMBER_SCHEMA.empty_table())
    publish_made(store, "train", document, [none, *blobs], 0)


def as_entries(ids: list[str], crystals: list[Crystal], e_form: np.ndarray) -> pa.Table:
    """ENTRY_SCHEMA of crystals whose formation energies are their energies: elements are zero."""
    numbers = [crystal.numbers for crystal in crystals]
    fixed = {"correction_per_atom": 0.0, "energy_kind": "total", "scale": "mp", "source": "benchmark", "round": 0}
    names = {"formula": list(map(reduced_formula, numbers)), "chemsys": list(map(chemsys, numbers))}
    batch = record_batch(ENTRY_SCHEMA, ids, crystals, energy_per_atom=e_form, e_form_per_atom=e_form, **names, **fixed)
    return pa.Table.from_batches([batch])


def labelled(structures: str | None) -> pa.Table:
    """COLUMNS and e_form_per_atom, implausible ones left out."""
    if structures:
        table = pq.read_table(structures, columns=[*COLUMNS, "e_form_per_atom"])
    else:
        table = embedded_entries(QUICK_ELEMENTS).select([*COLUMNS, "e_form_per_atom"])
    return table.filter(pc.less_equal(pc.abs(table["e_form_per_atom"]), PLAUSIBLE_E_FORM)).combine_chunks()


def run_stage(store: Store, round_: int, stage: str) -> dict:
    """What a stage made, and its CPU seconds where it had to run."""
    began = cpu_seconds()
    list(driver.run_stages(store, round_, (stage,)))
    commit = store.commit(round_, stage)
    assert commit is not None
    row = {"in": commit.counts.n_in, "out": commit.counts.n_out, "cpu_s": round(cpu_seconds() - began, 1)}
    milliseconds = {name: value for name, value in commit.metrics.items() if name.endswith("_ms")}
    row |= {"rejected": commit.counts.rejected, **milliseconds}
    print(f"  {stage:9}", row, flush=True)
    return row


@contextmanager
def measured(spent: Counter[str], part: str) -> Iterator[None]:
    began = time.process_time()
    yield
    spent[part] += time.process_time() - began


def compare(store: Store, n: int, threshold: float) -> dict:
    """The first n candidates, screened as a worker does and plainly."""
    parents, hull = candidate_parents(store.root, 1), hull_until(store.root, 0)
    model = EnsembleModel.load(pretrained_members("structural"))
    model.warm_up()
    cascade = CascadeConfig()
    ways = {
        "default": (cascade, looks_of_batch(cascade.second_looks, round(PROJECTED))),
        "plain": (cascade.model_copy(update={"pilot_margin": None}), None),
    }
    spent: Counter[str] = Counter()
    found: dict[str, list[Screening]] = {name: [] for name in ways}
    formulas, e_hull = [], []
    for batch in candidate_batches(store, n):
        with measured(spent, "expand"):
            crystals = expand(batch, parents)
            assert not any(map(invalid_reason, crystals))
        with measured(spent, "hull"):
            e_hull.append(hull.e_hull(atom_counts([crystal.numbers for crystal in crystals])))
        formulas += batch["formula"].to_pylist()
        for name, (config, looks) in ways.items():
            with measured(spent, name):
                found[name].append(screen(model, crystals, e_hull[-1], threshold, config, second_looks=looks))
    passed, median, evaluations = (
        {name: np.concatenate([getattr(part, field) for part in parts]) for name, parts in found.items()}
        for field in ("passed", "median", "evaluations")
    )
    _, of_row = np.unique(formulas, return_inverse=True)
    survivors, kept = passed["plain"], passed["plain"] & passed["default"]
    above = np.where(survivors, median["plain"] - np.concatenate(e_hull), np.inf)
    lowest = np.full(of_row.max() + 1, np.inf)
    np.minimum.at(lowest, of_row, above)
    best = np.argsort(lowest, kind="stable")[: max(1, len(lowest) // 100)]  # what is refined and chosen from
    survive = np.unique(of_row[survivors])
    n_rows = len(formulas)
    rate = {part: 1e6 * seconds / n_rows for part, seconds in spent.items()}
    hours = {name: PROJECTED / 3.6e9 * (rate["expand"] + rate["hull"] + rate[name]) for name in ways}
    return {
        "candidates": n_rows,
        "compositions": len(lowest),
        "survivors": round(float(survivors.mean()), 4),
        "left": round(float(passed["default"].mean()), 4),
        "evaluations": {name: round(float(values.mean()), 3) for name, values in evaluations.items()},
        "survivors_kept": round(float(kept.sum() / survivors.sum()), 4),
        "compositions_kept": round(float(np.isin(survive, of_row[kept]).mean()), 4),
        "lowest_hundredth_kept": round(float(np.isin(best, of_row[kept]).mean()), 4),
        "us_a_candidate": {part: round(value, 1) for part, value in rate.items()},
        "hours_of_5e7": {name: round(value, 2) for name, value in hours.items()},
    }


def candidate_batches(store: Store, n: int) -> Iterator[pa.RecordBatch]:
    """Row groups of the candidates, as the stage reads them, spread over its files, until n rows have come."""
    commit = store.commit(1, "generate")
    files = [pq.ParquetFile(store.local_file(stat)) for stat in table_files(commit, "candidates")]
    groups = [(file, group) for group in range(max(f.num_row_groups for f in files)) for file in files]
    for file, group in groups:
        if group < file.num_row_groups and n > 0:
            yield file.read_row_group(group).combine_chunks().to_batches(max_chunksize=ROW_GROUP)[0]
            n -= ROW_GROUP


def main() -> None:
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", nargs="?")
    parser.add_argument("--quick", action="store_true", help="a few thousand candidates, under a minute")
    parser.add_argument("--candidates", type=float, default=8e6, help="recipes of whole compositions that are scored")
    parser.add_argument("--compare", type=float, default=40_000, help="of these, screened with and without pilots")
    parser.add_argument("--store", type=Path, help="folder that is kept")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the allocator does that `gnome` begins with
    if not (arguments.structures or arguments.quick):
        parser.error("name a file of structures, or --quick")
    candidates = 4_000 if arguments.quick else int(arguments.candidates)
    config = settings(candidates, arguments.quick)
    result: dict = {"benchmark": "funnel"}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(arguments.store or Path(folder, "store")))
        if store.commit(0, "snapshot") is None:
            make_store(store, labelled(None if arguments.quick else arguments.structures), config)
        if store.commit(0, "train") is None:
            publish_members(store, config)
        stages = {"hull": run_stage(store, 0, "hull")}
        if 1 not in store.rounds():
            store.start_round(1, config.document())
        stages["generate"] = run_stage(store, 1, "generate")
        n = 2_000 if arguments.quick else int(arguments.compare)
        result["compare"] = compare(store, n, config.selection.threshold)
        print("  compare  ", result["compare"], flush=True)
        stages |= {stage: run_stage(store, 1, stage) for stage in ("score", "select")}
        formulas = store.read_table(store.commit(1, "generate"), "candidates", CANDIDATE_SCHEMA, ["formula"])["formula"]
        result["compositions"] = pc.count_distinct(formulas).as_py()
    for earlier, later in (("generate", "score"), ("score", "select")):
        assert stages[earlier]["out"] == stages[later]["in"], f"rows lost between {earlier} and {later}"
    result["stages"] = stages
    result["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
