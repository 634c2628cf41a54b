"""Energy models of other packages, which score candidates in place of the ensemble: entry points of gnome.models."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gnome_core.errors import GnomeError

if TYPE_CHECKING:  # settings name their model, and are read in a moment
    import numpy as np

    from gnome_core.crystals.crystal import Crystal
    from gnome_core.stability.references import ElementalReferences

# A class, or a function, without arguments that gives an `EnergyModel`.
ENTRY_POINT_GROUP = "gnome.models"
ENSEMBLE = "ensemble"  # ours, which rounds train


class Predicted(NamedTuple):
    """e_form: (n,) formation energies, eV/atom, of the crystals once relaxed. spread: (n,) eV/atom, interquartile range
    of what the model thinks possible; 0 where it does not say."""

    e_form: np.ndarray
    spread: np.ndarray


class EnergyModel(Protocol):
    """What a package provides.

    identity: whatever tells this model from the next: its version, a digest of its weights. A round keeps that of the
    model it started with, and goes on with no other. scale: of its energies, which the evaluator's must be; None: it
    takes any.
    """

    @property
    def identity(self) -> str: ...

    @property
    def scale(self) -> str | None: ...

    def predict(self, crystals: Sequence[Crystal], references: ElementalReferences) -> Predicted:
        """One answer a crystal, in order; the crystals are not relaxed, references are those of the store's hull.

        Raises ValueError where a crystal cannot be predicted: the batch is then halved until that one stands alone, and
        it becomes a dead letter.
        """
        ...


class WrongModel(GnomeError):
    """A model that is not what a round was started with, or does not do what models do."""


def check_model(name: str) -> str:
    """The name, or a ValueError that says which there are."""
    offered = entry_points(group=ENTRY_POINT_GROUP).names
    if name != ENSEMBLE and name not in offered:
        known = ", ".join((ENSEMBLE, *sorted(offered)))
        raise ValueError(f"no model {name!r}; there is: {known}. Packages add one by an entry point of gnome.models")
    return name


def make_model(name: str, identity: str | None = None) -> EnergyModel:
    """The model that an installed package offers under that name. Raises WrongModel unless its identity is the given
    one."""
    model = entry_points(group=ENTRY_POINT_GROUP)[check_model(name)].load()()
    if identity is not None and model.identity != identity:
        raise WrongModel(
            f"scoring.model: {name} is {model.identity!r} now, and was {identity!r} when the round started; install "
            "that one again, or give the round up (`gnome round drop`)"
        )
    return model


def predicted_by(
    name: str, model: EnergyModel, crystals: Sequence[Crystal], references: ElementalReferences
) -> Predicted:
    """What the model says. Raises WrongModel for other numbers than one a crystal, ValueError for one that is none."""
    import numpy as np

    e_form, spread = (np.asarray(values, np.float64) for values in model.predict(crystals, references))
    if e_form.shape != (len(crystals),) or spread.shape != (len(crystals),):
        raise WrongModel(
            f"scoring.model: {name} gave energies {e_form.shape} and spreads {spread.shape} for {len(crystals)} "
            "crystals; it must give one of each a crystal"
        )
    if not (np.isfinite(e_form).all() and np.isfinite(spread).all() and (spread >= 0).all()):
        raise ValueError(f"{name} predicts an energy or a spread that is none")
    return Predicted(e_form, spread)
