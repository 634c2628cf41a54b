"""Physics that every energy model must keep, on random and symmetric crystals."""

import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.batching import LADDER, Bucket, batches
from gnome_core.graphs.featurize import structural_graphs
from gnome_core.models.config import PAPER, RELEASED, CompositionalConfig, StructuralConfig
from gnome_core.models.structural import StructuralGNN

NETWORK = StructuralGNN(StructuralConfig(width=16, trainable_swish=True, readout="mlp"))
ROCKSALT = Crystal(np.array([[0.0, 2.1, 2.1], [2.1, 0.0, 2.1], [2.1, 2.1, 0.0]]), [[0, 0, 0], [0.5, 0.5, 0.5]], [12, 8])
LONELY = Crystal(np.eye(3) * 9.0, [[0, 0, 0]], [2])


def random_crystal(seed: int, n_atoms: int = 6) -> Crystal:
    rng = np.random.default_rng(seed)
    lattice = np.eye(3) * (15.0 * n_atoms) ** (1 / 3) + rng.normal(size=(3, 3)) * 0.3
    return Crystal(lattice, rng.random((n_atoms, 3)), rng.integers(1, 95, n_atoms))


@pytest.fixture(scope="session")
def energies():
    _, one = next(batches(structural_graphs([ROCKSALT]), np.zeros(1, int), np.ones(1)))
    variables = jax.jit(NETWORK.init)(jax.random.key(0), one)
    variables["statistics"]["mean_adjacency"] = np.float32(15)
    apply = jax.jit(NETWORK.apply)

    def energies(crystals, factors=None, ladder=LADDER, tolerance=1e-3):
        """(n,) energies per atom; factors: volume factor of each."""
        table = structural_graphs(crystals, tolerance=tolerance)
        out = np.empty(len(crystals))
        factors = np.ones(len(crystals)) if factors is None else factors
        for items, batch in batches(table, np.arange(len(crystals)), factors, ladder=ladder, packing=ladder[-1]):
            out[items] = np.asarray(apply(variables, batch))[: items.stop - items.start]
        return out

    return energies


CASES = [ROCKSALT, LONELY, *(random_crystal(s) for s in range(4))]


def test_rotation_and_translation(energies):
    rotation = Rotation.random(rng=np.random.default_rng(0)).as_matrix()
    turned = [Crystal(c.lattice @ rotation.T, c.frac_coords, c.numbers) for c in CASES]
    moved = [Crystal(c.lattice, c.frac_coords + [0.31, -1.7, 0.5], c.numbers) for c in CASES]
    np.testing.assert_allclose(energies(turned), energies(CASES), atol=1e-5)
    np.testing.assert_allclose(energies(moved), energies(CASES), atol=1e-5)


def test_permutation(energies):
    shuffled = []
    for crystal in CASES:
        order = np.random.default_rng(1).permutation(crystal.n_sites)
        shuffled.append(Crystal(crystal.lattice, crystal.frac_coords[order], crystal.numbers[order]))
    np.testing.assert_allclose(energies(shuffled), energies(CASES), atol=1e-5)


@pytest.mark.parametrize("tolerance", [1e-3, -1.0], ids=["quotient", "plain"])
def test_supercell_has_the_energy_per_atom_of_its_cell(energies, tolerance):
    doubled = []
    for crystal in CASES:
        frac = np.concatenate([crystal.frac_coords, crystal.frac_coords + [1, 0, 0]]) / [2, 1, 1]
        doubled.append(Crystal(crystal.lattice * [[2], [1], [1]], frac, np.tile(crystal.numbers, 2)))
    np.testing.assert_allclose(energies(doubled, tolerance=tolerance), energies(CASES), atol=1e-5)


def test_quotient_graph_has_the_energy_of_the_plain_one(energies):
    # Symmetric, and symmetric but for less than the tolerance.
    nearly = Crystal(ROCKSALT.lattice * [[1], [1], [1.00001]], ROCKSALT.frac_coords, ROCKSALT.numbers)
    cases = [*CASES, nearly]
    np.testing.assert_allclose(energies(cases), energies(cases, tolerance=-1.0), atol=1e-5)


def test_padding_and_batch_mates_change_nothing(energies):
    together = energies(CASES)
    alone = np.concatenate([energies([c]) for c in CASES])
    wide = energies(CASES, ladder=(Bucket(3_000, 20_000, 900),))
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_allclose(wide, together, atol=1e-6)


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.2])
def test_masked_list_equals_a_rebuilt_one(energies, factor):
    rebuilt = [c.scaled_to_volume(c.volume * factor) for c in CASES]
    masked = energies(CASES, np.full(len(CASES), factor))
    np.testing.assert_allclose(masked, energies(rebuilt), atol=1e-5)
    assert np.abs(masked - energies(CASES)).max() > 1e-3  # the volume does matter


ROUNDS = [path for path in sorted(Path("configs").glob("*.toml")) if not path.stem.startswith("potential")]


@pytest.mark.parametrize("file", ROUNDS, ids=lambda path: path.stem)
def test_published_settings_are_settings(file):
    """Every file of configs/ about rounds is read, and the published ones hold the networks they name."""
    values = tomllib.loads(file.read_text())
    table = values.get("compositional", {}).get("model") or values["model"]
    config = (CompositionalConfig if "compositional" in values else StructuralConfig)(**table)
    published = {"structural-paper": PAPER, "structural-released": RELEASED}
    assert published.get(file.stem, config) == config


@pytest.mark.parametrize("steps", [3, 6])
def test_options_of_the_released_code_shape_the_network(steps):
    _, one = next(batches(structural_graphs([ROCKSALT]), np.zeros(1, int), np.ones(1)))
    config = RELEASED.model_copy(update={"width": 8, "steps": steps})
    params = jax.eval_shape(StructuralGNN(config).init, jax.random.key(0), one)["params"]
    assert params["readout_hidden"]["kernel"].shape == (8, 8)
    assert params["readout_swish"]["beta"].shape == (8,)
    assert sum(name.startswith("step_") for name in params) == steps
    plain = jax.eval_shape(StructuralGNN(StructuralConfig(width=8)).init, jax.random.key(0), one)["params"]
    assert "readout_hidden" not in plain


def test_config_refuses_unknown_keys_and_keeps_the_paper():
    with pytest.raises(ValidationError):
        StructuralConfig(widht=64)
    assert (PAPER.width, PAPER.steps, PAPER.cutoff, PAPER.n_basis) == (256, 3, 4.0, 30)
