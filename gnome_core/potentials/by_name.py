"""Potentials by the name a user types."""

from __future__ import annotations

import importlib
from importlib import resources

from gnome_core.errors import GnomeError
from gnome_core.potentials.potential import Potential

NAMES = "embedded, pretrained, stillinger-weber, FILE.npz, ase:MODULE:FUNCTION"


class UnknownPotential(GnomeError, ValueError):
    """A name that no potential has, or of an ASE calculator that cannot be made."""


def make_potential(name: str) -> Potential:
    """embedded: CHGNet 0.3.0. pretrained: the small NequIP that this package ships. stillinger-weber: silicon only.
    FILE.npz: one that `gnome potential train` wrote. ase:MODULE:FUNCTION: the ASE calculator that the function returns.

    Raises UnknownPotential naming the choices, or BadPotential.
    """
    if name == "embedded":
        from gnome_core.potentials.chgnet_potential import EmbeddedPotential

        return EmbeddedPotential()
    if name == "stillinger-weber":
        from gnome_core.potentials.stillinger_weber import StillingerWeber

        return StillingerWeber()
    if name == "pretrained" or name.endswith(".npz"):
        from gnome_core.potentials.nequip_potential import TrainedPotential

        return TrainedPotential.load(pretrained_path() if name == "pretrained" else name)
    if name.startswith("ase:") and name.count(":") == 2:
        from gnome_core.potentials.ase_calculator import CalculatorPotential

        _, module, function = name.split(":")
        try:
            make = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise UnknownPotential(
                f"{name}: {error}; the function must be importable and return a calculator"
            ) from error
        return CalculatorPotential(make(), scale=name)
    raise UnknownPotential(f"no potential {name!r}; there are: {NAMES}")


def pretrained_path() -> str:
    """Where the shipped potential is (see gnome_core/data/MODEL_CARD.md)."""
    return str(resources.files("gnome_core.data") / "nequip_small.npz")
