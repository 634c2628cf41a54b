"""Nequix: a compact NequIP with a norm in every layer, for energies of atoms.

Koker, Kotak and Smidt, arXiv:2508.16067. Beside NequIP as GNoME has it (`gnome_core.models.nequip`): elements enter as
one-hot features, self-connections know no element, features are normalised over all irreps before the gate, edges fade
by a polynomial, sums are divided by the root of the mean number of neighbours, and the last layer gives scalars only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gnome_core.graphs.edges import EdgeBatch
from gnome_core.models.config import NequixConfig
from gnome_core.models.equivariant import (
    SCALAR,
    Coupled,
    Features,
    Irrep,
    Linear,
    Path,
    coupled_harmonics,
    gate,
    irrep_name,
    parse_irreps,
    paths,
    species_table,
    sum_of_messages,
)
from gnome_core.models.layers import rows
from gnome_core.models.radial import bessel_basis, polynomial_envelope


def edge_irreps(config: NequixConfig) -> dict[Irrep, int]:
    """The harmonics of an edge: one of each degree, of its own parity."""
    return {Irrep(degree, (-1) ** degree): 1 for degree in range(config.degree + 1)}


def layer_paths(config: NequixConfig, layer: int) -> list[Path]:
    """The couplings of a layer, in the order of its radial weights."""
    hidden = parse_irreps(config.hidden_irreps)
    inputs = {SCALAR: len(config.elements)} if layer == 0 else hidden
    last = layer == config.layers - 1
    return paths(inputs, edge_irreps(config), {SCALAR: hidden[SCALAR]} if last else hidden)


class RMSNorm(nn.Module):
    """Divides all irreps by one root of a sum of squares, and scales every channel.

    The squares of an irrep are summed over channels, averaged over components and divided by their number once more:
    so the published weights want it.
    """

    @nn.compact
    def __call__(self, features: Features) -> dict[Irrep, jax.Array]:
        squares = sum(jnp.square(x).sum((-2, -1), keepdims=True) / x.shape[-2] ** 2 for x in features.values())
        factor = jax.lax.rsqrt(squares / len(features) + 1e-12)
        scales = {ir: self.param(irrep_name(ir), nn.initializers.ones, x.shape[-1:]) for ir, x in features.items()}
        return {ir: x * factor * scales[ir] for ir, x in features.items()}


class RadialNetwork(nn.Module):
    """Radial weights of all paths: (...,) Å -> (..., width). No bias, so that they fade at the cutoff."""

    config: NequixConfig
    width: int

    @nn.compact
    def __call__(self, lengths: jax.Array) -> jax.Array:
        config = self.config
        hidden = bessel_basis(lengths, jnp.pi * jnp.arange(1.0, config.n_bessel + 1), config.cutoff)
        hidden *= polynomial_envelope(lengths, config.envelope_power, config.cutoff)[..., None]
        for i in range(config.radial_layers):
            hidden = nn.silu(nn.Dense(config.radial_width, False, name=f"hidden_{i}")(hidden))
        return nn.Dense(self.width, False, name="out")(hidden)


class RadialTable(nn.Module):
    """What a RadialNetwork gives, by cubic Hermite interpolation: a look-up costs a CPU half of what the network does.

    The four coefficients of every interval are made by `tabulated`; training needs the network itself.
    """

    config: NequixConfig
    width: int

    @nn.compact
    def __call__(self, lengths: jax.Array) -> jax.Array:
        shape = (INTERVALS + 1, self.width)
        coefficients = [self.variable("tables", f"order_{i}", jnp.zeros, shape).value for i in range(4)]
        place = jnp.minimum(lengths, self.config.cutoff) * (INTERVALS / self.config.cutoff)
        interval = jnp.floor(place).astype(jnp.int32)
        x = (place - interval)[..., None]
        a, b, c, d = (rows(values, interval) for values in coefficients)
        return ((d * x + c) * x + b) * x + a


INTERVALS = 1024  # of a table; 6 Å in 1024 pieces leave 1e-6 eV/atom


def tabulated(config: NequixConfig, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a trained network with the tables that `Nequix(config, tables=True)` reads."""
    tables = {}
    for layer in range(config.layers):
        network = RadialNetwork(config, _width(layer_paths(config, layer)))
        values, slopes = _at_knots(network, variables["params"][f"layer_{layer}"]["radial"])
        rise = values[1:] - values[:-1]
        square, cube = 3 * rise - 2 * slopes[:-1] - slopes[1:], slopes[:-1] + slopes[1:] - 2 * rise
        nothing = np.zeros((1, network.width))
        orders = (values, slopes, np.concatenate([square, nothing]), np.concatenate([cube, nothing]))
        tables[f"layer_{layer}"] = {"radial": {f"order_{i}": x.astype(np.float32) for i, x in enumerate(orders)}}
    return {**variables, "tables": tables}


def _at_knots(network: RadialNetwork, params: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(INTERVALS + 1, width) values of a radial network, and their slopes times the length of an interval."""
    cutoff = network.config.cutoff
    with jax.enable_x64(True):
        knots = jnp.linspace(0, cutoff, INTERVALS + 1).at[0].set(1e-6 * cutoff)
        double = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
        steps = jnp.full_like(knots, cutoff / INTERVALS)
        values, slopes = jax.jvp(lambda r: cast(jax.Array, network.apply({"params": double}, r)), (knots,), (steps,))
        # The last knot is the cutoff, which stands for all lengths beyond it.
        return np.asarray(values.at[-1].set(0)), np.asarray(slopes.at[-1].set(0))


def _width(live: list[Path]) -> int:
    return sum(path.channels for path in live)


class Convolution(nn.Module):
    """One layer: linear, messages, linear, self-connection, norm, gate. layer: its place in the network."""

    config: NequixConfig
    layer: int
    tables: bool

    @nn.compact
    def __call__(
        self,
        features: Features,
        lengths: jax.Array,
        harmonics: Coupled,
        batch: EdgeBatch,
    ) -> dict[Irrep, jax.Array]:
        hidden, live = parse_irreps(self.config.hidden_irreps), layer_paths(self.config, self.layer)
        outputs = {ir: n for ir, n in hidden.items() if ir in {p.output for p in live}}
        gated = {ir: n for ir, n in outputs.items() if ir.l > 0}
        outputs[SCALAR] += sum(gated.values())  # one gate a channel
        channels = tuple(outputs.items())

        radial = (RadialTable if self.tables else RadialNetwork)(self.config, _width(live), name="radial")(lengths)
        weights = jnp.split(radial, np.cumsum([path.channels for path in live])[:-1], axis=-1)
        same = tuple((ir, x.shape[-1]) for ir, x in features.items())
        mixed = Linear(same, name="linear_before")(features)
        messages = sum_of_messages(mixed, live, weights, harmonics, batch)
        root = math.sqrt(self.config.neighbors)
        updated = Linear(channels, name="linear_after")({ir: x / root for ir, x in messages.items()})
        residual = Linear(channels, name="self_connection")(features)
        summed = {ir: x + residual[ir] if ir in residual else x for ir, x in updated.items()}
        return gate(RMSNorm(name="norm")(summed), gated)


class Nequix(nn.Module):
    """Energies of atoms (N,), eV, less the per-element shift of the potential it belongs to.

    tables: whether radial weights are looked up in the variables `tables` (see `tabulated`).
    """

    config: NequixConfig
    tables: bool = False

    @nn.compact
    def __call__(self, batch: EdgeBatch) -> jax.Array:
        config = self.config
        vectors = jnp.asarray(batch.vectors)
        lengths = jnp.sqrt(jnp.square(vectors).sum(-1))
        every = [path for layer in range(config.layers) for path in layer_paths(config, layer)]
        harmonics = coupled_harmonics(vectors, every)
        species = rows(species_table(config.elements), batch.numbers)
        features: Features = {SCALAR: jax.nn.one_hot(species, len(config.elements), dtype=vectors.dtype)[:, None]}
        for layer in range(config.layers):
            convolution = Convolution(config, layer, self.tables, name=f"layer_{layer}")
            features = convolution(features, lengths, harmonics, batch)
        return config.scale * Linear(((SCALAR, 1),), name="readout")(features)[SCALAR][:, 0, 0]
