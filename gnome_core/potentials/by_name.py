"""Potentials by the name a user types."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from gnome_core.errors import GnomeError
from gnome_core.potentials.default import DEFAULT, meant
from gnome_core.potentials.potential import Potential
from gnome_core.potentials.published import PUBLISHED, installed

CHGNET = {"chgnet": "0.3.0", "chgnet-r2scan": "r2scan"}
SHIPPED = {"chgnet-distilled": "chgnet_distilled.npz", "pretrained": "nequip_small.npz"}
NAMES = (*CHGNET, *PUBLISHED, *SHIPPED, "stillinger-weber")
FORMS = ("FILE.npz", "FILE.nqx", "ase:MODULE:FUNCTION", "ase:FILE.py:FUNCTION")
KINDS = f"embedded (which is {DEFAULT}), {', '.join((*NAMES, *FORMS))}"


class UnknownPotential(GnomeError, ValueError):
    """A name that no potential has, or of an ASE calculator that cannot be made."""


def make_potential(name: str) -> Potential:
    """chgnet, chgnet-r2scan: CHGNet 0.3.0, and on r2SCAN. chgnet-distilled: fine-tuned here on what nequix-oam-1 says.
    nequix-oam-1, nequix-oam-1-pft: as `gnome potential get` fetched them. pretrained: a small NequIP that this package
    ships. stillinger-weber: silicon only. FILE.npz: one that `gnome potential train` wrote. FILE.nqx: a Nequix.
    ase:MODULE:FUNCTION, ase:FILE.py:FUNCTION: the ASE calculator that the function returns. embedded: the default.

    Raises UnknownPotential naming the choices, or BadPotential.
    """
    name = meant(name)
    if name in CHGNET:
        from gnome_core.potentials.chgnet_potential import CHGNetPotential

        return CHGNetPotential.published(CHGNET[name])
    if name == "stillinger-weber":
        from gnome_core.potentials.stillinger_weber import StillingerWeber

        return StillingerWeber()
    if name in PUBLISHED or name.endswith(".nqx"):
        from gnome_core.potentials.nequix_potential import NequixPotential

        return NequixPotential.load(installed(name) if name in PUBLISHED else name, Path(name).stem)
    if name in SHIPPED or name.endswith(".npz"):
        return _trained(shipped_path(name) if name in SHIPPED else name)
    if name.startswith("ase:") and name.count(":") == 2:
        from gnome_core.potentials.ase_calculator import CalculatorPotential

        _, place, function = name.split(":")
        try:
            made = _function(place, function)()
        except (ImportError, AttributeError, OSError, SyntaxError) as error:
            raise UnknownPotential(
                f"{name}: {error}; the function must be importable, or in a file of Python, and return a calculator"
            ) from error
        return CalculatorPotential(made, scale=_ase_scale(place, function, getattr(made, "identity", None)))
    raise UnknownPotential(f"no potential {name!r}; there are: {KINDS}")


def _trained(path: str) -> Potential:
    """What `gnome potential train` made."""
    from gnome_core.models.config import CHGNetConfig
    from gnome_core.potentials.files import load_potential

    variables, record = load_potential(path)
    if isinstance(record.config, CHGNetConfig):
        from gnome_core.potentials.chgnet_potential import FineTunedCHGNet

        return FineTunedCHGNet(variables, record)
    from gnome_core.potentials.nequip_potential import TrainedPotential

    return TrainedPotential(variables, record)


def _function(place: str, name: str) -> Callable[[], Any]:
    """A function of a module, or of a file of Python, which is run anew."""
    if not place.endswith(".py"):
        return getattr(importlib.import_module(place), name)
    spec = importlib.util.spec_from_file_location(f"_gnome_{Path(place).stem}", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def _ase_scale(place: str, function: str, identity: object) -> str:
    """What tells a calculator's energies from another's: its name, the content of its file, and what it says of itself
    (its attribute `identity`: a version of weights, say)."""
    parts = [f"ase:{Path(place).name if place.endswith('.py') else place}:{function}"]
    if place.endswith(".py"):
        parts.append(hashlib.blake2b(Path(place).read_bytes(), digest_size=4).hexdigest())
    if identity is not None:
        parts.append(str(identity))
    return "/".join(parts)


def shipped_path(name: str) -> str:
    """Where a potential of `SHIPPED` is (see gnome_core/data/MODEL_CARD.md)."""
    return str(resources.files("gnome_core.data") / SHIPPED[name])
