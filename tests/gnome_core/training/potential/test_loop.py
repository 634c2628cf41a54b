"""Training on frames whose answers are known: it learns, resumes to the bit, fine-tunes and keeps its counts."""

from dataclasses import replace

import numpy as np
import pytest

from gnome_core.graphs.edges import EdgeBatch
from gnome_core.models.config import NequIPConfig
from gnome_core.potentials.distillation import with_hessian_rows
from gnome_core.potentials.files import BadPotential, load_potential
from gnome_core.potentials.frames import BadFrames, LabelledFrames, frames_from_table, split_groups, with_levels
from gnome_core.potentials.gradients import Prediction
from gnome_core.potentials.nequip_potential import TrainedPotential
from gnome_core.training.epochs import TrainingDiverged
from gnome_core.training.potential import loop
from gnome_core.training.potential.batches import FrameGraphs, Targets, epoch_order
from gnome_core.training.potential.config import PAPER_POTENTIAL, PAPER_ROBUSTNESS, PotentialTrainingConfig
from gnome_core.training.potential.loop import train_potential
from gnome_core.training.potential.losses import batch_loss, row_losses
from gnome_core.training.potential.networks import network_of, predict_compiled
from gnome_core.training.potential.shifts import explain_the_rest, fit_shifts, starting_shifts
from gnome_core.training.potential.step import rate_factor
from tests.gnome_core.potentials.pair_frames import ALONE, pair_frames
from tests.gnome_core.training.two_devices import run_on_two_devices

MODEL = NequIPConfig(layers=1, hidden_irreps="8x0e+4x1o", edge_irreps="0e+1o", cutoff=4.0, elements=(29, 47))
TRAINING = PotentialTrainingConfig(
    epochs=6, batch_size=4, learning_rate=2e-2, validate_every=2, checkpoint_every=7, stress_weight=1.0
)
LONG = TRAINING.model_copy(update={"epochs": 60, "checkpoint_every": 500})  # one takes as long as ten epochs

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.fixture(scope="module")
def frames():
    return pair_frames(48)


def train(frames, out_dir, training=TRAINING, **options):
    is_train = split_groups(frames.groups, 0.2, seed=1)
    return train_potential(
        frames, is_train, **({"seed": 3, "model": MODEL, "out_dir": out_dir} | options), training=training
    )


def arrays(path):
    with np.load(path) as file:
        return {name: file[name].tobytes() for name in file.files}


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def learnt(frames, tmp_path_factory):
    """A potential after enough epochs, and the rows of its progress."""
    rows = []
    return train(frames, tmp_path_factory.mktemp("learnt"), LONG, progress=rows.append), rows


@pytest.fixture(scope="module")
def whole(frames, tmp_path_factory):
    """A potential after a short training that nothing interrupts."""
    return train(frames, tmp_path_factory.mktemp("whole"))


def test_it_learns_energies_forces_and_stresses_of_crystals_it_never_saw(frames, learnt):
    result, rows = learnt
    assert rows == result.curve
    potential = TrainedPotential.load(result.path)
    unseen = pair_frames(12, seed=9)
    answers = potential.evaluate(unseen.crystals)
    energy = np.array([a.energy - e for a, e in zip(answers, unseen.energies, strict=True)]) / 4
    force = np.concatenate([a.forces - f for a, f in zip(answers, unseen.forces, strict=True)])
    stress = np.array([a.stress for a in answers]) - unseen.stresses
    spread = unseen.energies / 4 - unseen.energies.mean() / 4
    assert np.abs(energy).mean() < 0.1 * np.abs(spread).mean()
    assert np.abs(force).mean() < 0.25 * np.abs(np.concatenate(unseen.forces)).mean()
    assert np.abs(stress).mean() < 0.25 * np.abs(unseen.stresses).mean()
    assert potential.scale.startswith("pair/nequip-")
    assert potential.record.n_train + potential.record.n_val == len(frames)
    assert result.errors["force_mae"] == pytest.approx(1e3 * np.abs(force).mean(), rel=1.0)


@pytest.mark.parametrize("stop_at", [3, 4])
def test_an_interrupted_run_resumes_to_the_same_bits(frames, whole, tmp_path, stop_at):
    def stop(row):
        if row["epoch"] == stop_at:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(frames, tmp_path / "parts", progress=stop)
    seen = []
    parts = train(frames, tmp_path / "parts", progress=seen.append)
    # The newest checkpoint is within an epoch, whose loss counts the steps before it too.
    assert [row["epoch"] for row in seen] == list(range(stop_at, 7))
    assert arrays(parts.path) == arrays(whole.path)
    assert parts.curve == whole.curve


def test_fine_tuning_starts_from_the_weights_and_moves_to_the_new_energy_zero(learnt, tmp_path):
    pretrained, _ = learnt
    moved = replace(pair_frames(12, seed=5), scale="moved")
    moved.energies[:] += 4 * 7.0
    tuned = train(moved, tmp_path / "b", TRAINING.model_copy(update={"epochs": 1, "learning_rate": 1e-6}),
                  model=None, init_from=pretrained.path)  # fmt: skip
    size = 1e3 * np.sqrt(np.mean(np.square(moved.forces)))  # meV/Å
    assert tuned.errors["force_rmse"] < 0.3 * size  # one epoch at this rate teaches nothing: the weights knew it
    assert tuned.errors["energy_mae"] < 200  # of 7,000 meV/atom that the zero moved
    _, record = load_potential(tuned.path)
    assert record.init_from == pretrained.path
    _, before = load_potential(pretrained.path)
    slow = TRAINING.model_copy(update={"epochs": 1, "learning_rate": 1e-6})
    few = train(pair_frames(12, seed=5), tmp_path / "same", slow, model=None, init_from=pretrained.path)
    assert load_potential(few.path)[1].shifts == pytest.approx(before.shifts, abs=1e-4)  # on the scale they are of
    with pytest.raises(ValueError, match="same configuration"):
        train(moved, tmp_path / "c", init_from=pretrained.path, model=MODEL.model_copy(update={"layers": 2}))


def test_shifts_are_the_energies_of_isolated_atoms_where_these_explain_everything():
    frames = pair_frames(20)
    energies = np.array([sum(ALONE[int(z)] for z in c.numbers) for c in frames.crystals])
    shifts = fit_shifts(frames, energies)
    assert shifts[0, [29, 47]] == pytest.approx([-2.0, 3.0])
    assert np.isnan(shifts[0, 1])


def test_levels_of_theory_are_learnt_side_by_side_and_the_first_answers(frames, tmp_path):
    other = pair_frames(48, seed=7)
    softer = LabelledFrames(
        other.crystals, 0.5 * other.energies + 40, [0.5 * f for f in other.forces], 0.5 * other.stresses, other.first,
        other.groups, "softer",
    )  # fmt: skip
    both = with_levels([frames, softer])
    result = train(both, tmp_path, LONG, model=MODEL.model_copy(update={"levels": 2}))
    potential = TrainedPotential.load(result.path)
    unseen = pair_frames(12, seed=9)
    forces = np.concatenate([a.forces for a in potential.evaluate(unseen.crystals)])
    true = np.concatenate(unseen.forces)
    assert np.abs(forces - true).mean() < 0.25 * np.abs(true).mean()
    assert np.abs(forces - 0.5 * true).mean() > 0.3 * np.abs(true).mean()
    with pytest.raises(ValueError, match=r"set model.levels"):
        train(both, tmp_path)


def test_sources_on_one_energy_scale_are_one_level_of_theory():
    one, other = pair_frames(3), replace(pair_frames(2, seed=7), scale="softer")
    joined = with_levels([one, other, pair_frames(2, seed=8)])
    assert joined.level.tolist() == [0, 0, 0, 1, 1, 0, 0]
    assert joined.scale == one.scale
    assert len(set(joined.groups)) == 3  # groups of different sources are different ones


def test_hessian_rows_of_a_teacher_are_learnt(frames, learnt, tmp_path):
    teacher = TrainedPotential.load(learnt[0].path)
    few = with_hessian_rows(frames.take(np.arange(16)), teacher)
    unseen = with_hessian_rows(pair_frames(12, seed=9), teacher)

    def response_error(weight: float) -> float:
        training = LONG.model_copy(update={"epochs": 40, "hessian_weight": weight})
        result = train(few, tmp_path / str(weight), training, seed=11)
        student = with_hessian_rows(unseen, TrainedPotential.load(result.path))
        return float(np.abs(np.concatenate(student.responses) - np.concatenate(unseen.responses)).mean())

    assert response_error(0.3) < 0.8 * response_error(0.0)
    with pytest.raises(ValueError, match="no Hessian rows"):
        train(frames, tmp_path, TRAINING.model_copy(update={"hessian_weight": 1.0}))


def test_hessian_rows_tell_runs_apart(frames, tmp_path):
    """A run with other rows must not go on from this one's checkpoint."""
    few = frames.take(np.arange(8))
    rows = [np.ones_like(f) for f in few.forces]
    one, other = (replace(few, directions=rows, responses=[scale * r for r in rows]) for scale in (1.0, -1.0))
    training = TRAINING.model_copy(update={"epochs": 2, "checkpoint_every": 1, "hessian_weight": 1.0})

    def stop(row):
        raise Interrupted

    with pytest.raises(Interrupted):
        train(one, tmp_path / "shared", training, progress=stop)
    alone = train(other, tmp_path / "alone", training)
    assert arrays(train(other, tmp_path / "shared", training).path) == arrays(alone.path)


@pytest.mark.parametrize("n_train", [6, 8])
def test_a_training_that_diverges_is_an_error_with_a_name(frames, tmp_path, n_train):
    few, wild = frames.take(np.arange(8)), TRAINING.model_copy(update={"epochs": 2, "learning_rate": 1e30})
    with pytest.raises(TrainingDiverged, match=r"the train loss of epoch 1 is not finite; lower .*learning_rate"):
        train_potential(few, np.arange(8) < n_train, seed=3, model=MODEL, out_dir=tmp_path, training=wild)
    assert not list(tmp_path.glob("potential.*"))


@pytest.mark.parametrize(("n_train", "what"), [(8, "the loss of the trained potential"), (6, "the loss of epoch 1")])
def test_one_last_step_that_spoils_everything_is_no_success(frames, tmp_path, n_train, what):
    """The loss of a step is that before it: all frames in one batch, one epoch, and it looks well."""
    few = frames.take(np.arange(8))
    wild = TRAINING.model_copy(update={"epochs": 1, "learning_rate": 1e30, "batch_size": 8})
    with pytest.raises(TrainingDiverged, match=what):
        train_potential(few, np.arange(8) < n_train, seed=3, model=MODEL, out_dir=tmp_path, training=wild)
    assert not list(tmp_path.glob("potential.*"))


def test_a_plateau_is_judged_by_validations_only(frames, tmp_path, monkeypatch):
    few, seen = frames.take(np.arange(8)), []
    plateau = {"schedule": "plateau", "plateau_epochs": 1, "validate_every": 4, "epochs": 4}
    training = TRAINING.model_copy(update=plateau)
    real = loop.rate_factor
    monkeypatch.setattr(loop, "rate_factor", lambda *args: seen.append(args[2]) or real(*args))
    options = {"seed": 3, "model": MODEL, "out_dir": tmp_path, "training": training}
    train_potential(few, np.arange(8) < 6, **options)
    assert set(seen) == {0}  # drops: the first validation is after the last of these steps
    with pytest.raises(ValueError, match=r"no frame validates; set val_fraction"):
        train_potential(few, np.ones(8, bool), **options)


def test_a_level_of_theory_that_only_validates_has_no_energy_zero(frames, tmp_path):
    few = frames.take(np.arange(8))
    both = with_levels([few, replace(few.take(np.arange(2)), scale="other")])
    training, model = TRAINING.model_copy(update={"epochs": 1}), MODEL.model_copy(update={"levels": 2})
    options = {"seed": 3, "model": model, "out_dir": tmp_path, "training": training}
    is_train = (both.level == 0) & (np.arange(10) != 3)
    result = train_potential(both, is_train, **options)
    assert (result.n_train, result.n_val) == (7, 1)
    with pytest.raises(ValueError, match="no training frame of the first level"):
        train_potential(both, both.level == 1, **options)


def test_formation_energies_need_every_reference(frames, tmp_path):
    settings = TRAINING.model_copy(update={"shifts": "references", "epochs": 1})
    train(frames, tmp_path, settings, references={29: -2.0, 47: 3.0})
    for references in ({29: -2.0}, {29: -2.0, 47: np.nan}):
        with pytest.raises(ValueError, match=r"reference energy of atomic numbers \[47\]"):
            train(frames, tmp_path, settings, references=references)


def test_above_references_the_network_learns_formation_energies(frames, tmp_path):
    """Differences between elements stay those of the references, whatever least squares would make of them."""
    few = frames.take(np.arange(12))
    settings = TRAINING.model_copy(update={"shifts": "references", "epochs": 2})

    def difference(settings, **options) -> float:
        _, record = load_potential(train(few, tmp_path / str(options), settings, **options).path)
        return record.shifts[47] - record.shifts[29]

    assert difference(settings, references={29: -2.0, 47: 3.0, 8: -4.0}) == pytest.approx(5.0, abs=1e-9)
    assert difference(settings, references={29: -123.0, 47: 77.0}) == pytest.approx(200.0, abs=1e-9)
    assert abs(difference(TRAINING.model_copy(update={"epochs": 2})) - 5.0) > 1e-6  # least squares is not so


def test_the_constant_above_references_is_the_mean_formation_energy(frames):
    few = frames.take(np.arange(12))
    references, settings = {29: -2.5, 47: 3.25}, PotentialTrainingConfig(shifts="references")
    table = starting_shifts(few, 1, settings, references)
    formation = few.energies - [sum(references[int(z)] for z in c.numbers) for c in few.crystals]
    shifts = explain_the_rest(few, table, formation, settings)
    assert shifts[0, [29, 47]] == pytest.approx(np.array([-2.5, 3.25]) + np.mean(formation / 4))
    assert np.isnan(shifts[0, 8])


def test_the_papers_rates_fall_as_its_methods_say():
    """2e-3, then 2e-4 after 23 million steps, 5e-5 after 11 million more, for 2.43 million more."""
    million = np.array([0, 22.9, 23.1, 33.9, 34.1, 36.4])
    factors = [rate_factor(PAPER_POTENTIAL, steps / (23 + 11 + 2.43), 0) for steps in million]
    assert PAPER_POTENTIAL.learning_rate * np.array(factors) == pytest.approx([2e-3, 2e-3, 2e-4, 2e-4, 5e-5, 5e-5])
    robust = [PAPER_ROBUSTNESS.learning_rate * rate_factor(PAPER_ROBUSTNESS, 0.5, drops) for drops in range(3)]
    assert robust == pytest.approx([2e-3, 1.6e-3, 1.28e-3])


def test_one_factor_for_each_drop_or_one_for_all():
    assert rate_factor(PotentialTrainingConfig(schedule="steps", factor=0.5), 0.95, 0) == pytest.approx(0.25)
    for settings in ({"schedule": "steps", "factor": (0.1,)}, {"schedule": "plateau", "factor": (0.1, 0.25)}):
        with pytest.raises(ValueError, match="one for each of 2 drops"):
            PotentialTrainingConfig(**settings)


def test_the_papers_l2_is_its_loss_and_decays_no_weights():
    errors = np.array([[0.001, 0.0, 0.0], [3.0, -6.0, 0.0]], np.float32)
    assert PAPER_ROBUSTNESS.weight_decay == 0
    assert row_losses(PAPER_ROBUSTNESS, errors) == pytest.approx([5e-7 / 3, 7.5])
    huber = row_losses(PAPER_POTENTIAL, errors)  # 0.01 * (|error| - 0.005) beyond 0.01
    assert huber == pytest.approx([5e-7 / 3, 0.01 * (9 - 2 * 0.005) / 3], rel=1e-5)


def test_the_papers_loss_is_its_equation_by_hand():
    """Two crystals of one and of two atoms, and padding: Huber losses summed over atoms, averaged over crystals."""
    energy, forces = np.array([0.005, -0.03]), np.array([[0.002, 0, 0], [0.0, 0.5, 0], [0.008, 0, -0.2]])

    def huber(error):  # delta 0.01
        return np.where(np.abs(error) <= 0.01, error**2 / 2, 0.01 * (np.abs(error) - 0.005))

    by_hand = huber(energy).mean() + 0.05 * (huber(forces[:1]).sum() + huber(forces[1:]).sum()) / 2
    batch = EdgeBatch(*[None] * len(EdgeBatch._fields))._replace(
        graph=np.array([0, 1, 1, 2]), n_atoms=np.array([1.0, 2.0, 1.0])
    )
    atoms = np.array([0.005, -0.03, -0.03, 9.0])
    prediction = Prediction(atoms, np.vstack([forces, [[7.0, 7, 7]]]), np.zeros((3, 3, 3)))
    zero, real = np.zeros((4, 3)), np.array([1.0, 1, 1, 0])
    targets = Targets(
        energy=np.zeros(3),
        forces=zero,
        virial=np.zeros((3, 3, 3)),
        level=np.zeros(4, int),
        numbers=np.ones(4, int),
        direction=zero,
        response=zero,
        graph=np.array([1.0, 1, 0]),
        atom=real,
        virial_known=np.zeros(3),
    )
    assert float(batch_loss(PAPER_POTENTIAL, prediction, batch, targets)) == pytest.approx(by_hand, rel=1e-5)
    mean = PAPER_POTENTIAL.model_copy(update={"force_loss": "mean"})
    by_hand = huber(energy).mean() + 0.05 * huber(forces).mean()
    assert float(batch_loss(mean, prediction, batch, targets)) == pytest.approx(by_hand, rel=1e-5)


def test_the_papers_outputs_are_scaled_and_shifted_by_the_energies_per_atom(frames, tmp_path):
    few = frames.take(np.arange(12))
    references = {29: -2.5, 47: 3.25}
    training = TRAINING.model_copy(update={"epochs": 1, "shifts": "references", "scale": "energies"})
    result = train_potential(
        few, np.ones(12, bool), seed=3, model=MODEL, out_dir=tmp_path, training=training, references=references
    )
    variables, record = load_potential(result.path)
    formation = (few.energies - [sum(references[int(z)] for z in c.numbers) for c in few.crystals]) / 4
    assert variables["statistics"]["scale"] == pytest.approx(formation.std(), rel=1e-5)
    assert record.shifts[29] - references[29] == pytest.approx(formation.mean(), abs=1e-9)


def test_half_of_each_batch_are_first_frames_and_each_comes_about_as_often():
    first = np.array([0, 10, 20, 30])
    order = np.array(epoch_order(40, first, 0.5, 8, (0, 0)))
    assert len(order) == 40
    assert all(np.isin(batch[:4], first).all() for batch in order.reshape(5, 8))
    assert np.bincount(order[np.arange(40) % 8 < 4])[first].tolist() == [5, 5, 5, 5]
    assert sorted(epoch_order(40, first, 0.0, 8, (0, 0))) == list(range(40))
    assert epoch_order(40, first, 0.5, 8, (0, 1)) != order.tolist()


def test_every_frame_is_in_one_batch_with_its_own_labels(frames):
    data = FrameGraphs(frames, network_of(MODEL), fit_shifts(frames, frames.energies), batch_size=5)
    seen = []
    for batch, targets, rows in data.batches(range(len(frames))):
        seen += rows
        assert targets.graph.sum() == targets.virial_known.sum() == len(rows)
        assert targets.atom.sum() == data.n_atoms[rows].sum()
        np.testing.assert_allclose(targets.forces[:4], frames.forces[rows[0]], rtol=1e-6)
        assert targets.energy[0] == pytest.approx(data.energy[rows[0]])
        assert batch.numbers[:4].tolist() == frames.crystals[rows[0]].numbers.tolist()
        atoms = targets.atom > 0
        np.testing.assert_array_equal(targets.numbers[atoms], batch.numbers[: atoms.sum()])
    assert seen == list(range(len(frames)))


def test_groups_stay_together_in_a_split(frames):
    is_train = split_groups(frames.groups, 0.25, seed=0)
    assert 0 < (~is_train).sum() < len(frames) / 2
    assert not set(frames.groups[is_train]) & set(frames.groups[~is_train])


def test_frames_of_a_store_table_are_read_and_scales_are_not_mixed(frames):
    from dft.tables import frame_batch
    from gnome_core.potentials.relax import Frame, Relaxation

    def table(scale):
        outcome = Relaxation(
            [Frame(i, c, float(e), f, s) for i, (c, e, f, s) in enumerate(
                zip(frames.crystals[:3], frames.energies, frames.forces, frames.stresses, strict=False))],
            None,
        )  # fmt: skip
        return frame_batch(["job"], [outcome], scale)

    import pyarrow as pa

    read = frames_from_table(pa.Table.from_batches([table("pair")]))
    assert read.first.tolist() == [True, False, False]
    np.testing.assert_array_equal(read.forces[1], frames.forces[1])
    np.testing.assert_array_equal(read.stresses[2], frames.stresses[2])
    with pytest.raises(BadFrames, match="2 energy scales"):
        frames_from_table(pa.Table.from_batches([table("pair"), table("other")]))


def test_frames_with_nan_name_their_row(frames):
    frames = frames.take(np.arange(4))
    frames.energies[2] = np.nan
    with pytest.raises(BadFrames, match="frame 2"):
        frames.take(np.arange(4))


def test_broken_potential_files_are_one_clear_error(frames, tmp_path):
    with pytest.raises(BadPotential, match="gnome potential train"):
        load_potential(tmp_path / "missing.npz")
    result = train(frames, tmp_path, TRAINING.model_copy(update={"epochs": 1}))
    with np.load(result.path) as file:
        broken = dict(file)
    broken["params/frequencies"][0] = np.nan
    np.savez(result.path, **broken)
    with pytest.raises(BadPotential, match="params/frequencies holds NaN"):
        load_potential(result.path)


def test_two_devices_share_a_step(tmp_path):
    """Batches of eight frames of two sizes in two parts: on two devices and on one the same training to rounding."""
    run_on_two_devices(DEVICES, str(tmp_path))


DEVICES = """
import sys
import jax, numpy as np
from gnome_core.potentials.frames import split_groups
from gnome_core.training.potential.loop import train_potential
from tests.gnome_core.potentials.pair_frames import pair_frames
from tests.gnome_core.training.potential.test_loop import MODEL, TRAINING

assert jax.local_device_count() == 2
frames = pair_frames(21)  # so that the last batch is not full
is_train = split_groups(frames.groups, 0.2, seed=1)
curves = []
for devices in (1, 2):
    training = TRAINING.model_copy(update={"epochs": 3, "batch_size": 8, "devices": devices})
    settings = dict(seed=3, model=MODEL, training=training)
    curves.append(train_potential(frames, is_train, out_dir=f"{sys.argv[1]}/{devices}", **settings).curve)
for one, two in zip(*curves, strict=True):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=2e-3, err_msg=name)
"""


def test_parts_hold_every_frame_of_a_batch_once(frames):
    data = FrameGraphs(frames, network_of(MODEL), np.zeros((1, 256)), batch_size=8)
    order = list(range(len(frames)))
    whole = list(data.steps(order, 0, 1))
    parts = list(data.steps(order, 0, 3))
    assert [n for *_, n in whole] == [n for *_, n in parts]
    for (batch, targets, n), (divided, shares, _) in zip(whole, parts, strict=True):
        assert divided.n_atoms.shape[0] == 3
        assert shares.graph.sum() == n
        assert sorted(shares.energy[shares.graph > 0]) == sorted(targets.energy[targets.graph > 0])
        assert shares.atom.sum() == targets.atom.sum()
        assert np.ptp(shares.atom.sum(1)) <= 2 * data.n_atoms.max(), "of like size"
        assert divided.vectors.shape[1] < batch.vectors.shape[1]
    assert next(data.steps(order[:2], 0, 3))[1].graph.sum(1).tolist() == [1, 1, 0], "a part may be empty"


def test_more_devices_than_there_are_is_an_error(frames, tmp_path):
    with pytest.raises(ValueError, match=r"training\.devices = 64"):
        train(frames, tmp_path, TRAINING.model_copy(update={"devices": 64}))


def test_bfloat16_products_move_energies_little_and_learn_too(frames, learnt, tmp_path):
    """By 2.3 meV/atom, at most 5.4, and 0.4 % of the forces; what is trained with them is exported in float32."""
    variables, record = load_potential(learnt[0].path)
    exactly, roundly = network_of(record.config), network_of(record.config, "bfloat16")
    data = FrameGraphs(frames, exactly, np.zeros((1, 256)), batch_size=8)
    moved, forces = [], []
    for batch, targets, rows in data.batches(range(len(frames))):
        exact = predict_compiled(exactly, variables, batch)
        rounded = predict_compiled(roundly, variables, batch)
        difference = np.bincount(batch.graph, np.asarray(rounded.atoms - exact.atoms, float))[: len(rows)]
        moved.append(np.abs(difference / data.n_atoms[rows]))
        known = targets.atom > 0
        wrong = np.abs(np.asarray(rounded.forces - exact.forces)[known])
        forces.append(wrong.mean() / np.abs(np.asarray(exact.forces)[known]).mean())
    assert 0 < np.concatenate(moved).mean() < 5e-3
    assert np.concatenate(moved).max() < 2e-2
    assert np.mean(forces) < 0.02
    half = train(frames, tmp_path, LONG.model_copy(update={"precision": "bfloat16"}))
    assert half.errors["energy_mae"] < 2 * learnt[0].errors["energy_mae"] + 2
    with np.load(half.path) as file:
        assert {file[name].dtype for name in file.files} == {np.dtype(np.float32)}
