"""NequIP: the published size, the published function, and the physics that no padding or cutoff may break."""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.edges import EdgeShape, edge_graph, pack
from gnome_core.models.config import PAPER_NEQUIP, NequIPConfig
from gnome_core.models.nequip import NequIP, n_parameters
from gnome_core.potentials.gradients import Prediction, force_response, predict
from tests.gnome_core.potentials.samples import SKEWED, supercell

ELEMENTS = (8, 20, 22)
FULL = NequIPConfig(layers=2, hidden_irreps="8x0e+4x0o+4x1e+8x1o+4x2e+4x2o", edge_irreps="0e+1o+2e", elements=ELEMENTS)
EVEN = NequIPConfig(layers=2, hidden_irreps="8x0e+8x1e+4x2e", edge_irreps="0e+1e+2e", elements=ELEMENTS)
pytestmark = pytest.mark.usefixtures("quickly_compiled")
BOTH = pytest.mark.parametrize("config", [FULL, EVEN], ids=["full_parity", "even"])


@pytest.fixture(autouse=True)
def _double_precision():
    with jax.enable_x64(True):
        yield


def batch_of(*crystals: Crystal, cutoff: float = 5.0, spare: tuple[int, int, int] = (1, 1, 0)):
    graphs = [edge_graph(c, cutoff) for c in crystals]
    atoms, blocks = np.sum([g.size for g in graphs], axis=0)
    shape = EdgeShape(len(graphs) + spare[0], int(atoms) + spare[1], int(blocks) + spare[2])
    return pack(graphs, shape, np.float64)


@cache
def random_variables(config: NequIPConfig, seed: int = 1) -> dict:
    variables = jax.jit(NequIP(config).init)(jax.random.key(seed), batch_of(SKEWED, cutoff=config.cutoff))
    variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), dict(variables))
    return {**variables, "statistics": {"scale": jnp.float64(1.5), "neighbors": jnp.float64(20.0)}}


def evaluate(config: NequIPConfig, variables: dict, *crystals: Crystal, **options) -> Prediction:
    batch = batch_of(*crystals, cutoff=config.cutoff, **options)
    n = sum(c.n_sites for c in crystals)
    prediction = jax.jit(predict, static_argnums=0)(NequIP(config), variables, batch)
    return Prediction(*(np.asarray(x)[:size] for x, size in zip(prediction, (n, n, len(crystals)), strict=True)))


def assert_close(a: Prediction, b: Prediction, atol: float = 1e-9) -> None:
    for name in Prediction._fields:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=atol, err_msg=name)


def test_the_papers_network_has_the_papers_parameters():
    shapes = jax.eval_shape(NequIP(PAPER_NEQUIP).init, jax.random.key(0), batch_of(SKEWED))
    assert n_parameters(shapes["params"]) == 16_238_920


def test_it_is_the_function_of_gnomes_released_network():
    """With its weights copied over, jax-md's copy of GNoME's network gives the same energies of atoms."""
    import jraph
    from jax_md._nn import nequip as released

    config = EVEN.model_copy(update={"elements": tuple(range(1, 5)), "neighbors": 20.0})
    crystal = dataclasses.replace(SKEWED, numbers=np.array([1, 3, 2, 2, 4], np.uint8))
    variables = random_variables(config)
    ours = evaluate(config, variables, crystal)

    cfg = released.default_config()
    cfg.update(n_elements=4, graph_net_steps=2, hidden_irreps="8x0e+8x1e+4x2e", n_neighbors=20.0, scale=1.5, shift=0.0)
    model = released.model_from_config(cfg)
    graph = edge_graph(crystal, config.cutoff)
    real = np.linalg.norm(graph.vectors, axis=-1) < config.cutoff
    vectors = jnp.asarray(graph.vectors[real])
    receivers = np.repeat(graph.receivers[:, None], graph.senders.shape[1], 1)[real]
    one_hot = jax.nn.one_hot(crystal.numbers.astype(int) - 1, 4, dtype=jnp.float64)
    inputs = jraph.GraphsTuple(
        one_hot, vectors, jnp.asarray(receivers), jnp.asarray(graph.senders[real]), jnp.zeros((1, 1)),
        jnp.array([5]), jnp.array([len(vectors)]),
    )  # fmt: skip
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)["params"]
    theirs = jax.tree.map(lambda shape: np.zeros(shape.shape), dict(shapes))
    p = jax.tree.map(np.asarray, variables["params"])
    theirs["BesselEmbedding_0"]["frequencies"] = p["frequencies"]
    # Theirs divide what meets one-hot elements by the root of their number; ours do not.
    fill(theirs["Linear_0"], {"0e": 2 * p["embedding"]})
    for i in range(2):
        layer, convolution = p[f"layer_{i}"], theirs[f"NequIPConvolution_{i}"]
        fill(convolution["FullyConnectedTensorProductE3nn_0"], doubled(layer["self_connection"]), axes=(1, 0, 2))
        fill(convolution["Linear_0"], layer["linear_before"])
        fill(convolution["Linear_1"], layer["linear_after"])
        for k, name in enumerate(("hidden_0", "hidden_1")):
            convolution["MLP_0"][f"Dense_{k}"]["kernel"] = layer["radial"][name]["kernel"]
        convolution["MLP_0"]["Dense_2"]["kernel"] = layer["radial"]["out"]
    fill(theirs["Linear_1"], p["readout_0"])
    fill(theirs["Linear_2"], p["readout_1"])
    energy = jax.jit(model.apply)({"params": theirs}, inputs)
    assert float(energy[0, 0]) == pytest.approx(ours.atoms.sum(), rel=1e-5)


def doubled(weights: dict) -> dict:
    return {name: 2 * value for name, value in weights.items()}


def fill(module: dict, weights: dict, axes: tuple[int, ...] | None = None) -> None:
    """Put our weights by irrep into the module's, which has one for every part of the output: "w[i,j] 8x0e,4x0e"."""
    start = dict.fromkeys(weights, 0)
    for name, old in module.items():
        channels, irrep = name.rsplit(",", 1)[1].split("x")
        part = weights[irrep][..., start[irrep] : start[irrep] + int(channels)]
        start[irrep] += int(channels)
        module[name] = np.transpose(part, axes) if axes else part
        assert module[name].shape == old.shape
    assert start == {irrep: weight.shape[-1] for irrep, weight in weights.items()}


@BOTH
def test_rotation_turns_forces_and_virial_and_leaves_energies(config):
    variables = random_variables(config)
    turn = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
    here = evaluate(config, variables, SKEWED)
    there = evaluate(config, variables, dataclasses.replace(SKEWED, lattice=SKEWED.lattice @ turn.T))
    assert_close(there, Prediction(here.atoms, here.forces @ turn.T, turn @ here.virials @ turn.T))
    assert np.abs(here.forces).max() > 0.01
    assert np.ptp(here.atoms) > 0.01


def test_full_parity_cannot_tell_mirror_images_apart_and_even_features_can():
    mirrored = dataclasses.replace(SKEWED, lattice=SKEWED.lattice * [-1, 1, 1])
    differences = {}
    # A handedness needs three vectors, and so the third layer.
    for name, config in (("full", FULL), ("even", EVEN.model_copy(update={"layers": 3}))):
        variables = random_variables(config)
        here, there = (evaluate(config, variables, c).atoms for c in (SKEWED, mirrored))
        differences[name] = np.abs(here - there).max()
    assert differences["full"] < 1e-10
    assert differences["even"] > 1e-6


@BOTH
def test_translation_and_whole_cells_change_nothing(config):
    variables = random_variables(config)
    moved = SKEWED.frac_coords + [0.37, 0.81, -0.15] + np.arange(15).reshape(5, 3) % 3
    moved = dataclasses.replace(SKEWED, frac_coords=moved)
    assert_close(evaluate(config, variables, moved), evaluate(config, variables, SKEWED))


@BOTH
def test_permutation_of_sites_permutes_answers(config):
    variables = random_variables(config)
    order = np.array([3, 0, 4, 2, 1])
    permuted = Crystal(SKEWED.lattice, SKEWED.frac_coords[order], SKEWED.numbers[order])
    here, there = (evaluate(config, variables, c) for c in (SKEWED, permuted))
    assert_close(there, Prediction(here.atoms[order], here.forces[order], here.virials))


@BOTH
def test_a_supercell_is_so_many_cells(config):
    variables = random_variables(config)
    one, four = (evaluate(config, variables, c) for c in (SKEWED, supercell(SKEWED, (2, 1, 2))))
    repeated = Prediction(np.repeat(one.atoms, 4), np.repeat(one.forces, 4, 0), 4 * one.virials)
    assert_close(four, repeated)


@BOTH
def test_padding_and_company_change_nothing(config):
    variables = random_variables(config)
    lonely = Crystal(np.eye(3) * 14.0, [[0, 0, 0]], [8])
    alone = [evaluate(config, variables, c) for c in (SKEWED, lonely)]
    together = evaluate(config, variables, SKEWED, lonely, spare=(3, 20, 17))
    assert_close(together, Prediction(*(np.concatenate(x) for x in zip(*alone, strict=True))), 1e-12)
    assert not alone[1].forces.any()
    assert not alone[1].virials.any()


@BOTH
def test_forces_and_stress_are_slopes_of_the_energy(config):
    variables = random_variables(config)
    here = evaluate(config, variables, SKEWED)

    def energy(positions: np.ndarray, strain: np.ndarray) -> float:
        lattice = SKEWED.lattice @ (np.eye(3) + strain)
        frac = positions @ np.linalg.inv(SKEWED.lattice)
        return evaluate(config, variables, Crystal(lattice, frac, SKEWED.numbers)).atoms.sum()

    h, none = 1e-4, np.zeros((3, 3))
    for atom, axis in ((0, 0), (2, 1), (4, 2)):
        step = np.zeros((5, 3))
        step[atom, axis] = h
        slope = (energy(SKEWED.positions + step, none) - energy(SKEWED.positions - step, none)) / (2 * h)
        assert here.forces[atom, axis] == pytest.approx(-slope, abs=1e-6)
    for i, j in ((0, 0), (1, 2), (0, 2)):
        strain = np.zeros((3, 3))
        strain[i, j] = strain[j, i] = h / 2 if i != j else h
        slope = (energy(SKEWED.positions, strain) - energy(SKEWED.positions, -strain)) / (2 * h)
        assert here.virials[0, i, j] == pytest.approx(slope, abs=1e-5)


def test_the_response_of_forces_is_their_difference_along_the_direction():
    variables, h = random_variables(FULL), 1e-4
    direction = np.random.default_rng(0).normal(size=(5, 3))
    batch = batch_of(SKEWED)
    padded = np.concatenate([direction, np.zeros((1, 3))])
    response = jax.jit(force_response, static_argnums=0)(NequIP(FULL), variables, batch, padded)[:5]
    moved = [
        evaluate(FULL, variables, Crystal(SKEWED.lattice, p @ np.linalg.inv(SKEWED.lattice), SKEWED.numbers)).forces
        for p in (SKEWED.positions + h * direction, SKEWED.positions - h * direction)
    ]
    np.testing.assert_allclose(response, (moved[0] - moved[1]) / (2 * h), atol=1e-5)


def test_energy_and_forces_are_continuous_through_the_cutoff():
    variables = random_variables(FULL)

    def pair(distance: float) -> Prediction:
        return evaluate(FULL, variables, Crystal(np.eye(3) * 30, [[0, 0, 0], [distance / 30, 0, 0]], [8, 20]))

    inside, outside, apart = pair(5 - 1e-5), pair(5 + 1e-5), pair(9.0)
    assert inside.atoms == pytest.approx(outside.atoms, abs=1e-8)
    assert outside.atoms == pytest.approx(apart.atoms, abs=0)
    assert np.abs(inside.forces).max() < 1e-3
    # The onset of the switch is smooth as well, and inside it the pair does feel each other.
    below, above = pair(4.5 - 1e-6), pair(4.5 + 1e-6)
    assert below.forces == pytest.approx(above.forces, abs=1e-4)
    assert np.abs(below.forces).max() > 1e-3


def test_gradients_by_parameters_are_finite_with_padding():
    variables = random_variables(FULL)
    batch = batch_of(SKEWED, spare=(2, 5, 9))

    def loss(params):
        prediction = predict(NequIP(FULL), {**variables, "params": params}, batch)
        return jnp.square(prediction.forces).sum() + jnp.square(prediction.virials).sum()

    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(variables["params"])):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("irreps", ["4x1o+2x2e", "4x0e+2x0e", "4x0f"])
def test_irreps_without_scalars_or_given_twice_are_refused(irreps):
    with pytest.raises(ValueError, match=r"0e|irrep|Irrep"):
        NequIP(NequIPConfig(hidden_irreps=irreps, elements=ELEMENTS)).init(jax.random.key(0), batch_of(SKEWED))
