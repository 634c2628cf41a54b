"""The network in double precision: forces and virial are the energy's derivatives, and physics' symmetries hold.

The published weights and numbers are checked in ../potentials/test_potential.py.
"""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from scipy.linalg import expm

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.bonds import BatchShape, bond_graph, pack
from gnome_core.models import chgnet
from tests.gnome_core.potentials.samples import COPPER, LONELY, SKEWED

SHAPE = BatchShape(graphs=3, atoms=16, short=64, long=512, angles=256)


@pytest.fixture(scope="module")
def params() -> Iterator[chgnet.Params]:
    with jax.enable_x64(True):
        yield jax.tree.map(lambda x: np.asarray(x, np.float64), chgnet.load_params())


def evaluate(params: chgnet.Params, *crystals: Crystal) -> list[np.ndarray]:
    """Energy, forces, virial and moments of the batch, in double precision."""
    graphs = [bond_graph(c, chgnet.ATOM_CUTOFF, chgnet.BOND_CUTOFF) for c in crystals]
    batch = pack(graphs, SHAPE, far=12.0)
    vectors = batch.vectors.astype(np.float64)
    short, long = 0, SHAPE.short
    for g in graphs:
        _, n_short, n_long, _ = g.size
        vectors[short : short + n_short] = g.vectors[: g.n_short]
        vectors[long : long + n_long] = g.vectors[g.n_short :]
        short, long = short + n_short, long + n_long
    with jax.enable_x64(True):
        return [np.asarray(x) for x in chgnet.evaluate(params, dataclasses.replace(batch, vectors=vectors))]


def test_forces_are_the_energys_slope(params):
    _, forces, _, _ = evaluate(params, SKEWED)
    h = 1e-4
    inverse = np.linalg.inv(SKEWED.lattice)
    for atom, axis in [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1)]:
        move = np.zeros((SKEWED.n_sites, 3))
        move[atom, axis] = h
        up, down = (
            evaluate(params, Crystal(SKEWED.lattice, SKEWED.frac_coords + s * move @ inverse, SKEWED.numbers))[0][0]
            for s in (1, -1)
        )
        assert forces[atom, axis] == pytest.approx(-(up - down) / (2 * h), abs=1e-5)
    assert np.abs(forces[:5]).max() > 0.5
    np.testing.assert_allclose(forces[:5].sum(0), 0, atol=1e-10)


@pytest.mark.parametrize("crystal", [SKEWED, COPPER], ids=["skewed", "one_atom"])
def test_virial_is_the_energys_slope_by_strain(params, crystal):
    virial = evaluate(params, crystal)[2][0]
    h = 1e-5
    for i, j in [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]:
        strain = np.zeros((3, 3))
        strain[i, j] += h / 2
        strain[j, i] += h / 2
        up, down = (
            evaluate(params, Crystal(crystal.lattice @ expm(s * strain), crystal.frac_coords, crystal.numbers))[0][0]
            for s in (1, -1)
        )
        assert virial[i, j] == pytest.approx((up - down) / (2 * h), abs=1e-4)
    np.testing.assert_array_equal(virial, virial.T)
    assert np.abs(np.diag(virial)).max() > 0.1


@pytest.mark.parametrize("cutoff", [chgnet.ATOM_CUTOFF, chgnet.BOND_CUTOFF])
def test_energy_has_no_step_where_a_bond_crosses_a_cutoff(params, cutoff):
    inside, outside = (
        evaluate(params, Crystal(np.diag([cutoff + gap, 7.0, 7.0]), [[0, 0, 0]], [29]))[0][0] for gap in (-1e-6, 1e-6)
    )
    assert inside == pytest.approx(outside, abs=1e-5)


def test_neighbours_in_the_batch_change_nothing(params):
    alone, together = evaluate(params, SKEWED), evaluate(params, COPPER, SKEWED)
    np.testing.assert_allclose(together[0][1], alone[0][0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(together[1][1:6], alone[1][:5], rtol=0, atol=1e-9)
    np.testing.assert_allclose(together[2][1], alone[2][0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(together[3][1:6], alone[3][:5], rtol=0, atol=1e-9)


def test_an_atom_without_bonds_has_an_energy_and_no_forces(params):
    energy, forces, virial, magmom = evaluate(params, LONELY)
    assert np.isfinite(energy[0])
    assert np.isfinite(magmom[0])
    assert not forces[0].any()
    assert not virial[0].any()


def test_another_version_of_the_weights_is_refused(monkeypatch, tmp_path):
    (tmp_path / "chgnet_0.3.0_config.json").write_text('{"version": "0.2.0", "n_conv": 4, "mlp_out_bias": false}')
    monkeypatch.setattr(chgnet.resources, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match=r"not the published 0\.3\.0"):
        chgnet.load_params()
