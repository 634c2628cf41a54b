"""The embedded evaluator and the choice of one by name."""

import json

import numpy as np
import pytest

from dft.evaluators.make import make_evaluator
from dft.tables import frame_batch, protocol_json, result_batch
from gnome_core.crystals.crystal import Crystal
from gnome_core.crystals.readers import SCALE
from gnome_core.potentials.relax import Relaxation, RelaxationFailure, RelaxConfig
from tests.gnome_core.potentials.samples import COPPER, ROCKSALT


def test_an_unknown_evaluator_is_refused_with_the_ones_there_are():
    with pytest.raises(ValueError, match="no evaluator 'gpaw'; there is: embedded, chgnet-distilled, "):
        make_evaluator("gpaw", RelaxConfig())


def test_failures_are_values_in_the_order_given():
    overlapping = Crystal(ROCKSALT.lattice, [[0.2, 0.2, 0.2], [0.2, 0.2, 0.2]], [11, 17])
    evaluator = make_evaluator("embedded", RelaxConfig(max_steps=40))
    failed, relaxed, other = evaluator.evaluate([overlapping, COPPER, ROCKSALT])
    assert isinstance(failed, RelaxationFailure)
    assert failed.reason == "not_finite"
    for outcome, start in ((relaxed, COPPER), (other, ROCKSALT)):
        assert isinstance(outcome, Relaxation)
        assert (outcome.crystal.numbers == start.numbers).all()


@pytest.mark.parametrize("name", ["embedded", "label:embedded", "potential:embedded"])
def test_what_the_embedded_potential_cannot_judge_fails_by_name(name):
    polonium = Crystal(3.36 * np.eye(3), [[0, 0, 0]], [84])
    vacuum = Crystal(20.0 * np.eye(3), [[0, 0, 0]], [14])
    finished = []
    outcomes = make_evaluator(name, RelaxConfig(max_steps=40)).evaluate([polonium, COPPER, vacuum], finished.append)
    assert sum(finished) == 3
    rows = result_batch(["a", "b", "c"], [polonium, COPPER, vacuum], outcomes, "s").to_pylist()
    assert [row["status"] for row in rows] == ["unknown_element", "done", "isolated_atom"]
    assert [row["energy_per_atom"] is None for row in rows] == [True, False, True]
    assert "not trained on Po" in rows[0]["message"]
    assert "Si, has no neighbour within 6 Å" in rows[2]["message"]
    assert len(frame_batch(["a", "b", "c"], outcomes, "s")) == len(outcomes[1].frames)


def test_every_setting_that_decides_the_answer_is_in_the_protocol():
    default, tighter = (make_evaluator("embedded", RelaxConfig(fmax=fmax)).protocol for fmax in (0.05, 0.01))
    assert protocol_json(default) != protocol_json(tighter)
    settings = json.loads(protocol_json(default))
    assert settings["scale"] == SCALE
    assert settings["relax"].keys() == RelaxConfig.model_fields.keys()


def test_chgnets_jobs_are_those_of_stores_from_when_embedded_stood_for_it():
    protocol = make_evaluator("chgnet", RelaxConfig()).protocol
    assert (protocol["evaluator"], protocol["scale"]) == ("embedded", "chgnet-0.3.0")
    assert protocol.keys() == {"evaluator", "scale", "optimizer", "relax"}


def test_an_installed_package_offers_an_evaluator(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from dft.evaluators.chgnet import CHGNetEvaluator\n\n\nclass Mine(CHGNetEvaluator):\n  scale = 'mine'\n"
    )
    package = tmp_path / "mine-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[gnome.evaluators]\nmine = mine:Mine\n")
    with pytest.raises(ValueError, match="no evaluator 'mine'"):
        make_evaluator("mine", RelaxConfig())
    monkeypatch.syspath_prepend(str(tmp_path))
    assert make_evaluator("mine", RelaxConfig(fmax=0.1)).protocol["scale"] == "mine"
    with pytest.raises(ValueError, match=r"there is: .*mine, potential:FILE"):
        make_evaluator("yours", RelaxConfig())
