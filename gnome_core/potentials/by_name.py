"""Potentials by the name a user types."""

from __future__ import annotations

import importlib
from importlib import resources
from pathlib import Path

from gnome_core.errors import GnomeError
from gnome_core.potentials.potential import Potential
from gnome_core.potentials.published import PUBLISHED, installed

DEFAULT = "chgnet"  # which `embedded` stands for
CHGNET = {"chgnet": "0.3.0", "chgnet-r2scan": "r2scan"}
NAMES = (*CHGNET, *PUBLISHED, "pretrained", "stillinger-weber")
KINDS = f"embedded (which is {DEFAULT}), {', '.join(NAMES)}, FILE.npz, FILE.nqx, ase:MODULE:FUNCTION"


class UnknownPotential(GnomeError, ValueError):
    """A name that no potential has, or of an ASE calculator that cannot be made."""


def make_potential(name: str) -> Potential:
    """chgnet, chgnet-r2scan: CHGNet 0.3.0, and on r2SCAN. nequix-oam-1, nequix-oam-1-pft: as `gnome potential get`
    fetched them. pretrained: the small NequIP that this package ships. stillinger-weber: silicon only. FILE.npz: one
    that `gnome potential train` wrote. FILE.nqx: a Nequix. ase:MODULE:FUNCTION: the ASE calculator that the function
    returns. embedded: the default of them.

    Raises UnknownPotential naming the choices, or BadPotential.
    """
    if name == "embedded":
        name = DEFAULT
    if name in CHGNET:
        from gnome_core.potentials.chgnet_potential import CHGNetPotential

        return CHGNetPotential(CHGNET[name])
    if name == "stillinger-weber":
        from gnome_core.potentials.stillinger_weber import StillingerWeber

        return StillingerWeber()
    if name in PUBLISHED or name.endswith(".nqx"):
        from gnome_core.potentials.nequix_potential import NequixPotential

        return NequixPotential.load(installed(name) if name in PUBLISHED else name, Path(name).stem)
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
    raise UnknownPotential(f"no potential {name!r}; there are: {KINDS}")


def pretrained_path() -> str:
    """Where the shipped potential is (see gnome_core/data/MODEL_CARD.md)."""
    return str(resources.files("gnome_core.data") / "nequip_small.npz")
