"""The cascade against the plain ensemble."""

import numpy as np
import pytest

from gnome_core.compositions.dense import atom_counts
from gnome_core.compositions.known import composition_hashes
from gnome_core.crystals.crystal import Crystal
from gnome_core.ensembles import ensemble as ensemble_module
from gnome_core.ensembles.config import CascadeConfig
from gnome_core.ensembles.ensemble import EnsembleModel
from gnome_core.ensembles.screening import screen
from gnome_core.graphs.featurize import BadCrystal
from tests.gnome_core.ensembles.test_ensemble import random_crystal, write_member

CRYSTALS = [random_crystal(seed, 1 + seed % 7) for seed in range(60)]
CONFIG = CascadeConfig(pilot_margin=None, first_margin=0.1, second_members=3, second_margin=0.02)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    return EnsembleModel.load([write_member(folder / f"{k}.npz", k) for k in range(5)])


@pytest.fixture(scope="module")
def alone(model):
    """(n, 5) energies of every member at the crystals' own volume."""
    return model.predict(CRYSTALS, (1.0,)).member_energies


def test_levels_are_those_of_the_definition(model, alone, monkeypatch):
    monkeypatch.setattr(ensemble_module, "CHUNK", 7)
    e_hull = alone[:, 0] - np.linspace(-0.3, 0.5, 60)  # candidates from far below to far above
    found = screen(model, CRYSTALS, e_hull, 0.05, CONFIG)
    second = alone[:, 0] - e_hull <= 0.05 + 0.1
    assert 0 < second.sum() < 60
    assert (found.evaluations == np.where(second, 3, 1)).all()
    median = np.where(second, np.median(alone[:, :3], axis=1), alone[:, 0])
    np.testing.assert_allclose(found.median, median, atol=1e-5)
    np.testing.assert_allclose(
        found.iqr[second], np.subtract(*np.percentile(alone[second, :3], (75, 25), axis=1)), atol=1e-5
    )
    assert (found.iqr[~second] == 0).all()
    assert (found.passed == (second & (median - e_hull <= 0.05 + 0.02))).all()


def test_wide_margins_lose_nothing(model, alone):
    e_hull = alone.mean(axis=1) - 0.04
    careful = CascadeConfig(pilot_margin=None, first_margin=100.0, second_members=5, second_margin=100.0)
    found = screen(model, CRYSTALS, e_hull, 0.05, careful)
    assert found.passed.all()
    np.testing.assert_allclose(found.median, np.median(alone, axis=1), atol=1e-5)


def test_a_composition_far_above_the_hull_costs_nothing(model, alone):
    e_hull = np.full(60, 0.0)
    e_composition = np.where(np.arange(60) % 2, 1.0, -10.0)
    bounded = CONFIG.model_copy(update={"composition_margin": 0.2})
    found = screen(model, CRYSTALS, e_hull, 0.05, bounded, e_composition)
    odd = np.arange(60) % 2 == 1
    assert (found.evaluations[odd] == 0).all()
    assert (found.median[odd] == 1.0).all()
    assert not found.passed[odd].any()
    plain = screen(model, CRYSTALS, e_hull, 0.05, CONFIG)
    assert (found.passed[~odd] == plain.passed[~odd]).all()


def test_one_structure_of_a_composition_speaks_for_the_others(model):
    """Three cells of each composition: the first one's energy decides whether the other two are looked at."""
    crystals = [crystal.scaled_to_volume(crystal.volume * f) for f in (1.0, 1.2, 1.4) for crystal in CRYSTALS[:20]]
    crystals[20] = Crystal(  # twice the cell is the same composition
        crystals[20].lattice * [[2], [1], [1]],
        np.concatenate([(crystals[20].frac_coords + shift) / [2, 1, 1] for shift in ([0, 0, 0], [1, 0, 0])]),
        np.tile(crystals[20].numbers, 2),
    )
    hashes = composition_hashes(atom_counts([crystal.numbers for crystal in crystals]))
    _, first, of_row = np.unique(hashes, return_index=True, return_inverse=True)
    assert len(first) <= 20
    energies = model.predict(crystals, (1.0,)).member_energies[:, 0]
    e_hull = energies[first][of_row] - np.linspace(-0.3, 0.5, len(first))[of_row]
    piloted = CONFIG.model_copy(update={"pilot_margin": 0.15})
    found, plain = (screen(model, crystals, e_hull, 0.05, config) for config in (piloted, CONFIG))
    spoken_for = ~np.isin(np.arange(60), first) & (energies[first][of_row] > e_hull + 0.05 + 0.15)
    assert 0 < spoken_for.sum() < 40
    assert (found.evaluations[spoken_for] == 0).all()
    assert not found.passed[spoken_for].any()
    np.testing.assert_allclose(found.median[spoken_for], energies[first][of_row][spoken_for], atol=1e-5)
    for mine, theirs in ((found.median, plain.median), (found.passed, plain.passed), (found.iqr, plain.iqr)):
        np.testing.assert_allclose(mine[~spoken_for], theirs[~spoken_for], atol=1e-5)
    bounded = piloted.model_copy(update={"composition_margin": 0.0})
    never = screen(model, crystals, e_hull, 0.05, bounded, np.full(60, 100.0))
    assert (never.evaluations == 0).all()
    assert (never.median == 100.0).all()


def test_a_few_members_look_at_the_lowest_alone(model, alone, monkeypatch):
    monkeypatch.setattr(ensemble_module, "CHUNK", 7)
    above = np.random.default_rng(0).permutation(np.linspace(-0.3, 0.3, 60))
    e_hull = alone[:, 0] - above
    found, all_ = (screen(model, CRYSTALS, e_hull, 0.05, CONFIG, second_looks=n) for n in (9, None))
    looked = found.evaluations == 3
    assert set(np.flatnonzero(looked)) == set(np.argsort(above)[:9])
    np.testing.assert_allclose(found.median[looked], all_.median[looked], atol=1e-5)
    np.testing.assert_allclose(found.median[~looked], alone[~looked, 0], atol=1e-5)
    assert (found.iqr[~looked] == 0).all()
    assert (found.passed[~looked] == (above[~looked] <= 0.05 + 0.1)).all()
    assert found.passed[~looked].any()


def test_bad_crystals_are_named_by_their_index_and_nothing_is_nothing(model, monkeypatch):
    monkeypatch.setattr(ensemble_module, "CHUNK", 7)
    spoiled = [*CRYSTALS[:9], Crystal(np.eye(3) * 5, [[np.nan, 0, 0]], [3])]
    with pytest.raises(BadCrystal) as caught:
        screen(model, spoiled, np.zeros(10), 0.05, CONFIG)
    assert caught.value.index == 9
    assert screen(model, [], np.zeros(0), 0.05, CONFIG).passed.shape == (0,)
