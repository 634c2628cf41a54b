"""The science of the flywheel: crystals, generation, models, stability. Never imports Beam, dft or pipelines.

What is listed here is for notebooks and scripts, and is loaded when it is first used; docs/library.md shows it all.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnome_core.library.candidates import random_structures as random_structures
    from gnome_core.library.candidates import saps as saps
    from gnome_core.library.candidates import substitutions as substitutions
    from gnome_core.library.comparing import cluster as cluster
    from gnome_core.library.comparing import prototypes as prototypes
    from gnome_core.library.energies import e_above_hull as e_above_hull
    from gnome_core.library.energies import predictions as predictions
    from gnome_core.library.kinds import to_atoms as to_atoms
    from gnome_core.library.kinds import to_crystals as to_crystals
    from gnome_core.library.kinds import to_structures as to_structures
    from gnome_core.library.relaxing import calculator as calculator
    from gnome_core.library.relaxing import relax as relax

_HOMES = {
    "calculator": "relaxing",
    "cluster": "comparing",
    "e_above_hull": "energies",
    "predictions": "energies",
    "prototypes": "comparing",
    "random_structures": "candidates",
    "relax": "relaxing",
    "saps": "candidates",
    "substitutions": "candidates",
    "to_atoms": "kinds",
    "to_crystals": "kinds",
    "to_structures": "kinds",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("gnome-flywheel")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(f"gnome_core.library.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
