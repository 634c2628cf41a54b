"""`gnome analyse` and `gnome replay` as a user runs them."""

import csv
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gnome_core.analysis import confirmation
from gnome_core.analysis.confirmation import Opinion
from gnome_core.analysis.credibility import STEPS
from gnome_core.analysis.result import Analysis
from pipelines.analyses import ANALYSES, FROM_STORE, Inputs, Options, run_analysis
from pipelines.errors import UserError
from pipelines.reading.analyses import keep_analysis, kept_analyses, load_analyses, load_analysis
from pipelines.reading.committed import references
from pipelines.reading.entries import measured_entries, newest_hull
from pipelines.rounds.verify import verify
from pipelines.store.store import Store
from tests.gnome_core.analysis.test_lithium import measurements
from tests.gnome_core.analysis.test_replay import labelled
from tests.pipelines.conftest import gnome


@pytest.fixture(scope="module")
def store(two_rounds, tmp_path_factory):
    path = tmp_path_factory.mktemp("analysed") / "store"
    shutil.copytree(two_rounds, path)
    return path


def test_everything_that_needs_the_store_alone(store, tmp_path):
    done = gnome("analyse", str(store), "all", "--export", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    kept, damaged = load_analyses(Store(str(store)), ANALYSES)
    assert damaged == []
    assert [stored.analysis.name for stored in kept] == list(FROM_STORE)
    assert {stored.round for stored in kept} == {2}
    page = (store / "report.html").read_text()
    assert page.index('<section id="discoveries"') < page.index('<section id="summary"')
    for stored in kept:
        analysis = stored.analysis
        # The certificate opens the page, with the discoveries.
        assert (f'id="analysis-{analysis.name}"' in page) == (analysis.name != "credibility")
        assert analysis.title in done.stdout
        for name, table in analysis.tables.items():
            with (tmp_path / "out" / f"{analysis.name}-{name}.csv").open(newline="") as file:
                assert len(list(csv.reader(file))) == len(table) + 1
    figures = json.loads(page.partition('id="figures">')[2].partition("</script>")[0])
    assert "analysis-growth-0" in figures
    assert "plotly" in (tmp_path / "out" / "growth.html").read_text()
    growth = next(stored.analysis for stored in kept if stored.analysis.name == "growth")
    on_hull = sum(measured_entries(Store(str(store)))["on_hull"].to_pylist())
    last = [row["stable"] for row in growth.tables["counts"].to_pylist() if row["round"] == 2]
    assert sum(last) == growth.summary["stable, round 2"] == on_hull


def test_show_gives_the_verdicts_of_the_certificate_and_a_user_may_spare_some(store):
    done = gnome("analyse", str(store), "credibility", "--without", "elements", "--without", "disorder")
    assert done.returncode == 0, done.stderr
    certificate = load_analysis(Store(str(store)), "credibility").analysis
    rows = certificate.tables["crystals"].to_pylist()
    assert len(rows) == certificate.summary["found on the hull"] > 0
    assert "elements" not in rows[0]
    shown = gnome("show", str(store), rows[0]["id"]).stdout
    for step in STEPS:
        answer = {True: "yes", False: "no", None: "not known"}
        if step.key in rows[0]:
            why = f"  ({rows[0][f'{step.key}_why']})" if rows[0][f"{step.key}_why"] else ""
            assert f"{step.title:<18} {answer[rows[0][step.key]]}{why}" in shown
        else:
            assert step.title in shown  # all of them, whatever an analysis left out
    assert "Left out: no ordering of a known solid solution." in (store / "report.html").read_text()
    refused = gnome("analyse", str(store), "credibility", "--without", "phonons")
    assert refused.returncode == 2
    assert "no step is called phonons" in refused.stderr


def test_a_damaged_analysis_is_named_and_left_out(two_rounds, tmp_path):
    path = tmp_path / "store"
    shutil.copytree(two_rounds, path)
    store = Store(str(path))
    keep_analysis(store, Analysis("growth", "Growth", {"old": pa.table({"n": [3]})}, {"z": 2, "a": None}, ()), 2)
    assert list(load_analysis(store, "growth").analysis.summary.items()) == [("z", 2), ("a", None)]
    for name in ("growth", "scaling", "displaced"):
        run_analysis(Inputs(store), name, Options())
    assert len(list((path / "analysis" / "growth").iterdir())) == 1, "of the old one nothing is left"
    assert kept_analyses(store) == ["displaced", "growth", "scaling"]
    assert list(verify(store)) == []
    summary, [rows] = path / "analysis" / "scaling.json", (path / "analysis" / "growth").iterdir()
    summary.write_text(summary.read_text().replace("round", "r0und", 1))
    rows.write_bytes(rows.read_bytes()[:-1])
    complaints = {complaint.path for complaint in verify(store)}
    assert complaints == {"analysis/scaling.json", f"analysis/growth/{rows.name}"}
    kept, damaged = load_analyses(Store(str(path), keep=False), ANALYSES)
    assert [stored.analysis.name for stored in kept] == ["displaced"]
    assert sorted(what.split(" ", 1)[0] for what in damaged) == sorted([str(rows), str(summary)])
    for command in ("round status", "report"):
        done = gnome(*command.split(), str(path))
        assert done.returncode == 0, done.stderr
        said = done.stdout + done.stderr
        assert f"{summary} has been changed" in said
        assert f"`gnome analyse {path} growth` makes it anew" in said
    page = (path / "report.html").read_text()
    assert 'id="analysis-displaced"' in page
    assert 'id="analysis-growth"' not in page
    assert "scaling is left out" in page


def test_novelty_against_a_table_and_against_the_store_itself(store, tmp_path):
    entries = measured_entries(Store(str(store)))
    pq.write_table(entries.slice(0, 3), tmp_path / "known.parquet")
    done = gnome("analyse", str(store), "novelty", "--against", str(tmp_path / "known.parquet"), "--all")
    assert done.returncode == 0, done.stderr
    itself = gnome("analyse", str(store), "novelty", "--against", str(store), "--all")
    assert itself.returncode == 0, itself.stderr
    novelty = load_analysis(Store(str(store)), "novelty").analysis
    assert novelty.summary["known structure"] == novelty.summary["crystals"] > 0


def test_r2scan_by_the_potential_where_no_results_are_given(store, tmp_path):
    opened = Store(str(store))
    with pytest.raises(UserError, match=r"`gnome confirm .* --by chgnet-r2scan` first"):
        run_analysis(Inputs(opened), "r2scan", Options())
    entries, round_ = measured_entries(opened), newest_hull(opened)[1]
    near = entries.filter(pc.less_equal(entries["e_above_hull"], 0.05))
    chosen = np.flatnonzero(pc.and_(pc.greater(near["round"], 0), near["on_hull"]).to_numpy())
    assert len(chosen)
    # What the judge says is the store's own energies, but of one discovery, which it puts far too high.
    energies = np.add(near["energy_per_atom"].to_numpy(), near["correction_per_atom"].to_numpy())
    energies[chosen[0]] += 5.0
    opinion = Opinion("chgnet-r2scan", references(str(store)), energies, ["done"] * len(near), [""] * len(near))
    keep_analysis(opened, confirmation.analyse(near, chosen, np.ones(len(near), bool), opinion), round_)
    analysis = run_analysis(Inputs(opened), "r2scan", Options())
    assert analysis.summary["stable crystals with results"] == len(chosen)
    assert analysis.summary["still stable"] == len(chosen) - 1
    assert "chgnet-r2scan, which learnt r2SCAN, and none of DFT" in analysis.notes[0]


def test_additions_of_a_table_and_of_another_store(store, tmp_path):
    entries = measured_entries(Store(str(store)))
    new = entries.filter(pc.greater(entries["round"], 0))
    pq.write_table(new.slice(0, 2), tmp_path / "later.parquet")
    done = gnome("analyse", str(store), "additions", "--against", str(tmp_path / "later.parquet"))
    assert done.returncode == 0, done.stderr
    kept = load_analysis(Store(str(store)), "additions").analysis
    snapshot = set(entries.filter(pc.equal(entries["round"], 0))["formula"].to_pylist())
    beyond = set(new.slice(0, 2)["formula"].to_pylist()) - snapshot
    assert kept.summary["of these found by the rounds"] == kept.summary["of these the same structure"] == len(beyond)
    itself = run_analysis(Inputs(Store(str(store))), "additions", Options(against=str(store)))
    assert itself.summary["their crystals"] == sum(entries["on_hull"].to_pylist())


def test_r2scan_results_and_band_gaps_from_tables(store, tmp_path):
    entries = measured_entries(Store(str(store)))
    results = entries.select(["id", "numbers", "e_form_per_atom"])
    results = results.append_column("scale", pa.array(["r2scan/vasp"] * len(results)))
    pq.write_table(results, tmp_path / "r2scan.parquet")
    done = gnome("analyse", str(store), "r2scan", "--results", str(tmp_path / "r2scan.parquet"), "--all")
    assert done.returncode == 0, done.stderr
    (tmp_path / "gaps.csv").write_text("formula,band_gap\nLiAl,0.0\n")
    (tmp_path / "cond.csv").write_text("")
    pq.write_table(measurements(120), tmp_path / "cond.parquet")
    fitted = gnome("fit-superionic", str(tmp_path / "cond.parquet"), "-o", str(tmp_path / "model.json"))
    assert fitted.returncode == 0, fitted.stderr
    assert "by family" in fitted.stdout
    options = ("--gaps", str(tmp_path / "gaps.csv"), "--classifier", str(tmp_path / "model.json"), "--all")
    done = gnome("analyse", str(store), "li-conductors", *options)
    assert done.returncode == 0, done.stderr
    assert "band gap above 1.0 eV" in done.stdout


def test_a_replay_can_be_interrupted_and_resumed(tmp_path):
    pq.write_table(labelled(200), tmp_path / "data.parquet")
    arguments = ("replay", str(tmp_path / "data.parquet"), "-o", str(tmp_path / "out"), "--rounds", "2", "--seeds")
    assert gnome(*arguments, "1", "--policies", "ours,random").returncode == 0
    journal = tmp_path / "out" / "campaigns.jsonl"
    first = journal.read_text()
    assert len(first.splitlines()) == 2
    journal.write_text(first + '{"digest": "cut sho')  # as by power cut
    again = gnome(*arguments, "2", "--policies", "ours,random")
    assert again.returncode == 0, again.stderr
    assert "times random" in again.stdout
    lines = journal.read_text()
    assert lines.startswith(first)
    whole = gnome("replay", *arguments[1:3], str(tmp_path / "fresh"), *arguments[4:], "2", "--policies", "ours,random")
    assert whole.stdout.splitlines()[:-1] == again.stdout.splitlines()[:-1]
    assert (tmp_path / "out" / "replay-curves.csv").read_text() == (
        tmp_path / "fresh" / "replay-curves.csv"
    ).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("analyse", "nowhere"), "nowhere is not a store"),
        (("analyse", "STORE", "experimental", "--cifs", "EMPTY"), "holds no .cif files"),
        (("analyse", "STORE", "r2scan", "--results", "none.parquet"), "none.parquet: no such file"),
        (("analyse", "STORE", "li-conductors", "--classifier", "none.json"), "none.json is no superionic model"),
        (("replay", "none.parquet"), "none.parquet: no such file"),
        (("replay", "none.parquet", "--policies", "best"), "--policies"),
        (("fit-superionic", "none.parquet"), "none.parquet: no such file"),
    ],
)
def test_mistakes_are_one_line(arguments, message, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    result = gnome(*(str(store) if a == "STORE" else a for a in arguments))
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
