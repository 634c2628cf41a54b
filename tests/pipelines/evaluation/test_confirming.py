"""Discoveries of a tiny store judged again: by an ASE calculator in the workers, and by jobs of the stand-in VASP."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pymatgen.core import SETTINGS

from dft.jobs.folders import JobFolders, State
from gnome_core.analysis.confirmation import name_of
from gnome_core.analysis.credibility import analyse as certify
from gnome_core.compositions.dense import atom_counts
from gnome_core.selection.cost import dft_cost
from gnome_core.stability.hull import Hull
from pipelines.cli.rounds import _second_opinion
from pipelines.errors import UserError
from pipelines.evaluation.confirming import Judge, _rivals, evaluate, outcome, plan, price
from pipelines.reading.analyses import keep_analysis, load_analysis
from pipelines.reading.confirmations import beside_each_other, confirmations, disagreements
from pipelines.reading.engine_jobs import engine_jobs
from pipelines.reading.entries import measured_entries
from pipelines.rounds.config import ConfirmConfig, load_config, load_round_config
from pipelines.rounds.verify import verify
from pipelines.store.store import Store
from tests.dft.conftest import Standin, standin  # noqa: F401  a fixture
from tests.gnome_core.analysis.samples import any_cell, entries_of
from tests.pipelines.conftest import gnome, gnome_process
from tests.pipelines.rounds.test_ase_round import LATTICE

# Elements lie at -3, and every two unlike neighbours gain or lose: by one judge all compounds form, by the other none.
JUDGES = {"friendly": LATTICE, "hostile": LATTICE.replace("DEPTH = 0.02", "DEPTH = -0.02")}
WINDOW = 0.05


@pytest.fixture(scope="module")
def store(two_rounds, tmp_path_factory) -> Store:
    path = tmp_path_factory.mktemp("confirmed") / "store"
    shutil.copytree(two_rounds, path)
    for name, code in JUDGES.items():
        (path.parent / f"{name}.py").write_text(code)
    return Store(str(path))


def judge(store: Store, name: str) -> Judge:
    return Judge.of(f"ase:{Path(store.root).parent / name}.py:calculator", load_round_config(store, 2))


@pytest.fixture(scope="module")
def judged(store) -> dict[str, list[dict]]:
    """What each judge says, kept in the store."""
    found = {}
    for name in JUDGES:
        asked = plan(store, judge(store, name), None, 0.0, WINDOW)
        evaluate(store, asked, [])
        analysis = outcome(store, asked)
        keep_analysis(store, analysis, asked.round)
        found[name] = analysis.tables["crystals"].to_pylist()
    return found


def test_each_discovery_with_its_system_and_elements_and_nothing_twice(store):
    few = plan(store, judge(store, "friendly"), 1, 0.0, WINDOW)
    entries = few.entries.to_pylist()
    systems = [set(row["chemsys"].split("-")) for row in entries]
    assert all(system <= systems[0] for system in systems), "no phase of another system"
    # This judge's elements are not shipped: those of the discovery are asked for.
    assert {row["formula"] for row, system in zip(entries, systems, strict=True) if len(system) == 1} == systems[0]
    cost = price(store, few)
    assert (cost.crystals, cost.before) == (len(few.jobs), 0)
    evaluate(store, few, [])
    assert price(store, few).crystals == 0
    everything = plan(store, judge(store, "friendly"), None, 0.0, WINDOW)
    assert price(store, everything).before == len(set(everything.jobs) & set(few.jobs)) > 0
    assert list(verify(store)) == []


def test_crystals_that_are_named(store):
    new = measured_entries(store).filter(pc.greater(measured_entries(store)["round"], 0))
    far = new.sort_by([("e_above_hull", "descending")]).slice(0, 1).to_pylist()[0]
    for name in (far["id"], far["id"][:-2], f" {far['formula']} "):
        asked = plan(store, judge(store, "hostile"), None, 0.0, WINDOW, name)
        assert far["id"] in asked.entries["id"].take(pa.array(asked.chosen)).to_pylist()
        assert set(asked.entries["formula"].take(pa.array(asked.chosen)).to_pylist()) == {far["formula"]}
    with pytest.raises(UserError, match=r"--only nobody: no such crystal among the \d+ to choose from"):
        plan(store, judge(store, "hostile"), None, 0.0, WINDOW, f"{far['id']},nobody,Xx")
    with pytest.raises(UserError, match=r"--only r000: \d+ ids begin so: r0001-\w+, "):
        plan(store, judge(store, "hostile"), None, 0.0, WINDOW, "r000")
    refused = gnome_process("confirm", store.root, "--by", "nequix-oam-1", "--only", far["id"], "--top", "2")
    assert refused.returncode == 2
    assert "--top and --within do not go with it" in refused.stderr


def test_what_a_discovery_pushes_off_the_hull_competes_with_it():
    formulas = ["Mg", "O2", "MgO2", "Mg2O", "MgO3", "MgO"]
    e_form, rounds, on_snapshots = [0, 0, -1.0, -0.2, -1.2, -5.0], [0, 0, 0, 0, 1, 1], [0, 0, 0, 0.3, -0.45, -4.25]
    entries = entries_of([any_cell(formula) for formula in formulas], e_form, rounds, formulas)
    entries = entries.append_column("e_above_hull_snapshot", pa.array(on_snapshots, pa.float64()))
    above = dict(zip(formulas, entries["e_above_hull"].to_pylist(), strict=True))
    assert min(above["MgO2"], above["MgO3"], above["Mg2O"]) > 1, "all lie far above the hull that MgO made"
    near, decisive = _rivals(Hull.from_table(entries), entries, np.array([5]), 0.0)
    # MgO2 was on the snapshot's hull; MgO3, of a round, is what MgO would separate into, with magnesium.
    assert [f for f, is_near in zip(formulas, near, strict=True) if is_near] == ["Mg", "O2", "MgO2", "MgO3", "MgO"]
    assert near.tolist() == decisive.tolist()
    near, decisive = _rivals(Hull.from_table(entries), entries, np.array([5]), 0.3)
    assert near.all()
    assert not decisive.all()


def test_judges_beside_each_other_and_their_consensus(store, judged):
    opinions = confirmations(store, 2)
    assert [list(opinions), len(opinions)] == [[judge(store, name).name for name in JUDGES], 2]
    assert all(row["confirmed"] for row in judged["friendly"] if row["e_above_hull"] <= 0)
    assert any(row["confirmed"] for row in judged["friendly"])
    assert not any(row["confirmed"] for row in judged["hostile"])
    beside = beside_each_other(opinions)
    assert not any(beside["confirmed"].to_pylist()), "one of two says no"
    agreed = [row["id"] for row in judged["friendly"] if row["confirmed"]]
    assert len(disagreements(beside)) == len(agreed)


def test_the_certificate_and_show_read_it(store, judged):
    entries = measured_entries(store)
    asked = entries.filter(pc.is_valid(entries["confirmed_by"]))
    assert len(asked) == len(judged["friendly"])
    crystals = certify(entries).tables["crystals"]
    assert set(crystals["confirmed"].to_pylist()) == {False}
    shown = gnome("show", store.root, judged["friendly"][0]["id"]).stdout
    assert "confirmed by a second judge no  (ase:" in shown


def test_an_opinion_of_an_older_hull_counts_no_longer(store, judged):
    kept = load_analysis(store, name_of(judge(store, "hostile").name))
    keep_analysis(store, kept.analysis, 1)
    assert list(confirmations(store, 2)) == [judge(store, "friendly").name]
    keep_analysis(store, kept.analysis, 2)


def test_the_stores_own_evaluator_is_no_second_opinion(store):
    with pytest.raises(UserError, match=r"--by embedded: the store's own energies are on .*another's"):
        plan(store, Judge.of("embedded", load_round_config(store, 2)), None, 0.0, WINDOW)
    with pytest.raises(UserError, match="--by nobody: no evaluator 'nobody'"):
        plan(store, Judge.of("nobody", load_round_config(store, 2)), None, 0.0, WINDOW)


def test_a_round_asks_whom_its_settings_name(store, initialised, capsys):
    path = Path(store.root).parent / "friendly.py"
    confirm = ConfirmConfig(by=f"ase:{path}:calculator", top=1, window=0.0)
    _second_opinion(store, load_round_config(store, 2).model_copy(update={"confirm": confirm}), [])
    said = capsys.readouterr().out
    assert f"competing phases by {confirm.by}, on " in said  # and those that were asked about before
    assert confirm.by in confirmations(store, 2)
    before = Store(str(initialised))
    _second_opinion(before, load_round_config(before, 0).model_copy(update={"confirm": confirm}), [])
    assert "no round has found a crystal within 0 eV/atom of the newest hull" in capsys.readouterr().err


def test_by_jobs_of_a_first_principles_engine(two_rounds, tmp_path, monkeypatch, standin: Standin):  # noqa: F811
    path = tmp_path / "store"
    shutil.copytree(two_rounds, path)
    config = tmp_path / "vasp.toml"
    config.write_text(
        f'[dft]\nworkers = 2\n[dft.vasp]\ncommand = "{standin.executable}"\n'
        f'gamma_command = "{standin.executable}"\npolling = 0.05\n'
    )
    opened = Store(str(path))
    vasp = Judge.of("vasp", load_config(str(config)))
    for name, value in standin.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(standin.potcars))
    asked = plan(opened, vasp, 1, 0.0, 0.0)
    evaluate(opened, asked, [], run_jobs=False)
    folders = JobFolders(path / "jobs" / "vasp")
    assert {folders[id_].state for id_ in folders.ids()} == {State.EMITTED}
    assert outcome(opened, asked).tables["crystals"]["why"].to_pylist() == ["pending"]
    command = ("confirm", str(path), "--by", "vasp", "--top", "1", "--window", "0", "--config", str(config))
    done = gnome_process(*command, **standin.environment)
    assert "WARNING" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert "times two atoms of silicon" in done.stdout
    assert {folders[id_].state for id_ in folders.ids()} == {State.CONVERGED}
    began = sorted(folders.ids(), key=lambda id_: (folders[id_].attempts[0].folder / "claim.json").stat().st_mtime_ns)
    costs = dft_cost(atom_counts([engine_jobs(opened, "vasp").asked(id_).crystal.numbers for id_ in began]))
    assert costs[0] == costs.max() > costs[-1], "the dearest first"
    assert "without an answer                                       0" in done.stdout
    assert "confirmed by vasp, beside" in done.stdout
    assert 'id="analysis-confirm-vasp"' in (path / "report.html").read_text()
    assert price(opened, asked).before == len(set(asked.jobs))
