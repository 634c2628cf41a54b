"""Blocks of E(3)-equivariant message passing that architectures share.

Features of an irrep are arrays (atoms, 2l + 1, channels), channels last. A path couples an input irrep and a spherical
harmonic of the edge to an output irrep. Its sum over a block of edges with one receiver is one matrix product, of the
harmonics contracted with the Clebsch-Gordan coefficients and the sender's features times the radial weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import e3nn_jax as e3nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gnome_core.graphs.edges import EdgeBatch
from gnome_core.models.layers import product, rows, segment_sum

Features = Mapping["Irrep", jax.Array]


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
    precision: str = "float32"  # of the products

    @nn.compact
    def __call__(self, features: Features) -> dict[Irrep, jax.Array]:
        out = {}
        for ir, n in self.channels:
            if ir in features:
                fan_in = features[ir].shape[-1]
                kernel = self.param(irrep_name(ir), nn.initializers.normal(1.0), (fan_in, n))
                out[ir] = product(features[ir], kernel / math.sqrt(fan_in), self.precision)
        return out


class Harmonics(NamedTuple):
    """sum_j C_ijk Y_j of every edge for one coupled (l1, l2, l3), in the layouts of forward and backward products.

    rows: (blocks, 2 l3 + 1, BLOCK (2 l1 + 1)); columns: the same, its last two axes exchanged.
    """

    rows: jax.Array
    columns: jax.Array


Coupled = Mapping[tuple[int, int, int], Harmonics]


@jax.custom_vjp
def _block_sum(harmonics: Harmonics, sent: jax.Array, weight: jax.Array) -> jax.Array:
    """Messages of one path, summed over the edges of each block: (blocks, 2 l3 + 1, channels).

    sent: (blocks, BLOCK, 2 l1 + 1, channels); weight: (blocks, BLOCK, channels). Its gradient is written out, so that
    products are of the layout that is fast on a CPU and weighted features are made again instead of kept.
    """
    return harmonics.rows @ _weighted(sent, weight)


def _weighted(sent: jax.Array, weight: jax.Array) -> jax.Array:
    n_blocks, block, components, channels = sent.shape
    return (sent * weight[:, :, None]).reshape(n_blocks, block * components, channels)


def _block_sum_forward(harmonics: Harmonics, sent: jax.Array, weight: jax.Array):
    return _block_sum(harmonics, sent, weight), (harmonics, sent, weight)


def _block_sum_backward(saved: tuple[Harmonics, jax.Array, jax.Array], above: jax.Array):
    harmonics, sent, weight = saved
    by_weighted = (harmonics.columns @ above).reshape(sent.shape)
    by_rows = jnp.einsum("bkc,bqc->bkq", above, _weighted(sent, weight))
    # All of the harmonics' gradient goes one way: both layouts are made of the same.
    by_harmonics = Harmonics(by_rows, jnp.zeros_like(harmonics.columns))
    return by_harmonics, by_weighted * weight[:, :, None], (by_weighted * sent).sum(2)


_block_sum.defvjp(_block_sum_forward, _block_sum_backward)


def sum_of_messages(
    features: Features, live: list[Path], weights: list[jax.Array], harmonics: Coupled, batch: EdgeBatch
) -> dict[Irrep, jax.Array]:
    """Sums over the neighbours of each atom, channels of all paths to an irrep side by side."""
    sent = {ir: rows(x, batch.senders) for ir, x in features.items()}  # (blocks, block, 2l + 1, channels)
    sums: dict[Irrep, list[jax.Array]] = {}
    for path, weight in zip(live, weights, strict=True):
        coupled = harmonics[path.input.l, path.edge.l, path.output.l]
        sums.setdefault(path.output, []).append(_block_sum(coupled, sent[path.input], weight))
    n_atoms = len(batch.numbers)
    return {ir: segment_sum(jnp.concatenate(x, -1), batch.receivers, n_atoms) for ir, x in sums.items()}


def gate(features: Features, gated: Mapping[Irrep, int]) -> dict[Irrep, jax.Array]:
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


def coupled_harmonics(vectors: jax.Array, wanted: Iterable[Path]) -> dict[tuple[int, int, int], Harmonics]:
    """What `sum_of_messages` needs of the edges, (blocks, BLOCK, 3) Å, for every coupled (l1, l2, l3)."""
    degrees = sorted({(p.input.l, p.edge.l, p.output.l) for p in wanted})
    # The values of a harmonic are those of the vector's own parity; the label of an irrep is what the user says it is.
    harmonic = {
        degree: e3nn.spherical_harmonics(e3nn.Irreps([(1, (degree, (-1) ** degree))]), vectors, normalize=True).array
        for degree in {b for _, b, _ in degrees}
    }
    n_blocks, block = vectors.shape[:2]
    coupled = {}
    for a, b, c in degrees:
        table = jnp.asarray(coupling((a, b, c)), vectors.dtype)
        width, height = block * (2 * a + 1), 2 * c + 1
        coupled[a, b, c] = Harmonics(
            jnp.einsum("ijk,nej->nkei", table, harmonic[b]).reshape(n_blocks, height, width),
            jnp.einsum("ijk,nej->neik", table, harmonic[b]).reshape(n_blocks, width, height),
        )
    return coupled


def species_table(elements: tuple[int, ...]) -> np.ndarray:
    """Index into `elements` by atomic number; elements that the network lacks must be refused before."""
    table = np.zeros(256, np.int32)
    table[list(elements)] = np.arange(len(elements))
    return table


def irrep_name(irrep: Irrep) -> str:
    return f"{irrep.l}{'e' if irrep.parity == 1 else 'o'}"
