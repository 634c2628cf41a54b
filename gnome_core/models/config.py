"""What shapes the networks: the [model] table of round.toml. Loads no jax, so that settings are read at once."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gnome_core.compositions.formulas import MAX_ATOMIC_NUMBER
from gnome_core.graphs.featurize import CUTOFF
from gnome_core.settings import Section


class StructuralConfig(Section):
    """Shape of a StructuralGNN. `PAPER` holds the published one."""

    width: int = Field(128, ge=1, le=8192, description="features of edges, nodes and the global state")
    steps: int = Field(3, ge=1, le=8, description="message-passing steps")
    cutoff: float = Field(CUTOFF, gt=0, le=20, description="Å; graphs must be built with the same")
    adjacency: float | None = Field(
        None,
        gt=0,
        le=10_000,
        description="what message sums are divided by; empty = the training set's mean number of neighbours",
    )
    n_basis: int = Field(30, ge=2, le=1024, description="Gaussian functions of an edge length")
    basis_width: float = Field(0.5, gt=0, le=20, description="Å")
    trainable_swish: bool = Field(False, description="one trainable slope per feature")
    element_properties: bool = Field(True, description="periodic-table properties beside one-hot elements")
    residual: bool = Field(True, description="each update is added to the state it updates")
    readout: Literal["linear", "mlp"] = Field(
        "linear", description="from global state to energy: linear (the paper) | mlp (GNoME's released code)"
    )
    scaled: bool = Field(
        True, description="energies count in standard deviations of the labels, from their mean; false: in eV/atom"
    )


class CompositionalConfig(Section):
    """Shape of a CompositionalGNN."""

    width: int = Field(128, ge=1, le=8192, description="features of edges, nodes and the global state")
    steps: int = Field(3, ge=1, le=8, description="message-passing steps")
    ratio: Literal["gaussians", "weight"] = Field(
        "gaussians",
        description="how an element's atomic fraction enters its node: gaussians of it are added to the element's "
        "vector; weight: the element's vector is multiplied by it (the paper's)",
    )
    n_basis: int = Field(20, ge=2, le=1024, description="Gaussian functions of an element's atomic fraction")
    trainable_swish: bool = Field(False, description="one trainable slope per feature")
    element_properties: bool = Field(True, description="periodic-table properties beside one-hot elements")
    residual: bool = Field(True, description="each update is added to the state it updates")
    readout: Literal["linear", "mlp"] = Field(
        "linear", description="from global state to energy: linear (the paper) | mlp (GNoME's released code)"
    )
    scaled: bool = Field(
        True, description="energies count in standard deviations of the labels, from their mean; false: in eV/atom"
    )

    cutoff: ClassVar[float] = CUTOFF  # of no effect: edges of compositions have no length
    adjacency: ClassVar[float | None] = None  # messages are means over the atoms


PAPER = StructuralConfig(width=256, trainable_swish=True, residual=False, element_properties=False)
# google-deepmind/materials_discovery, model/gnn.py: fixed normalisation of messages, read-out by an MLP, a shift alone.
RELEASED = PAPER.model_copy(update={"readout": "mlp", "adjacency": 17.0, "scaled": False})


class NequIPConfig(Section):
    """Shape of a NequIP network. The defaults suit a CPU; `PAPER_NEQUIP` is the published one."""

    layers: int = Field(3, ge=1, le=8, description="convolutions")
    hidden_irreps: str = Field("32x0e+32x1o+32x2e", description="features of an atom; o = odd under inversion")
    edge_irreps: str = Field(
        "0e+1o+2e", description="spherical harmonics of an edge; with 1e the network tells mirror images apart"
    )
    cutoff: float = Field(5.0, gt=0, le=20, description="Å")
    switch_width: float = Field(0.5, gt=0, le=20, description="Å before the cutoff within which edges fade out (XPLOR)")
    n_bessel: int = Field(8, ge=1, le=256, description="Bessel functions of an edge length")
    radial_width: int = Field(64, ge=1, le=8192, description="hidden features of the radial network")
    radial_layers: int = Field(2, ge=1, le=16, description="hidden layers of the radial network")
    neighbors: float | None = Field(
        None, gt=0, le=10_000, description="what message sums are divided by; the data's mean if unset"
    )
    elements: tuple[Annotated[int, Field(ge=1, le=MAX_ATOMIC_NUMBER)], ...] = Field(
        tuple(range(1, MAX_ATOMIC_NUMBER + 1)), description="atomic numbers that the network has weights for"
    )
    levels: int = Field(1, ge=1, le=100, description="levels of theory that it tells apart; it answers on the first")


# Nature 624, 80 (2023), Methods: 16.24 million parameters.
PAPER_NEQUIP = NequIPConfig(
    layers=5, hidden_irreps="128x0e+64x1e+32x2e", edge_irreps="0e+1e+2e", cutoff=5.0, n_bessel=8, neighbors=26.0
)


class NequixConfig(Section):
    """Shape of a Nequix network. The defaults are the published ones of nequix-mp-1 and nequix-oam-1."""

    layers: int = Field(4, ge=1, le=8, description="convolutions; the last gives scalars only")
    hidden_irreps: str = Field("128x0e+64x1o+32x2e+32x3o", description="features of an atom between convolutions")
    degree: int = Field(3, ge=0, le=4, description="largest degree of an edge's spherical harmonics")
    cutoff: float = Field(6.0, gt=0, le=20, description="Å")
    envelope_power: float = Field(6.0, ge=2, le=20, description="of the polynomial by which edges fade out")
    n_bessel: int = Field(8, ge=1, le=256, description="Bessel functions of an edge length")
    radial_width: int = Field(64, ge=1, le=8192, description="hidden features of the radial network")
    radial_layers: int = Field(2, ge=1, le=16, description="hidden layers of the radial network")
    neighbors: float = Field(gt=0, le=10_000, description="mean number of neighbours; sums are divided by its root")
    scale: float = Field(gt=0, le=1e6, description="eV, by which the read-out is multiplied")
    elements: tuple[Annotated[int, Field(ge=1, le=MAX_ATOMIC_NUMBER)], ...] = Field(
        description="atomic numbers that the network has weights for"
    )


class CHGNetConfig(Section):
    """A CHGNet that is fine-tuned: its shape is the published one."""

    architecture: Literal["chgnet"]
    elements: tuple[Annotated[int, Field(ge=1, le=MAX_ATOMIC_NUMBER)], ...] = Field(
        description="atomic numbers that the network has weights for"
    )

    levels: ClassVar[int] = 1


ModelConfig = StructuralConfig | CompositionalConfig
