"""CHGNet against the original implementation, and what batching must not change."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gnome_core.crystals.crystal import Crystal, InvalidCrystal
from gnome_core.graphs.bonds import BatchShape, bond_graph
from gnome_core.models import chgnet
from gnome_core.potentials import chgnet_potential
from gnome_core.potentials.by_name import make_potential
from gnome_core.potentials.chgnet_potential import LADDER, CHGNetPotential
from gnome_core.potentials.potential import Evaluation
from gnome_core.units import EV_PER_CUBIC_ANGSTROM_IN_GPA as GPA
from tests.gnome_core.potentials.samples import (
    COPPER,
    LONELY,
    ROCKSALT,
    SKEWED,
    published,
    reference,
    reference_crystal,
    supercell,
)

# Other input bits, other rounding: single precision through the arc cosine of nearly straight angles.
ROUNDING = 2e-4


def assert_same(a: Evaluation, b: Evaluation, tolerance: float = 1e-5) -> None:
    """Energies in eV/atom, forces, stress and moments agree."""
    assert a.energy / len(a.forces) == pytest.approx(b.energy / len(b.forces), abs=tolerance)
    for name in ("forces", "stress", "magmoms"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=tolerance, err_msg=name)


def test_answers_are_the_original_implementations():
    rows = reference("reference")
    answers = published().evaluate([reference_crystal(row) for row in rows])
    assert len(answers) == len(rows) == 255

    def worst(name, ours):
        gaps = [np.abs(np.subtract(np.ravel(ours(e)), row[name])).max() for e, row in zip(answers, rows, strict=True)]
        print(f"{name}: at most {max(gaps):.1e} apart ({rows[int(np.argmax(gaps))]['id']})")
        return max(gaps)

    assert worst("energy_per_atom_ev", lambda e: e.energy / len(e.forces)) < 1e-4
    assert worst("forces_ev_a", lambda e: e.forces) < 2e-3
    assert worst("stress_gpa", lambda e: e.stress * GPA) < 0.02
    assert worst("magmoms_mub", lambda e: e.magmoms) < 1e-3
    # The agreement above would mean little if the numbers were all near zero.
    assert max(np.abs(row["stress_gpa"]).max() for row in rows) > 10
    assert max(np.abs(row["forces_ev_a"]).max() for row in rows) > 1


def test_compressed_crystals_have_negative_stress_and_stretched_ones_positive():
    squeezed, stretched = published().evaluate(
        [ROCKSALT.scaled_to_volume(f * ROCKSALT.volume) for f in (0.8, 1.25)],
    )
    assert np.trace(squeezed.stress) < 0 < np.trace(stretched.stress)


def test_stress_is_the_energys_slope_by_strain_over_volume():
    h = 5e-3
    up, here, down = published().evaluate(
        [SKEWED.scaled_to_volume(SKEWED.volume * np.exp(3 * s * h)) for s in (1, 0, -1)]
    )
    slope = (up.energy - down.energy) / (2 * h * SKEWED.volume)
    assert np.trace(here.stress) == pytest.approx(slope, rel=0.02)


def test_rotation_turns_forces_and_stress():
    turn = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
    here, turned = published().evaluate([SKEWED, Crystal(SKEWED.lattice @ turn.T, SKEWED.frac_coords, SKEWED.numbers)])
    expected = dataclasses.replace(here, forces=here.forces @ turn.T, stress=turn @ here.stress @ turn.T)
    assert_same(turned, expected, ROUNDING)
    assert np.abs(here.forces - turned.forces).max() > 0.1


def test_translation_and_whole_cells_change_nothing():
    moved = SKEWED.frac_coords + [0.37, 0.81, -0.15] + np.arange(15).reshape(5, 3) % 3
    here, there = published().evaluate([SKEWED, Crystal(SKEWED.lattice, moved, SKEWED.numbers)])
    assert_same(here, there, ROUNDING)


def test_permutation_of_sites_permutes_forces_and_moments():
    order = np.array([3, 0, 4, 2, 1])
    here, there = published().evaluate(
        [SKEWED, Crystal(SKEWED.lattice, SKEWED.frac_coords[order], SKEWED.numbers[order])]
    )
    assert_same(there, dataclasses.replace(here, forces=here.forces[order], magmoms=here.magmoms[order]), ROUNDING)


@pytest.mark.parametrize("crystal", [COPPER, SKEWED], ids=["one_atom", "skewed"])
def test_a_supercell_is_so_many_cells(crystal):
    cell, big = published().evaluate([crystal, supercell(crystal, (2, 1, 2))])
    repeated = Evaluation(4 * cell.energy, np.repeat(cell.forces, 4, 0), cell.stress, np.repeat(cell.magmoms, 4))
    assert_same(big, repeated, ROUNDING)


def test_batch_composition_and_padding_change_nothing():
    potential = published()
    crystals = [SKEWED, COPPER, LONELY, ROCKSALT] * 12
    assert_same_all(potential.evaluate(crystals), [potential.evaluate([c])[0] for c in crystals[:4]] * 12)


def assert_same_all(answers: list[Evaluation], expected: list[Evaluation]) -> None:
    for a, b in zip(answers, expected, strict=True):
        assert_same(a, b)


def test_an_isolated_atom_feels_nothing():
    (lonely,) = published().evaluate([LONELY])
    assert np.isfinite(lonely.energy)
    assert not lonely.forces.any()
    assert not lonely.stress.any()


def test_no_crystals_no_answers():
    assert published().evaluate([]) == []


def test_equal_lists_give_equal_bits():
    crystals = [SKEWED, COPPER, ROCKSALT]
    for a, b in zip(published().evaluate(crystals), CHGNetPotential.published().evaluate(crystals), strict=True):
        assert a.energy == b.energy
        for name in ("forces", "stress", "magmoms"):
            assert getattr(a, name).tobytes() == getattr(b, name).tobytes()


def test_mixed_crystals_compile_no_more_shapes_than_the_ladder_has(monkeypatch):
    potential = published()
    shapes, compiled = set(), chgnet.evaluate._cache_size()
    original = chgnet.evaluate

    def recorded(params, batch):
        shapes.add((*(x.shape for x in jax.tree.leaves(batch)), batch.n_short))
        return original(params, batch)

    monkeypatch.setattr(chgnet, "evaluate", recorded)
    for n in (1, 2, 7, 20, 45):
        potential.evaluate([[SKEWED, COPPER, LONELY, supercell(ROCKSALT, (2, 1, 1))][i % 4] for i in range(n)])
    assert 1 < len(shapes) <= len(LADDER)
    assert original._cache_size() - compiled <= len(shapes)


def test_crystals_that_overlap_do_not_spoil_the_others():
    overlapping = Crystal(ROCKSALT.lattice, [[0.2, 0.2, 0.2], [0.2, 0.2, 0.2]], [11, 17])
    here, broken, there = published().evaluate([ROCKSALT, overlapping, SKEWED])
    assert not (np.isfinite(broken.energy) and np.isfinite(broken.forces).all())
    assert_same(here, published().evaluate([ROCKSALT])[0])
    assert_same(there, published().evaluate([SKEWED])[0])


def test_a_crystal_larger_than_the_ladder_gets_a_shape_of_its_own(monkeypatch):
    *lower, top = LADDER
    half = BatchShape(**{name: n // 2 for name, n in dataclasses.asdict(top).items()})  # doubled it is compiled already
    monkeypatch.setattr(chgnet_potential, "LADDER", (*lower, half))
    potential = published()
    cells = 4 * (half.atoms // 20 + 1)
    large = supercell(SKEWED, (cells // 4, 2, 2))
    assert not half.holds(1, bond_graph(large).size)
    first, big, last = potential.evaluate([COPPER, large, ROCKSALT])
    (cell,) = published().evaluate([SKEWED])
    repeated = Evaluation(
        cells * cell.energy, np.repeat(cell.forces, cells, 0), cell.stress, np.repeat(cell.magmoms, cells)
    )
    assert_same(big, repeated, ROUNDING)
    assert_same_all([first, last], published().evaluate([COPPER, ROCKSALT]))


NOT_FINITE = [
    Crystal(ROCKSALT.lattice, [[0, 0, 0], [0.5, np.nan, 0.5]], [12, 8]),
    Crystal(np.full((3, 3), np.inf), ROCKSALT.frac_coords, [12, 8]),
]


@pytest.mark.parametrize("bad", NOT_FINITE, ids=["coordinates", "lattice"])
@pytest.mark.parametrize("name", ["embedded", "pretrained"])
def test_crystals_that_are_not_finite_are_refused_by_name(name, bad):
    with pytest.raises(InvalidCrystal, match="hold NaN or infinity") as caught:
        make_potential(name).evaluate([bad])
    assert caught.value.reason == "not_finite"
