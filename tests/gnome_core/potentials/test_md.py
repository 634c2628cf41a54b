"""Molecular dynamics: conserved energy, the right temperature, neighbours in small cells, runs that go wrong."""

import jax
import numpy as np
import pytest

from gnome_core.crystals.crystal import Crystal
from gnome_core.models.config import NequIPConfig
from gnome_core.potentials.frames import split_groups
from gnome_core.potentials.md import NeighborSearch, edge_vectors, energy_and_forces, run_digest, run_md
from gnome_core.potentials.md_config import MDConfig
from gnome_core.potentials.nequip_potential import TrainedPotential
from gnome_core.potentials.potential import IsolatedAtom, UnknownElement
from gnome_core.training.potential.config import PotentialTrainingConfig
from gnome_core.training.potential.loop import train_potential
from tests.gnome_core.potentials.pair_frames import pair_frames
from tests.gnome_core.potentials.samples import SKEWED, supercell

pytestmark = pytest.mark.usefixtures("quickly_compiled")

MODEL = NequIPConfig(layers=1, hidden_irreps="8x0e+4x1o", edge_irreps="0e+1o", cutoff=4.0, elements=(29, 47))
ORDERED = Crystal(3.7 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], [29, 47, 29, 47])
NVE = MDConfig(ensemble="nve", start_temperature=300, timestep=1.0, ramp=0, duration=0.5, save_every=10)


@pytest.fixture(scope="module")
def potential(tmp_path_factory):
    """Trained for seconds on a repulsive pair potential."""
    frames = pair_frames(200)
    training = PotentialTrainingConfig(epochs=30, batch_size=8, learning_rate=2e-2, validate_every=30)
    out = tmp_path_factory.mktemp("potential")
    result = train_potential(
        frames, split_groups(frames.groups, 0.1, 0), seed=0, out_dir=out, model=MODEL, training=training
    )
    return TrainedPotential.load(result.path)


@pytest.mark.parametrize("crystal", [ORDERED, supercell(ORDERED, (2, 1, 1))], ids=["smaller_than_cutoff", "larger"])
def test_forces_are_those_of_the_batched_potential_also_for_atoms_outside_the_cell(potential, crystal):
    rng = np.random.default_rng(0)
    away = rng.integers(-2, 3, (crystal.n_sites, 3))
    rattled = Crystal(crystal.lattice, crystal.frac_coords + rng.normal(scale=0.02, size=away.shape), crystal.numbers)
    (expected,) = potential.evaluate([rattled])
    positions = (rattled.frac_coords + away) @ crystal.lattice
    neighbors = NeighborSearch(crystal.lattice, 4.5).search(np.asarray(positions, np.float32))
    energy, forces = energy_and_forces(potential, crystal.numbers)(np.asarray(positions, np.float32), neighbors)
    assert float(energy) + potential.shifts[crystal.numbers].sum() == pytest.approx(expected.energy, abs=1e-4)
    np.testing.assert_allclose(forces, expected.forces, atol=1e-4)
    lengths = np.linalg.norm(edge_vectors(np.asarray(positions, np.float32), neighbors), axis=-1)
    assert (lengths[np.asarray(neighbors.real)] < 4.51).all()


def test_a_list_that_overflows_is_allocated_anew():
    search = NeighborSearch(14.8 * np.eye(3), 4.0, spare=1.0)
    spread = np.asarray(supercell(ORDERED, (4, 4, 4)).positions, np.float32)[::16]
    sparse = search.search(spread)
    dense = search.search(spread * np.float32(0.4))
    assert search.n_allocations == 2
    assert not bool(dense.overflow)
    assert int(dense.real.sum()) > 1.5 * int(sparse.real.sum())


def test_constant_energy_runs_conserve_it(potential):
    trajectory = run_md(ORDERED, potential, NVE.model_copy(update={"duration": 1.0, "min_length": 7.0}), seed=1)
    assert trajectory.stopped is None
    assert trajectory.crystal.n_sites == 32
    drift = np.polyfit(trajectory.times, trajectory.total_energies, 1)[0] / trajectory.crystal.n_sites
    assert abs(drift) < 1e-3  # eV/atom/ps
    assert np.ptp(trajectory.energies) > 20 * np.ptp(trajectory.total_energies)
    assert trajectory.temperatures[0] == pytest.approx(300, rel=0.4)


def test_the_thermostat_ramps_to_the_temperature(potential):
    config = MDConfig(temperature=500, start_temperature=100, timestep=2.0, ramp=0.4, duration=2.0, min_length=7.0)
    trajectory = run_md(ORDERED, potential, config, seed=2)
    assert trajectory.stopped is None
    assert len(trajectory.times) == 121
    assert trajectory.times[-1] == pytest.approx(2.4)
    assert trajectory.temperatures[:4].mean() < 300
    assert trajectory.temperatures[40:].mean() == pytest.approx(500, rel=0.15)


def test_a_run_goes_on_from_its_checkpoint_to_the_same_frames(potential, tmp_path):
    class Interrupted(Exception):
        pass

    def stop(step, _):
        if step == 300:
            raise Interrupted

    config = NVE.model_copy(update={"checkpoint_every": 0.2})
    whole = run_md(ORDERED, potential, config, seed=3)
    file = tmp_path / "md.npz"
    with pytest.raises(Interrupted):
        run_md(ORDERED, potential, config, seed=3, checkpoint=file, progress=stop)
    steps = []
    parts = run_md(ORDERED, potential, config, seed=3, checkpoint=file, progress=lambda step, _: steps.append(step))
    assert steps[0] == 200
    np.testing.assert_array_equal(parts.positions, whole.positions)
    np.testing.assert_array_equal(parts.energies, whole.energies)
    other = run_md(ORDERED, potential, config, seed=4, checkpoint=file)
    assert np.abs(other.positions[-1] - whole.positions[-1]).max() > 1e-3
    file.write_bytes(file.read_bytes()[:500])
    again = run_md(ORDERED, potential, config, seed=4, checkpoint=file)
    np.testing.assert_array_equal(again.positions, other.positions, "a damaged checkpoint is none")


def test_a_runs_digest_names_all_that_it_is_made_of(potential):
    squeezed = ORDERED.scaled_to_volume(0.99 * ORDERED.volume)
    same = NVE.model_copy(update={"checkpoint_every": 7.0})
    base = run_digest(ORDERED, potential, NVE, 0)
    assert base == run_digest(ORDERED, potential, same, 0)
    others = [(ORDERED, NVE, 1), (squeezed, NVE, 0), (ORDERED, NVE.model_copy(update={"timestep": 2.0}), 0)]
    assert base not in {run_digest(crystal, potential, config, seed) for crystal, config, seed in others}
    weights = jax.tree.map(lambda x: 1.01 * x, potential.variables)
    assert base != run_digest(ORDERED, TrainedPotential(weights, potential.record), NVE, 0)


def test_a_run_that_explodes_ends_with_the_reason_and_its_frames(potential):
    overlapping = Crystal(3.7 * np.eye(3), [[0, 0, 0], [0.1, 0, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], ORDERED.numbers)
    trajectory = run_md(overlapping, potential, NVE.model_copy(update={"timestep": 20.0, "duration": 4.0}))
    assert any(word in trajectory.stopped for word in ("exploded", "collapsed", "not finite"))
    assert " ps" in trajectory.stopped
    assert 1 < len(trajectory.times) < 21


def test_unknown_elements_are_refused_by_name(potential):
    with pytest.raises(UnknownElement, match=r"O, Ca, Ti"):
        run_md(SKEWED, potential, NVE)
    alone = Crystal(12.0 * np.eye(3), [[0, 0, 0]], ORDERED.numbers[:1])
    with pytest.raises(IsolatedAtom, match="has no neighbour within"):
        run_md(alone, potential, NVE)
