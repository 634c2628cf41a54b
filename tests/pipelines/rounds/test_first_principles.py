"""Rounds whose jobs are run by a program: emission, late results, unreadable output, recomputed references.

The program is a toy in this process, so that a round takes seconds; test_standin_round.py runs VASP's stand-in.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from dft import engines
from dft.config import DftConfig
from dft.jobs.engine import StepFailed, read_job, run_attempt
from dft.jobs.folders import JobFolders, State
from dft.tables import FRAME_SCHEMA, RESULT_SCHEMA
from gnome_core.crystals.arrow import ENTRY_SCHEMA
from pipelines.beam.dead_letters import DEAD_SCHEMA
from pipelines.errors import JobsPending, UserError
from pipelines.evaluation.taken_jobs import TakenFolder, deliver, take
from pipelines.potentials.read_frames import read_frames
from pipelines.reading.committed import all_proposals, entries_until
from pipelines.reading.schemas import PROPOSAL_SCHEMA
from pipelines.report.collect import collect
from pipelines.rounds import driver
from pipelines.rounds.config import load_config, parse_config
from pipelines.rounds.plan import LEARN, PROPOSE, stages_of
from pipelines.rounds.verify import verify
from pipelines.stages.snapshot_raw import SCALE
from pipelines.stages.snapshot_recompute import worth_recomputing
from pipelines.store.store import Store
from tests.dft.toy import Toy
from tests.pipelines.conftest import digests

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def energy(crystal) -> float:
    """Mixed cells lie 0.3 eV/atom below the elements, less where atoms are few of a kind; +0.001 a cubic Å."""
    numbers = crystal.numbers.astype(float)
    kinds = len(set(crystal.numbers.tolist()))
    return float(-numbers.sum() / 10 - 0.3 * (kinds > 1) * len(numbers) + 0.001 * crystal.volume)


@pytest.fixture
def toy(monkeypatch) -> Toy:
    """The engine that "espresso" names in this process."""
    engine = Toy(energy)
    monkeypatch.setattr(engines, "resolve_name", lambda where: lambda *settings: engine)
    return engine


@pytest.fixture(scope="module")
def recomputed(tiny) -> Path:
    """A store whose round 0 has been computed by the toy, its snapshot's stable entries and elements only."""
    document = load_config(str(tiny / "round.toml")).document()
    document |= {"recompute": True, "snapshot": str(tiny / "snapshot.parquet")}
    document["evaluation"]["evaluator"] = "espresso"
    document["selection"] |= {"budget": 4, "random_baseline": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "resolve_name", lambda where: lambda *settings: Toy(energy))
        store = driver.init_store(str(tiny / "recomputed"), parse_config(document, "test"))
        with pytest.raises(JobsPending, match=r"jobs of the snapshot wait in .*gnome round resume"):
            list(driver.run_stages(store, 0, stages_of(0), run_jobs=False))
        run_here(store, Toy(energy))
        list(driver.run_stages(store, 0, stages_of(0), run_jobs=False))
    return tiny / "recomputed"


@pytest.fixture
def store(recomputed, toy, tmp_path) -> Store:
    """A copy of it."""
    shutil.copytree(recomputed, tmp_path / "store")
    return Store(str(tmp_path / "store"))


@pytest.fixture(scope="module")
def proposed(recomputed, tmp_path_factory) -> Path:
    """A store whose round 1 has emitted its jobs."""
    path = tmp_path_factory.mktemp("proposed") / "store"
    shutil.copytree(recomputed, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "resolve_name", lambda where: lambda *settings: Toy(energy))
        propose(Store(str(path)))
    return path


@pytest.fixture
def begun(proposed, toy, tmp_path) -> Store:
    """A copy of it."""
    shutil.copytree(proposed, tmp_path / "begun")
    return Store(str(tmp_path / "begun"))


def folders_of(store: Store) -> JobFolders:
    return JobFolders(Path(store.root) / "jobs" / "espresso")


def run_here(store: Store, engine: Toy, ids=None) -> None:
    """What `gnome dft run` does, in this process."""
    folders = folders_of(store)
    folders.unpack()
    for id_ in folders.ids() if ids is None else ids:
        folder = folders[id_]
        if attempt := folder.claim():
            run_attempt(folder, attempt, engine)


def propose(store: Store) -> list[str]:
    round_ = driver.start_round(store, None)
    list(driver.run_stages(store, round_, PROPOSE))
    return jobs_of(store, round_)


def jobs_of(store: Store, round_: int) -> list[str]:
    return store.read_table(store.commit(round_, "emit"), "jobs", PROPOSAL_SCHEMA, ["id"])["id"].to_pylist()


def learn(store: Store) -> int:
    round_ = driver.open_round(store)
    list(driver.run_stages(store, round_, LEARN, run_jobs=False))
    return round_


def counts(store: Store, round_: int, stage: str):
    return store.commit(round_, stage).counts


def test_a_snapshot_on_another_scale_is_recomputed_where_it_matters(store, tiny):
    snapshot = counts(store, 0, "snapshot")
    total = pq.read_metadata(tiny / "snapshot.parquet").num_rows
    assert snapshot.n_in == total
    assert snapshot.n_out + snapshot.rejected["not_recomputed"] == total
    entries = entries_until(store, 0)
    assert set(entries["scale"].to_pylist()) == {"toy"}
    assert {"Li", "Mg", "Cu"} <= set(entries["chemsys"].to_pylist())
    elements = entries.filter(pa.array([len(set(n)) == 1 for n in entries["numbers"].to_pylist()]))
    assert max(abs(e) for e in elements["e_form_per_atom"].to_pylist()) < 1e-9, "one crystal an element: its reference"
    assert set(entries["correction_per_atom"].to_pylist()) == {0.25}


def test_results_come_in_when_they_are_there(begun, toy):
    """Two jobs are late, one fails and converges when it is tried again, one's output is cut off."""
    store, jobs = begun, jobs_of(begun, 1)
    late, failing, damaged = jobs[:2], jobs[2], jobs[3]
    toy.script = {"relax2": StepFailed("crashed", "bang")}
    run_here(store, toy, [failing])
    toy.script = {}
    run_here(store, toy, jobs[3:])
    (output,) = folders_of(store)[damaged].folder.glob("attempts/01/static/OUT")
    whole = output.read_text()
    output.write_text(whole[:20])
    assert learn(store) == 1
    evaluated = counts(store, 1, "evaluate")
    assert (evaluated.n_in, evaluated.rejected, evaluated.dead) == (len(jobs), {"pending": 2}, {"truncated_output": 1})
    assert evaluated.n_in == evaluated.n_out + evaluated.n_rejected + evaluated.n_dead
    assert counts(store, 1, "ingest").rejected == {"crashed": 1}
    letters = store.read_table(store.commit(1, "evaluate"), "dead", DEAD_SCHEMA).to_pylist()
    assert [letter["key"] for letter in letters] == [damaged]
    assert "OUT" in letters[0]["message"]

    output.write_text(whole)
    folders_of(store)[failing].request()
    run_here(store, toy)
    new = propose(store)
    assert not set(new) & set(jobs), "what was proposed is not proposed again"
    run_here(store, toy)
    assert learn(store) == 2
    evaluated = counts(store, 2, "evaluate")
    assert (evaluated.n_in, evaluated.n_out) == (len(new) + 4, len(new) + 4)
    assert store.commit(2, "evaluate").metrics["jobs_of_earlier_rounds"] == 4
    entries = store.read_table(store.commit(2, "ingest"), "entries", ENTRY_SCHEMA)
    assert {*late, failing, damaged} <= set(entries["job"].to_pylist())
    data = collect(store)
    assert sorted(data.jobs["id"].to_pylist()) == sorted(jobs + new)
    assert dict(zip(data.jobs["id"].to_pylist(), data.jobs["round"].to_pylist(), strict=True))[late[0]] == 1
    states = data.jobs["status"].to_pylist()
    assert set(states) <= {"done", "rejected"}, "what the toy relaxes may look like no crystal"
    assert states.count("done") == sum(counts(store, round_, "ingest").n_out for round_ in (1, 2))
    hulls = [counts(store, round_, "hull").n_in for round_ in (0, 1, 2)]
    assert np.diff(hulls).tolist() == [counts(store, round_, "ingest").n_out for round_ in (1, 2)]
    assert list(verify(store)) == []


def test_corrections_moments_fixes_and_every_frame_are_kept(begun, toy):
    store, jobs = begun, jobs_of(begun, 1)
    toy.script = {"scales": {"relax1": "gga/toy"}}
    run_here(store, toy)
    learn(store)
    results = store.read_table(store.commit(1, "evaluate"), "results", RESULT_SCHEMA).to_pylist()
    assert {(r["correction_per_atom"], r["magnetization"], r["attempt"]) for r in results} == {(0.25, 0.5, 1)}
    assert {r["correction_version"] for r in results} == {"toy/1"}
    assert all(r["fixes"] == ["relax2: mended"] and r["settings_changed"] is False for r in results)
    frames = store.read_table(store.commit(1, "evaluate"), "frames", FRAME_SCHEMA)
    first = frames.filter(pc.equal(frames["job"], jobs[0])).sort_by("step").to_pylist()
    assert [f["calculation"] for f in first] == ["relax1"] * 2 + ["relax2"] * 2 + ["static"] * 2
    assert [f["scale"] for f in first] == ["gga/toy"] * 2 + ["toy"] * 4
    learnt = read_frames(store.root)
    assert learnt.scale == "toy", "a potential learns the store's own scale"
    of_snapshot = store.read_table(store.commit(0, "snapshot"), "frames", FRAME_SCHEMA)
    assert len(learnt) == 4 * len(results) + len(of_snapshot) > 4 * len(results)
    n_jobs = len(results) + len(of_snapshot["job"].unique())
    assert learnt.first.sum() == n_jobs, "the first of these frames of each job"
    entries = store.read_table(store.commit(1, "ingest"), "entries", ENTRY_SCHEMA).to_pylist()
    assert {e["correction_version"] for e in entries} == {"toy/1"}
    assert {e["correction_version"] for e in entries_until(store, 0).to_pylist()} == {"toy/1"}
    references = {
        e["chemsys"]: e["energy_per_atom"] + 0.25
        for e in entries_until(store, 0).to_pylist()
        if e["e_form_per_atom"] == 0
    }
    from gnome_core.compositions.formulas import SYMBOLS

    for entry in entries:
        expected = entry["energy_per_atom"] + 0.25 - np.mean([references[SYMBOLS[z]] for z in entry["numbers"]])
        assert entry["e_form_per_atom"] == pytest.approx(expected)


def test_emission_twice_changes_nothing_and_crystals_without_potential_are_turned_away(begun, store, toy):
    jobs, folders = jobs_of(begun, 1), folders_of(begun)
    before = {path: path.stat().st_mtime_ns for id_ in jobs for path in folders[id_].folder.rglob("*")}
    shutil.rmtree(Path(begun.root, "rounds/r0001/emit"))
    list(driver.run_stages(begun, 1, ["emit"]))
    assert {path: path.stat().st_mtime_ns for path in before} == before

    toy.script = {"lacks": "Cu"}
    kept = propose(store)
    copper = [row for row in all_proposals(store, 1)["chemsys"].to_pylist() if "Cu" in row]
    assert copper == []
    emitted = counts(store, 1, "emit")
    assert emitted.rejected["missing_potential"] == len(jobs) - len(kept) > 0
    assert emitted.n_in == emitted.n_out + emitted.n_rejected


def test_jobs_in_tar_shards_are_the_same_jobs(begun, store, toy):
    jobs, packed = jobs_of(begun, 1), store
    config = driver.load_round_config(packed, 0)
    round_ = driver.start_round(
        packed, config.model_copy(update={"dft": config.dft.model_copy(update={"emit": "tar"})})
    )
    list(driver.run_stages(packed, round_, PROPOSE))
    folders = folders_of(packed)
    assert list(folders.root.glob("shards/*.tar"))
    assert set(jobs) <= set(folders.ids())
    assert not folders[jobs[0]].folder.exists()
    run_here(packed, toy)
    learn(packed)
    assert counts(packed, 1, "evaluate").n_out == len(jobs)


def test_a_missing_program_leaves_the_jobs_and_the_round(begun, toy, monkeypatch):
    from dft.jobs.engine import EngineMissing

    def check():
        raise EngineMissing("pw.x is not on PATH; install it")

    monkeypatch.setattr(toy, "check", check)
    store, jobs = begun, jobs_of(begun, 1)
    with pytest.raises(UserError, match=r"pw\.x is not on PATH; install it; the jobs wait in"):
        list(driver.run_stages(store, 1, LEARN))
    assert {folders_of(store)[id_].state for id_ in jobs} == {State.EMITTED}
    assert learn(store) == 1, "the round goes on with what is there"
    assert counts(store, 1, "evaluate").rejected == {"pending": len(jobs)}


def test_of_snapshot_and_recomputation_the_lower_stays(store, tiny, tmp_path, toy):
    """A snapshot on the engine's own scale: entries recomputed lower give way; all get the new references."""
    known = entries_until(store, 0).to_pylist()
    compound = next(row for row in known if "-" in row["chemsys"])
    element = next(row for row in known if row["chemsys"] == "Li")
    for row in known:
        row["round"], row["job"] = 0, None
    compound["energy_per_atom"] -= 0.5  # the label is lower than what the toy will find
    element["energy_per_atom"] += 0.2  # and here it is higher
    unstable = {**compound, "id": "unstable", "energy_per_atom": compound["energy_per_atom"] + 2.0}
    unstable["lattice"] = [1.1 * x for x in unstable["lattice"]]
    references = {row["numbers"][0]: row["energy_per_atom"] for row in known if len(set(row["numbers"])) == 1}
    for row in (*known, unstable):
        row["e_form_per_atom"] = row["energy_per_atom"] - np.mean([references[z] for z in row["numbers"]])
    path = tmp_path / "same-scale.parquet"
    pq.write_table(pa.Table.from_pylist([*known, unstable], ENTRY_SCHEMA), path)
    config = driver.load_round_config(store, 0).model_copy(update={"snapshot": str(path)})
    second = driver.init_store(str(tmp_path / "second"), config)
    with pytest.raises(JobsPending):
        list(driver.run_stages(second, 0, ["snapshot"], run_jobs=False))
    run_here(second, toy)
    list(driver.run_stages(second, 0, stages_of(0), run_jobs=False))
    snapshot = counts(second, 0, "snapshot")
    assert (snapshot.n_in, snapshot.n_out, snapshot.n_rejected) == (len(known) + 1, len(known) + 1, 0)
    made = {row["id"]: row for row in entries_until(second, 0).to_pylist()}
    assert made[compound["id"]]["energy_per_atom"] == compound["energy_per_atom"]
    assert made[compound["id"]]["job"] is None
    assert made[element["id"]]["energy_per_atom"] < element["energy_per_atom"]
    assert made[element["id"]]["job"] is not None
    assert made[element["id"]]["e_form_per_atom"] == pytest.approx(0)
    assert made["unstable"]["energy_per_atom"] == unstable["energy_per_atom"], "not worth computing again"
    shift = made["unstable"]["e_form_per_atom"] - unstable["e_form_per_atom"]
    assert shift > 0, "the reference of lithium is lower now"


def test_raw_energies_of_the_materials_project_are_a_hull_of_their_own(store, toy, tmp_path):
    """Nothing is computed for it; what is nevertheless stays where it is the lower one."""
    toy.scale = SCALE
    mixed = Structure(Lattice.cubic(3.4), ["Li", "Mg"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    cells = {"low": ("Li", -1.5), "high": ("Mg", 1.0)}
    documents = [(name, Structure(Lattice.cubic(3.3), [symbol], [[0] * 3]), e) for name, (symbol, e) in cells.items()]
    documents.append(("mixed", mixed, -2.0))
    computed = [
        ComputedStructureEntry(structure, energy, parameters={"run_type": "GGA", "hubbards": {}}, entry_id=name)
        for name, structure, energy in documents
    ]
    path = tmp_path / "mp.json"
    path.write_text(json.dumps([entry.as_dict() for entry in computed]))
    settings = driver.load_round_config(store, 0).model_copy(update={"snapshot": f"mp-entries:{path}"})

    taken = driver.init_store(str(tmp_path / "taken"), settings.model_copy(update={"recompute": False}))
    list(driver.run_stages(taken, 0, ["snapshot"]))
    assert not folders_of(taken).ids()
    entries = {row["id"]: row for row in entries_until(taken, 0).to_pylist()}
    assert {id_: row["energy_per_atom"] for id_, row in entries.items()} == {"low": -1.5, "high": 1.0, "mixed": -1.0}
    assert entries["low"]["correction_per_atom"] == pytest.approx(-0.00301278)
    assert entries["mixed"]["correction_per_atom"] == pytest.approx((-0.00301278 + 0.0924014) / 2)
    version = taken.commit(0, "snapshot").metrics["corrections"]
    assert version.endswith("+gnome-potential-shifts/1")
    assert {row["correction_version"] for row in entries.values()} == {version}

    both = driver.init_store(str(tmp_path / "both"), settings)
    with pytest.raises(JobsPending):
        list(driver.run_stages(both, 0, ["snapshot"], run_jobs=False))
    run_here(both, toy)
    list(driver.run_stages(both, 0, ["snapshot"], run_jobs=False))
    entries = {row["id"]: row for row in entries_until(both, 0).to_pylist()}
    assert entries.keys() == {"low", "high", "mixed"}
    assert (entries["low"]["energy_per_atom"], entries["low"]["job"]) == (-1.5, None), "-0.3 + 0.001 V was found"
    assert entries["high"]["job"] is not None
    assert entries["high"]["energy_per_atom"] + 0.25 < 1.0
    assert {row["correction_version"] for row in entries.values()} == {version, "toy/1"}
    assert both.commit(0, "snapshot").metrics["corrections"] == version


def test_what_is_worth_recomputing():
    numbers = [[3], [3, 3], [12], [3, 12], [3, 3, 12], [3, 12], [8], [3, 8]]
    e_form = np.array([0.0, 0.1, 0.0, -0.5, -0.05, -0.4, np.nan, np.nan])
    chosen = worth_recomputing(numbers, e_form, None)
    # Li, Mg, the stable LiMg; Li2Mg lies above the hull; nothing is known of O and LiO.
    assert chosen.tolist() == [True, False, True, True, False, False, True, True]
    inside = worth_recomputing(numbers, e_form, ["Li", "Mg"])
    assert inside.tolist() == [True, False, True, True, False, False, False, False]


def test_all_calculations_of_a_store_can_be_read_again(store, toy):
    folders = folders_of(store)
    assert all(read_job(folders[id_], toy) for id_ in folders.ids())


def run_elsewhere(store: Store, engine: Toy, folder: Path, ids=None) -> TakenFolder:
    """Jobs of a store in a bucket, all that wait or those that are named, as on a cluster that knows the bucket."""
    here = TakenFolder.make(folder, store, "espresso", DftConfig())
    for id_ in take(here, ids=ids):
        job = here.folders[id_]
        run_attempt(job, job.claim(), engine)
    return here


def test_a_store_in_a_bucket_learns_the_rows_of_one_in_a_folder(begun, toy, gcs, tmp_path):
    """Its snapshot recomputed and a round of it; jobs late, failed and with damaged output as in a folder."""
    there = Store("gs://lab/toy")
    driver.init_store(there.root, driver.load_round_config(begun, 0))
    gcs.fail("POST .*uploadType", status=503, times=3, done_first=True)
    with pytest.raises(JobsPending, match=r"wait in gs://lab/toy/jobs/espresso; .*gnome dft take gs://lab/toy FOLDER"):
        list(driver.run_stages(there, 0, stages_of(0), run_jobs=False))
    deliver(run_elsewhere(there, toy, tmp_path / "snapshot"))
    list(driver.run_stages(there, 0, stages_of(0), run_jobs=False))
    assert propose(there) == jobs_of(begun, 1)

    _, failing, damaged, *rest = jobs_of(begun, 1)
    crash = Toy(energy, relax2=StepFailed("crashed", "bang"))
    run_here(begun, crash, [failing])
    run_here(begun, toy, [damaged, *rest])
    deliver(run_elsewhere(there, crash, tmp_path / "failing", [failing]))
    here = run_elsewhere(there, toy, tmp_path / "rest", [damaged, *rest])
    for folders in (folders_of(begun), here.folders):
        (output,) = folders[damaged].folder.glob("attempts/01/static/OUT")
        output.write_text(output.read_text()[:20])
    deliver(here)
    gcs.fail("GET", status=502, times=3)
    assert learn(there) == learn(begun) == 1
    evaluated = counts(there, 1, "evaluate")
    assert (evaluated.rejected, evaluated.dead) == ({"pending": 1}, {"truncated_output": 1})
    assert evaluated.n_in == evaluated.n_out + evaluated.n_rejected + evaluated.n_dead == len(rest) + 3
    found, expected = digests(there), digests(begun)
    assert found.keys() == expected.keys()
    for key in found:  # messages name the places of files
        tables = found[key].keys() - {"results", "dead"}
        assert {name: found[key][name] for name in tables} == {name: expected[key][name] for name in tables}, key
    letters = there.read_table(there.commit(1, "evaluate"), "dead", DEAD_SCHEMA).to_pylist()
    assert [letter["key"] for letter in letters] == [damaged]
    assert f".tar:{damaged}/attempts/01/static/OUT" in letters[0]["message"]
    assert list(verify(there)) == []
