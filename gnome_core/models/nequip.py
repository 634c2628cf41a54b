"""NequIP: an E(3)-equivariant message-passing network for energies of atoms.

Batzner et al., Nat. Commun. 13, 2453 (2022), doi:10.1038/s41467-022-29939-5, in GNoME's form (Nature 624, 80, 2023,
Methods): one species-indexed self-connection a layer, XPLOR cutoff, sums divided by the mean number of neighbours.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gnome_core.graphs.edges import EdgeBatch
from gnome_core.models.config import NequIPConfig
from gnome_core.models.equivariant import (
    SCALAR,
    Coupled,
    Features,
    Irrep,
    Linear,
    coupled_harmonics,
    gate,
    irrep_name,
    parse_irreps,
    paths,
    species_table,
    sum_of_messages,
)
from gnome_core.models.layers import product, rows
from gnome_core.models.radial import bessel_basis, xplor_envelope

fan_in_normal = functools.partial(nn.initializers.variance_scaling, mode="fan_in", distribution="normal")


class SelfConnection(nn.Module):
    """One matrix per element and irrep, gathered by each atom: a product with one-hot elements without its zeros."""

    channels: tuple[tuple[Irrep, int], ...]
    n_elements: int
    precision: str

    @nn.compact
    def __call__(self, features: Features, species: jax.Array) -> dict[Irrep, jax.Array]:
        out = {}
        for ir, n in self.channels:
            if ir in features:
                fan_in = features[ir].shape[-1]
                kernel = self.param(irrep_name(ir), nn.initializers.normal(1.0), (self.n_elements, fan_in, n))
                out[ir] = product(features[ir] / math.sqrt(fan_in), rows(kernel, species), self.precision)
        return out


class RadialNetwork(nn.Module):
    """Radial weights of every path from a basis of the edge length. No bias, so that the weights fade at the cutoff."""

    config: NequIPConfig
    widths: tuple[int, ...]  # of all paths of the layer
    used: tuple[bool, ...]  # paths whose input exists; the first layer has scalars only, its other weights rest
    precision: str

    @nn.compact
    def __call__(self, basis: jax.Array) -> list[jax.Array]:
        hidden = basis
        for i in range(self.config.radial_layers):
            dense = nn.Dense(
                self.config.radial_width,
                False,
                dtype=None if self.precision == "float32" else self.precision,
                kernel_init=fan_in_normal(4.0),
                name=f"hidden_{i}",
            )
            hidden = nn.silu(dense(hidden))
        kernel = self.param("out", fan_in_normal(1.0), (hidden.shape[-1], sum(self.widths)))
        ends = np.cumsum(self.widths)
        return [
            product(hidden, kernel[:, end - width : end], self.precision)
            for width, end, used in zip(self.widths, ends, self.used, strict=True)
            if used
        ]


class Convolution(nn.Module):
    """One layer: linear, messages, linear, self-connection, gate."""

    config: NequIPConfig
    precision: str

    @nn.compact
    def __call__(
        self,
        features: Features,
        species: jax.Array,
        basis: jax.Array,
        harmonics: Coupled,
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

        connection = SelfConnection(channels, len(self.config.elements), self.precision, name="self_connection")
        residual = connection(features, species)
        all_paths = paths(hidden, edges, hidden)
        used = tuple(p.input in inputs for p in all_paths)
        radial = RadialNetwork(self.config, tuple(p.channels for p in all_paths), used, self.precision, name="radial")
        weights = radial(basis)
        mixed = Linear(tuple(inputs.items()), self.precision, name="linear_before")(features)
        live = [path for path, u in zip(all_paths, used, strict=True) if u]
        messages = sum_of_messages(mixed, live, weights, harmonics, batch)
        updated = Linear(channels, self.precision, name="linear_after")(
            {ir: x / neighbors for ir, x in messages.items()}
        )
        return gate({ir: x + residual[ir] if ir in residual else x for ir, x in updated.items()}, gated)


class NequIP(nn.Module):
    """Energies of atoms (N,), eV, less the per-element shift of the potential it belongs to.

    Variables besides `params`: `statistics` with `scale` (eV) and `neighbors`. precision: float32 | bfloat16, of the
    products of features with weights; vectors, sums and the read-out stay as they are.
    """

    config: NequIPConfig
    precision: str = "float32"

    @nn.compact
    def __call__(self, batch: EdgeBatch) -> jax.Array:
        config = self.config
        scale = self.variable("statistics", "scale", jnp.ones, ()).value
        neighbors = self.variable("statistics", "neighbors", jnp.ones, ()).value
        species = rows(species_table(config.elements), batch.numbers)
        vectors = jnp.asarray(batch.vectors)
        lengths = jnp.sqrt(jnp.square(vectors).sum(-1))
        frequencies = self.param("frequencies", lambda _: jnp.pi * jnp.arange(1.0, config.n_bessel + 1))
        basis = bessel_basis(lengths, frequencies, config.cutoff)
        basis *= xplor_envelope(lengths, config.cutoff - config.switch_width, config.cutoff)[..., None]

        hidden, edges = parse_irreps(config.hidden_irreps), parse_irreps(config.edge_irreps)
        harmonics = coupled_harmonics(vectors, paths(hidden, edges, hidden))
        embedding = self.param("embedding", nn.initializers.normal(1.0), (len(config.elements), hidden[SCALAR]))
        scalars = rows(embedding, species)
        if config.levels > 1:
            tags = self.param("levels", nn.initializers.normal(1.0), (config.levels, hidden[SCALAR]))
            scalars += rows(tags, batch.level)
        features: Features = {SCALAR: scalars[:, None]}
        for i in range(config.layers):
            layer = Convolution(config, self.precision, name=f"layer_{i}")
            features = layer(features, species, basis, harmonics, batch, neighbors)
        scalars = Linear(((SCALAR, hidden[SCALAR] // 2),), name="readout_0")({SCALAR: features[SCALAR]})
        energies = Linear(((SCALAR, 1),), name="readout_1")(scalars)
        return scale * energies[SCALAR][:, 0, 0]


def n_parameters(params: dict) -> int:
    """How many numbers are trained."""
    return sum(x.size for x in jax.tree.leaves(params))
