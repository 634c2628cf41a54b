"""The generate stage on many parents, and random search through every stage that a recipe without a parent meets."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gnome_core.compositions.formula_parser import composition_of
from gnome_core.compositions.formulas import chemsys
from gnome_core.compositions.known import composition_hashes, shipped_compositions
from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch, record_batch
from gnome_core.generation.config import GenerationConfig
from gnome_core.generation.generators import all_shards, expand, shard_recipes
from gnome_core.generation.oxidation import can_be_neutral
from gnome_core.generation.parents import ParentTable
from gnome_core.generation.recipe import NO_PARENT, recipe_compositions, recipe_digests, recipe_formulas
from pipelines.reading.committed import entries_until, parent_table
from pipelines.reading.entries import ancestries, measured_entries, recipes_of_jobs
from pipelines.reading.known import listed_compositions
from pipelines.reading.schemas import CANDIDATE_SCHEMA, PACKING_SCHEMA, PROPOSAL_SCHEMA
from pipelines.report.collect import collect
from pipelines.report.page import render
from pipelines.rounds import driver
from pipelines.rounds.config import RoundConfig, derived_seed, parse_config
from pipelines.rounds.plan import stages_of
from pipelines.store.records import Attempt, Commit, Counts, table_digests
from pipelines.store.store import Store
from tests.pipelines.conftest import gnome

STRUCTURES = Path(__file__).resolve().parents[4] / "shared" / "data" / "mp_structures.parquet"


def known_store(root: Path, n: int) -> Store:
    """Round 0 of a store whose entries, all of them parents, are n Materials Project crystals."""
    if not STRUCTURES.exists():
        pytest.skip(f"needs {STRUCTURES.name} beside the repository")
    table = pq.read_table(STRUCTURES, columns=["id", "lattice", "frac_coords", "numbers"])
    table = table.take(np.random.default_rng(0).permutation(len(table))[:n])
    crystals = crystals_from_batch(table)
    parents = ParentTable.from_crystals(table["id"].to_pylist(), crystals)
    nothing = dict.fromkeys(("energy_per_atom", "correction_per_atom", "e_form_per_atom"), 0.0)
    entries = record_batch(
        ENTRY_SCHEMA,
        parents.ids,
        crystals,
        formula=parents.formulas,
        chemsys=[chemsys(crystal.numbers) for crystal in crystals],
        **nothing,
        energy_kind="total",
        scale="none",
        source="test",
        round=0,
    )
    store = Store(str(root))
    config = store.start_round(0, RoundConfig().document())
    for stage, name, rows in (("snapshot", "entries", entries), ("hull", "parents", parents.to_batch())):
        path = f"{Attempt(0, stage, 'made').path}/{name}/part.parquet"
        stat = store.write_table(path, name, pa.Table.from_batches([rows]))
        fixed = {"round": 0, "attempt": "made", "inputs": {}, "config": config, "code": "", "seconds": 0.0}
        counts, digests = Counts(n_in=n, n_out=n), table_digests([stat])
        store.publish(Commit(stage=stage, files=[stat], rows_digests=digests, counts=counts, **fixed))
    return store


def generate(store: Store, config: RoundConfig) -> Commit:
    store.start_round(1, config.document())
    *_, finished = driver.run_stages(store, 1, ("generate",))
    return finished.commit


def test_every_new_recipe_of_many_parents_comes_out_once(tmp_path):
    store = known_store(tmp_path / "store", 250)
    generation = GenerationConfig(max_sites=16, max_recipes_per_parent=150, known="snapshot")
    config = parse_config(
        {"generation": generation.model_dump(), "scoring": {"max_candidates": 10**7}, "part_files": 3}, "test"
    )
    commit = generate(store, config)
    rows = store.read_table(commit, "candidates", CANDIDATE_SCHEMA)

    parents = parent_table(store.root, 0)
    known = set(entries_until(store, 0, ["formula"])["formula"].to_pylist())
    seeded = generation.model_copy(update={"seed": derived_seed(config, "generate", 1, 0)})
    expected: dict[bytes, str] = {}
    n_recipes = n_known = 0
    for shard in all_shards(parents, seeded):
        for batch in shard_recipes(shard, parents, seeded):
            formulas = recipe_formulas(batch, parents)
            n_recipes += len(formulas)
            n_known += sum(formula in known for formula in formulas)
            named = zip(recipe_digests(batch, parents), formulas, strict=True)
            expected.update((digest, formula) for digest, formula in named if formula not in known)
    assert dict(zip(rows["digest"].to_pylist(), rows["formula"].to_pylist(), strict=True)) == expected
    assert len(rows) == len(expected) > 10_000
    assert (commit.counts.n_in, commit.counts.rejected) == (n_recipes, {"known_formula": n_known})

    # Tallies are exact: what was made, what was new, what was kept, what of it can be neutral at one charge an element.
    generators = rows["generator"].to_numpy()
    for code, name in ((1, "substitution"), (2, "saps")):
        sums = {kind: sum_of(commit, f"{name}/{kind}/") for kind in ("all", "new", "kept", "balanced")}
        assert sums["all"] == commit.metrics[f"{name}/recipes"]
        assert sums["new"] == sums["kept"] == (generators == code).sum()
        own = rows.filter(pa.array(generators == code))
        assert sums["balanced"] == can_be_neutral(recipe_compositions(own, parents), "strict").sum()
    assert commit.metrics["known_compositions"] == len(known)


def test_compositions_on_lists_are_left_out_and_counted_by_who_knows_them(tmp_path):
    """What the shipped list and a file of the user's name comes out of no round; counts in = counts out + drops."""
    store = known_store(tmp_path / "store", 60)
    generation = GenerationConfig(max_sites=12, max_recipes_per_parent=50)
    seeded = generation.model_copy(update={"seed": derived_seed(RoundConfig(), "generate", 1, 0)})
    parents, made = parent_table(store.root, 0), Counter()
    for shard in all_shards(parents, seeded):
        for batch in shard_recipes(shard, parents, seeded):
            made.update(recipe_formulas(batch, parents))
    own = set(entries_until(store, 0, ["formula"])["formula"].to_pylist())
    names = sorted(made)
    answers = shipped_compositions().find(hashes_of(names))
    sources = ("mp", "oqmd", "experiment")
    first = {
        name: next(source for bit, source in enumerate(sources) if answer >> bit & 1)
        for name, answer in zip(names, answers.tolist(), strict=True)
        if answer
    }
    mine = [name for name in names if name not in first and name not in own][::7]
    assert len(mine) > 20
    (tmp_path / "icsd.csv").write_text("id,formula\n" + "".join(f"{i},{name}\n" for i, name in enumerate(mine)))
    values = {**generation.model_dump(), "known": ["shipped", str(tmp_path / "icsd.csv")]}
    commit = generate(store, parse_config({"generation": values, "scoring": {"max_candidates": 10**7}}, "test"))

    expected: Counter[str] = Counter()
    for name, n in made.items():
        source = first.get(name) or ("icsd.csv" if name in mine else None)
        expected["known_formula" if name in own else f"known_to_{source}" if source else "new"] += n
    rows = store.read_table(commit, "candidates", CANDIDATE_SCHEMA)
    new = made.keys() - own - first.keys() - set(mine)
    assert set(rows["formula"].to_pylist()) == new
    n_new = expected.pop("new")
    assert commit.counts.rejected == expected
    assert commit.counts.n_in == sum(made.values()) == n_new + expected.total()

    # The file may go: the store has kept what it named.
    (tmp_path / "icsd.csv").unlink()
    listed = listed_compositions(store)
    assert listed.sources == ("mp", "oqmd", "experiment", "icsd.csv")
    assert (listed.find(hashes_of(mine)) == 8).all()


def hashes_of(formulas: list[str]) -> np.ndarray:
    compositions = np.zeros((len(formulas), 95), int)
    for row, formula in zip(compositions, formulas, strict=True):
        for z, n in composition_of(formula):
            row[z] = n
    return composition_hashes(compositions)


def sum_of(commit: Commit, prefix: str) -> int:
    return sum(n for name, n in commit.metrics.items() if name.startswith(prefix))


def test_sample_of_candidates_does_not_depend_on_parts_of_the_work(tmp_path):
    stores = [known_store(tmp_path / name, 60) for name in ("one", "two")]
    commits = []
    for store, parents_per_shard in zip(stores, (7, 60), strict=True):
        generation = {
            "max_sites": 12, "max_recipes_per_parent": 50, "parents_per_shard": parents_per_shard, "known": "snapshot"
        }  # fmt: skip
        config = parse_config({"generation": generation, "scoring": {"max_candidates": 300}}, "test")
        commits.append(generate(store, config))
    tables = [
        store.read_table(commit, "candidates", CANDIDATE_SCHEMA) for store, commit in zip(stores, commits, strict=True)
    ]
    assert tables[0].equals(tables[1])
    assert len(tables[0]) == 300
    counts = commits[0].counts
    assert counts.n_in == 300 + sum(counts.rejected.values())
    assert counts.rejected["over_limit"] > 1000
    assert counts == commits[1].counts


def test_compositions_can_be_drawn_whole(tmp_path):
    generation = {"max_sites": 12, "max_recipes_per_parent": 50, "known": "snapshot"}
    stores = [known_store(tmp_path / name, 60) for name in ("whole", "all")]
    whole, all_ = (
        store.read_table(
            generate(store, parse_config({"generation": generation, "scoring": scoring}, "test")),
            "candidates",
            CANDIDATE_SCHEMA,
        )
        for store, scoring in zip(
            stores, ({"max_candidates": 600, "sample": "compositions"}, {"max_candidates": 10**7}), strict=True
        )
    )
    drawn, made = Counter(whole["formula"].to_pylist()), Counter(all_["formula"].to_pylist())
    assert len(whole) == 600
    assert sum(made[formula] > 1 for formula in drawn) > 5
    cut = [formula for formula, n in drawn.items() if n < made[formula]]
    assert len(cut) <= RoundConfig().part_files  # the last composition of a bucket may not fit as a whole


RANDOM = {
    "generators": ["random_search"],
    "compositions": {"formulas": ["Al3Li", "MgO", "Li2Cu3", "Mg5Al7", "MgF4"]},
    "random_search": {"structures": 6, "volume_factors": [0.9, 1.1], "max_sites": 12, "max_formula_units": 2},
    "elements": ["Li", "Mg", "Cu", "Al", "O", "F"],
}


@pytest.fixture(scope="module")
def random_round(initialised, tmp_path_factory) -> Store:
    """A round of random search alone, whose evaluations end at once."""
    path = tmp_path_factory.mktemp("random") / "store"
    shutil.copytree(initialised, path)
    store = Store(str(path))
    document = driver.load_round_config(store, 0).document()
    document["generation"] |= RANDOM
    document["selection"] |= {"budget": 8, "per_formula": 4, "threshold": 100.0, "random_baseline": 1}
    document["evaluation"] |= {"fmax": 1e6}
    round_ = driver.start_round(store, parse_config(document, "test"))
    for _ in driver.run_stages(store, round_, stages_of(round_)[:-1]):
        pass
    return store


def test_random_search_goes_through_the_round(random_round):
    store = random_round
    candidates = store.read_table(store.commit(1, "generate"), "candidates", CANDIDATE_SCHEMA)
    known = set(entries_until(store, 0, ["formula"])["formula"].to_pylist())
    proposed = {"LiAl3", "MgO", "Li2Cu3", "Mg5Al7"} - known  # MgF4 breaks the rule
    assert set(candidates["formula"].to_pylist()) == proposed
    assert len(candidates) == 6 * len(proposed)
    assert set(candidates["parent"].to_pylist()) == {NO_PARENT}
    metrics = store.commit(1, "generate").metrics
    assert (metrics["random_search/compositions_2"], metrics["random_search/compositions_2_passed"]) == (5, 4)

    packing = store.read_table(store.commit(1, "score"), "packing", PACKING_SCHEMA)
    assert packing["formula"].to_pylist() == sorted(proposed)
    assert set(packing["begun"].to_pylist()) == {6}
    score = store.commit(1, "score").counts
    assert score.rejected.get("packing_failed", 0) == pc.sum(packing["failed"]).as_py()
    assert score.n_out > 0

    jobs = store.read_table(store.commit(1, "emit"), "jobs", PROPOSAL_SCHEMA)
    assert jobs["parent_id"].null_count == len(jobs) > 0
    for job, crystal in zip(crystals_from_batch(jobs), expand(jobs, parent_table(store.root, 0)), strict=True):
        assert np.array_equal(job.frac_coords, crystal.frac_coords)


def test_random_structures_are_their_own_roots(random_round):
    store = random_round
    entries = measured_entries(store)
    made = entries.filter(pc.equal(entries["round"], 1))
    assert len(made) > 0
    for chain in ancestries(entries, made["id"].to_pylist()):
        assert len(chain) == 1
        how = recipes_of_jobs(store, 1, [chain[0]["job"]])[chain[0]["job"]]
        assert str(how).startswith("random_search: ")
        assert "space group" in how.cell
    shown = gnome("show", store.root, made["id"][0].as_py())
    assert shown.returncode == 0, shown.stderr
    assert "random_search" in shown.stdout


def test_report_counts_candidates_and_compositions(random_round):
    data = collect(random_round)
    assert sum(g.kept for g in data.generated) == random_round.commit(1, "generate").counts.n_out
    assert [(c.n_elements, c.enumerated, c.passed) for c in data.compositions] == [(2, 5, 4)]
    page = render(data)
    assert "4 (80.0 %)" in page
    assert "random_search" in page


def test_show_without_an_id_tells_where_discoveries_come_from(two_rounds):
    shown = gnome("show", str(two_rounds))
    assert shown.returncode == 0, shown.stderr
    stable = collect(Store(str(two_rounds))).stable
    n = len(stable)
    assert f"{n} on the hull" in shown.stdout
    if n:
        assert "any step since the root" in shown.stdout


def test_compositions_and_seeds_from_the_command_line(tmp_path):
    counted = gnome("compositions", "--elements", "Li,Si", "--output", str(tmp_path / "formulas.txt"))
    assert counted.returncode == 0, counted.stderr
    assert "100.0%" in counted.stdout
    assert "Li15Si4" in (tmp_path / "formulas.txt").read_text().split()
    judged = gnome("compositions", "Li15Si4", "NaCl2")
    assert [row.split()[1::2] for row in judged.stdout.splitlines() if "Li15Si4" in row] == [
        ["Li15Si4", *["no"], *["yes"] * 3]
    ]
    assert "which elements" in gnome("compositions").stderr
    assert gnome("seeds", "BaTiO3", "Li15Si4", "-o", str(tmp_path / "seeds")).returncode == 0
    assert sorted(path.name for path in (tmp_path / "seeds").iterdir()) == ["BaTiO3.cell", "Li15Si4.cell"]
    wrong = gnome("seeds", "Xx2")
    assert (wrong.returncode, "Xx2" in wrong.stderr) == (2, True)
