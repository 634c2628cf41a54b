import jax
import numpy as np
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.ensembles import ensemble as ensemble_module
from gnome_core.ensembles.ensemble import VOLUME_FACTORS, EnsembleModel
from gnome_core.graphs.batching import LADDER, batches
from gnome_core.graphs.featurize import BadCrystal, compositional_graphs, structural_graphs
from gnome_core.models.config import CompositionalConfig, StructuralConfig
from gnome_core.models.members import BadMember, MemberRecord, load_member, save_member

CONFIG = StructuralConfig(width=8, steps=2)


def random_crystal(seed: int, n_atoms: int = 4) -> Crystal:
    rng = np.random.default_rng(seed)
    lattice = np.eye(3) * (15.0 * n_atoms) ** (1 / 3) + rng.normal(size=(3, 3)) * 0.3
    return Crystal(lattice, rng.random((n_atoms, 3)), rng.integers(1, 95, n_atoms))


def write_member(path, member: int, config: StructuralConfig = CONFIG, spoil: float | None = None):
    record = MemberRecord(
        model="structural",
        config=config.model_dump(),
        member=member,
        seed=0,
        elements=[1, 2, 3 + member],
        shift=-1.0,
        scale=1.0,
        mean_adjacency=15.0,
        n_train=1,
        n_val=0,
        train_mae=0.0,
        val_mae=None,
        epochs=0,
        training={},
    )
    _, one = next(batches(structural_graphs([random_crystal(0)]), np.zeros(1, int), np.ones(1)))
    params = jax.jit(record.network().init)(jax.random.key(member), one)["params"]
    if spoil is not None:
        params["readout"]["bias"] = np.array([spoil], np.float32)
    statistics = {name: np.float32(getattr(record, name)) for name in ("shift", "scale", "mean_adjacency")}
    save_member(path, {"params": params, "statistics": statistics}, record)
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    return [write_member(folder / f"{k}.npz", k) for k in range(3)]


@pytest.fixture(scope="module")
def model(paths):
    return EnsembleModel.load(paths)


CRYSTALS = [random_crystal(s, 1 + s % 7) for s in range(25)] + [Crystal(np.eye(3) * 9, [[0, 0, 0]], [2])]


def test_members_that_predict_something_else_are_refused(tmp_path):
    path = write_member(tmp_path / "m.npz", 0)
    variables, record = load_member(path)
    save_member(path, variables, record.model_copy(update={"target": "band_gap"}))
    with pytest.raises(BadMember, match=r"m\.npz predicts band_gap, not e_form_per_atom"):
        EnsembleModel.load([path])
    assert EnsembleModel.load([path], target="band_gap").n_members == 1


def test_prediction_is_the_minimum_over_volumes_and_the_median_over_members(model, paths):
    whole = model.predict(CRYSTALS)
    singles = np.empty((len(CRYSTALS), 3, 20))
    for m, path in enumerate(paths):
        variables, record = load_member(path)
        apply = jax.jit(record.network().apply)
        for v, factor in enumerate(VOLUME_FACTORS):
            scaled = structural_graphs([c.scaled_to_volume(c.volume * factor) for c in CRYSTALS])
            for items, batch in batches(scaled, np.arange(len(CRYSTALS)), np.ones(len(CRYSTALS))):
                singles[items, m, v] = np.asarray(apply(variables, batch))[: items.stop - items.start]
    np.testing.assert_allclose(whole.member_energies, singles.min(2), atol=1e-5)
    np.testing.assert_allclose(whole.median, np.median(singles.min(2), axis=1), atol=1e-5)
    low, high = np.percentile(singles.min(2), (25, 75), axis=1)
    np.testing.assert_allclose(whole.iqr, high - low, atol=1e-5)
    assert set(whole.best_volume_factor) <= set(VOLUME_FACTORS)
    assert len(set(whole.best_volume_factor[:-1])) > 1
    assert model.elements == {1, 2}


def test_batch_equals_one_by_one_in_order_and_across_chunks(model, monkeypatch):
    whole = model.predict(CRYSTALS)
    alone = np.concatenate([model.predict([c]).member_energies for c in CRYSTALS])
    np.testing.assert_allclose(whole.member_energies, alone, atol=1e-5)
    np.testing.assert_array_equal(whole.member_energies, model.predict(CRYSTALS).member_energies)
    monkeypatch.setattr(ensemble_module, "CHUNK", 4)
    np.testing.assert_allclose(model.predict(CRYSTALS).median, whole.median, atol=1e-5)


def test_compositions_in_order_one_by_one_and_bad_ones_by_index(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    compositions = np.zeros((30, 95), int)
    for row in compositions:
        row[rng.choice(np.arange(1, 95), int(rng.integers(1, 6)), replace=False)] = 1 + rng.integers(9)
    record = load_member(write_member(tmp_path / "structural.npz", 0))[1]
    config = CompositionalConfig(width=8, steps=2)
    record = record.model_copy(update={"model": "compositional", "config": config.model_dump()})
    _, one = next(batches(compositional_graphs(compositions[:1]), np.zeros(1, int), np.ones(1)))
    members = [jax.jit(record.network().init)(jax.random.key(k), one) for k in range(2)]
    model = EnsembleModel(members, [record, record])
    whole = model.predict_compositions(compositions)
    assert np.ptp(whole.median) > 0.1
    alone = np.concatenate([model.predict_compositions(row[None]).member_energies for row in compositions])
    np.testing.assert_allclose(whole.member_energies, alone, atol=1e-5)
    monkeypatch.setattr(ensemble_module, "CHUNK", 4)
    np.testing.assert_allclose(model.predict_compositions(compositions).median, whole.median, atol=1e-5)
    compositions[9] = 0
    with pytest.raises(BadCrystal) as caught:
        model.predict_compositions(compositions)
    assert caught.value.index == 9


def test_any_input_mix_is_traced_at_most_once_a_rung(paths):
    model = EnsembleModel.load(paths[:1])
    ensemble_module._energies.clear_cache()
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 40):
        crystals = [random_crystal(int(rng.integers(1e6)), int(rng.integers(1, 20))) for _ in range(n)]
        model.predict(crystals, VOLUME_FACTORS[: int(rng.integers(1, 20))])
    assert 1 < ensemble_module._energies._cache_size() <= len(LADDER) <= 8


def test_nothing_in_nothing_out(model):
    empty = model.predict([])
    assert empty.median.shape == empty.iqr.shape == (0,)
    assert empty.member_energies.shape == (0, 3)


@pytest.mark.parametrize("bad", [[[np.nan, 0, 0]], [[0, 0, np.inf]]])
def test_a_bad_crystal_is_named_by_its_index(model, bad, monkeypatch):
    monkeypatch.setattr(ensemble_module, "CHUNK", 4)
    spoiled = [*CRYSTALS[:9], Crystal(np.eye(3) * 5, bad, [3]), *CRYSTALS[9:]]
    with pytest.raises(BadCrystal) as caught:
        model.predict(spoiled)
    assert caught.value.index == 9


def test_bad_members_are_named(tmp_path, paths):
    spoiled = write_member(tmp_path / "nan.npz", 0, spoil=np.nan)
    with pytest.raises(BadMember, match=r"nan\.npz: params/readout/bias holds NaN"):
        EnsembleModel.load([spoiled])
    with pytest.raises(BadMember, match=r"absent\.npz"):
        EnsembleModel.load([tmp_path / "absent.npz"])
    (tmp_path / "cut.json").write_bytes(paths[0].with_suffix(".json").read_bytes())
    (tmp_path / "cut.npz").write_bytes(paths[0].read_bytes()[:500])
    with pytest.raises(BadMember, match=r"cut\.npz"):
        EnsembleModel.load([tmp_path / "cut.npz"])
    wide = write_member(tmp_path / "wide.npz", 1, StructuralConfig(width=9, steps=2))
    with pytest.raises(BadMember, match="one configuration"):
        EnsembleModel.load([paths[0], wide])


def test_an_energy_that_overflows_is_the_crystals_error(tmp_path, paths):
    variables, record = load_member(paths[0])
    variables["params"]["readout"]["kernel"] = variables["params"]["readout"]["kernel"] * np.float32(1e38)
    variables["params"]["readout"]["bias"] = np.array([3e38], np.float32)
    variables["statistics"]["scale"] = np.float32(1e10)
    save_member(tmp_path / "huge.npz", variables, record)
    with pytest.raises(BadCrystal, match="not finite"):
        EnsembleModel.load([tmp_path / "huge.npz"]).predict(CRYSTALS[:2])
