"""NequIP: an E(3)-equivariant message-passing network for energies of atoms.

Batzner et al., Nat. Commun. 13, 2453 (2022), doi:10.1038/s41467-022-29939-5, in GNoME's form (Nature 624, 80, 2023,
Methods): one species-indexed self-connection a layer, XPLOR cutoff, sums divided by the mean number of neighbours.

Features of an irrep are arrays (atoms, 2l + 1, channels), channels last. A path couples an input irrep and a spherical
harmonic of the edge to an output irrep. Its sum over a block of edges with one receiver is one matrix product, of the
harmonics contracted with the Clebsch-Gordan coefficients and the sender's features times the radial weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gnome_core.graphs.edges import EdgeBatch
from gnome_core.models.config import NequIPConfig
from gnome_core.models.layers import rows, segment_sum
from gnome_core.models.radial import bessel_basis, xplor_envelope

Features = Mapping["Irrep", jax.Array]
fan_in_normal = functools.partial(nn.initializers.variance_scaling, mode="fan_in", distribution="normal")


class Irrep(NamedTuple):
    """Degree l and parity (1 even, -1 odd under inversion)."""

    l: int  # noqa: E741  the field's own name
    parity: int

    def coupled(self, other: Irrep) -> list[Irrep]:
        """What a product with `other` holds."""
        degrees = range(abs(self.l - other.l), self.l + other.l + 1)
        return [Irrep(degree, self.parity * other.parity) for degree in degrees]


SCALAR = Irrep(0, 1)


class Path(NamedTuple):
    """A coupling of features and an edge's harmonic. channels: those of the input, each with a radial weight."""

    input: Irrep
    edge: Irrep
    output: Irrep
    channels: int


def parse_irreps(text: str) -> dict[Irrep, int]:
    """{irrep: channels} of "32x0e+32x1o". Raises ValueError for text e3nn does not read or an irrep given twice."""
    parsed = e3nn.Irreps(text)
    irreps = {Irrep(ir.l, ir.p): mul for mul, ir in parsed}
    if len(irreps) != len(parsed) or SCALAR not in irreps:
        raise ValueError(f"{text}: every irrep once, 0e among them")
    return irreps


def paths(inputs: Mapping[Irrep, int], edges: Mapping[Irrep, int], outputs: Mapping[Irrep, int]) -> list[Path]:
    """Every coupling of inputs and edges that gives a wanted output."""
    return [
        Path(a, b, c, channels) for a, channels in inputs.items() for b in edges for c in a.coupled(b) if c in outputs
    ]


@functools.cache
def coupling(path: tuple[int, int, int]) -> np.ndarray:
    """(2 l1 + 1, 2 l2 + 1, 2 l3 + 1) Clebsch-Gordan coefficients; component-normalised inputs give such an output."""
    return np.asarray(e3nn.clebsch_gordan(*path)) * np.sqrt(2 * path[2] + 1)


@functools.cache
def normalized(activation):
    """The activation, scaled to a second moment of 1 under a normal input (as e3nn does)."""
    return e3nn.normalize_function(activation)


class Linear(nn.Module):
    """Mixes the channels of each irrep into `channels`; irreps that the input lacks stay away.

    Weights are of order 1 and divided by the root of the number of inputs when they are used (as e3nn does), so that
    one learning rate suits layers of every width.
    """

    channels: tuple[tuple[Irrep, int], ...]

    @nn.compact
    def __call__(self, features: Features) -> dict[Irrep, jax.Array]:
        out = {}
        for ir, n in self.channels:
            if ir in features:
                fan_in = features[ir].shape[-1]
                kernel = self.param(_name(ir), nn.initializers.normal(1.0), (fan_in, n))
                out[ir] = features[ir] @ (kernel / math.sqrt(fan_in))
        return out


class SelfConnection(nn.Module):
    """One matrix per element and irrep, gathered by each atom: a product with one-hot elements without its zeros."""

    channels: tuple[tuple[Irrep, int], ...]
    n_elements: int

    @nn.compact
    def __call__(self, features: Features, species: jax.Array) -> dict[Irrep, jax.Array]:
        out = {}
        for ir, n in self.channels:
            if ir in features:
                fan_in = features[ir].shape[-1]
                kernel = self.param(_name(ir), nn.initializers.normal(1.0), (self.n_elements, fan_in, n))
                out[ir] = jnp.einsum("nic,ncd->nid", features[ir] / math.sqrt(fan_in), rows(kernel, species))
        return out


class RadialNetwork(nn.Module):
    """Radial weights of every path from a basis of the edge length. No bias, so that the weights fade at the cutoff."""

    config: NequIPConfig
    widths: tuple[int, ...]  # of all paths of the layer
    used: tuple[bool, ...]  # paths whose input exists; the first layer has scalars only, its other weights rest

    @nn.compact
    def __call__(self, basis: jax.Array) -> list[jax.Array]:
        hidden = basis
        for i in range(self.config.radial_layers):
            dense = nn.Dense(self.config.radial_width, False, kernel_init=fan_in_normal(4.0), name=f"hidden_{i}")
            hidden = nn.silu(dense(hidden))
        kernel = self.param("out", fan_in_normal(1.0), (hidden.shape[-1], sum(self.widths)))
        ends = np.cumsum(self.widths)
        return [
            hidden @ kernel[:, end - width : end]
            for width, end, used in zip(self.widths, ends, self.used, strict=True)
            if used
        ]


class Convolution(nn.Module):
    """One layer: linear, messages, linear, self-connection, gate."""

    config: NequIPConfig

    @nn.compact
    def __call__(
        self,
        features: Features,
        species: jax.Array,
        basis: jax.Array,
        harmonics: Mapping[tuple[int, int, int], jax.Array],
        batch: EdgeBatch,
        neighbors: jax.Array,
    ) -> dict[Irrep, jax.Array]:
        hidden, edges = parse_irreps(self.config.hidden_irreps), parse_irreps(self.config.edge_irreps)
        inputs = {ir: x.shape[-1] for ir, x in features.items()}
        reachable = {p.output for p in paths(inputs, edges, hidden)}
        outputs = {ir: n for ir, n in hidden.items() if ir in reachable}
        gated = {ir: n for ir, n in outputs.items() if ir.l > 0}
        outputs[SCALAR] += sum(gated.values())  # one gate a channel
        channels = tuple(outputs.items())

        residual = SelfConnection(channels, len(self.config.elements), name="self_connection")(features, species)
        all_paths = paths(hidden, edges, hidden)
        used = tuple(p.input in inputs for p in all_paths)
        weights = RadialNetwork(self.config, tuple(p.channels for p in all_paths), used, name="radial")(basis)
        mixed = Linear(tuple(inputs.items()), name="linear_before")(features)
        live = [path for path, u in zip(all_paths, used, strict=True) if u]
        messages = _messages(mixed, live, weights, harmonics, batch)
        updated = Linear(channels, name="linear_after")({ir: x / neighbors for ir, x in messages.items()})
        return _gate({ir: x + residual[ir] if ir in residual else x for ir, x in updated.items()}, gated)


def _messages(
    features: Features,
    live: list[Path],
    weights: list[jax.Array],
    harmonics: Mapping[tuple[int, int, int], jax.Array],
    batch: EdgeBatch,
) -> dict[Irrep, jax.Array]:
    """Sums over the neighbours of each atom, channels of all paths to an irrep side by side."""
    n_blocks, block = batch.senders.shape
    sent = {ir: rows(x, batch.senders) for ir, x in features.items()}  # (blocks, block, 2l + 1, channels)
    sums: dict[Irrep, list[jax.Array]] = {}
    for path, weight in zip(live, weights, strict=True):
        weighted = sent[path.input] * weight[:, :, None, :]
        weighted = weighted.reshape(n_blocks, block * (2 * path.input.l + 1), path.channels)
        coupled = harmonics[path.input.l, path.edge.l, path.output.l]
        sums.setdefault(path.output, []).append(jnp.einsum("bqk,bqc->bkc", coupled, weighted))
    n_atoms = len(batch.numbers)
    return {ir: segment_sum(jnp.concatenate(x, -1), batch.receivers, n_atoms) for ir, x in sums.items()}


def _gate(features: Features, gated: Mapping[Irrep, int]) -> dict[Irrep, jax.Array]:
    """silu on even scalars, tanh on odd ones; the other irreps times the silu of a scalar each."""
    scalars = features[SCALAR]
    n_scalars = scalars.shape[-1] - sum(gated.values())
    gates = normalized(nn.silu)(scalars[..., n_scalars:])
    out, start = {}, 0
    for ir, x in features.items():
        if ir.l == 0:
            out[ir] = normalized(nn.silu if ir.parity == 1 else jnp.tanh)(x[..., :n_scalars] if ir == SCALAR else x)
        else:
            out[ir] = x * gates[..., start : start + gated[ir]]
            start += gated[ir]
    return out


class NequIP(nn.Module):
    """Energies of atoms (N,), eV, less the per-element shift of the potential it belongs to.

    Variables besides `params`: `statistics` with `scale` (eV) and `neighbors`.
    """

    config: NequIPConfig

    @nn.compact
    def __call__(self, batch: EdgeBatch) -> jax.Array:
        config = self.config
        scale = self.variable("statistics", "scale", jnp.ones, ()).value
        neighbors = self.variable("statistics", "neighbors", jnp.ones, ()).value
        species = rows(_species_table(config.elements), batch.numbers)
        vectors = jnp.asarray(batch.vectors)
        lengths = jnp.sqrt(jnp.square(vectors).sum(-1))
        frequencies = self.param("frequencies", lambda _: jnp.pi * jnp.arange(1.0, config.n_bessel + 1))
        basis = bessel_basis(lengths, frequencies, config.cutoff)
        basis *= xplor_envelope(lengths, config.cutoff - config.switch_width, config.cutoff)[..., None]

        hidden, edges = parse_irreps(config.hidden_irreps), parse_irreps(config.edge_irreps)
        harmonics = _coupled_harmonics(vectors, paths(hidden, edges, hidden))
        embedding = self.param("embedding", nn.initializers.normal(1.0), (len(config.elements), hidden[SCALAR]))
        scalars = rows(embedding, species)
        if config.levels > 1:
            tags = self.param("levels", nn.initializers.normal(1.0), (config.levels, hidden[SCALAR]))
            scalars += rows(tags, batch.level)
        features: Features = {SCALAR: scalars[:, None]}
        for i in range(config.layers):
            layer = Convolution(config, name=f"layer_{i}")
            features = layer(features, species, basis, harmonics, batch, neighbors)
        scalars = Linear(((SCALAR, hidden[SCALAR] // 2),), name="readout_0")({SCALAR: features[SCALAR]})
        energies = Linear(((SCALAR, 1),), name="readout_1")(scalars)
        return scale * energies[SCALAR][:, 0, 0]


def _coupled_harmonics(vectors: jax.Array, wanted: list[Path]) -> dict[tuple[int, int, int], jax.Array]:
    """For each coupled (l1, l2, l3): sum_j C_ijk Y_j of every edge, (blocks, BLOCK (2 l1 + 1), 2 l3 + 1)."""
    degrees = sorted({(p.input.l, p.edge.l, p.output.l) for p in wanted})
    # The values of a harmonic are those of the vector's own parity; the label of an irrep is what the user says it is.
    harmonic = {
        degree: e3nn.spherical_harmonics(e3nn.Irreps([(1, (degree, (-1) ** degree))]), vectors, normalize=True).array
        for degree in {b for _, b, _ in degrees}
    }
    coupled = {}
    for a, b, c in degrees:
        table = jnp.asarray(coupling((a, b, c)), vectors.dtype)
        product = jnp.einsum("ijk,nej->neik", table, harmonic[b])
        coupled[a, b, c] = product.reshape(len(vectors), vectors.shape[1] * (2 * a + 1), 2 * c + 1)
    return coupled


def _species_table(elements: tuple[int, ...]) -> np.ndarray:
    """Index into `elements` by atomic number; elements that the network lacks must be refused before."""
    table = np.zeros(256, np.int32)
    table[list(elements)] = np.arange(len(elements))
    return table


def _name(irrep: Irrep) -> str:
    return f"{irrep.l}{'e' if irrep.parity == 1 else 'o'}"


def n_parameters(params: dict) -> int:
    """How many numbers are trained."""
    return sum(x.size for x in jax.tree.leaves(params))
