"""Nequix: the physics that no padding may break, its tables, and the blocks it shares with NequIP."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.edges import EdgeShape, edge_graph, pack
from gnome_core.models.config import NequixConfig
from gnome_core.models.nequix import Nequix, tabulated
from gnome_core.potentials.gradients import Prediction, predict
from tests.gnome_core.potentials.samples import SKEWED

pytestmark = pytest.mark.usefixtures("quickly_compiled")

CONFIG = NequixConfig(
    layers=3, hidden_irreps="8x0e+4x1o+4x2e", degree=2, cutoff=4.5, neighbors=20.0, scale=0.8, elements=(8, 20, 22)
)
NETWORK = Nequix(CONFIG)


@pytest.fixture(autouse=True)
def _double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def variables():
    with jax.enable_x64(True):
        made = jax.jit(NETWORK.init)(jax.random.key(1), batch_of(SKEWED))
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), dict(made))


def batch_of(crystal: Crystal, spare: int = 0):
    graph = edge_graph(crystal, CONFIG.cutoff)
    n_atoms, n_blocks = graph.size
    return pack([graph], EdgeShape(2, int(n_atoms) + 1 + spare, int(n_blocks) + spare), np.float64)


def answer(variables: dict, crystal: Crystal, network: Nequix = NETWORK, **options) -> Prediction:
    found = jax.jit(predict, static_argnums=0)(network, variables, batch_of(crystal, **options))
    n = crystal.n_sites
    return Prediction(np.asarray(found.atoms)[:n], np.asarray(found.forces)[:n], np.asarray(found.virials)[:1])


def test_energies_stay_and_forces_turn_with_the_crystal_and_its_mirror_image(variables):
    turn = Rotation.from_euler("xyz", [0.3, -1.1, 2.0]).as_matrix()
    for operation in (turn, -turn):
        moved = Crystal(SKEWED.lattice @ operation, SKEWED.frac_coords, SKEWED.numbers)
        before, after = answer(variables, SKEWED), answer(variables, moved)
        np.testing.assert_allclose(after.atoms, before.atoms, atol=1e-9)
        np.testing.assert_allclose(after.forces, before.forces @ operation, atol=1e-9)


def test_padding_changes_nothing(variables):
    tight, loose = answer(variables, SKEWED), answer(variables, SKEWED, spare=9)
    for name in Prediction._fields:
        np.testing.assert_allclose(getattr(loose, name), getattr(tight, name), atol=1e-10)


def test_forces_and_virials_are_derivatives_of_the_energy(variables):
    step, found = 1e-4, answer(variables, SKEWED)

    def energy(crystal: Crystal) -> float:
        return float(answer(variables, crystal).atoms.sum())

    for atom, axis in ((0, 0), (3, 2)):
        ends = []
        for sign in (1, -1):
            moved = SKEWED.positions.copy()
            moved[atom, axis] += sign * step
            ends.append(energy(Crystal(SKEWED.lattice, moved @ np.linalg.inv(SKEWED.lattice), SKEWED.numbers)))
        assert -(ends[0] - ends[1]) / (2 * step) == pytest.approx(found.forces[atom, axis], rel=1e-4, abs=1e-6)
    strain = np.array([[1.0, 0.3, 0.0], [0.3, -0.5, 0.2], [0.0, 0.2, 0.4]])
    ends = [
        energy(Crystal(SKEWED.lattice @ (np.eye(3) + sign * step * strain), SKEWED.frac_coords, SKEWED.numbers))
        for sign in (1, -1)
    ]
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float((found.virials[0] * strain).sum()), rel=1e-4)


def test_looked_up_radial_weights_are_those_of_the_network(variables):
    exact = answer(variables, SKEWED)
    looked_up = answer(tabulated(CONFIG, variables), SKEWED, Nequix(CONFIG, tables=True))
    np.testing.assert_allclose(looked_up.atoms, exact.atoms, atol=2e-6)
    np.testing.assert_allclose(looked_up.forces, exact.forces, atol=2e-5)
    np.testing.assert_allclose(looked_up.virials, exact.virials, atol=2e-5)


def test_an_atom_that_leaves_the_cutoff_leaves_no_step(variables):
    """Energy and force are continuous where a neighbour comes within reach, with tables as without."""
    for network, own in ((NETWORK, variables), (Nequix(CONFIG, tables=True), tabulated(CONFIG, variables))):
        energies = []
        for gap in (CONFIG.cutoff - 1e-4, CONFIG.cutoff + 1e-4):
            pair = Crystal(np.diag([20.0, 20.0, 20.0]), [[0, 0, 0], [gap / 20, 0, 0]], [8, 22])
            energies.append(answer(own, pair, network).atoms.sum())
        assert energies[0] == pytest.approx(energies[1], abs=1e-7)
