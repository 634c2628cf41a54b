"""Energy without a thermostat, and heat, of a potential with one minimum for every atom."""

import numpy as np
import pytest

from gnome_core.models.config import NequIPConfig
from gnome_core.potentials.endurance import endurance
from gnome_core.potentials.frames import frames_without_stress
from gnome_core.potentials.md_config import MDConfig
from gnome_core.potentials.nequip_potential import TrainedPotential
from gnome_core.training.potential.config import PotentialTrainingConfig
from gnome_core.training.potential.loop import train_potential
from tests.gnome_core.potentials.samples import ROCKSALT

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def test_conservative_forces_drift_little_and_heat_is_lived_through_or_told(tmp_path):
    frames = frames_without_stress([ROCKSALT], np.array([-6.0]), [np.zeros((2, 3))], "still")
    model = NequIPConfig(layers=1, hidden_irreps="4x0e", edge_irreps="0e", cutoff=4.0, elements=(11, 17))
    training = PotentialTrainingConfig(epochs=1, batch_size=1)
    path = train_potential(frames, np.ones(1, bool), seed=0, out_dir=tmp_path, model=model, training=training).path
    conserved = MDConfig(ensemble="nve", temperature=30, start_temperature=30, timestep=1, ramp=0, duration=0.1)
    hot = MDConfig(temperature=50, start_temperature=20, ramp=0, duration=0.1)
    ran = endurance(ROCKSALT, TrainedPotential.load(path), 0, conserved, hot)
    assert ran.n_atoms == 2
    assert abs(ran.drift) < 1.0  # meV/atom/ps
    assert (ran.hot_time, ran.stopped) == (pytest.approx(ran.hot_planned), None)
