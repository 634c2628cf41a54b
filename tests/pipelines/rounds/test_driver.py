"""Two rounds end to end; what is killed and resumed gives the same rows, as on two workers (test_soak.py)."""

import shutil
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dft.tables import FRAME_SCHEMA, RESULT_SCHEMA
from gnome_core.compositions.formulas import NUMBERS
from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch
from gnome_core.crystals.cif import format_cif
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.split import holds_withheld
from gnome_core.generation.generators import expand
from gnome_core.generation.recipe import recipe_digests, recipe_formulas
from gnome_core.generation.volume import atomic_volumes
from gnome_core.selection.selection import select
from pipelines.beam.compiled import SUFFIX
from pipelines.beam.dead_letters import DEAD_SCHEMA
from pipelines.errors import StoreError, UserError
from pipelines.reading.committed import entries_until, parent_table, proposed_entries
from pipelines.reading.schemas import (
    CANDIDATE_SCHEMA,
    HULL_SCHEMA,
    MEMBER_SCHEMA,
    PROPOSAL_SCHEMA,
    SCORED_SCHEMA,
    SELECTED_SCHEMA,
)
from pipelines.report.collect import collect
from pipelines.rounds import driver
from pipelines.rounds.config import load_config
from pipelines.rounds.plan import stages_of
from pipelines.rounds.verify import verify
from pipelines.stages.train import shipped_candidates
from pipelines.store.store import Store
from tests.gnome_core.crystals.test_readers import broken_cifs
from tests.pipelines.conftest import digests, gnome, gnome_process, killed_at

POINTS = ("before_write", "after_write", "after_job", "after_commit")


def committed(store: Store, round_: int) -> dict:
    return {stage: store.commit(round_, stage) for stage in stages_of(round_)}


def test_counts_add_up_and_chain_at_every_stage(two_rounds):
    store = Store(str(two_rounds))
    assert list(verify(store)) == []
    for round_ in (1, 2):
        stages = committed(store, round_)
        for commit in stages.values():
            counts = commit.counts
            assert counts.n_in == counts.n_out + counts.n_rejected + counts.n_dead, commit.key
            assert commit.metrics is not None
        chain = ("generate", "score", "select", "emit", "evaluate", "ingest")
        for earlier, later in pairwise(chain):
            assert stages[later].counts.n_in == stages[earlier].counts.n_out
        assert stages["generate"].counts.n_in > stages["generate"].counts.n_out > 0
        assert stages["evaluate"].counts.n_out > 0
        assert store.is_closed(round_)
    hulls = [store.commit(round_, "hull").counts.n_in for round_ in (0, 1, 2)]
    ingested = [store.commit(round_, "ingest").counts.n_out for round_ in (1, 2)]
    assert np.diff(hulls).tolist() == ingested


def test_candidates_are_new_distinct_and_recomputable(two_rounds):
    store = Store(str(two_rounds))
    proposed: set[str] = set()
    for round_ in (1, 2):
        rows = store.read_table(store.commit(round_, "generate"), "candidates", CANDIDATE_SCHEMA)
        parents = parent_table(store.root, round_ - 1)
        assert recipe_formulas(rows, parents) == rows["formula"].to_pylist()
        assert recipe_digests(rows.combine_chunks(), parents) == rows["digest"].to_pylist()
        assert len(set(rows["digest"].to_pylist())) == len(rows)
        known = set(entries_until(store, round_ - 1, ["formula"])["formula"].to_pylist())
        assert not set(rows["formula"].to_pylist()) & (known | proposed)
        proposed |= set(
            store.read_table(store.commit(round_, "emit"), "jobs", PROPOSAL_SCHEMA, ["formula"])["formula"].to_pylist()
        )


def test_selection_over_workers_is_the_plain_selection(two_rounds, tiny):
    """The chain of combiners chooses the rows that gnome_core's one-table function chooses."""
    store = Store(str(two_rounds))
    config = driver.load_round_config(store, 1).selection
    scored = store.read_table(store.commit(1, "score"), "scored", SCORED_SCHEMA)
    scored = scored.filter(scored["refined"])
    selected = store.read_table(store.commit(1, "select"), "selected", SELECTED_SCHEMA)
    expected = select(
        scored["formula"],
        scored["chemsys"],
        [digest.hex() for digest in scored["digest"].to_pylist()],
        scored["e_above_hull"].to_numpy(),
        scored["iqr"].to_numpy(),
        budget=config.budget,
        threshold=config.threshold,
        per_composition=config.per_formula,
        max_per_chemsys=config.per_chemsys,
    )
    by_model = selected.filter(selected["selected_by_model"])
    assert set(by_model["digest"].to_pylist()) == {scored["digest"][int(row)].as_py() for row in expected.selected}
    assert pc.sum(selected["selected_by_random"]).as_py() == config.random_baseline


def test_jobs_are_the_candidates_as_their_recipes_make_them(two_rounds):
    store = Store(str(two_rounds))
    jobs = store.read_table(store.commit(1, "emit"), "jobs", PROPOSAL_SCHEMA)
    for job, candidate in zip(crystals_from_batch(jobs), expand(jobs, parent_table(store.root, 0)), strict=True):
        assert job.volume == pytest.approx(candidate.volume)
        assert (job.numbers == candidate.numbers).all()


def test_entries_come_from_results_with_all_frames(two_rounds):
    store = Store(str(two_rounds))
    results = store.read_table(store.commit(1, "evaluate"), "results", RESULT_SCHEMA)
    frames = store.read_table(store.commit(1, "evaluate"), "frames", FRAME_SCHEMA)
    assert len(frames) == pc.sum(results["steps"]).as_py()
    entries = store.read_table(store.commit(1, "ingest"), "entries", ENTRY_SCHEMA).to_pylist()
    energies = dict(zip(results["id"].to_pylist(), results["energy_per_atom"].to_pylist(), strict=True))
    assert [energies[entry["job"]] for entry in entries] == [entry["energy_per_atom"] for entry in entries]
    hull = store.read_table(store.commit(1, "hull"), "hull", HULL_SCHEMA)
    assert pc.min(hull["e_above_hull"]).as_py() > -1e-6
    assert hull["round"].to_pylist().count(1) == len(entries)


def test_report_data_is_complete(two_rounds):
    data = collect(Store(str(two_rounds)))
    assert data.rounds == [0, 1, 2]
    assert all(stage.balanced for stage in data.stages)
    assert set(data.jobs["round"].to_pylist()) == {1, 2}
    assert {(curve.round, curve.member) for curve in data.curves} == set(product(range(3), range(2)))
    assert all(curve.epochs and curve.val_mae[-1] is not None for curve in data.curves)
    for crystal in data.stable:
        assert crystal.chain[0].id == crystal.id
        assert crystal.chain[-1].round == 0


def test_command_line_reads_the_store(two_rounds, tmp_path):
    status = gnome("round", "status", str(two_rounds))
    assert status.returncode == 0, status.stderr
    assert "r0002/train" in status.stdout
    exported = gnome("export", str(two_rounds), "--format", "csv", "-o", str(tmp_path / "entries.csv"))
    assert exported.returncode == 0, exported.stderr
    id_ = collect(Store(str(two_rounds))).hull_entries["id"][0].as_py()
    shown = gnome("show", str(two_rounds), id_)
    assert shown.returncode == 0, shown.stderr
    assert "eV/atom" in shown.stdout
    assert gnome("show", str(two_rounds), "no-such-id").returncode == 2


def test_a_round_killed_again_and_again_resumes_to_the_same_rows(proposed, two_rounds, tmp_path):
    path = tmp_path / "store"
    shutil.copytree(proposed, path)
    store, command = Store(str(path)), "run"
    for stage in ("evaluate", "train"):
        killed = gnome_process("round", command, str(path), crash_at=f"{stage}:after_write")
        assert killed.returncode == -9
        assert store.commit(1, stage) is None
        assert not store.is_closed(1)
        command = "resume"
    resumed = gnome("round", "resume", str(path))
    assert resumed.returncode == 0, resumed.stderr
    expected = {key: value for key, value in digests(Store(str(two_rounds))).items() if key[0] in "01"}
    assert digests(store) == expected
    # A finished job is adopted; one that may be half written is left alone and done again.
    for stage in ("evaluate", "train"):
        assert len(list(Path(path, f"rounds/r0001/{stage}/attempts").iterdir())) == 2
    metrics = store.commit(1, "evaluate").metrics
    assert metrics["batches_reused"] == metrics["batches"], "finished batches are not computed again"


@pytest.mark.parametrize(
    ("round_", "stage", "point"),
    [
        *((round_, stage, point) for round_, stage in ((0, "snapshot"), (1, "ingest")) for point in POINTS),
        *((1, stage, "after_write") for stage in ("generate", "score", "emit", "evaluate")),
        (1, "select", "after_job"),
        (1, "hull", "before_write"),
    ],
)
def test_every_stage_resumes_after_a_crash(round_, stage, point, two_rounds, tmp_path, monkeypatch):
    expected = Store(str(two_rounds)).commit(round_, stage)
    shutil.copytree(two_rounds, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    shutil.rmtree(tmp_path / f"store/rounds/r{round_:04d}/{stage}")
    with killed_at(monkeypatch, stage, point):
        list(driver.run_stages(store, round_, [stage]))
    assert (store.commit(round_, stage) is not None) == (point == "after_commit")
    list(driver.run_stages(store, round_, [stage]))
    assert store.commit(round_, stage).digest == expected.digest
    assert list(verify(store)) == []


def test_kept_compiled_programs_give_the_same_results(proposed, tmp_path):
    """The evaluator's programs compiled afresh, and the same read from the cache, by processes of their own."""
    results, written = [], []
    for turn in ("cold", "warm"):
        shutil.copytree(proposed, tmp_path / turn)
        cache = {"JAX_COMPILATION_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
        cache["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # takes half the time
        # Else what is kept depends on the time that compiling took.
        cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        killed = gnome_process("round", "learn", str(tmp_path / turn), crash_at="evaluate:after_commit", **cache)
        assert killed.returncode == -9, killed.stderr
        results.append(digests(Store(str(tmp_path / turn)))["1/evaluate"])
        written.append({path.name for path in (tmp_path / "cache").rglob(f"*{SUFFIX}")})
    assert results[0] == results[1]
    assert written[0]
    assert written[0] == written[1], "the second process compiled nothing"


def test_evaluated_crystals_train_relaxed_and_as_proposed(two_rounds):
    store = Store(str(two_rounds))
    tables = proposed_entries(store, 2)
    for round_, proposed_ in enumerate(tables, start=1):
        relaxed = store.read_table(store.commit(round_, "ingest"), "entries", ENTRY_SCHEMA).to_pylist()
        jobs = {
            job["id"]: job
            for job in store.read_table(store.commit(round_, "emit"), "jobs", PROPOSAL_SCHEMA).to_pylist()
        }
        assert len(proposed_) == len(relaxed) > 0
        for row, entry in zip(proposed_.to_pylist(), relaxed, strict=True):
            geometry = ("lattice", "frac_coords", "numbers")
            assert {name: row[name] for name in geometry} == {name: jobs[entry["job"]][name] for name in geometry}
            assert row["id"] == f"{entry['id']}-proposed"
            labels = set(row) - {"id", *geometry}
            assert {name: row[name] for name in labels} == {name: entry[name] for name in labels}
    members = store.read_table(store.commit(2, "train"), "members", MEMBER_SCHEMA).to_pylist()
    expected = len(entries_until(store, 2)) + sum(map(len, tables)) + len(shipped_candidates(store.root))
    assert {member["n_train"] + member["n_val"] for member in members} == {expected}


def test_a_started_round_keeps_its_settings_and_order(initialised, tiny, tmp_path):
    path = tmp_path / "store"
    shutil.copytree(initialised, path)
    store = Store(str(path))
    assert driver.open_round(store) is None
    with pytest.raises(UserError, match="needs r0001/generate"):
        list(driver.run_stages(store, driver.start_round(store, None), ["score"]))
    with pytest.raises(UserError, match="not finished"):
        driver.start_round(store, None)
    result = gnome("round", "learn", str(path))
    assert result.returncode == 2
    assert "propose" in result.stderr


def test_a_round_that_an_older_version_started_goes_on(initialised, tmp_path):
    """Its settings lack the keys that came later: these have their defaults, and the document stays as it was."""
    shutil.copytree(initialised, tmp_path / "store")
    store = Store(str(tmp_path / "store"))
    document = driver.load_round_config(store, 0).document()
    del document["generation"]["known"]
    store.start_round(1, document)
    list(driver.run_stages(store, 1, ["generate"]))
    kept = driver.run_stages(store, 1, ["generate"])
    assert store.round_config(1) == document
    assert store.commit(1, "generate").counts.rejected["known_to_mp"] > 0
    assert [event.reused for event in kept if isinstance(event, driver.Finished)] == [True]


def test_rows_that_die_beyond_the_limit_stop_the_round(initialised, tmp_path, monkeypatch):
    from pipelines.stages import generate
    from pipelines.store.records import Counts, Manifest

    path = tmp_path / "store"
    shutil.copytree(initialised, path)
    store = Store(str(path))
    round_ = driver.start_round(store, None)
    counts = Counts(n_in=100, n_out=99, dead={"not_finite": 1})
    monkeypatch.setattr(generate, "run", lambda job: Manifest(files=[], counts=counts))
    with pytest.raises(UserError, match=r"1 of 100 rows died \(1 not_finite\).*gnome round drop"):
        list(driver.run_stages(store, round_, ["generate"]))
    assert store.commit(round_, "generate") is None
    lost = Counts(n_in=100, n_out=99)
    monkeypatch.setattr(generate, "run", lambda job: Manifest(files=[], counts=lost))
    with pytest.raises(StoreError, match="lost or counted twice"):
        list(driver.run_stages(store, round_, ["generate"]))
    assert not list(path.glob("rounds/r0001/generate/attempts/*/DONE.json")), "what was refused is not finished"
    # An attempt that an earlier version called finished is not taken up either: what runs now counts.
    whole = Counts(n_in=100, n_out=100)
    attempt = store.new_attempt(round_, "generate", driver._job_file(store, round_, "generate")[1])
    store.finish_attempt(attempt, Manifest(files=[], counts=counts), 1.0)
    monkeypatch.setattr(generate, "run", lambda job: Manifest(files=[], counts=whole))
    list(driver.run_stages(store, round_, ["generate"]))
    assert store.commit(round_, "generate").counts == whole


# Stores that are compared with no other: what follows is compiled quickly.


def test_a_holdout_neither_trains_on_nor_proposes_withheld_systems(tiny, quickly_compiled, tmp_path):
    """Al-Li is withheld; the snapshot holds a compound of it all the same."""
    entries = pq.read_table(tiny / "snapshot.parquet")
    compound = next(row for row in entries.to_pylist() if row["chemsys"] == "Li-Mg")
    element = next(row for row in entries.to_pylist() if row["chemsys"] == "Mg")
    added = [
        {**row, "id": f"added-{system}", "formula": row["formula"].replace("Mg", "Al"), "chemsys": system}
        | {"numbers": [13 if z == 12 else z for z in row["numbers"]]}
        for row, system in ((compound, "Al-Li"), (element, "Al"))
    ]
    pq.write_table(pa.concat_tables([entries, pa.Table.from_pylist(added, entries.schema)]), tmp_path / "x.parquet")
    settings = load_config(str(tiny / "round.toml"))
    config = settings.model_copy(update={"holdout": "holdout-v1", "snapshot": str(tmp_path / "x.parquet")})
    store = driver.init_store(str(tmp_path / "store"), config)
    list(driver.run_stages(store, 0, stages_of(0)))
    list(driver.run_stages(store, driver.start_round(store, None), stages_of(1)))

    candidates = store.read_table(store.commit(1, "generate"), "candidates", CANDIDATE_SCHEMA)["chemsys"].to_pylist()
    assert candidates
    assert not any(holds_withheld(system) for system in candidates)
    assert any("Al" in system for system in candidates), "the element itself is not withheld"
    assert store.commit(1, "generate").counts.rejected["withheld_system"] > 0
    proposed_ = sum(map(len, proposed_entries(store, 1)))
    for round_, more in ((0, 0), (1, proposed_)):
        members = store.read_table(store.commit(round_, "train"), "members", MEMBER_SCHEMA).to_pylist()
        expected = len(entries_until(store, round_)) - 1 + more + len(shipped_candidates(store.root))
        assert {m["n_train"] + m["n_val"] for m in members} == {expected}


def test_a_folder_of_50_good_and_10_broken_cifs(quickly_compiled, tmp_path):
    """Good files become entries on the evaluator's scale, broken ones dead letters with their reasons."""
    folder = tmp_path / "cifs"
    folder.mkdir()
    for first, second in PAIRS:
        numbers = [NUMBERS[first], NUMBERS[second]]
        edge = atomic_volumes()[[1, 2], numbers].sum() ** (1 / 3)  # a cation's and an anion's
        crystal = Crystal(np.eye(3) * edge, [[0, 0, 0], [0.5, 0.5, 0.5]], numbers)
        (folder / f"{first}{second}.cif").write_text(format_cif(crystal, first + second))
    broken = broken_cifs()
    for name, (content, _) in broken.items():
        (folder / f"{name}.cif").write_text(content)
    config = tmp_path / "round.toml"
    config.write_text("""
[evaluation]
fmax = 1000.0
[scoring]
members = 1
[model]
width = 4
steps = 1
[training]
first = "scratch"
epochs = 1
""")
    result = gnome("init", str(tmp_path / "store"), "--snapshot", str(folder), "--config", str(config))
    assert result.returncode == 0, result.stderr
    store = Store(str(tmp_path / "store"))
    commit = store.commit(0, "snapshot")
    assert (commit.counts.n_in, commit.counts.n_out, commit.counts.n_dead) == (60, 50, 10), commit.counts
    letters = store.read_table(commit, "dead", DEAD_SCHEMA).to_pylist()
    assert {letter["key"]: letter["reason"] for letter in letters} == {name: why for name, (_, why) in broken.items()}
    assert {letter["key"]: letter["payload"].decode() for letter in letters} == {n: c for n, (c, _) in broken.items()}
    assert all(letter["message"] for letter in letters)
    entries = store.read_table(commit, "entries", ENTRY_SCHEMA).to_pylist()
    assert {entry["id"] for entry in entries} == {first + second for first, second in PAIRS}
    assert all(np.isfinite(entry["e_form_per_atom"]) for entry in entries)
    # Elements that the folder does not hold come with the package.
    references = store.read_table(commit, "references", ENTRY_SCHEMA)["chemsys"].to_pylist()
    assert sorted(references) == sorted({symbol for pair in PAIRS for symbol in pair})


PAIRS = [
    *product(("Li", "Na", "K", "Rb", "Cs"), ("F", "Cl", "Br", "I")),
    *product(("Mg", "Ca", "Sr", "Ba"), ("O", "S", "Se", "Te")),
    *product(("Sc", "Y"), ("N", "P", "As", "Sb")),
    *product(("Zn", "Cd"), ("O", "S", "Se")),
]
