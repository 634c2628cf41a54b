"""Two rounds end to end; what is killed and resumed, or run on two workers, gives the same rows."""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from dft.jobs import FRAME_SCHEMA, RESULT_SCHEMA
from gnome_core.crystals.arrow import ENTRY_SCHEMA, crystals_from_batch
from gnome_core.generation.generators import expand
from gnome_core.generation.recipe import recipe_digests, recipe_formulas
from gnome_core.stability.selection import select
from pipelines import round as driver
from pipelines.dead_letters import DEAD_SCHEMA
from pipelines.errors import StoreError, UserError
from pipelines.report.collect import collect
from pipelines.resources import known_formulas, parent_table
from pipelines.schemas import CANDIDATE_SCHEMA, HULL_SCHEMA, PROPOSAL_SCHEMA, SCORED_SCHEMA, SELECTED_SCHEMA
from pipelines.store import Store
from tests.pipelines.conftest import digests, gnome

POINTS = ("before_write", "after_write", "after_job", "after_commit")


def committed(store: Store, round_: int) -> dict:
    return {stage: store.commit(round_, stage) for stage in driver.stages_of(round_)}


def test_counts_add_up_and_chain_at_every_stage(two_rounds):
    store = Store(str(two_rounds))
    assert list(store.verify()) == []
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
        assert not set(rows["formula"].to_pylist()) & (known_formulas(store.root, round_) | proposed)
        proposed |= set(
            store.read_table(store.commit(round_, "emit"), "jobs", PROPOSAL_SCHEMA, ["formula"])["formula"].to_pylist()
        )


def test_selection_over_workers_is_the_plain_selection(two_rounds, tiny):
    """The chain of combiners chooses the rows that gnome_core's one-table function chooses."""
    store = Store(str(two_rounds))
    config = driver.load_round_config(store, 1).selection
    scored = store.read_table(store.commit(1, "score"), "scored", SCORED_SCHEMA)
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


def test_jobs_are_the_candidates_at_their_best_volume(two_rounds):
    store = Store(str(two_rounds))
    jobs = store.read_table(store.commit(1, "emit"), "jobs", PROPOSAL_SCHEMA)
    candidates = expand(jobs, parent_table(store.root, 0))
    for job, candidate, factor in zip(
        crystals_from_batch(jobs), candidates, jobs["best_volume_factor"].to_pylist(), strict=True
    ):
        assert job.volume == pytest.approx(candidate.volume * factor)
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


@pytest.fixture(scope="module")
def proposed(initialised, tmp_path_factory) -> Path:
    """A store whose round 1 has proposed."""
    path = tmp_path_factory.mktemp("proposed") / "store"
    shutil.copytree(initialised, path)
    store = Store(str(path))
    for _ in driver.run_stages(store, driver.start_round(store, None), driver.PROPOSE):
        pass
    return path


@pytest.mark.parametrize(("stage", "point"), [*(("evaluate", point) for point in POINTS), ("train", "after_write")])
def test_a_killed_round_resumes_to_the_same_rows(stage, point, proposed, two_rounds, tmp_path):
    path = tmp_path / "store"
    shutil.copytree(proposed, path)
    killed = gnome("round", "run", str(path), crash_at=f"{stage}:{point}")
    assert killed.returncode == -9
    store = Store(str(path))
    assert (store.commit(1, stage) is not None) == (point == "after_commit")
    assert not store.is_closed(1)
    resumed = gnome("round", "resume", str(path))
    assert resumed.returncode == 0, resumed.stderr
    expected = {key: value for key, value in digests(Store(str(two_rounds))).items() if key[0] in "01"}
    assert digests(store) == expected
    # A finished job is adopted; one that may be half written is left alone and done again.
    attempts = list(Path(path, f"rounds/r0001/{stage}/attempts").iterdir())
    assert len(attempts) == (1 if point in ("after_job", "after_commit") else 2)
    if (stage, point) == ("evaluate", "after_write"):
        metrics = store.commit(1, "evaluate").metrics
        assert metrics["batches_reused"] == metrics["batches"], "finished batches are not computed again"


def test_two_workers_give_the_same_rows(initialised, two_rounds, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(initialised, store)
    workers = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    result = gnome("round", "propose", str(store), "--", *workers)
    assert result.returncode == 0, result.stderr
    reference = digests(Store(str(two_rounds)))
    got = digests(Store(str(store)))
    assert got["1/emit"] == reference["1/emit"]
    assert got == {key: reference[key] for key in got}


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


def test_rows_that_die_beyond_the_limit_stop_the_round(initialised, tmp_path, monkeypatch):
    from pipelines.stages import generate
    from pipelines.store import Counts, Manifest

    path = tmp_path / "store"
    shutil.copytree(initialised, path)
    store = Store(str(path))
    round_ = driver.start_round(store, None)
    counts = Counts(n_in=100, n_out=99, dead={"not_finite": 1})
    monkeypatch.setattr(generate, "run", lambda job: Manifest(files=[], counts=counts))
    with pytest.raises(UserError, match=r"1 of 100 rows died \(1 not_finite\)"):
        list(driver.run_stages(store, round_, ["generate"]))
    assert store.commit(round_, "generate") is None
    lost = Counts(n_in=100, n_out=99)
    monkeypatch.setattr(generate, "run", lambda job: Manifest(files=[], counts=lost))
    shutil.rmtree(path / "rounds/r0001/generate")
    with pytest.raises(StoreError, match="lost or counted twice"):
        list(driver.run_stages(store, round_, ["generate"]))


def test_a_folder_of_cifs_with_broken_ones(tmp_path):
    """Good files become entries on the evaluator's scale, broken ones dead letters with their reasons."""
    folder = tmp_path / "cifs"
    folder.mkdir()
    for name, edge in (("LiF", 4.03), ("LiCl", 5.14), ("NaF", 4.63)):
        first, second = ("Li", name[2:]) if name.startswith("Li") else ("Na", "F")
        (folder / f"{name}.cif").write_text(ROCK_SALT.format(edge=edge, first=first, second=second))
    (folder / "truncated.cif").write_text(ROCK_SALT[:150].format(edge=4.0))
    (folder / "flat.cif").write_text(ROCK_SALT.format(edge=0.0, first="Li", second="F"))
    (folder / "unknown.cif").write_text(ROCK_SALT.format(edge=4.0, first="Xx", second="F"))
    config = tmp_path / "round.toml"
    config.write_text("""
[evaluation]
fmax = 5.0
[scoring]
members = 1
[model]
width = 4
steps = 1
[training]
epochs = 1
""")
    result = gnome("init", str(tmp_path / "store"), "--snapshot", str(folder), "--config", str(config))
    assert result.returncode == 0, result.stderr
    store = Store(str(tmp_path / "store"))
    commit = store.commit(0, "snapshot")
    assert (commit.counts.n_in, commit.counts.n_out, commit.counts.n_dead) == (6, 3, 3)
    letters = store.read_table(commit, "dead", DEAD_SCHEMA).to_pylist()
    assert {letter["key"] for letter in letters} >= {"flat", "unknown"}
    assert all(letter["reason"] and letter["message"] for letter in letters)
    entries = store.read_table(commit, "entries", ENTRY_SCHEMA).to_pylist()
    # Elements that the folder does not hold come with the package.
    assert sorted(store.read_table(commit, "references", ENTRY_SCHEMA)["chemsys"].to_pylist()) == [
        "Cl",
        "F",
        "Li",
        "Na",
    ]
    assert all(-4 < entry["e_form_per_atom"] < -1 for entry in entries)


ROCK_SALT = """data_x
_cell_length_a {edge}
_cell_length_b {edge}
_cell_length_c {edge}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
A1 {first} 0.0 0.0 0.0
A2 {first} 0.0 0.5 0.5
A3 {first} 0.5 0.0 0.5
A4 {first} 0.5 0.5 0.0
B1 {second} 0.5 0.5 0.5
B2 {second} 0.5 0.0 0.0
B3 {second} 0.0 0.5 0.0
B4 {second} 0.0 0.0 0.5
"""
