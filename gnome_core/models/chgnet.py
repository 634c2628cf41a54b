"""CHGNet in JAX: energy, forces, stress and magnetic moments of crystals.

Own implementation of Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3, for the published
weights (412,525 numbers): 0.3.0, whose energies are PBE(+U) with the Materials Project's 2020 corrections, and r2scan,
fine-tuned by transfer to r2SCAN (Huang et al., npj Comput. Mater., 2025, arXiv:2504.05565), eV.

Two things differ from the formulas as printed, neither changes a number beyond rounding: the first layer of every gated
MLP is split by its inputs, so that atoms and bonds are multiplied before they are gathered on the many edges; and bonds
are undirected throughout, both directions of a message being formed side by side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gnome_core.graphs.bonds import BondBatch

ATOM_CUTOFF = 6.0  # Å
BOND_CUTOFF = 3.0  # Å
FAR = 2 * ATOM_CUTOFF  # Å, length of padding bonds
_COMPOSITION_MODELS = {"0.3.0": "MPtrj", "r2scan": "MP-r2SCAN"}
VERSIONS = tuple(_COMPOSITION_MODELS)
# By version and atomic number. Of hydrogen to plutonium the published models have seen all but Po, At, Rn, Fr and Ra,
# whose embeddings are still the random numbers that training began with; of ytterbium r2SCAN has no reference energy.
TRAINED = {version: np.zeros(256, bool) for version in VERSIONS}
for _known in TRAINED.values():
    _known[1:84] = _known[89:95] = True
TRAINED["r2scan"][70] = False


class Linear(NamedTuple):
    weight: jax.Array  # (inputs, outputs)
    bias: jax.Array | float = 0.0

    def __call__(self, x):
        return x @ self.weight + self.bias


class LayerNorm(NamedTuple):
    weight: jax.Array
    bias: jax.Array

    def __call__(self, x):
        return self.scale(x - x.mean(-1, keepdims=True))

    def scale(self, x):
        """The norm of features whose mean is zero already."""
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * self.weight + self.bias


class Branch(NamedTuple):
    """One or two layers and a norm. The norm's subtraction of the mean is folded into the last layer's weights."""

    inputs: tuple[jax.Array, ...]  # first-layer weights of each input, (64, 64)
    bias: jax.Array
    second: Linear | None
    norm: LayerNorm

    def finish(self, first_layer):
        """From the sum of the first layer's terms (..., 64) to normed features."""
        x = first_layer if self.second is None else self.second(jax.nn.silu(first_layer))
        return self.norm.scale(x)


class GatedMLP(NamedTuple):
    """silu(core) * sigmoid(gate)."""

    core: Branch
    gate: Branch

    def __call__(self, core_sum, gate_sum):
        return jax.nn.silu(self.core.finish(core_sum)) * jax.nn.sigmoid(self.gate.finish(gate_sum))


class Params(NamedTuple):
    composition: jax.Array  # (94,) eV/atom by element
    embedding: jax.Array  # (94, 64)
    radial_frequencies: jax.Array  # (31,) for the atom graph
    short_frequencies: jax.Array  # (31,) for the bond graph
    angular_frequencies: jax.Array  # (15,)
    bond_embedding: Linear
    atom_weights: Linear
    bond_weights: Linear
    angle_embedding: Linear
    atom_convs: list[tuple[GatedMLP, Linear]]
    bond_convs: list[tuple[GatedMLP, Linear]]
    angle_updates: list[GatedMLP]
    magmom: Linear
    readout_norm: LayerNorm
    readout: list[Linear]


def load_weights(version: str = "0.3.0") -> dict[str, np.ndarray]:
    """The shipped weights, by their published names. Raises ValueError when the file is not what its name says."""
    data = resources.files("gnome_core.data")
    config = json.loads((data / f"chgnet_{version}_config.json").read_text())
    if config.get("composition_model") != _COMPOSITION_MODELS[version] or config.get("n_conv") != 4:
        raise ValueError(f"the shipped CHGNet config is not the published {version}: {config}")
    with (data / f"chgnet_{version}_weights.npz").open("rb") as file:
        return dict(np.load(file, allow_pickle=False))


def load_params(version: str = "0.3.0") -> Params:
    """The shipped weights as the network takes them. Raises ValueError, see `load_weights`."""
    return params_of(load_weights(version))


def params_of(weights: Mapping[str, jax.Array | np.ndarray]) -> Params:
    """Parameters from weights by their published names; differentiable."""
    w = {name: jnp.asarray(array) for name, array in weights.items()}

    def linear(name: str) -> Linear:
        return Linear(w[f"{name}.weight"].T, w.get(f"{name}.bias", 0.0))

    def norm(name: str) -> LayerNorm:
        return LayerNorm(w[f"{name}.weight"], w[f"{name}.bias"])

    def branch(name: str, norm_name: str, layers: list[int], n_inputs: int) -> Branch:
        *first, last = [linear(f"{name}.layers.{i}") for i in layers]
        last = Linear(*(x - x.mean(-1, keepdims=True) for x in map(jnp.asarray, last)))
        opening, second = (first[0], last) if first else (last, None)
        return Branch(tuple(jnp.split(opening.weight, n_inputs)), jnp.asarray(opening.bias), second, norm(norm_name))

    def gated(name: str, layers: list[int], n_inputs: int) -> GatedMLP:
        return GatedMLP(
            branch(f"{name}.mlp_core", f"{name}.bn1", layers, n_inputs),
            branch(f"{name}.mlp_gate", f"{name}.bn2", layers, n_inputs),
        )

    return Params(
        composition=w["composition_model.fc.weight"][0],
        embedding=w["atom_embedding.embedding.weight"],
        radial_frequencies=w["bond_basis_expansion.rbf_expansion_ag.frequencies"],
        short_frequencies=w["bond_basis_expansion.rbf_expansion_bg.frequencies"],
        angular_frequencies=w["angle_basis_expansion.fourier_expansion.frequencies"],
        bond_embedding=linear("bond_embedding"),
        atom_weights=linear("bond_weights_ag"),
        bond_weights=linear("bond_weights_bg"),
        angle_embedding=linear("angle_embedding"),
        atom_convs=[
            (gated(f"atom_conv_layers.{i}.twoBody_atom", [0, 3], 3), linear(f"atom_conv_layers.{i}.mlp_out.layers.1"))
            for i in range(4)
        ],
        bond_convs=[
            (gated(f"bond_conv_layers.{i}.twoBody_bond", [0, 3], 4), linear(f"bond_conv_layers.{i}.mlp_out.layers.1"))
            for i in range(3)
        ],
        # The third published angle update feeds nothing and is left out.
        angle_updates=[gated(f"angle_layers.{i}.twoBody_bond", [1], 4) for i in range(2)],
        magmom=linear("site_wise"),
        readout_norm=norm("readout_norm"),
        readout=[linear(f"mlp.layers.{i}") for i in (0, 2, 4, 7)],
    )


def radial_basis(distance, frequencies, cutoff: float):
    """Bessel functions (b, 31) under the polynomial envelope of order 8, zero from the cutoff (Å) on."""
    r = distance / cutoff
    p = 8.0
    envelope = 1 - (p + 1) * (p + 2) / 2 * r**p + p * (p + 2) * r ** (p + 1) - p * (p + 1) / 2 * r ** (p + 2)
    envelope = jnp.where(r < 1, envelope, 0.0) * jnp.sqrt(2 / cutoff) / distance
    return envelope[:, None] * jnp.sin(r[:, None] * frequencies)


def angular_basis(cosine, frequencies):
    """Fourier functions (a, 31) of the angle."""
    angle = jnp.arccos(cosine * (1 - 1e-6))[:, None] * frequencies
    constant = jnp.full((len(cosine), 1), 1 / np.sqrt(2), angle.dtype)
    return jnp.concatenate([constant, jnp.sin(angle), jnp.cos(angle)], axis=1) / np.sqrt(np.pi)


def energies(params: Params, vectors, batch: BondBatch):
    """Energies of atoms (N,) in eV, less those of their elements, and magnetic moments (N,) in Bohr magnetons.

    vectors: (S + L, 3) bond vectors, Å.
    """
    n_short = batch.n_short
    first, second = batch.first, batch.second
    n_atoms = len(batch.species)
    distance = jnp.sqrt((vectors * vectors).sum(-1))
    radial = radial_basis(distance, params.radial_frequencies, ATOM_CUTOFF)
    atom_weights = params.atom_weights(radial)
    bond = params.bond_embedding(radial)
    short_distance = distance[:n_short]
    bond_weights = params.bond_weights(radial_basis(short_distance, params.short_frequencies, BOND_CUTOFF))
    unit = vectors[:n_short] / short_distance[:, None]
    cosine = batch.sign * (unit[batch.bond1] * unit[batch.bond2]).sum(-1)
    angle = params.angle_embedding(angular_basis(cosine, params.angular_frequencies))
    angles = (angle, angle)  # seen from bond1, from bond2
    pair_weights = bond_weights[batch.bond1] * bond_weights[batch.bond2]

    def atom_conv(atom, bond, layer):
        gated, out = layer

        def sums(branch):
            center, middle, neighbor = branch.inputs
            shared = bond @ middle + branch.bias
            near, far = atom @ center, atom @ neighbor
            return near[first] + far[second] + shared, near[second] + far[first] + shared

        to_first, to_second = map(gated, sums(gated.core), sums(gated.gate))
        gathered = jax.ops.segment_sum(to_first * atom_weights, first, n_atoms)
        gathered += jax.ops.segment_sum(to_second * atom_weights, second, n_atoms)
        return atom + out(gathered)

    def angle_messages(atom, bond, angles, gated):
        short = bond[:n_short]

        def sums(branch):
            one, other, between, middle = branch.inputs
            shared = (atom @ middle + branch.bias)[batch.center]
            near, far = short @ one, short @ other
            to_bond1 = near[batch.bond1] + far[batch.bond2] + angles[0] @ between + shared
            to_bond2 = near[batch.bond2] + far[batch.bond1] + angles[1] @ between + shared
            return to_bond1, to_bond2

        return tuple(map(gated, sums(gated.core), sums(gated.gate)))

    def bond_conv(atom, bond, angles, layer):
        gated, out = layer
        to_bond1, to_bond2 = angle_messages(atom, bond, angles, gated)
        gathered = jax.ops.segment_sum(to_bond1 * pair_weights, batch.bond1, n_short)
        gathered += jax.ops.segment_sum(to_bond2 * pair_weights, batch.bond2, n_short)
        return bond.at[:n_short].add(out(gathered))

    atom = params.embedding[batch.species]
    for layer in range(3):
        atom = atom_conv(atom, bond, params.atom_convs[layer])
        bond = bond_conv(atom, bond, angles, params.bond_convs[layer])
        if layer < 2:
            updates = angle_messages(atom, bond, angles, params.angle_updates[layer])
            angles = (angles[0] + updates[0], angles[1] + updates[1])
    magmom = jnp.abs(params.magmom(atom)[:, 0])
    atom = atom_conv(atom, bond, params.atom_convs[3])
    hidden = params.readout_norm(atom)
    for linear in params.readout[:-1]:
        hidden = jax.nn.silu(linear(hidden))
    return params.readout[-1](hidden)[:, 0], magmom


def predict(params: Params, batch: BondBatch) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Energies of atoms (N,) eV, less those of their elements, forces (N, 3) eV/Å, virials (G, 3, 3) eV and magnetic
    moments (N,) Bohr magnetons; differentiable by the parameters."""

    def total(vectors):
        atoms, magmom = energies(params, vectors, batch)
        return atoms.sum(), (atoms, magmom)

    gradient, (atoms, magmom) = jax.grad(total, has_aux=True)(jnp.asarray(batch.vectors))
    n_atoms, n_graphs = len(batch.species), len(batch.n_atoms)
    forces = jax.ops.segment_sum(gradient, batch.first, n_atoms) - jax.ops.segment_sum(gradient, batch.second, n_atoms)
    outer = (batch.vectors[:, :, None] * gradient[:, None, :]).reshape(-1, 9)
    virial = jax.ops.segment_sum(outer, batch.graph[batch.first], n_graphs).reshape(-1, 3, 3)
    return atoms, forces, (virial + virial.swapaxes(1, 2)) / 2, magmom


@jax.jit
def evaluate(params: Params, batch: BondBatch):
    """Energy (G,) eV, forces (N, 3) eV/Å, virial (G, 3, 3) eV and magnetic moments (N,) Bohr magnetons.

    Stress is virial / volume (eV/Å^3, tension positive): the derivative of the energy by strain.
    """
    atoms, forces, virial, magmom = predict(params, batch)
    atoms += params.composition[batch.species]
    return jax.ops.segment_sum(atoms, batch.graph, len(batch.n_atoms)), forces, virial, magmom
