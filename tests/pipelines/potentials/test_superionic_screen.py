"""Who is a candidate for a superionic conductor, what its runs say, and the page about them."""

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnome_core.crystals.arrow import CRYSTAL_FIELDS, record_batch
from gnome_core.models.config import NequIPConfig
from gnome_core.potentials.by_name import shipped_path
from gnome_core.potentials.frames import frames_without_stress
from gnome_core.potentials.md_config import MDConfig
from gnome_core.training.potential.config import PotentialTrainingConfig
from gnome_core.training.potential.loop import train_potential
from pipelines.beam.runners import runner_flags
from pipelines.potentials import superionic_screen as screen
from pipelines.potentials.conductivity import CONDUCTIVITY_SCHEMA, MDTask, RunMD, run_tasks
from pipelines.reading.gaps import read_gaps
from tests.gnome_core.analysis.samples import with_band_gaps
from tests.gnome_core.potentials.samples import ROCKSALT

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def entries() -> pa.Table:
    rows = [
        ("a", "Li2S", "Li-S", True, 0),
        ("b", "LiCu", "Cu-Li", True, 1),  # a metal
        ("c", "MgO", "Mg-O", False, 0),  # above the hull
        ("d", "Li", "Li", True, 0),  # an element
        ("e", "AgI", "Ag-I", True, 0),  # another ion
        ("f", "CaF2", "Ca-F", True, 1),
        ("g", "NaPo", "Na-Po", True, 1),  # an element that the model of gaps never saw
    ]
    names = ("id", "formula", "chemsys", "on_hull", "round")
    table = pa.table({name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)})
    numbers = [[3, 3, 16], [3, 29], [12, 8], [3], [47, 53], [20, 9, 9], [11, 84]]
    table = table.append_column("numbers", pa.array(numbers, pa.list_(pa.uint8())))
    return with_band_gaps(table, {})


def test_candidates_are_stable_insulators_with_the_papers_ions(monkeypatch, tmp_path):
    monkeypatch.setattr(screen, "measured_entries", lambda _: entries())

    def found(*args):
        table = screen.candidates(None, *args)
        return list(zip(table["id"].to_pylist(), table["ion"].to_pylist(), strict=True))

    assert found(None) == [("a", "Li"), ("f", "Ca")]
    assert found(None, True) == [("f", "Ca")]
    (tmp_path / "gaps.csv").write_text("id,band_gap\na,0.9\nb,1.5\ne,3\n")
    # The table goes before the model, which knows the rest.
    assert found(read_gaps(tmp_path / "gaps.csv")) == [("b", "Li"), ("f", "Ca")]
    by = screen.candidates(None, read_gaps(tmp_path / "gaps.csv"))["band_gap_by"].to_pylist()
    assert by == ["the given table", "gap model"]


def row(**values) -> dict:
    base = dict.fromkeys(CONDUCTIVITY_SCHEMA.names) | {"id": "a", "ion": "Li", "trajectory": "x.parquet"}
    return base | {"temperature": 1000.0, "conductivity": 100.0, "diffusivity": 1e-5, "framework_msd": 0.3} | values


def test_verdicts_follow_the_threshold_and_never_hide_a_run_that_went_wrong():
    assert screen.verdict(row()) == "superionic"
    assert screen.verdict(row(conductivity=15.0)) == "not superionic"
    assert screen.verdict(row(framework_msd=40.0)) == "melted"
    assert screen.verdict(row(stopped="exploded at 3 ps")) == "uncertain: exploded at 3 ps"
    assert screen.verdict(row(conductivity=None, stopped="run longer")) == "no answer: run longer"


def test_the_page_holds_the_table_and_both_plots(tmp_path):
    lags = {"lags": [1.0, 2.0, 3.0], "msd": [1.0, 2.1, 2.9]}
    rows = [
        row(**lags),
        row(temperature=800.0, conductivity=30.0, **lags),
        row(id="b<", conductivity=None, stopped="x"),
    ]
    results = pa.Table.from_pylist(rows, schema=CONDUCTIVITY_SCHEMA)
    screen.write_page(results, {"a": "Li2S", "b<": "CaF2"}, tmp_path / "screen.html", "A note & more")
    text = (tmp_path / "screen.html").read_text()
    assert "A note &amp; more" in text
    assert "<td>superionic</td>" in text
    assert "no answer: x" in text
    assert "b&lt;" in text
    assert "Li2S: 0." in text  # the activation energy of the fit
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", text.split("</head>")[1])
    assert text.startswith("<!DOCTYPE html>")


def test_materials_run_in_a_pipeline_and_are_not_run_twice(tmp_path, monkeypatch):
    import numpy as np

    from gnome_core.potentials import md

    frames = frames_without_stress([ROCKSALT], np.array([-6.0]), [np.zeros((2, 3))], "still")
    model = NequIPConfig(layers=1, hidden_irreps="4x0e", edge_irreps="0e", cutoff=4.0, elements=(11, 17))
    training = PotentialTrainingConfig(epochs=1, batch_size=1)
    path = train_potential(frames, np.ones(1, bool), seed=0, out_dir=tmp_path, model=model, training=training).path
    config = MDConfig(ramp=0.0, duration=0.1, start_temperature=20.0)
    salt = record_batch(pa.schema(CRYSTAL_FIELDS), ["salt"], [ROCKSALT])
    tasks = [MDTask(salt, "Na", kelvin, seed=0) for kelvin in (20.0, 30.0)]
    found = run_tasks(tasks, str(tmp_path / "out"), path, config, 0.0, runner_flags([]))
    assert found["temperature"].to_pylist() == [20.0, 30.0]
    assert all("run longer" in reason for reason in found["stopped"].to_pylist())

    def never(*_, **__):
        raise AssertionError("run again")

    monkeypatch.setattr(md, "run_md", never)
    again = run_tasks(tasks, str(tmp_path / "out"), path, config, 0.0, runner_flags([]))
    assert again.equals(found)
    assert not list((tmp_path / "out").rglob("*.npz")), "what ended leaves no checkpoint"


def test_a_screening_reuses_what_it_would_make_and_nothing_else(tmp_path, monkeypatch):
    """Another potential under the same record, another seed, crystal, setting, temperature: none is answered by what
    lies there. The runs themselves are stood in for: frames drawn by what a run is made of."""
    import numpy as np

    from gnome_core.potentials import md

    made = []

    def drawn(crystal, potential, config, seed, checkpoint):
        digest = md.run_digest(crystal, potential, config, seed)
        made.append(digest)
        positions = np.random.default_rng(int(digest, 16)).normal(size=(11, crystal.n_sites, 3))
        flat = np.zeros(11)
        return md.Trajectory(crystal, positions, np.arange(11) / 100, flat, flat, None, config, potential.scale, digest)

    monkeypatch.setattr(md, "run_md", drawn)
    source = Path(shipped_path("pretrained"))
    arrays = dict(np.load(source))
    np.savez(tmp_path / "other.npz", **{name: 1.01 * value for name, value in arrays.items()})
    shutil.copy(source.with_suffix(".json"), tmp_path / "other.json")
    settings = MDConfig(ramp=0.0, duration=0.1)

    def positions(task, potential=str(source), config=settings, out="mixed"):
        (batch,) = RunMD(str(tmp_path / out), potential, config, 0.0).process(task)
        return pq.read_table(batch["trajectory"][0].as_py())["positions"]

    def task(crystal, temperature, seed=0):
        return MDTask(record_batch(pa.schema(CRYSTAL_FIELDS), ["salt"], [crystal]), "Na", temperature, seed)

    salt = task(ROCKSALT, 20.0)
    first = positions(salt)
    assert positions(salt).equals(first)
    assert len(made) == 1
    squeezed = ROCKSALT.scaled_to_volume(0.98 * ROCKSALT.volume)
    changes = [
        {"task": salt, "potential": str(tmp_path / "other.npz")},
        {"task": task(ROCKSALT, 20.0, seed=7)},
        {"task": task(squeezed, 20.0)},
        {"task": salt, "config": settings.model_copy(update={"timestep": 1.0})},
        {"task": task(ROCKSALT, 20.3)},
    ]
    for number, change in enumerate(changes):
        mixed, fresh = positions(**change), positions(**change, out=f"fresh{number}")
        assert mixed.equals(fresh), change
        assert not mixed.equals(first), change
    assert len(set(made)) == 1 + len(changes)
    n = len(made)
    positions(**changes[-1])
    assert len(made) == n
    for path in (tmp_path / "mixed").rglob("*-20.3K.parquet"):
        path.write_bytes(path.read_bytes()[:100])  # as a kill leaves it
    assert positions(**changes[-1]).equals(mixed)
    assert len(made) == n + 1


def test_ids_that_are_no_names_of_files_stay_in_the_folder(tmp_path):
    from pipelines.potentials.conductivity import _file_name

    names = [_file_name(id_) for id_ in ("r0001-ab12", "../up", "a/b", "a_b", ".hidden", "LiF[relaxed]", "x" * 300)]
    assert names[0] == "r0001-ab12"
    assert len(set(names)) == len(names)
    assert all(Path(name).name == name and not name.startswith(".") and len(name) < 120 for name in names)
