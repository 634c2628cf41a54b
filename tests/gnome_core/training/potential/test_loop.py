"""Training on frames whose answers are known: it learns, resumes to the bit, fine-tunes and keeps its counts."""

import numpy as np
import pytest

from gnome_core.models.config import NequIPConfig
from gnome_core.potentials.distillation import with_hessian_rows
from gnome_core.potentials.files import BadPotential, load_potential
from gnome_core.potentials.frames import BadFrames, LabelledFrames, frames_from_table, split_groups, with_levels
from gnome_core.potentials.nequip_potential import TrainedPotential
from gnome_core.training.potential.batches import FrameGraphs, epoch_order
from gnome_core.training.potential.config import PotentialTrainingConfig
from gnome_core.training.potential.loop import train_potential
from gnome_core.training.potential.shifts import fit_shifts
from tests.gnome_core.potentials.pair_frames import ALONE, pair_frames

MODEL = NequIPConfig(layers=1, hidden_irreps="8x0e+4x1o", edge_irreps="0e+1o", cutoff=4.0, elements=(29, 47))
TRAINING = PotentialTrainingConfig(
    epochs=6, batch_size=4, learning_rate=2e-2, validate_every=2, checkpoint_every=2, stress_weight=1.0
)


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


def test_it_learns_energies_forces_and_stresses_of_crystals_it_never_saw(frames, tmp_path):
    rows = []
    result = train(frames, tmp_path, TRAINING.model_copy(update={"epochs": 60}), progress=rows.append)
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
def test_an_interrupted_run_resumes_to_the_same_bits(frames, tmp_path, stop_at):
    def stop(row):
        if row["epoch"] == stop_at:
            raise Interrupted

    whole = train(frames, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(frames, tmp_path / "parts", progress=stop)
    seen = []
    parts = train(frames, tmp_path / "parts", progress=seen.append)
    assert [row["epoch"] for row in seen] == list(range(1 + 2 * (stop_at // 2), 7))
    assert arrays(parts.path) == arrays(whole.path)
    assert parts.curve == whole.curve


def test_fine_tuning_starts_from_the_weights_and_moves_to_the_new_energy_zero(frames, tmp_path):
    pretrained = train(frames, tmp_path / "a", TRAINING.model_copy(update={"epochs": 30}))
    moved = pair_frames(12, seed=5)
    moved.energies[:] += 4 * 7.0
    tuned = train(moved, tmp_path / "b", TRAINING.model_copy(update={"epochs": 1, "learning_rate": 1e-6}),
                  model=None, init_from=pretrained.path)  # fmt: skip
    size = 1e3 * np.sqrt(np.mean(np.square(moved.forces)))  # meV/Å
    assert tuned.errors["force_rmse"] < 0.3 * size  # one epoch at this rate teaches nothing: the weights knew it
    assert tuned.errors["energy_mae"] < 200  # of 7,000 meV/atom that the zero moved
    _, record = load_potential(tuned.path)
    assert record.init_from == pretrained.path
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
    training = TRAINING.model_copy(update={"epochs": 60})
    result = train(both, tmp_path, training, model=MODEL.model_copy(update={"levels": 2}))
    potential = TrainedPotential.load(result.path)
    unseen = pair_frames(12, seed=9)
    forces = np.concatenate([a.forces for a in potential.evaluate(unseen.crystals)])
    true = np.concatenate(unseen.forces)
    assert np.abs(forces - true).mean() < 0.25 * np.abs(true).mean()
    assert np.abs(forces - 0.5 * true).mean() > 0.3 * np.abs(true).mean()
    with pytest.raises(ValueError, match=r"set model.levels"):
        train(both, tmp_path)


def test_hessian_rows_of_a_teacher_are_learnt(frames, tmp_path):
    teacher = TrainedPotential.load(train(frames, tmp_path, TRAINING.model_copy(update={"epochs": 60})).path)
    few = with_hessian_rows(frames.take(np.arange(16)), teacher)
    unseen = with_hessian_rows(pair_frames(12, seed=9), teacher)

    def response_error(weight: float) -> float:
        training = TRAINING.model_copy(update={"epochs": 40, "hessian_weight": weight})
        result = train(few, tmp_path / str(weight), training, seed=11)
        student = with_hessian_rows(unseen, TrainedPotential.load(result.path))
        return float(np.abs(np.concatenate(student.responses) - np.concatenate(unseen.responses)).mean())

    assert response_error(0.3) < 0.8 * response_error(0.0)
    with pytest.raises(ValueError, match="no Hessian rows"):
        train(frames, tmp_path, TRAINING.model_copy(update={"hessian_weight": 1.0}))


def test_formation_energies_need_every_reference(frames, tmp_path):
    settings = TRAINING.model_copy(update={"shifts": "references", "epochs": 1})
    train(frames, tmp_path, settings, references={29: -2.0, 47: 3.0})
    with pytest.raises(ValueError, match=r"reference energy of atomic numbers \[47\]"):
        train(frames, tmp_path, settings, references={29: -2.0})


def test_half_of_each_batch_are_first_frames_and_each_comes_about_as_often():
    first = np.array([0, 10, 20, 30])
    order = np.array(epoch_order(40, first, 0.5, 8, (0, 0)))
    assert len(order) == 40
    assert all(np.isin(batch[:4], first).all() for batch in order.reshape(5, 8))
    assert np.bincount(order[np.arange(40) % 8 < 4])[first].tolist() == [5, 5, 5, 5]
    assert sorted(epoch_order(40, first, 0.0, 8, (0, 0))) == list(range(40))
    assert epoch_order(40, first, 0.5, 8, (0, 1)) != order.tolist()


def test_every_frame_is_in_one_batch_with_its_own_labels(frames):
    data = FrameGraphs(frames, 4.0, fit_shifts(frames, frames.energies), batch_size=5)
    seen = []
    for batch, targets, rows in data.batches(range(len(frames))):
        seen += rows
        assert targets.graph.sum() == targets.virial_known.sum() == len(rows)
        assert targets.atom.sum() == data.n_atoms[rows].sum()
        np.testing.assert_allclose(targets.forces[:4], frames.forces[rows[0]], rtol=1e-6)
        assert targets.energy[0] == pytest.approx(data.energy[rows[0]])
        assert batch.numbers[:4].tolist() == frames.crystals[rows[0]].numbers.tolist()
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
