"""CHGNet fine-tuned on frames of another scale: it learns them, resumes to the bit, and is a potential like others."""

import numpy as np
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.potentials.by_name import make_potential
from gnome_core.potentials.errors import potential_errors
from gnome_core.potentials.files import BadPotential, load_potential
from gnome_core.potentials.nequip_potential import TrainedPotential
from gnome_core.potentials.potential import UnknownElement
from gnome_core.training.epochs import Row
from gnome_core.training.potential.config import PotentialTrainingConfig
from gnome_core.training.potential.loop import train_potential
from tests.gnome_core.potentials.pair_frames import ALONE, pair_frames
from tests.gnome_core.potentials.samples import SKEWED

TRAINING = PotentialTrainingConfig(
    epochs=4, batch_size=4, learning_rate=3e-3, validate_every=1, checkpoint_every=4, stress_weight=0.3
)

pytestmark = pytest.mark.usefixtures("quickly_compiled")


class Interrupted(Exception):
    pass


def fine_tune(frames, out, **options):
    is_train = np.arange(len(frames)) % 5 > 0
    return train_potential(frames, is_train, seed=0, out_dir=out, init_from="chgnet", training=TRAINING, **options)


@pytest.fixture(scope="module")
def frames():
    return pair_frames(20)


@pytest.fixture(scope="module")
def tuned(frames, tmp_path_factory):
    return fine_tune(frames, tmp_path_factory.mktemp("tuned"))


def test_it_learns_another_scale(frames, tuned):
    assert tuned.curve[-1]["train_loss"] < 0.6 * tuned.curve[0]["train_loss"]
    potential = make_potential(tuned.path)
    held_out = frames.take(np.arange(20) % 5 == 0)
    assert potential_errors(potential, held_out)["energy_mae"] == pytest.approx(tuned.errors["energy_mae"], abs=0.05)
    assert {z for z in ALONE if z in potential.record.shifts} == set(ALONE)


def test_its_answers_are_of_its_own_scale_and_say_nothing_of_moments(frames, tuned):
    potential = make_potential(tuned.path)
    (answer,) = potential.evaluate(frames.crystals[:1])
    assert answer.magmoms is None
    assert potential.scale.startswith("pair/chgnet-2-")
    assert potential.corrections(frames.crystals[:1]) is None
    with pytest.raises(UnknownElement):
        potential.evaluate([SKEWED])
    variables, record = load_potential(tuned.path)
    assert not np.any(variables["params"]["composition_model.fc.weight"])
    with pytest.raises(BadPotential, match="a fine-tuned CHGNet"):
        TrainedPotential(variables, record)


def test_forces_and_stress_are_the_energys_slopes(frames, tuned):
    potential, crystal, h = make_potential(tuned.path), frames.crystals[1], 5e-3

    def energy(lattice, frac_coords):
        return potential.evaluate([Crystal(lattice, frac_coords, crystal.numbers)])[0].energy

    (answer,) = potential.evaluate([crystal])
    move = np.zeros((4, 3))
    move[2, 1] = h
    move = move @ np.linalg.inv(crystal.lattice)
    up, down = (energy(crystal.lattice, crystal.frac_coords + sign * move) for sign in (1, -1))
    assert answer.forces[2, 1] == pytest.approx(-(up - down) / (2 * h), abs=3e-3)
    strain = np.diag([0, 0, h])
    up, down = (energy(crystal.lattice @ (np.eye(3) + sign * strain), crystal.frac_coords) for sign in (1, -1))
    assert answer.stress[2, 2] == pytest.approx((up - down) / (2 * h) / crystal.volume, abs=2e-4)


def test_an_interrupted_one_ends_with_the_same_bits(frames, tuned, tmp_path):
    rows: list[Row] = []

    def stop(row: Row) -> None:
        rows.append(row)
        if len(rows) == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        fine_tune(frames, tmp_path, progress=stop)
    resumed = fine_tune(frames, tmp_path)
    with np.load(resumed.path) as again, np.load(tuned.path) as once:
        assert all(again[name].tobytes() == once[name].tobytes() for name in once.files)


def test_a_tuned_one_is_tuned_on(frames, tuned, tmp_path):
    training = TRAINING.model_copy(update={"epochs": 1, "learning_rate": 1e-5})
    again = train_potential(
        frames, np.arange(20) % 5 > 0, seed=0, out_dir=tmp_path, init_from=tuned.path, training=training
    )
    assert again.errors["force_mae"] == pytest.approx(tuned.errors["force_mae"], rel=0.05)
    assert again.errors["energy_mae"] == pytest.approx(tuned.errors["energy_mae"], rel=0.05)


def test_hessian_rows_are_refused(frames, tmp_path):
    training = TRAINING.model_copy(update={"hessian_weight": 1.0})
    with pytest.raises(ValueError, match="Hessian rows"):
        train_potential(frames, np.ones(20, bool), seed=0, out_dir=tmp_path, init_from="chgnet", training=training)
