"""A round whose candidates come from files, and are scored by the model of a package."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from ase.io import write

from gnome_core.crystals.arrow import crystals_from_batch
from gnome_core.crystals.convert import to_atoms
from gnome_core.ensembles.plugins import WrongModel
from pipelines.beam.dead_letters import DEAD_SCHEMA
from pipelines.cli.config import round_config
from pipelines.errors import UserError
from pipelines.reading.entries import recipes_of_jobs
from pipelines.reading.schemas import PROPOSAL_SCHEMA, SCORED_SCHEMA
from pipelines.report.collect import collect
from pipelines.report.page import render
from pipelines.rounds import driver
from pipelines.rounds.config import load_round_config, parse_config
from pipelines.rounds.plan import stages_of
from pipelines.rounds.verify import verify


def bcc(a: float, *symbols: str) -> Atoms:
    return Atoms(symbols, scaled_positions=[[0, 0, 0], [0.5] * 3], cell=a * np.eye(3), pbc=True)


def settings(tiny, tmp_path, known):
    document = round_config(tiny / "round.toml", snapshots=[str(tiny / "snapshot.parquet")]).document()
    document["generation"] |= {"generators": [f"file:{tmp_path}/candidates.extxyz"], "known": known}
    document["scoring"]["model"] = "pauling"
    document["selection"] |= {"threshold": 3.0, "per_formula": 3}
    return parse_config(document, "test")


@pytest.fixture
def store(tiny, tmp_path, pauling):
    """After round 0, with candidates beside it."""
    known = next(iter(crystals_from_batch(pq.read_table(tiny / "snapshot.parquet").slice(2, 1))))
    cells = ((3.4, "Li", "Mg"), (3.3, "Li", "Cu"), (3.3, "Li", "Cu"), (0.5, "Li", "Cu"), (3.2, "Mg", "Cu"))
    crystals = [*(bcc(*cell) for cell in cells), to_atoms(known), bcc(3.6, "Mg", "Po")]
    write(tmp_path / "candidates.extxyz", crystals, format="extxyz")
    store = driver.init_store(str(tmp_path / "store"), settings(tiny, tmp_path, "snapshot"))
    list(driver.run_stages(store, 0, stages_of(0)))
    return store


def test_a_round_takes_candidates_of_a_file_and_scores_them_by_a_package(store, tmp_path):
    assert store.commit(0, "train").counts.n_in == 0, "no ensemble is trained that nobody asks"
    round_ = driver.start_round(store, None)
    assert load_round_config(store, round_).scoring.model_identity == "pauling 1"
    list(driver.run_stages(store, round_, stages_of(round_)))
    generated = store.commit(round_, "generate")
    assert generated.counts.n_in == 7
    assert generated.counts.dead == {"bad_lattice": 1}
    assert generated.counts.rejected == {"known_formula": 3, "duplicate": 1}, "LiMg, Li3Mg and MgCu are the snapshot's"
    (letter,) = store.read_table(generated, "dead", DEAD_SCHEMA).to_pylist()
    assert (letter["stage"], letter["key"]) == ("generate", "candidates-3")
    assert "candidates.extxyz, configuration 3" in letter["message"]
    assert store.commit(round_, "score").counts.rejected == {"missing_reference": 1}
    (scored,) = store.read_table(store.commit(round_, "score"), "scored", SCORED_SCHEMA).to_pylist()
    assert scored["formula"] == "LiCu"
    assert scored["median"] == pytest.approx(-0.25 * (1.90 - 0.98) ** 2)
    assert scored["iqr"] == pytest.approx(0.5 * abs(scored["median"]))
    (job,) = store.read_table(store.commit(round_, "emit"), "jobs", PROPOSAL_SCHEMA).to_pylist()
    assert np.reshape(job["lattice"], (3, 3)) == pytest.approx(3.3 * np.eye(3))
    made = recipes_of_jobs(store, round_, [job["id"]])[job["id"]]
    assert str(made) == f"file: {tmp_path}/candidates.extxyz, candidates-1"
    for stage in stages_of(round_):
        counts = store.commit(round_, stage).counts
        assert counts.n_in == counts.n_out + counts.n_rejected + counts.n_dead
    assert list(verify(store)) == []
    assert store.commit(round_, "evaluate").counts.n_in == 1
    data = collect(store)
    assert data.members == ()
    assert "Predicted against evaluated" in render(data), "the report does without members"


def test_a_round_goes_on_with_the_model_it_started_with_and_no_other(store, pauling, monkeypatch):
    round_ = driver.start_round(store, None)
    list(driver.run_stages(store, round_, ["generate"]))
    monkeypatch.setattr(pauling.Pauling, "identity", "pauling 2")
    with pytest.raises(WrongModel, match="pauling is 'pauling 2' now, and was 'pauling 1' when the round started"):
        list(driver.run_stages(store, round_, ["score"]))
    with pytest.raises(UserError, match="round 1 is open, with other settings"):
        driver.open_or_start_round(store, load_round_config(store, round_))


def test_what_does_not_go_together_is_refused_before_a_round_starts(store, pauling, tiny, tmp_path, monkeypatch):
    own = load_round_config(store, 0)
    monkeypatch.setattr(pauling.Pauling, "scale", "pbe")
    with pytest.raises(UserError, match=r"pauling predicts on pbe, and evaluation\.evaluator computes on nequix-oam-1"):
        driver.start_round(store, own)
    monkeypatch.setattr(pauling.Pauling, "scale", None)
    ensemble = own.model_copy(update={"scoring": own.scoring.model_copy(update={"model": "ensemble"})})
    with pytest.raises(UserError, match=r"trained no structural members, for its framework, or its scoring\.model,"):
        driver.start_round(store, ensemble)
    gone = own.generation.model_copy(update={"generators": ("file:gone.parquet",)})
    with pytest.raises(UserError, match=r"generation.generators: there is no .*gone.parquet"):
        driver.start_round(store, own.model_copy(update={"generation": gone}))
    unnamed = own.generation.model_copy(update={"generators": ("file",)})
    with pytest.raises(UserError, match=r"'file' is not installed; there is: .*file:NAME"):
        driver.start_round(store, own.model_copy(update={"generation": unnamed}))
    document = own.document() | {"framework": "compositional"}
    with pytest.raises(UserError, match=r"scoring.model = pauling scores crystals, and framework = compositional has"):
        parse_config(document, "test")
